"""What pages and figures both read of the store: kept comparisons, and runs picked by an address."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import scipy.special  # noqa: F401  (what comparisons compute with: read at the start, not while a page waits)
from fastapi import Depends, Query, Request

from nat_core.comparison import Comparison, compare
from nat_core.records import ExperimentRecord, RunDetail
from server.errors import BadQueryError, NotFoundError
from server.store import Store
from web.compare import MAX_RUNS, Group, group_runs
from web.view import listed


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


StoreDep = Annotated[Store, Depends(_store)]
RunIds = Annotated[str, Query(max_length=8000)]


def kept_comparison(store: Store, experiment: ExperimentRecord) -> Comparison:
    """The experiment's comparison, from memory until something of it changes."""
    runs = tuple(run.id for run in experiment.runs)
    return store.kept.of(experiment.id, runs, lambda: compare(experiment.spec, store.outcomes(experiment.id)))


def runs_of(store: Store, experiment_ids: str) -> str:
    """The runs of several experiments as an address names them; archived ones are left out, as they are of each.

    Raises:
        BadQueryError: they have more runs than are compared.
    """
    found: list[str] = []
    for experiment_id in listed(experiment_ids):
        with suppress(NotFoundError):
            found += [run.id for run in store.get_experiment(experiment_id).runs if not run.archived]
        if len(found) > MAX_RUNS:
            raise BadQueryError(
                f"these experiments have more than {MAX_RUNS} runs, which is the most that are compared; select fewer "
                "experiments, or rows in the table of one"
            )
    return ",".join(found)


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
