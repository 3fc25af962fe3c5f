"""MLflow: on the tracking server of `MLFLOW_TRACKING_URI`, or in `sqlite:///…/mlflow.db` in the folder given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from client.errors import ClientError
from client.sinks.sink import RunInfo

_METRICS_A_BATCH = 1000  # the most that a tracking server takes at once
_PARAMS_A_BATCH = 100
_LONGEST_PARAM = 500
_STATUS = {"succeeded": "FINISHED", "failed": "FAILED"}
_RUN_ID = "natlab.run_id"


class MlflowSink:
    """An MLflow run in the experiment of the project's name, tagged with natlab's id."""

    def __init__(self, client: MlflowClient, project: str) -> None:
        self._client = client
        self._project = project
        self._run_id = ""
        self._waiting: list[Metric] = []

    def begin(self, run: RunInfo) -> None:
        try:
            found = self._client.get_experiment_by_name(self._project)
            experiment_id = found.experiment_id if found else self._client.create_experiment(self._project)
            sent = self._client.search_runs([experiment_id], f"tags.`{_RUN_ID}` = '{run.id}'", max_results=1)
        except MlflowException as error:
            raise ClientError(f"MLflow cannot be used ({error}); correct MLFLOW_TRACKING_URI") from None
        if sent:
            raise ClientError(f"MLflow has {run.id} already, as run {sent[0].info.run_id}; delete it there first")
        tags = {_RUN_ID: run.id, "natlab.experiment": run.group, "natlab.tags": ", ".join(run.tags)}
        made = self._client.create_run(experiment_id, run_name=run.name)
        self._run_id = made.info.run_id
        self._client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in tags.items() if value])
        params = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in run.flat_config().items()]
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(self._run_id, params=params[start : start + _PARAMS_A_BATCH])

    def write(self, values: Mapping[str, float], step: int, time: float) -> None:
        self._waiting += [Metric(key, value, int(1000 * time), step) for key, value in values.items()]
        if len(self._waiting) >= _METRICS_A_BATCH:
            self._flush()

    def end(self, outcome: str) -> None:
        if self._run_id:
            self._flush()
            self._client.set_terminated(self._run_id, status=_STATUS.get(outcome, "KILLED"))

    def _flush(self) -> None:
        while batch := self._waiting[:_METRICS_A_BATCH]:
            self._client.log_batch(self._run_id, metrics=batch)
            self._waiting = self._waiting[_METRICS_A_BATCH:]


def make(directory: Path, project: str) -> MlflowSink:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        directory.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{directory.absolute()}/mlflow.db"
    return MlflowSink(MlflowClient(uri), project)
