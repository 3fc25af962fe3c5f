"""The worker's calls to the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from pydantic import ValidationError

from nat_core.records import Problem
from worker.errors import RefusedError, ServerAwayError
from worker.identity import Identity

TIMEOUT_S = 5.0

Outcome = Literal["succeeded", "stopped", "failed", "lost", "handed_back"]
Desired = Literal["run", "pause", "stop", "kill"]


@dataclass(frozen=True)
class Claimed:
    """A run that is ours: the fencing token of every later call, and the spec as JSON."""

    run_id: str
    attempt: int
    gpus: int
    spec: dict[str, Any]


@dataclass(frozen=True)
class Orders:
    """What a heartbeat brought back."""

    desired: Desired
    last_seq: int
    earlier: dict[int, int]
    """By earlier attempt, the last event that the server has."""


class ServerClient:
    """REST calls. Each raises `ServerAwayError` when no answer comes, `RefusedError` when it is a no."""

    def __init__(self, url: str, token: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A proxy named in the environment is for the outside, not for one's own server.
        self._http = httpx.Client(
            base_url=f"{url}/api/v1", headers=headers, timeout=TIMEOUT_S, transport=transport, trust_env=False
        )

    def register(self, me: Identity, hostname: str, hardware: dict[str, Any], labels: Sequence[str] = ()) -> None:
        who = {"hostname": hostname, "home": me.home, "instance": me.instance}
        self._call("PUT", f"/workers/{me.worker_id}", {**who, "hardware": hardware, "labels": list(labels)})

    def claim_next(self, me: Identity, free_gpus: int) -> Claimed | None:
        """The next run that fits this worker; None when there is none."""
        body = {"instance": me.instance, "free_gpus": free_gpus}
        answer = self._call("POST", f"/workers/{me.worker_id}/claim", body)
        return None if answer is None else Claimed(**answer)

    def heartbeat(self, me: Identity, run_id: str, attempt: int, step: int) -> Orders:
        body = {"attempt": attempt, "instance": me.instance, "step": step}
        answer = self._call("POST", f"/runs/{run_id}/heartbeat", body)
        earlier = {int(attempt): stored for attempt, stored in answer["earlier"].items()}
        return Orders(desired=answer["desired"], last_seq=answer["last_seq"], earlier=earlier)

    def finish(
        self, me: Identity, run_id: str, attempt: int, outcome: Outcome, reason: str | None, message: str | None
    ) -> None:
        body = {"attempt": attempt, "instance": me.instance, "outcome": outcome, "reason": reason, "message": message}
        self._call("POST", f"/runs/{run_id}/finish", body)

    def stored(self, run_id: str) -> dict[int, int]:
        """By attempt, the event up to which the server has every one."""
        answer = self._call("GET", f"/runs/{run_id}/stored")
        return {int(attempt): seq for attempt, seq in answer["attempts"].items()}

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ServerAwayError(
                f"NATLAB_SERVER_URL is {self._url!r}, but no answer comes from there ({reason}); "
                "start the server or correct the address"
            ) from None
        if response.status_code >= 500:
            raise ServerAwayError(f"the server answered {method} {path} with {response.status_code}; see its log")
        if response.is_error:
            code, detail = _problem(response)
            raise RefusedError(detail, response.status_code, code)
        return response.json()


def _problem(response: httpx.Response) -> tuple[str, str]:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return "http", f"the server answered with status {response.status_code}; see that NATLAB_SERVER_URL is natlab's"
    return problem.code, problem.detail
