"""What is tried again, what is not, and that a launch is one launch however often it is sent."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from client.api import ApiError, ClientError, NatLab, ServerUnreachable
from client.exchange import Request, Tries
from tests.client.builders import a_run, an_experiment
from tests.client.http import Answer, Asked, Hangup, answering, problem

BUDGETS = {"name": "x", "budgets": [{"selector": "full"}]}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.exchange._FIRST_PAUSE_S", 0.001)


def after(*failures: Answer | type[Hangup], then: Answer) -> Callable[[Asked], Answer]:
    """A route that fails so often before it answers."""
    left = list(failures)

    def route(asked: Asked) -> Answer:
        failure = left.pop(0) if left else then
        if isinstance(failure, type):
            raise failure
        return failure

    return route


def test_a_launch_whose_answer_is_lost_is_sent_again_with_the_same_key() -> None:
    route = after(Hangup, (503, problem(503, "broker_unavailable")), then=(200, an_experiment()))
    with answering({"POST /api/v1/experiments": route}) as table, NatLab(table.url) as lab:
        assert lab.launch(BUDGETS) == an_experiment()
        lab.launch(BUDGETS)
        lab.launch(BUDGETS, key="mine")
    keys = [asked.headers["Idempotency-Key"] for asked in table.asked]
    assert keys[0] == keys[1] == keys[2] != keys[3] and keys[4] == "mine"


def test_what_only_reads_is_tried_again_after_a_lost_answer_and_a_proxy_s_error() -> None:
    route = after(Hangup, (502, b"<html>"), (504, b""), then=(200, []))
    with answering({"GET /api/v1/workers": route}) as table, NatLab(table.url) as lab:
        assert lab.workers() == []
    assert len(table.asked) == 4


@pytest.mark.parametrize("failure", [Hangup, (502, b"<html>")])
def test_an_action_that_may_have_arrived_is_not_sent_again(failure: Any) -> None:
    with (
        answering({"POST /api/v1/runs/run-1/stop": after(failure, then=(202, a_run()))}) as table,
        NatLab(table.url) as lab,
        pytest.raises((ServerUnreachable, ApiError)),
    ):
        lab.stop("run-1")
    assert len(table.asked) == 1


def test_an_action_that_surely_did_nothing_is_sent_again() -> None:
    busy = (429, problem(429, "too_many_requests"), {"Retry-After": "0"})
    route = after(busy, (503, problem(503, "busy")), then=(202, a_run()))
    with answering({"POST /api/v1/runs/run-1/stop": route}) as table, NatLab(table.url) as lab:
        assert lab.stop("run-1") == a_run()
    assert len(table.asked) == 3


@pytest.mark.parametrize("answer", [(404, problem(404, "not_found")), (429, problem(429, "queue_full")), (500, b"")])
def test_what_would_fail_again_is_told_at_once(answer: Answer) -> None:
    with (
        answering({"GET /api/v1/workers": after(answer, then=(200, []))}) as table,
        NatLab(table.url) as lab,
        pytest.raises(ApiError),
    ):
        lab.workers()
    assert len(table.asked) == 1


def test_the_tries_are_counted() -> None:
    with (
        answering({"GET /api/v1/workers": (503, problem(503, "not_ready"))}) as table,
        NatLab(table.url, retries=2) as lab,
        pytest.raises(ApiError),
    ):
        lab.workers()
    assert len(table.asked) == 3


def test_a_connection_that_is_refused_is_tried_again_for_any_method() -> None:
    tries = Tries(Request("POST", "/api/v1/gc"), "http://x", retries=1)
    refused = httpx.ConnectError("refused")
    assert isinstance(tries.after(refused), float)
    with pytest.raises(ServerUnreachable, match="no natlab server answers at http://x \\(refused\\)"):
        tries.after(refused)


def test_patience_outlasts_the_retries() -> None:
    tries = Tries(Request("GET", "/", patience_s=60), "http://x", retries=0)
    pauses = [tries.after(httpx.ReadTimeout("slow")) for _ in range(20)]
    assert all(isinstance(pause, float) for pause in pauses)
    impatient = Tries(Request("GET", "/"), "http://x", retries=0)
    with pytest.raises(ServerUnreachable):
        impatient.after(httpx.ReadTimeout("slow"))


def test_the_server_s_own_pause_is_kept_within_bounds() -> None:
    def paused(header: str) -> object:
        answer = httpx.Response(503, headers={"Retry-After": header})
        return Tries(Request("GET", "/"), "http://x", retries=1).after(answer)

    assert paused("7") == 7.0 and paused("86400") == 30.0
    assert isinstance(paused("Wed, 21 Oct 2026 07:28:00 GMT"), float)


@pytest.mark.parametrize("url", ["htp://127.0.0.1", "nonsense"])
def test_an_address_that_is_none_is_told_before_anything_is_tried(url: str) -> None:
    with pytest.raises(ClientError, match=f"address is '{url}', which is none .* NATLAB_URL"):
        NatLab(url)


def test_an_idle_connection_is_let_go_before_the_server_lets_go_of_it() -> None:
    import uvicorn

    from client.api import http_options

    kept_open_s = http_options("http://127.0.0.1:8300", "token", 1.0)["limits"].keepalive_expiry
    assert kept_open_s < uvicorn.Config("server.main:create_app").timeout_keep_alive


def test_readiness_is_asked_once_and_never_raises() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with NatLab(f"http://127.0.0.1:{taken.getsockname()[1]}") as lab:
            assert lab.is_ready() is False
    with answering({"GET /readyz": (503, problem(503, "not_ready"))}) as table, NatLab(table.url) as lab:
        assert lab.is_ready() is False
        table.routes["GET /readyz"] = (200, {"status": "ready"})
        assert lab.is_ready() is True
    assert len(table.asked) == 2
