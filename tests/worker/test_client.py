"""What the worker makes of the answers it gets: from the server, and from what stands before it."""

from __future__ import annotations

import httpx
import pytest

from worker.client import ServerClient
from worker.errors import RefusedError, ServerAwayError, StrangerError
from worker.identity import Identity

ME = Identity("w-1", home="", instance="")
REFUSAL = {"title": "Conflict", "status": 409, "detail": "attempt is 1, but", "code": "stale_attempt"}


def beat(answer: httpx.Response) -> object:
    client = ServerClient("http://server", transport=httpx.MockTransport(lambda _request: answer))
    return client.heartbeat(ME, "run-1", 1, 0)


def test_only_the_server_s_own_no_is_one() -> None:
    with pytest.raises(RefusedError) as raised:
        beat(httpx.Response(409, json=REFUSAL))
    assert (raised.value.status, raised.value.code) == (409, "stale_attempt")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, text="default backend - 404"),
        httpx.Response(403, json={"error": "blocked"}),
        httpx.Response(302, headers={"location": "https://login.example"}),
        httpx.Response(200, text="<html>please log in</html>"),
        httpx.Response(200, json={"status": "ok"}),
        httpx.Response(200, json=None),
    ],
)
def test_a_proxy_s_answer_is_no_answer(answer: httpx.Response) -> None:
    with pytest.raises(StrangerError, match=rf"NATLAB_SERVER_URL is 'http://server'.*{answer.status_code}.*no natlab"):
        beat(answer)


def test_a_server_in_trouble_is_away() -> None:
    with pytest.raises(ServerAwayError, match="502"):
        beat(httpx.Response(502, text="bad gateway"))
