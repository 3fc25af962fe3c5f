"""The list of experiments, as its page shows it: read by columns, since whole records of a thousand runs take long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Row, select
from sqlmodel import Session, col

from nat_core.comparison import Comparison
from nat_core.records import Page, RunState
from server import views
from server.errors import NotFoundError
from server.rows import matching_experiments, paged
from server.store import Store
from server.tables import ExperimentRow, RunRow, utc_now
from web.listing import ListedExperiment, ListedRun

_EXPERIMENTS = select(
    col(ExperimentRow.id), col(ExperimentRow.name), col(ExperimentRow.tags), col(ExperimentRow.created_at)
)
_RUNS = select(
    col(RunRow.experiment_id),
    col(RunRow.id),
    col(RunRow.state),
    col(RunRow.step),
    col(RunRow.steps),
    col(RunRow.resumed_step),
    col(RunRow.claimed_at),
)

Runs = Sequence[Row[Any]]


def list_page(
    store: Store, archived: bool = False, limit: int = 50, cursor: str | None = None, words: str = ""
) -> Page[ListedExperiment]:
    """The same as `Store.list_experiments`, each with its answer."""
    with store.db.read() as session:
        rows = session.execute(matching_experiments(_EXPERIMENTS, archived, cursor, words).limit(limit + 1)).all()
        shown, next_cursor = paged(rows, limit)
        runs = _runs_of(session, [row.id for row in shown])
    items = []
    for row in shown:
        with suppress(NotFoundError):  # deleted since
            items.append(_listed(row, runs[row.id], _comparison(store, row.id, runs[row.id])))
    return Page(items=items, next_cursor=next_cursor)


def _runs_of(session: Session, experiment_ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    found: dict[str, list[Row[Any]]] = defaultdict(list)
    for run in session.execute(_RUNS.where(col(RunRow.experiment_id).in_(experiment_ids)).order_by(col(RunRow.id))):
        found[run.experiment_id].append(run)
    return found


def _comparison(store: Store, experiment_id: str, runs: Runs) -> Comparison:
    return store.kept.of(experiment_id, tuple(run.id for run in runs), lambda: store.comparison(experiment_id))


def _listed(row: Row[Any], runs: Runs, comparison: Comparison) -> ListedExperiment:
    now = utc_now()
    listed = [ListedRun(RunState(run.state), run.step, run.steps, views.eta_s(run, now)) for run in runs]
    state = views.experiment_state([run.state for run in listed])
    return ListedExperiment(row.id, row.name, row.tags, row.created_at, state, listed, comparison)
