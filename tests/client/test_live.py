"""The live stream: its lines, and connections that break."""

from __future__ import annotations

from itertools import islice

import pytest

from client.api import ApiError, NatLab, ServerUnreachable
from client.live import LiveEvent, LiveReader, NewMetrics, Resync, RunChanged
from nat_core.records import RunState
from tests.client.builders import a_run
from tests.client.http import Asked, answering, problem

RUN = a_run(1, state=RunState.RUNNING)
METRICS = '{"run_id": "run-1", "experiment_id": "exp-1", "step": 4}'
STREAM = [("5f-1", "run", RUN.model_dump_json()), ("5f-2", "metrics", METRICS)]


def sent(*events: tuple[str, str, str]) -> bytes:
    return "".join(f"id: {id}\nevent: {event}\ndata: {data}\n\n" for id, event, data in events).encode()


def read(text: str) -> list[LiveEvent]:
    reader = LiveReader()
    return [event for line in text.split("\n") if (event := reader.feed(line)) is not None]


def test_events_are_put_together_from_their_lines() -> None:
    text = ": ping\n\n" + sent(*STREAM).decode() + "event: resync\ndata: {}\n\n"
    assert read(text) == [RunChanged(RUN), NewMetrics(run_id="run-1", experiment_id="exp-1", step=4), Resync()]


def test_data_over_several_lines_is_one() -> None:
    assert read('event: metrics\ndata: {"run_id": "run-1",\ndata:  "experiment_id": "e", "step": 1}\n\n') == [
        NewMetrics(run_id="run-1", experiment_id="e", step=1)
    ]


def test_what_a_newer_server_tells_is_passed_over() -> None:
    assert read("event: weather\ndata: sunny\n\nevent: run\n\ndata: 1\n\n") == []


def test_an_event_that_does_not_fit_is_named() -> None:
    with pytest.raises(ServerUnreachable, match="'run' event that does not fit"):
        read("event: run\ndata: {}\n\n")


def test_a_stream_that_ends_is_opened_again_where_it_left_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.exchange._FIRST_PAUSE_S", 0.001)
    answers = [sent(STREAM[0]) + b"event: metr", sent(STREAM[1])]

    def stream(asked: Asked) -> tuple[int, object]:
        return 200, answers.pop(0) if answers else b""

    with answering({"GET /api/v1/stream": stream}) as table, NatLab(table.url) as lab:
        told = list(islice(lab.live(experiment_id="exp-1"), 3))
    assert [type(event) for event in told] == [Resync, RunChanged, NewMetrics]
    assert [asked.path for asked in table.asked] == ["/api/v1/stream?experiment_id=exp-1"] * 2
    assert [asked.headers.get("Last-Event-ID") for asked in table.asked] == [None, "5f-1"]


def test_a_stream_that_is_refused_says_so() -> None:
    with (
        answering({"GET /api/v1/stream": (401, problem(401, "unauthorized", "this server needs its token"))}) as table,
        NatLab(table.url) as lab,
        pytest.raises(ApiError, match="needs its token"),
    ):
        next(lab.live())
    assert len(table.asked) == 1
