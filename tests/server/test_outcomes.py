"""Sums of runs are kept, and are the same as if they were made anew whenever they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text

from nat_core.comparison import RunOutcome
from nat_core.events import AnyEvent, StateEvent
from server.ingest import Batch, store_batches
from server.outcomes import Outcomes
from server.tables import RunRow
from tests.server.conftest import Api
from tests.server.support import evaluation, metrics


@pytest.fixture
def run_id(api: Api) -> str:
    run_id = api.one_run()
    api.claim(run_id)
    return run_id


def report(app: FastAPI, run_id: str, *events: AnyEvent, attempt: int = 1, folder: Sequence[int] = ()) -> None:
    store_batches(app.state.store, [Batch(run_id, attempt, list(events), tuple(folder))])


def outcome(app: FastAPI, run_id: str, kept: Outcomes) -> RunOutcome:
    """By what is kept, after it was found to be what a fresh look says."""
    with app.state.store.db.read() as session:
        run = session.get_one(RunRow, run_id)
        found = kept.of(session, [run])
        assert found == Outcomes().of(session, [run])
    return found[0]


def spoil(app: FastAPI) -> None:
    """What is summed up after this has other numbers."""
    with app.state.store.db.write() as session:
        body = """json_set(body, '$.values."tokens/selected"', 1000)"""
        session.execute(text(f"UPDATE event SET body = {body} WHERE type = 'metrics'"))


def step(seq: int, selected: float = 10.0, peak: float = 1.0) -> AnyEvent:
    return metrics(seq, seq, tokens__selected=selected, perf__peak_memory_gib=peak)


def test_what_came_since_is_added(app: FastAPI, run_id: str) -> None:
    kept = Outcomes()
    assert outcome(app, run_id, kept).tokens_selected == 0
    report(app, run_id, step(1, peak=3.0), step(2))
    assert outcome(app, run_id, kept).tokens_selected == 20
    report(app, run_id, step(3, 5.0), step(2))  # a step sent again counts once
    found = outcome(app, run_id, kept)
    assert (found.tokens_selected, found.peak_memory_gib) == (25, 3.0)


def test_what_is_kept_is_not_summed_up_again(app: FastAPI, run_id: str) -> None:
    kept = Outcomes()
    report(app, run_id, step(1), step(2))
    outcome(app, run_id, kept)
    spoil(app)
    report(app, run_id, step(3))
    with app.state.store.db.read() as session:
        (found,) = kept.of(session, [session.get_one(RunRow, run_id)])
        assert found.tokens_selected == 30


def test_an_outcome_as_of_an_earlier_step_sums_up_the_steps_so_far(app: FastAPI, run_id: str) -> None:
    report(app, run_id, step(1, 10.0, 3.0), step(2, 20.0, 1.0), step(3, 40.0, 5.0))
    store = app.state.store
    assert (store.outcome(run_id, 2).step, store.outcome(run_id, 2).tokens_selected) == (2, 30.0)
    assert store.outcome(run_id, 2).peak_memory_gib == 3.0
    assert store.outcome(run_id) == store.outcome(run_id, 9) and store.outcome(run_id).tokens_selected == 70.0


def test_an_event_that_was_missing_is_counted_once_it_comes(app: FastAPI, run_id: str) -> None:
    kept = Outcomes()
    report(app, run_id, step(1), step(4))
    assert outcome(app, run_id, kept).tokens_selected == 20
    report(app, run_id, step(2), step(3))
    assert outcome(app, run_id, kept).tokens_selected == 40
    report(app, run_id, step(5))
    assert outcome(app, run_id, kept).tokens_selected == 50


def test_a_restart_takes_out_what_it_supersedes(api: Api, app: FastAPI, run_id: str) -> None:
    def started(at: int) -> AnyEvent:
        return StateEvent(seq=1, time=1.0, step=at, phase="started", hardware={})

    def later(seq: int, at: int) -> Any:
        return metrics(seq, at, tokens__selected=1.0)

    kept = Outcomes()
    report(app, run_id, started(0), *(later(1 + at, at) for at in (1, 2, 3, 4)))
    assert outcome(app, run_id, kept).tokens_selected == 4
    api.finish(run_id, "lost", reason="killed", message="by SIGKILL")
    api.claim(run_id, "w-2")
    assert outcome(app, run_id, kept).tokens_selected == 4
    report(app, run_id, started(2), attempt=2, folder=(1,))
    assert outcome(app, run_id, kept).tokens_selected == 2  # what was kept of the first attempt
    report(app, run_id, later(2, 3), attempt=2)
    assert outcome(app, run_id, kept).tokens_selected == 3
    report(app, run_id, later(6, 2), attempt=1)  # what the first attempt's folder still held
    assert outcome(app, run_id, kept).tokens_selected == 4


def test_a_run_that_ended_is_summed_up_for_good_until_an_event_still_comes(api: Api, app: FastAPI, run_id: str) -> None:
    report(app, run_id, step(1), evaluation(2, 1, [3, 1]), step(3))
    api.finish(run_id)
    before = outcome(app, run_id, Outcomes())
    assert (before.tokens_selected, before.accuracy, before.num_answers) == (20, 0.5, 8)
    assert (before.state, before.step) == ("succeeded", 3)
    spoil(app)
    assert outcome(app, run_id, Outcomes()) == before  # not from its events, whichever server asks
    report(app, run_id, step(4))
    assert outcome(app, run_id, Outcomes()).tokens_selected == 1000 + 1000 + 10


def test_what_is_stored_goes_with_its_run(api: Api, app: FastAPI, run_id: str) -> None:
    report(app, run_id, step(1))
    api.finish(run_id)
    api.call("DELETE", f"/runs/{run_id}")
    with app.state.store.db.read() as session:
        assert session.execute(text("SELECT COUNT(*) FROM outcome")).scalar() == 0


def test_what_another_version_stored_is_not_taken(api: Api, app: FastAPI, run_id: str) -> None:
    report(app, run_id, step(1))
    api.finish(run_id)
    with app.state.store.db.write() as session:
        session.execute(text("UPDATE outcome SET sums = '{\"tokens\": 7}'"))
    assert outcome(app, run_id, Outcomes()).tokens_selected == 10
