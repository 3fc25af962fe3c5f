"""What pages and figures both read of the store: kept comparisons, and runs picked by an address."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated

import scipy.special  # noqa: F401  (what comparisons compute with: read at the start, not while a page waits)
from fastapi import Depends, Query, Request

from nat_core.comparison import Comparison, compare
from nat_core.records import ExperimentRecord, RunDetail
from server.errors import NotFoundError
from server.store import Store
from web.compare import MAX_RUNS, Group, group_runs
from web.view import listed


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


StoreDep = Annotated[Store, Depends(_store)]
RunIds = Annotated[str, Query(max_length=8000)]

# Comparisons of finished experiments do not change, and a listing shows many: the newest are kept.
_KEPT = 256
_answers: dict[str, Comparison] = {}


def kept_comparison(store: Store, experiment: ExperimentRecord) -> Comparison:
    """The experiment's comparison, from memory where its runs have ended."""
    runs = [(run.id, run.state, run.attempt, run.step, run.archived) for run in experiment.runs]
    key = json.dumps([experiment.id, runs])
    settled = all(run.state.is_final for run in experiment.runs)
    if settled and key in _answers:
        return _answers[key]
    comparison = compare(experiment.spec, store.outcomes(experiment.id))
    if settled:
        while len(_answers) >= _KEPT:
            _answers.pop(next(iter(_answers)))
        _answers[key] = comparison
    return comparison


def picked_runs(store: Store, run_ids: str) -> tuple[list[RunDetail], dict[str, ExperimentRecord]]:
    """The runs asked for, those that are not there left out, and their experiments."""
    found = []
    for run_id in listed(run_ids)[:MAX_RUNS]:
        with suppress(NotFoundError):
            found.append(store.get_run(run_id))
    ids = dict.fromkeys(run.experiment_id for run in found)
    return found, {experiment_id: store.get_experiment(experiment_id) for experiment_id in ids}


def picked_groups(store: Store, run_ids: str) -> tuple[list[Group], dict[str, ExperimentRecord]]:
    """The same, runs of one configuration together."""
    runs, experiments = picked_runs(store, run_ids)
    return group_runs(runs, experiments), experiments
