"""Requests to a `vllm serve`, and what to do where it refuses them."""

from __future__ import annotations

import os
from typing import Any

import httpx

from nat_core.authorities import trusted
from nat_core.errors import RolloutError

_REMEDIES = {
    401: "set VLLM_API_KEY for the worker to the server's key",
    404: "start it with VLLM_SERVER_DEV_MODE=1, which its weight transfer needs",
}


class Server:
    """One `vllm serve`."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        key = os.environ.get("VLLM_API_KEY")
        # No proxy from the environment: the server is within one's own network.
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "timeout": httpx.Timeout(timeout_s, connect=10.0),
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "trust_env": False,
            "verify": trusted(self.url, RolloutError),
        }

    def get(self, path: str) -> Any:
        """What the server says at a path.

        Raises:
            RolloutError: it does not answer, or refuses.
        """
        return self._request("GET", path).json()

    def post(self, path: str, body: dict[str, Any] | None = None, **query: str) -> httpx.Response:
        """Tell the server to do something.

        Raises:
            RolloutError: it does not answer, or refuses.
        """
        return self._request("POST", path, json=body, params=query)

    def opened(self) -> httpx.AsyncClient:
        """A client for many requests at a time."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(**self._options, limits=limits)

    async def complete(self, http: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        """Completions of one prompt.

        Raises:
            RolloutError: the server does not answer, or refuses.
        """
        path = "/v1/completions"
        try:
            answer = await http.post(path, json=body)
        except httpx.HTTPError as error:
            raise self._silent("POST", path, error) from error
        completions: dict[str, Any] = self._checked("POST", path, answer).json()
        return completions

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            with httpx.Client(**self._options) as http:
                answer = http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._silent(method, path, error) from error
        return self._checked(method, path, answer)

    def _silent(self, method: str, path: str, error: httpx.HTTPError) -> RolloutError:
        reason = str(error) or type(error).__name__
        return RolloutError(
            f"the vLLM server {self.url} gave no answer to {method} {path} ({reason}); see that it runs, then resume "
            "the run"
        )

    def _checked(self, method: str, path: str, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        said = " ".join(answer.text.split())[:300]
        remedy = _REMEDIES.get(answer.status_code, "look at its log")
        raise RolloutError(
            f"the vLLM server {self.url} answered {answer.status_code} to {method} {path} ({said}); {remedy}"
        )
