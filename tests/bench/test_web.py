"""The pages' benchmark at toy sizes: its database is what it says, and its browser measures the real pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import web
from bench.orchestrator_load import valkey
from bench.web_load import build, events, server, streaming
from nat_core.events import EvaluationEvent
from nat_core.records import RunState
from server.main import create_app
from server.settings import Settings


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A folder; what lies in it is the server's."""
    return tmp_path / "home"


def test_the_database_holds_runs_that_ended_and_runs_that_go_on(short: Path) -> None:
    settings = Settings(home=short, redis_url="redis://127.0.0.1:1/0")
    lab = build(short, settings.redis_url, num_runs=100, num_long=50, steps=40, live_steps=5)
    assert (len(lab.long), len(lab.live.runs)) == (1, 20)
    store = create_app(settings).state.store
    pages = store.list_experiments().items
    assert sorted(len(experiment.runs) for experiment in pages) == [20, 50, 50]
    long, live = store.get_experiment(lab.long[0].id), store.get_experiment(lab.live.id)
    assert {run.state for run in long.runs} == {RunState.SUCCEEDED} and {run.step for run in long.runs} == {40}
    assert {run.state for run in live.runs} == {RunState.RUNNING}
    (series,) = store.metric_series([long.runs[7].id], ["reward"])
    assert len(series.x) == 20  # every other of the 40 steps is an evaluation
    store.close()


def test_events_are_numbered_by_their_step(short: Path) -> None:
    settings = Settings(home=short, redis_url="redis://127.0.0.1:1/0")
    run = build(short, settings.redis_url, num_runs=0, num_long=0, steps=1, live_steps=1).live.runs[3]
    found = events(run, 11, 40, 400)
    assert [event.seq for event in found] == [event.step for event in found] == list(range(11, 41))
    assert [event.step for event in found if isinstance(event, EvaluationEvent)] == [20, 40]


@pytest.mark.slow
def test_the_browser_times_real_pages_while_runs_report(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with valkey(tmp_path) as redis_url:
        lab = build(home, redis_url, num_runs=50, num_long=50, steps=60, live_steps=20)
        with server(home, redis_url) as url, web.chromium() as browser:
            first = web.first_content(browser, f"{url}/experiments", 1)
            assert 0 < first["first_ms"] < 60_000
            runs = ",".join(run.id for run in lab.long[0].runs[:10])
            found = web.drawn(browser, f"{url}/compare?runs={runs}", 1)
            assert found["again_ms"] > 0 and 0 < found["again_bytes"] < found["first_bytes"]
            with streaming(redis_url, lab.live.runs, 20, per_s=4):
                live = web.tasks(browser, f"{url}/experiments/{lab.live.id}", 4)
            assert live["updates"] > 0 and live["longest_ms"] >= 0
