"""What comparisons need of each run: sums over its history, and its latest evaluation.

A long run's events take their time to sum up, and pages ask again with every step that is reported. So what a run
comes to is stored when it ends, and forgotten should an event still come after that; else its sums are kept in memory
and brought up to date by what came since. Where anything but the newest end of it changed, they are made anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlmodel import Session, col, select

from nat_core.comparison import RunOutcome
from nat_core.events import EvaluationEvent, parse_event
from nat_core.records import RunState
from server.attempts import COUNTS
from server.tables import OutcomeRow, RunRow

_MOST_KEPT = 10_000

OF_OUTCOMES: tuple[Any, ...] = (
    RunRow.id,
    RunRow.cell,
    RunRow.seed,
    RunRow.state,
    RunRow.step,
    RunRow.hardware,
)
"""What is read of runs for their outcomes; the rest of a row is most of it."""

_SUMS = {
    "tokens_generated": "tokens/generated",
    "tokens_selected": "tokens/selected",
    "tokens_trunk": "tokens/trunk",
    "flops": "flops/update",
    "forward_backward_s": "timing_s/forward_backward",
    "update_s": "timing_s/update",
    "step_s": "timing_s/step",
}
_PEAK = "peak_memory_gib"
_FIELDS = {*_SUMS, _PEAK, "accuracy", "num_answers"}
_COLUMNS = ", ".join(f"""TOTAL(json_extract(body, '$.values."{key}"'))""" for key in _SUMS.values())
_TOTALS = f"""SELECT {_COLUMNS}, MAX(json_extract(body, '$.values."perf/peak_memory_gib"'))
FROM event {COUNTS} WHERE event.run_id = :run AND type = 'metrics' """
_EVALUATION = f"""SELECT body FROM event {COUNTS} WHERE event.run_id = :run AND type = 'evaluation'
ORDER BY event.attempt DESC, seq DESC LIMIT 1"""
_EXTENT = """SELECT number, kept_to, COUNT(seq), coalesce(MAX(seq), 0)
FROM attempt LEFT JOIN event ON event.run_id = attempt.run_id AND event.attempt = number
WHERE attempt.run_id = :run GROUP BY number ORDER BY number"""

Extent = list[tuple[Any, ...]]
"""Of each attempt its number, the last step of it that counts, how many events there are, and the last one's number."""
Sums = dict[str, Any]
"""Fields of a `RunOutcome`; steps that a restart made anew count once, since budgets are compared, not luck."""


@dataclass(frozen=True)
class _Kept:
    """The sums of a run as far as it went."""

    extent: Extent
    totals: Sums

    def leads_to(self, extent: Extent) -> bool:
        """Whether nothing but events at the end of the newest attempt came since."""
        if not self.extent or len(self.extent) != len(extent) or self.extent[:-1] != extent[:-1]:
            return False
        _, kept_to, count, last = self.extent[-1]
        return bool(kept_to == extent[-1][1] and count == last)  # else one that was missing may have come


class Outcomes:
    """The outcomes of runs, each summed up once and then brought up to date."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def of(self, session: Session, runs: Sequence[RunRow]) -> list[RunOutcome]:
        rows = session.exec(select(OutcomeRow).where(col(OutcomeRow.run_id).in_([run.id for run in runs])))
        stored = {row.run_id: row.sums for row in rows if row.sums.keys() == _FIELDS}
        return [_outcome(run, stored.get(run.id) or self._made(session, run.id)) for run in runs]

    def by_step(self, session: Session, run: RunRow, step: int | None) -> RunOutcome:
        """The outcome of one run, where a step is given as of that one; its answers are the latest all the same."""
        (whole,) = self.of(session, [run])
        if step is None or step >= whole.step:
            return whole
        return whole.model_copy(
            update={"step": step, **_totals(session, "AND event.step <= :step", run=run.id, step=step)}
        )

    def _made(self, session: Session, run_id: str) -> Sums:
        extent: Extent = [tuple(row) for row in session.execute(text(_EXTENT), {"run": run_id})]
        kept = self._kept.get(run_id)
        if kept is not None and kept.extent == extent:
            totals = kept.totals
        elif kept is not None and kept.leads_to(extent):
            number, _, _, last = kept.extent[-1]
            since = "AND event.attempt = :attempt AND seq > :last"
            totals = _added(kept.totals, _totals(session, since, run=run_id, attempt=number, last=last))
        else:
            totals = _totals(session, run=run_id)
        self._kept[run_id] = _Kept(extent, totals)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return {**totals, **_answers(session, run_id)}


def store(session: Session, run_id: str) -> None:
    """Sum up a run that ends."""
    session.merge(OutcomeRow(run_id=run_id, sums={**_totals(session, run=run_id), **_answers(session, run_id)}))


def forget(session: Session, run_id: str) -> None:
    """What was stored of a run no longer holds: an event came, or the run goes."""
    session.execute(text("DELETE FROM outcome WHERE run_id = :run"), {"run": run_id})


def _outcome(run: RunRow, sums: Sums) -> RunOutcome:
    state = RunState(run.state)
    about = {"run_id": run.id, "cell": run.cell, "seed": run.seed, "state": state, "step": run.step}
    return RunOutcome(**about, hardware=run.hardware, **sums)


def _totals(session: Session, condition: str = "", **names: Any) -> Sums:
    *sums, peak = session.execute(text(_TOTALS + condition), names).one()
    return {**dict(zip(_SUMS, sums, strict=True)), _PEAK: peak}


def _added(before: Sums, since: Sums) -> Sums:
    peaks = [sums[_PEAK] for sums in (before, since) if sums[_PEAK] is not None]
    return {**{key: before[key] + since[key] for key in _SUMS}, _PEAK: max(peaks, default=None)}


def _answers(session: Session, run_id: str) -> Sums:
    found = session.execute(text(_EVALUATION), {"run": run_id}).scalar()
    latest = parse_event(found) if found is not None else None
    if not isinstance(latest, EvaluationEvent):
        return {"accuracy": None, "num_answers": 0}
    return {"accuracy": latest.accuracy, "num_answers": latest.num_prompts * latest.num_samples}
