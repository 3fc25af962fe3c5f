"""`natlab watch` and `natlab logs`: what is shown while runs go on."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from client.api import NatLab
from client.cli import run
from client.log_lines import log_line
from client.watching import LiveTable, curves_of, duration, sparkline, table
from nat_core.answers import Answers
from nat_core.events import CheckpointEvent, EvaluationEvent, LogEvent, StateEvent
from nat_core.records import MetricSeries, RunState
from tests.client.builders import NOW, a_run, an_experiment, with_sets
from tests.client.http import Answering, Asked, answering, problem

ENDED = an_experiment(
    a_run(0, state=RunState.SUCCEEDED, step=10, started_at=NOW, latest={"reward": 0.75, "eval/accuracy": 0.625}),
    a_run(1, state=RunState.FAILED, step=3, reason="nan_loss", message="the loss was NaN at step 3"),
    state="failed",
)


def test_sparkline_goes_from_its_lowest_to_its_highest_value() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.5, None, 0.25]) == "█▁"
    assert sparkline([3, 3, 3]) == "▁▁▁"
    assert sparkline([]) == sparkline([None]) == ""


def test_sparkline_without_room_is_empty() -> None:
    assert sparkline([1.0, 2.0], width=0) == ""


def test_sparkline_of_many_values_shows_the_mean_of_each_share() -> None:
    assert sparkline([0, 2, 4, 10], width=2) == "▁█"
    assert sparkline(list(range(100)), width=4) == "▁▃▆█"
    assert len(sparkline(list(range(101)), width=20)) == 20


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "–"), (0, "0 s"), (59.4, "59 s"), (60, "1:00"), (187, "3:07"), (3723, "1:02:03")]
)
def test_durations_are_short(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def drawn(thing: Any) -> str:
    screen = io.StringIO()
    Console(file=screen, width=160).print(thing)
    return screen.getvalue()


def test_the_table_has_a_row_with_curves_for_each_run_and_says_why_one_failed() -> None:
    series = [MetricSeries(run_id="run-0000000000", key="reward", x=[1, 2, 3], y=[0.25, 0.5, 0.75])]
    lines = [" ".join(line.split()) for line in drawn(table(ENDED, curves_of(series))).splitlines()]
    assert lines[0] == "half the tokens exp-0000000000 failed 2/2 runs ended"
    assert lines[3] == "run-0000000000 full succeeded 10/10 – 0.750 ▁▅█ 62.5%"
    assert lines[4] == "run-0000000001 rpc · linear · ½ failed 3/10 – – –"
    assert lines[5] == "run-0000000001: the loss was NaN at step 3"


def test_the_table_has_a_column_for_each_named_set() -> None:
    told = {"eval/accuracy": 0.625, "eval/aime-24/accuracy": 0.125, "eval/aime-24/accuracy_low": 0.05}
    experiment = with_sets(an_experiment(a_run(0, latest=told), a_run(1)), "aime-24")
    lines = [" ".join(line.split()) for line in drawn(table(experiment, {})).splitlines()]
    assert lines[2].endswith("Accuracy aime-24")
    assert lines[3].endswith("62.5% 12.5%") and lines[4].endswith("– –")


def test_the_live_table_asks_for_the_curves_of_runs_that_have_begun() -> None:
    screen = io.StringIO()
    series = [{"run_id": "run-0000000000", "key": "reward", "x": [1, 2], "y": [0, 1]}]
    console = Console(file=screen, force_terminal=True, width=160)
    with (
        answering({"GET /api/v1/metrics": (200, series)}) as server,
        NatLab(server.url) as lab,
        LiveTable(console, lab) as live,
    ):
        live(an_experiment())  # none has begun
        assert server.asked == []
        live(ENDED)
    assert "run_ids=run-0000000000&" in server.asked[0].path and "▁█" in screen.getvalue()


def test_the_live_table_shows_the_runs_where_their_curves_cannot_be_had() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    busy = (503, problem(503, "busy", "others are writing"))
    with (
        answering({"GET /api/v1/metrics": busy}) as server,
        NatLab(server.url, retries=0) as lab,
        LiveTable(console, lab) as live,
    ):
        live(ENDED)
    assert "run-0000000000" in screen.getvalue() and len(server.asked) == 1


def watching(server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    polls = iter([an_experiment(a_run(0, state=RunState.RUNNING, step=1), a_run(1))] * 2)
    server.routes["GET /api/v1/experiments/exp-0000000000"] = lambda asked: (200, next(polls, ENDED))
    server.routes["GET /api/v1/experiments"] = (200, {"items": [an_experiment().model_dump(mode="json")]})
    monkeypatch.setenv("NATLAB_URL", server.url)


def test_watch_without_a_terminal_is_lines_and_ends_as_the_experiment_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({}) as server:
        watching(server, monkeypatch)
        assert run(["watch"]) == 1  # the newest; it failed
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "exp-0000000000 · half the tokens"
    assert "full running 1/10" in lines and "full succeeded 10/10 reward 0.750 accuracy 62.5%" in lines


def test_watch_as_json_is_a_line_for_each_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({}) as server:
        watching(server, monkeypatch)
        assert run(["watch", "exp-0000000000", "--json", "--every", "0.2"]) == 1
    told = [(line["id"][-1], line["state"]) for line in map(json.loads, capsys.readouterr().out.splitlines())]
    assert told == [("0", "running"), ("1", "queued"), ("0", "succeeded"), ("1", "failed")]


def test_watch_says_what_to_do_where_there_is_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({"GET /api/v1/experiments": (200, {"items": []})}) as server:
        monkeypatch.setenv("NATLAB_URL", server.url)
        assert run(["watch"]) == 2
    assert "`natlab launch FILE`" in capsys.readouterr().err


EVENTS: list[Any] = [
    StateEvent(seq=1, time=0, step=0, phase="started"),
    LogEvent(seq=2, time=1, step=1, level="warning", message="hot\x1b[31m"),
    EvaluationEvent(
        seq=3,
        time=2,
        step=2,
        accuracy=0.5,
        num_prompts=2,
        num_samples=4,
        correct=[4, 0],
        mean_length=9,
        sets={"easy": Answers(accuracy=0.75, num_prompts=1, num_samples=4, correct=[3], mean_length=9)},
        seconds=1,
    ),
    CheckpointEvent(seq=4, time=3, step=2, path="checkpoints/step-2", size_bytes=2**20),
    StateEvent(seq=5, time=4, step=2, phase="ended", outcome="failed", reason="nan_loss", message="NaN at step 3"),
]
LINES = [
    "1970-01-01 00:00:00 info    step 0  the trainer started",
    "1970-01-01 00:00:01 warning step 1  hot [31m",
    "1970-01-01 00:00:02 info    step 2  accuracy 50.0% on 2 prompts, easy 75.0%",
    "1970-01-01 00:00:03 info    step 2  checkpoint checkpoints/step-2 is saved (1.0 MiB)",
    "1970-01-01 00:00:04 error   step 2  the trainer ended: failed: nan_loss: NaN at step 3",
]


def test_every_logged_event_is_a_line() -> None:
    assert [log_line(event) for event in EVENTS] == LINES


@pytest.fixture
def run_with_events(monkeypatch: pytest.MonkeyPatch) -> Any:
    def stored(asked: Asked) -> tuple[int, Any]:
        after = int(asked.path.partition("after_seq=")[2].partition("&")[0])
        return 200, [event.model_dump(mode="json") for event in EVENTS if event.seq > after]

    routes: dict[str, Any] = {
        "GET /api/v1/runs/run-1/events": stored,
        "GET /api/v1/runs/run-1": (200, a_run(1, state=RunState.FAILED)),
        "GET /api/v1/runs/run-1/logs": (200, b"one\ntwo\nthree\n"),
    }
    monkeypatch.setattr("client.reported._QUIET_POLLS", 0)
    with answering(routes) as server:
        monkeypatch.setenv("NATLAB_URL", server.url)
        yield server


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["one", "two", "three"]),
        (["-n", "2"], ["two", "three"]),
        (["-f"], LINES),
        (["-f", "-n", "1"], LINES[-1:]),
    ],
)
def test_logs_are_what_was_asked_for(
    options: list[str], expected: list[str], run_with_events: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["logs", "run-1", *options]) == 0
    assert capsys.readouterr().out.splitlines() == expected


def test_logs_as_json_are_events(run_with_events: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "run-1", "--json", "-n", "2"]) == 0
    assert [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()] == ["checkpoint", "state"]


def test_a_run_that_logged_nothing_says_so(run_with_events: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_with_events.routes["GET /api/v1/runs/run-1/logs"] = (200, b"")
    assert run(["logs", "run-1"]) == 0
    assert capsys.readouterr().out == "It has logged nothing yet.\n"
