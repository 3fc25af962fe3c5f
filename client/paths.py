"""Where in the API a thing is. Wherever an id is asked for, the record will do."""

from __future__ import annotations

from urllib.parse import quote

from nat_core.records import ExperimentRecord, RunRecord

Experiment = str | ExperimentRecord
Run = str | RunRecord


def id_of(thing: Experiment | Run) -> str:
    return thing if isinstance(thing, str) else thing.id


def experiment_path(experiment: Experiment) -> str:
    return f"/api/v1/experiments/{_segment(id_of(experiment))}"


def run_path(run: Run) -> str:
    return f"/api/v1/runs/{_segment(id_of(run))}"


def _segment(name: str) -> str:
    """An id as one segment of a path, whatever someone typed."""
    return quote(name, safe="") or "-"
