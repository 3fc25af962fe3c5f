"""Runs in TensorBoard, Weights & Biases and MLflow, each the real library without a network."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from client import sinks
from client.cli import run
from client.errors import ClientError
from client.sinks import RunInfo, open_sink, send
from client.sinks.sink import values_of
from nat_core.answers import Answers
from nat_core.events import AnyEvent, EvaluationEvent, LogEvent, MetricsEvent, StateEvent
from nat_core.spec import RunSpec
from tests.client.builders import a_run, an_experiment
from tests.client.http import Answer, Asked, answering

RUN = RunInfo(
    id="run-0000000001",
    name="half the tokens · rpc/linear · seed 0",
    group="half the tokens",
    tags=("night",),
    config=RunSpec(steps=3).model_dump(mode="json"),
)
EVENTS: list[AnyEvent] = [
    StateEvent(seq=1, time=1000.0, step=0, phase="started"),
    EvaluationEvent(
        seq=2,
        time=1001,
        step=0,
        accuracy=0.25,
        pass_at_k=0.5,
        num_prompts=2,
        num_samples=4,
        correct=[2, 0],
        mean_length=9,
        sets={"aime-24": Answers(accuracy=0.125, num_prompts=2, num_samples=4, correct=[1, 0], mean_length=7)},
        seconds=1,
    ),
    MetricsEvent(seq=3, time=1002.0, step=1, values={"reward": 0.5, "tokens/selected": 100, "grad_norm": None}),
    LogEvent(seq=4, time=1002.5, step=1, message="words are no numbers"),
    MetricsEvent(seq=5, time=1003.0, step=2, values={"reward": 0.75, "tokens/selected": 120}),
    StateEvent(seq=6, time=1004.0, step=2, phase="ended", outcome="succeeded"),
]
REWARD = [(1, 0.5), (2, 0.75)]


def test_values_are_the_finite_numbers_of_metrics_and_evaluations() -> None:
    assert values_of(EVENTS[1]) == {
        "eval/accuracy": 0.25,
        "eval/pass_at_k": 0.5,
        "eval/mean_length": 9,
        "eval/aime-24/accuracy": 0.125,
        "eval/aime-24/mean_length": 7,
    }
    assert values_of(EVENTS[2]) == {"reward": 0.5, "tokens/selected": 100}
    assert values_of(EVENTS[3]) == values_of(EVENTS[5]) == {}


def test_a_spec_is_flat_where_a_tool_knows_no_nesting() -> None:
    flat = RUN.flat_config()
    assert flat["steps"] == 3 and flat["budget.selector"] == "rpc"
    assert all(isinstance(value, str | int | float | bool) for value in flat.values())


class Recorder:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, run: RunInfo) -> None:
        self.told.append(run.id)

    def write(self, values: Any, step: int, time: float) -> None:
        self.told.append((step, dict(values)))

    def end(self, outcome: str) -> None:
        self.told.append(outcome)


def test_a_sink_is_ended_even_when_the_events_break_off() -> None:
    def broken() -> Iterator[AnyEvent]:
        yield EVENTS[2]
        raise ClientError("the server went away")

    recorder = Recorder()
    with pytest.raises(ClientError, match="went away"):
        send(recorder, RUN, broken())
    assert recorder.told == [RUN.id, (1, {"reward": 0.5, "tokens/selected": 100}), "stopped"]


def test_a_tool_that_is_not_known_or_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="--to is 'excel', but it is one of tensorboard, wandb, mlflow"):
        open_sink("excel")
    monkeypatch.delitem(sys.modules, "client.sinks.to_wandb", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ClientError, match=r"wandb is not installed; pip install 'natlab\[wandb\]'"):
        open_sink("wandb", directory=tmp_path, project="natlab")


# --- the real libraries ---------------------------------------------------------------------------


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert send(open_sink("tensorboard", directory=tmp_path, project="natlab"), RUN, EVENTS) == 3
    place = tmp_path / "natlab" / "half the tokens · rpc_linear · seed 0"
    shown = EventAccumulator(str(place)).Reload()
    assert [(one.step, one.value) for one in shown.Scalars("reward")] == REWARD
    assert [one.wall_time for one in shown.Scalars("reward")] == [1002.0, 1003.0]
    assert [(one.step, one.value) for one in shown.Scalars("eval/accuracy")] == [(0, 0.25)]
    assert [(one.step, one.value) for one in shown.Scalars("eval/aime-24/accuracy")] == [(0, 0.125)]
    assert "grad_norm" not in shown.Tags()["scalars"]
    [spec] = shown.Tensors("spec/text_summary")
    assert "| budget.selector | rpc |" in spec.tensor_proto.string_val[0].decode()
    with pytest.raises(ClientError, match="holds events already"):
        send(open_sink("tensorboard", directory=tmp_path, project="natlab"), RUN, EVENTS)


def test_wandb_offline_holds_history_config_and_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert send(open_sink("wandb", directory=tmp_path, project="natlab"), RUN, EVENTS) == 3
    [folder] = tmp_path.glob("wandb/offline-run-*-run-0000000001")
    records = list(wandb_records(next(folder.glob("*.wandb"))))
    [begun] = [record.run for record in records if record.HasField("run")]
    assert (begun.run_id, begun.project, begun.run_group) == (RUN.id, "natlab", RUN.group)
    assert begun.display_name == RUN.name and list(begun.tags) == ["night"]
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert config["steps"] == 3 and config["budget"]["selector"] == "rpc"
    rows = [
        {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    assert [(row["_step"], row["reward"]) for row in rows if "reward" in row] == REWARD
    assert [row["eval/aime-24/accuracy"] for row in rows if "eval/aime-24/accuracy" in row] == [0.125]
    with pytest.raises(ClientError, match="holds run-0000000001 already"):
        send(open_sink("wandb", directory=tmp_path, project="natlab"), RUN, EVENTS)


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline run's file: blocks of LevelDB's log format after seven bytes of header."""
    from wandb.proto import wandb_internal_pb2

    data, place, held = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:  # what no header fits into is left empty
            place += left
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", data, place)
        held += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(held)
            held = b""


def test_mlflow_has_metrics_parameters_and_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("client.sinks.to_mlflow._METRICS_A_BATCH", 3, raising=False)
    assert send(open_sink("mlflow", directory=tmp_path, project="natlab"), RUN, EVENTS) == 3
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("natlab")
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == (RUN.name, "FINISHED")
    assert found.data.tags["natlab.run_id"] == RUN.id and found.data.params["budget.selector"] == "rpc"
    history = client.get_metric_history(found.info.run_id, "reward")
    assert [(one.step, one.value) for one in history] == REWARD
    assert [one.timestamp for one in history] == [1_002_000, 1_003_000]
    assert [one.value for one in client.get_metric_history(found.info.run_id, "eval/aime-24/accuracy")] == [0.125]
    with pytest.raises(ClientError, match=f"has run-0000000001 already, as run {found.info.run_id}"):
        send(open_sink("mlflow", directory=tmp_path, project="natlab"), RUN, EVENTS)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM runs").fetchone() == (1,)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr("client.cli.send.open_sink", lambda name, **options: recorder)
    return recorder


def test_send_reads_a_run_or_every_run_of_an_experiment(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def detail(asked: Asked) -> Answer:
        run_id = asked.path.rpartition("/")[2]
        return 200, {**a_run(int(run_id[-1])).model_dump(mode="json"), "spec": RUN.config, "attempts": []}

    def events(asked: Asked) -> Answer:
        return 200, [event.model_dump(mode="json") for event in EVENTS]

    routes: dict[str, Any] = {"GET /api/v1/experiments/exp-0000000000": (200, an_experiment())}
    for number in range(2):
        routes[f"GET /api/v1/runs/run-000000000{number}"] = detail
        routes[f"GET /api/v1/runs/run-000000000{number}/events"] = events
    with answering(routes) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["send", "run-0000000001", "--to", "wandb"]) == 0
        assert recorder.told[0] == "run-0000000001" and recorder.told[-1] == "succeeded"
        assert capsys.readouterr().out == "run-0000000001 is in wandb: 3 events.\n"
        recorder.told.clear()
        assert run(["send", "exp-0000000000", "--to", "wandb", "--json"]) == 0
    assert [told for told in recorder.told if str(told).startswith("run-")] == ["run-0000000000", "run-0000000001"]
    assert [json.loads(line)["events"] for line in capsys.readouterr().out.splitlines()] == [3, 3]


def test_send_reads_a_folder_without_a_server(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATLAB_URL", "http://127.0.0.1:1")
    folder = tmp_path / "tonight"
    folder.mkdir()
    assert run(["send", str(folder), "--to", "mlflow"]) == 2
    (folder / "spec.json").write_text(RunSpec(steps=3).model_dump_json())
    (folder / "events.jsonl").write_text("".join(event.model_dump_json() + "\n" for event in EVENTS))
    assert run(["send", str(folder), "--to", "mlflow"]) == 0
    assert recorder.told[0] == "tonight" and recorder.told[2] == (1, {"reward": 0.5, "tokens/selected": 100})


def test_somebody_who_looks_on_sees_how_far_it_is(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("client.cli.send.err", Console(file=screen, force_terminal=True, width=100))
    (tmp_path / "spec.json").write_text(RunSpec(steps=3).model_dump_json())
    (tmp_path / "events.jsonl").write_text("".join(event.model_dump_json() + "\n" for event in EVENTS))
    assert run(["send", str(tmp_path), "--to", "mlflow"]) == 0
    assert recorder.told[-1] == "succeeded" and "2/3" in screen.getvalue()
    assert "2/3" not in capsys.readouterr().out


def test_every_sink_has_an_extra_of_its_own() -> None:
    import tomllib

    from tests.e2e.support import REPOSITORY

    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for _, extra in sinks.SINKS.values()} <= extras.keys()
