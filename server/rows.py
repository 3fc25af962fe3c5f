"""Finding rows: by their id, by what they belong to, and a page of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import Select, func, or_
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from nat_core.records import ACTIVE
from server.errors import NotFoundError
from server.tables import ExperimentRow, RunRow, WorkerRow

Row = TypeVar("Row", bound=Any)
Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])


def experiment_row(session: Session, experiment_id: str) -> ExperimentRow:
    row = session.get(ExperimentRow, experiment_id)
    if row is None:
        raise NotFoundError(
            f"{experiment_id[:80]!r} is no experiment; take an id from `natlab ls` or GET /api/v1/experiments"
        )
    return row


def run_row(session: Session, run_id: str) -> RunRow:
    row = session.get(RunRow, run_id)
    if row is None:
        raise NotFoundError(f"{run_id[:80]!r} is no run; take an id from `natlab ls` or GET /api/v1/runs")
    return row


def worker_row(session: Session, worker_id: str) -> WorkerRow:
    row = session.get(WorkerRow, worker_id)
    if row is None:
        raise NotFoundError(f"{worker_id[:80]!r} is no worker; register it with PUT /api/v1/workers/{{id}}")
    return row


def runs_of(session: Session, experiment_id: str) -> Sequence[RunRow]:
    """In the order of `ExperimentSpec.expand`."""
    return session.exec(bare_runs().where(RunRow.experiment_id == experiment_id).order_by(col(RunRow.id))).all()


def bare_runs() -> SelectOfScalar[RunRow]:
    """Runs without their specs, which records of runs leave out and which are most of what there is to read."""
    return select(RunRow).options(defer(col(RunRow.spec)))  # type: ignore[arg-type]  # Mapped is what it takes


def runs_at_work(session: Session) -> dict[str, str]:
    rows = session.exec(select(RunRow).where(col(RunRow.state).in_(ACTIVE)))
    return {row.worker_id: row.id for row in rows if row.worker_id is not None}


def matching_experiments(query: Query, archived: bool, cursor: str | None, words: str = "") -> Query:
    """Newest first, those after `cursor`; only those with `words` in their name or in one of their tags."""
    query = query.where(col(ExperimentRow.archived) == archived).order_by(col(ExperimentRow.id).desc())
    if words:
        tag = func.json_each(col(ExperimentRow.tags)).table_valued("value", name="tag")  # JSON spells `ü` otherwise
        tagged = select(tag.c.value).where(tag.c.value.icontains(words, autoescape=True)).exists()
        query = query.where(or_(col(ExperimentRow.name).icontains(words, autoescape=True), tagged))
    return query if cursor is None else query.where(col(ExperimentRow.id) < cursor)


def paged(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """One row more than a page was read: it tells whether there is another page, and from where."""
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None
