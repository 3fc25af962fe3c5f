"""Buckets: the same whatever the order and number of deliveries, and charts from them true to the events."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from fastapi import FastAPI
from sqlalchemy import text

from nat_core.events import MetricsEvent, StateEvent
from server import rollup
from server.db import Database
from server.ingest import Batch, store_batches
from server.rollup import SIZES, Bucket, size_for
from tests.server.conftest import Api
from tests.server.support import metrics

STEPS = 3000


def reported(upto: int = STEPS, first: int = 1, shift: float = 0.0) -> list[MetricsEvent]:
    """A wave with one spike, one value that is not finite, and a metric that comes every tenth step."""
    events = []
    for seq, step in enumerate(range(first, upto + 1), 1):
        values: dict[str, float | None] = {"reward": math.sin(step / 90) + shift}
        if step == 1234:
            values["reward"] = 9.0
        if step == 2000:
            values["reward"] = None
        if step % 10 == 0:
            values["kl"] = step / 1000
        events.append(MetricsEvent(seq=seq, time=float(step), step=step, values=values))
    return events


@pytest.fixture
def run_id(api: Api) -> str:
    run: str = api.launch(base={"steps": STEPS}, budgets=[{"selector": "full"}])["runs"][0]["id"]
    api.claim(run)
    return run


def all_buckets(app: FastAPI) -> list[Any]:
    with app.state.store.db.read() as session:
        return [tuple(row) for row in session.execute(text("SELECT * FROM bucket ORDER BY 1, 2, 3, 4, 5"))]


def series(api: Api, run_id: str, **params: Any) -> list[tuple[float, float | None]]:
    found = api.call("GET", "/metrics", params={"run_ids": run_id, "keys": "reward", **params})
    return list(zip(found[0]["x"], found[0]["y"], strict=True)) if found else []


def test_a_bucket_holds_lowest_highest_and_last(app: FastAPI, api: Api, run_id: str) -> None:
    events = [
        metrics(1, 1, reward=0.5),
        metrics(2, 2, reward=-1.0),
        metrics(3, 3, reward=2.0),
        metrics(4, 15, reward=1.0),
    ]
    store_batches(app.state.store, [Batch(run_id, 1, [*events, metrics(5, 16, reward=None), metrics(6, 17, kl=0.1)])])
    with app.state.store.db.read() as session:
        first, second = rollup.read(session, run_id, 1, "reward", 16, after=-1)
        assert first == Bucket(0, -1.0, 2, 2.0, 3, 1.0, 15)
        assert second == Bucket(16, None, 16, None, 16, None, 16)
        assert first.points() == [(2, -1.0), (3, 2.0), (15, 1.0)] and second.points() == [(16, None)]
        assert rollup.read(session, run_id, 1, "reward", 16, after=15) == [second]


def test_order_and_repetition_change_no_bucket(app: FastAPI, api: Api, run_id: str) -> None:
    events = reported(400)
    store_batches(app.state.store, [Batch(run_id, 1, events)])
    whole = all_buckets(app)
    with app.state.store.db.write() as session:
        session.execute(text("DELETE FROM bucket"))
        session.execute(text("DELETE FROM event"))
    pieces = [events[place : place + 7] for place in range(0, len(events), 7)]
    random.Random(0).shuffle(pieces)
    for piece in [*pieces, *pieces[:20]]:
        store_batches(app.state.store, [Batch(run_id, 1, piece)])
    assert all_buckets(app) == whole and len(whole) > 0


def test_a_long_line_keeps_its_spike_its_gap_and_its_end(app: FastAPI, api: Api, run_id: str) -> None:
    store_batches(app.state.store, [Batch(run_id, 1, reported())])
    whole, drawn = dict(series(api, run_id)), series(api, run_id, max_points=300)
    assert len(whole) == STEPS and 150 <= len(drawn) <= 300
    assert all(whole[step] == value for step, value in drawn)  # points of the line, none invented
    assert [step for step, _ in drawn] == sorted({step for step, _ in drawn})
    assert dict(drawn)[1234.0] == 9.0 and drawn[-1] == (STEPS, whole[STEPS])
    assert {max(v for v in whole.values() if v is not None), min(v for v in whole.values() if v is not None)} <= {
        value for _, value in drawn
    }


@pytest.mark.parametrize("since", [0, 15, 16, 17, 999, 1234])
def test_a_line_from_a_step_on_begins_right_after_it(app: FastAPI, api: Api, run_id: str, since: int) -> None:
    store_batches(app.state.store, [Batch(run_id, 1, reported())])
    whole, drawn = dict(series(api, run_id)), series(api, run_id, max_points=120, since=since)
    assert all(step > since and whole[step] == value for step, value in drawn)
    assert drawn[0][0] <= since + STEPS / 40 and drawn[-1][0] == STEPS and len(drawn) <= 120


def test_what_a_restart_superseded_is_in_no_bucket_that_is_drawn(app: FastAPI, api: Api, run_id: str) -> None:
    start = StateEvent(seq=1, time=1.0, step=0, phase="started")
    first = [event.model_copy(update={"seq": event.seq + 1}) for event in reported(1000)]
    store_batches(app.state.store, [Batch(run_id, 1, [start, *first])])
    api.finish(run_id, "lost", reason="killed", message="its trainer is gone")
    assert api.claim(run_id, "w-2") == 2
    began = StateEvent(seq=1, time=1.0, step=905, phase="started")  # in the middle of buckets of every size
    later = [event.model_copy(update={"seq": event.seq + 1}) for event in reported(STEPS, first=906, shift=100.0)]
    store_batches(app.state.store, [Batch(run_id, 2, [began, *later], folder=(1,))])
    whole, drawn = dict(series(api, run_id)), series(api, run_id, max_points=300)
    assert len(whole) == STEPS
    assert all(whole[step] == value for step, value in drawn)
    assert max(step for step, value in drawn if value is not None and value < 5) <= 905
    assert [step for step, _ in drawn] == sorted({step for step, _ in drawn})


def test_running_sums_are_exact_however_long_the_line(app: FastAPI, api: Api, run_id: str) -> None:
    events = [metrics(step, step, reward=float(step % 7), tokens__selected=3.0) for step in range(1, STEPS + 1)]
    store_batches(app.state.store, [Batch(run_id, 1, events)])
    drawn = series(api, run_id, max_points=200, x="tokens_selected")
    assert len(drawn) <= 200 and drawn[-1][0] == 3.0 * STEPS and all(x % 3 == 0 for x, _ in drawn)


def test_size_is_the_largest_that_comes_to_half_of_the_points_asked_for() -> None:
    assert size_for(1000, 600) is None
    assert size_for(10_000, 600) == 64
    assert size_for(100_000, 600) == 512
    for steps in (2_000, 7_000, 60_000, 10**6):
        size = size_for(steps, 600)
        assert size in SIZES and 3 * steps / size >= 300


def test_deleting_a_run_takes_its_buckets(app: FastAPI, api: Api, run_id: str) -> None:
    store_batches(app.state.store, [Batch(run_id, 1, reported(100))])
    api.finish(run_id)
    assert all_buckets(app)
    api.call("DELETE", f"/runs/{run_id}")
    assert all_buckets(app) == []


def test_the_migration_makes_the_buckets_that_ingest_would_have(app: FastAPI, api: Api, run_id: str) -> None:
    store_batches(app.state.store, [Batch(run_id, 1, reported())])
    kept = all_buckets(app)
    database: Database = app.state.store.db
    folder = Path(rollup.__file__).parent / "migrations"
    with database.write() as session:
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = session.connection()
        session.execute(text("DROP TABLE bucket"))
        session.execute(text("UPDATE alembic_version SET version_num = '0002'"))
        command.upgrade(config, "0003")
    assert all_buckets(app) == kept


def test_ends_of_buckets_are_of_the_same_steps_whatever_a_restart_cut_through(
    app: FastAPI, api: Api, run_id: str
) -> None:
    store = app.state.store

    def ends() -> list[float]:
        (found,) = store.metric_series([run_id], ["reward"], max_points=300, ends=True)
        return list(found.x)

    start = StateEvent(seq=1, time=1.0, step=0, phase="started")
    first = [event.model_copy(update={"seq": event.seq + 1}) for event in reported(1000)]
    store_batches(store, [Batch(run_id, 1, [start, *first])])
    assert ends() == [*range(15, 1000, 16), 1000]
    api.finish(run_id, "lost", reason="killed", message="its trainer is gone")
    assert api.claim(run_id, "w-2") == 2
    began = StateEvent(seq=1, time=1.0, step=905, phase="started")
    later = [event.model_copy(update={"seq": event.seq + 1}) for event in reported(STEPS, first=906)]
    store_batches(store, [Batch(run_id, 2, [began, *later], folder=(1,))])
    assert ends() == [*range(15, STEPS, 16), STEPS]


@pytest.mark.parametrize(("x", "scale"), [("step", 1.0), ("tokens_selected", 3.0)])
def test_where_one_looks_closely_every_step_is_there(app: FastAPI, api: Api, run_id: str, x: str, scale: float) -> None:
    events = [metrics(step, step, reward=math.sin(step), tokens__selected=3.0) for step in range(1, STEPS + 1)]
    store_batches(app.state.store, [Batch(run_id, 1, events)])

    def places(**thinning: Any) -> list[float]:
        (found,) = app.state.store.metric_series([run_id], ["reward"], x=x, max_points=300, **thinning)
        assert all(
            value == pytest.approx(math.sin(at / scale), abs=1e-9) for at, value in zip(found.x, found.y, strict=True)
        )
        return list(found.x)

    whole, near = places(), places(within=(1200 * scale, 1300 * scale))
    between = [at for at in near if 1200 * scale <= at <= 1300 * scale]
    assert between == [step * scale for step in range(1200, 1301)]
    assert [at for at in near if at not in between] == [at for at in whole if not 1200 * scale <= at <= 1300 * scale]
    assert places(within=(1200.2 * scale, 1200.4 * scale)) == whole  # between two steps there is nothing
    assert places(within=(9e9, 9e10)) == whole
    half = places(within=(0, STEPS / 2 * scale))
    assert len(whole) < len(half) <= 600 and half == sorted(set(half))
