"""What the API and the pages read and write: experiments, runs, workers.

Every method is one transaction. What changed is told to the hub after the commit, never before, and what
a deleted run holds on disk goes after it too: a folder cannot be rolled back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import load_only
from sqlmodel import Session, col, func, select

from nat_core.comparison import Comparison, RunOutcome, compare
from nat_core.events import AnyEvent
from nat_core.logs import without_controls
from nat_core.records import (
    ALIVE_S,
    ExperimentRecord,
    MetricSeries,
    Page,
    RunDetail,
    RunRecord,
    RunState,
    Speed,
    WorkerRecord,
    is_alive,
)
from nat_core.spec import ExperimentSpec, RunSpec
from server import attempts, event_log, folders, queue, series, speed, views, waiting
from server.changes import Changes, delete_experiment_row, remove_run
from server.db import Database
from server.errors import WorkerTakenError
from server.hub import RESYNC, Hub, Message
from server.ids import go_on_after, new_id
from server.kept import Kept
from server.launches import LaunchKey, demand_new
from server.outcomes import OF_OUTCOMES, Outcomes
from server.rests import Rests
from server.rows import bare_runs, experiment_row, matching_experiments, paged, run_row, runs_at_work, runs_of
from server.series import Thinning
from server.settings import Settings
from server.tables import ExperimentRow, RunRow, WorkerRow, utc_now
from server.telemetry import Tally

log = logging.getLogger(__name__)


class Store:
    """The record of everything, on one SQLite file and the run folders beside it."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self.settings = settings
        self.db = Database(settings.database)
        self._hub = hub
        self._telling = threading.Lock()
        self.tally = Tally()
        self.rests = Rests()
        self._outcomes = Outcomes()
        self.kept: Kept[Comparison] = Kept()
        with self.db.read() as session:
            for column in (col(ExperimentRow.id), col(RunRow.id)):
                go_on_after(session.exec(select(func.max(column))).one() or "")

    def close(self) -> None:
        self.db.close()

    # --- experiments ------------------------------------------------------------------------------

    def create_experiment(
        self,
        spec: ExperimentSpec,
        announce: Callable[[str], None],
        priority: int = 0,
        key: LaunchKey | None = None,
    ) -> ExperimentRecord:
        """Store the experiment with its runs, queued. Nothing is stored when `announce(run_id)` fails.

        Announcing comes before the commit; a worker that claims at once waits for the write lock.

        Raises:
            AlreadyLaunched: it is stored under this key already.
        """
        planned = spec.expand()
        with self.change() as (session, changes):
            demand_new(session, key)
            queue.demand_room(session, len(planned), self.settings.max_queued)
            row = ExperimentRow(
                id=new_id("exp"),
                name=spec.name,
                tags=spec.tags,
                notes=spec.notes,
                spec=spec.model_dump(mode="json"),
                launch_key=key.key if key else None,
                launch_digest=key.digest if key else None,
            )
            session.add(row)
            session.flush()
            runs = [
                RunRow(
                    id=new_id("run"),
                    experiment_id=row.id,
                    cell=position % len(spec.budgets),
                    label=run.budget.label,
                    seed=run.seed,
                    priority=priority,
                    steps=run.steps,
                    spec=run.model_dump(mode="json"),
                )
                for position, run in enumerate(planned)
            ]
            session.add_all(runs)
            session.flush()
            for run in runs:
                announce(run.id)
            changes.run_ids.update(run.id for run in runs)
            return views.experiment_record(row, runs, queue.places(session, runs))

    def list_experiments(
        self, archived: bool = False, limit: int = 50, cursor: str | None = None, words: str = ""
    ) -> Page[ExperimentRecord]:
        """Newest first; `cursor` is the last id of the page before. Only those with `words` in their name or tags."""
        query = matching_experiments(select(ExperimentRow), archived, cursor, words)
        with self.db.read() as session:
            shown, next_cursor = paged(session.exec(query.limit(limit + 1)).all(), limit)
            wanted = col(RunRow.experiment_id).in_([row.id for row in shown])
            runs = session.exec(bare_runs().where(wanted).order_by(col(RunRow.id))).all()
            places = queue.places(session, runs)
            by_experiment: dict[str, list[RunRow]] = {row.id: [] for row in shown}
            for run in runs:
                by_experiment[run.experiment_id].append(run)
            items = [views.experiment_record(row, by_experiment[row.id], places) for row in shown]
        return Page(items=items, next_cursor=next_cursor)

    def get_experiment(self, experiment_id: str) -> ExperimentRecord:
        with self.db.read() as session:
            row, runs = experiment_row(session, experiment_id), runs_of(session, experiment_id)
            return views.experiment_record(row, runs, queue.places(session, runs))

    def edit_experiment(self, experiment_id: str, **fields: Any) -> ExperimentRecord:
        """Set any of `name`, `tags`, `notes`, `archived`."""
        with self.change() as (session, changes):
            row = experiment_row(session, experiment_id)
            row.sqlmodel_update(fields)
            runs = runs_of(session, experiment_id)
            changes.run_ids.update(run.id for run in runs)
            return views.experiment_record(row, runs, queue.places(session, runs))

    def delete_experiment(self, experiment_id: str) -> None:
        """Remove an experiment, its runs and their folders, unless one of them is still to finish."""
        with self.change() as (session, changes):
            delete_experiment_row(session, changes, experiment_row(session, experiment_id))

    def comparison(self, experiment_id: str) -> Comparison:
        """The experiment's budgets beside its baseline, from the runs that are not archived."""
        with self.db.read() as session:
            spec = ExperimentSpec.model_validate(experiment_row(session, experiment_id).spec)
        return compare(spec, self.outcomes(experiment_id))

    def outcomes(self, experiment_id: str) -> list[RunOutcome]:
        query = select(RunRow).where(RunRow.experiment_id == experiment_id, col(RunRow.archived).is_(False))
        with self.db.read() as session:
            runs = session.exec(query.options(load_only(*OF_OUTCOMES)).order_by(col(RunRow.id))).all()
            return self._outcomes.of(session, runs)

    def outcome(self, run_id: str, upto: int | None = None) -> RunOutcome:
        """What a run came to so far, or by step `upto`."""
        with self.db.read() as session:
            return self._outcomes.by_step(session, run_row(session, run_id), upto)

    def speed(self, worker_id: str, spec: RunSpec) -> Speed | None:
        """How fast the worker did runs that are like this one; None where it has done none."""
        with self.db.read() as session:
            return speed.of(self._outcomes.of(session, speed.alike(session, worker_id, spec)))

    # --- runs -------------------------------------------------------------------------------------

    def list_runs(
        self,
        experiment_id: str | None = None,
        state: RunState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        """Newest first; `cursor` is the last id of the page before."""
        query = select(RunRow)
        if experiment_id is not None:
            query = query.where(RunRow.experiment_id == experiment_id)
        if state is not None:
            query = query.where(RunRow.state == state)
        if cursor is not None:
            query = query.where(RunRow.id < cursor)
        with self.db.read() as session:
            rows = session.exec(query.order_by(col(RunRow.id).desc()).limit(limit + 1)).all()
            shown, next_cursor = paged(rows, limit)
            places = queue.places(session, shown)
            return Page(items=[views.run_record(row, places) for row in shown], next_cursor=next_cursor)

    def get_run(self, run_id: str) -> RunDetail:
        with self.db.read() as session:
            run = run_row(session, run_id)
            places = queue.places(session, [run])
            waits_for = waiting.why(session, run, places, self.rests.left_s())
            return views.run_detail(run, attempts.of_run(session, run_id), places, waits_for)

    def edit_run(self, run_id: str, **fields: Any) -> RunRecord:
        """Set any of `tags`, `notes`, `archived`, `priority`."""
        with self.change() as (session, changes):
            row = run_row(session, run_id)
            row.sqlmodel_update(fields)
            changes.run_ids.add(run_id)
            return views.run_record(row, queue.places(session, [row]))

    def delete_run(self, run_id: str) -> None:
        with self.change() as (session, changes):
            remove_run(session, changes, run_row(session, run_id))

    def metric_series(
        self,
        run_ids: list[str],
        keys: list[str],
        x: str = "step",
        since: int | None = None,
        max_points: int | None = None,
        **thinning: Any,
    ) -> list[MetricSeries]:
        """Values of `keys` of each run, every step once, against `x` (see `series.X_AXES` and `series.Thinning`)."""
        with self.db.read() as session:
            for run_id in run_ids:
                run_row(session, run_id)
            return series.metric_series(session, run_ids, keys, x, since, Thinning(max_points, **thinning))

    def events(
        self, run_id: str, type: str | Sequence[str] | None = None, after_seq: int = 0, limit: int = 200
    ) -> list[AnyEvent]:
        """The run's events in order, without what a restart superseded."""
        with self.db.read() as session:
            return event_log.list_events(session, run_row(session, run_id), type, after_seq, limit)

    def stored(self, run_id: str) -> dict[int, int]:
        """By attempt, the event up to which every one is stored."""
        with self.db.read() as session:
            return event_log.last_seqs(session, run_row(session, run_id))

    def log_text(self, run_id: str) -> str:
        """The run's log events, then the end of what its trainer printed."""
        with self.db.read() as session:
            lines = event_log.log_lines(session, run_row(session, run_id))
        printed = folders.tail_text(folders.run_folder(self.settings.runs, run_id) / "trainer.log", 64 * 1024)
        text = "".join(f"{line}\n" for line in lines)
        return without_controls(text + (f"--- trainer.log ---\n{printed}" if printed else ""))

    # --- workers ----------------------------------------------------------------------------------

    def register_worker(
        self,
        worker_id: str,
        hostname: str,
        hardware: dict[str, Any],
        labels: Sequence[str] = (),
        instance: str = "",
        home: str = "",
    ) -> WorkerRecord:
        """Note that this worker is there; repeated while it idles.

        Within one data folder (`home`) no two processes share a name, so that another process is the old one's
        successor. Over several folders they may: two machines can have one hostname.

        Raises:
            WorkerTakenError: a worker of another data folder has the name, and was heard of lately.
        """
        with self.db.write() as session:
            row = session.get(WorkerRow, worker_id) or WorkerRow(id=worker_id, hostname=hostname, home=home)
            if row.home not in ("", home) and is_alive(row.seen_at, utc_now()):
                raise WorkerTakenError(
                    f"{worker_id[:80]!r} is the name of a worker with another NATLAB_HOME, which was heard of within "
                    f"{ALIVE_S:g} s; register by another name"
                )
            row.instance, row.home = instance, home
            row.hostname, row.hardware, row.labels, row.seen_at = hostname, hardware, list(labels), utc_now()
            session.add(row)
            return views.worker_record(row, runs_at_work(session).get(worker_id))

    def list_workers(self) -> list[WorkerRecord]:
        """The one seen last comes first."""
        with self.db.read() as session:
            rows = session.exec(select(WorkerRow).order_by(col(WorkerRow.seen_at).desc())).all()
            at_work = runs_at_work(session)
            return [views.worker_record(row, at_work.get(row.id)) for row in rows]

    # --- shared -----------------------------------------------------------------------------------

    @contextmanager
    def change(self) -> Iterator[tuple[Session, Changes]]:
        """A write transaction; once it is committed the hub hears of its `Changes`, and removed runs' folders go."""
        changes = Changes()
        with self.db.write() as session:
            yield session, changes
        self._tell(changes)
        for run_id in changes.removed_runs:
            self._remove_folder(run_id)

    def _tell(self, changes: Changes) -> None:
        if changes.removed:
            self._hub.publish(RESYNC)
        if not changes.run_ids:
            return
        # One after the other: who tells later has read later, so that what is told last is what holds.
        with self._telling, self.db.read() as session:
            rows = session.exec(select(RunRow).where(col(RunRow.id).in_(sorted(changes.run_ids)))).all()
            places = queue.places(session, rows)
            for experiment_id in {row.experiment_id for row in rows}:
                self.kept.changed(experiment_id)
            for row in rows:
                record = views.run_record(row, places)
                self._hub.publish(Message("run", record.model_dump_json(), row.experiment_id, row.id))
                if row.id in changes.with_metrics:
                    data = f'{{"run_id":"{row.id}","experiment_id":"{row.experiment_id}","step":{row.step}}}'
                    self._hub.publish(Message("metrics", data, row.experiment_id, row.id))

    def _remove_folder(self, run_id: str) -> None:
        try:
            folders.remove_run_folder(self.settings.runs, run_id)
        except OSError as error:
            folder = folders.run_folder(self.settings.runs, run_id)
            log.error("%s is deleted, but its folder %s could not be removed (%s); remove it", run_id, folder, error)
