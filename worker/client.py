"""The worker's calls to the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx

from nat_core.authorities import trusted
from nat_core.records import Problem
from worker.errors import RefusedError, ServerAwayError, StrangerError, WorkerError
from worker.identity import Identity

T = TypeVar("T")
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
    """REST calls. Each raises `ServerAwayError` when the server does not answer, `RefusedError` when it says no."""

    def __init__(self, url: str, token: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers=headers,
            timeout=TIMEOUT_S,
            transport=transport,
            trust_env=False,  # a proxy named in the environment is for the outside, not for one's own server
            verify=trusted(url, WorkerError),
        )

    def register(self, me: Identity, hostname: str, hardware: dict[str, Any], labels: Sequence[str] = ()) -> None:
        who = {"hostname": hostname, "home": me.home, "instance": me.instance}
        self._call("PUT", f"/workers/{me.worker_id}", _anything, {**who, "hardware": hardware, "labels": list(labels)})

    def claim_next(self, me: Identity, free_gpus: int) -> Claimed | None:
        """The next run that fits this worker; None when there is none."""
        body = {"instance": me.instance, "free_gpus": free_gpus}
        return self._call("POST", f"/workers/{me.worker_id}/claim", _claimed, body)

    def heartbeat(self, me: Identity, run_id: str, attempt: int, step: int) -> Orders:
        body = {"attempt": attempt, "instance": me.instance, "step": step}
        return self._call("POST", f"/runs/{run_id}/heartbeat", _orders, body)

    def finish(
        self, me: Identity, run_id: str, attempt: int, outcome: Outcome, reason: str | None, message: str | None
    ) -> None:
        body = {"attempt": attempt, "instance": me.instance, "outcome": outcome, "reason": reason, "message": message}
        self._call("POST", f"/runs/{run_id}/finish", _anything, body)

    def stored(self, run_id: str) -> dict[int, int]:
        """By attempt, the event up to which the server has every one."""
        return self._call("GET", f"/runs/{run_id}/stored", lambda answer: _by_attempt(answer["attempts"]))

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, read: Callable[[Any], T], body: dict[str, Any] | None = None) -> T:
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
        try:
            if response.is_success:
                return read(response.json())
            problem = Problem.model_validate_json(response.content)
        except (ValueError, KeyError, TypeError, AttributeError):  # no JSON, or that of somebody else
            raise StrangerError(
                f"NATLAB_SERVER_URL is {self._url!r}, but {method} {path} was answered with {response.status_code} by "
                "something that is no natlab server; correct the address, or see to the proxy before it"
            ) from None
        raise RefusedError(problem.detail, response.status_code, problem.code)


def _anything(answer: Any) -> None:
    """That it was taken is all there is to know."""
    if not isinstance(answer, dict):
        raise TypeError(answer)


def _claimed(answer: Any) -> Claimed | None:
    if answer is None:
        return None
    return Claimed(answer["run_id"], answer["attempt"], answer["gpus"], answer["spec"])


def _orders(answer: Any) -> Orders:
    return Orders(answer["desired"], answer["last_seq"], _by_attempt(answer["earlier"]))


def _by_attempt(found: Any) -> dict[int, int]:
    return {int(attempt): seq for attempt, seq in found.items()}
