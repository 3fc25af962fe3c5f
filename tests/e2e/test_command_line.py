"""Every command that talks to a server, against a server that runs: as a script would use them, with `--json`."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from client import cli
from client.api import NatLab
from client.train import EventTail
from nat_core.spec import DemoArithmetic, EvaluationSpec, ExperimentSpec, QuestionSetSpec
from tests.e2e.support import Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Natlab = Callable[..., str]


@pytest.fixture
def natlab(
    stack: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Natlab:
    """Runs a command in a folder of its own, checks how it ends, and gives what it printed."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("NATLAB_HOME", str(stack.home)), ("NATLAB_PORT", stack.url.rpartition(":")[2])):
        monkeypatch.setenv(name, value)

    def run(*arguments: str, status: int = 0) -> str:
        ended = cli.run(list(arguments))
        printed = capsys.readouterr()
        assert ended == status, (arguments, printed.out, printed.err, stack.logs())
        return printed.out

    return run


def write(spec: ExperimentSpec, path: Path, **base: Any) -> str:
    changed = spec.model_copy(update={"base": spec.base.model_copy(update=base)})
    path.write_text(yaml.safe_dump(changed.model_dump(mode="json")))
    return str(path)


def wait_until(condition: Callable[[], bool], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_a_run_is_steered_from_the_shell(
    natlab: Natlab, lab: NatLab, small_demo: ExperimentSpec, tmp_path: Path
) -> None:
    one = small_demo.model_copy(update={"budgets": small_demo.budgets[:1]})
    endless = write(one, tmp_path / "endless.yaml", steps=100_000)
    experiment = json.loads(natlab("launch", endless, "--json"))
    run_id = experiment["runs"][0]["id"]
    wait_until(lambda: lab.run(run_id).step >= 1)
    assert json.loads(natlab("pause", run_id, "--json"))["state"] in ("pausing", "paused")
    wait_until(lambda: lab.run(run_id).state == "paused")
    step = lab.run(run_id).step
    assert natlab("resume", run_id) == f"{run_id} is queued.\n"
    wait_until(lambda: lab.run(run_id).step > step)
    assert json.loads(natlab("workers", "--json"))[0]["run_id"] == run_id
    assert [found["id"] for found in json.loads(natlab("ls", "--json", "--limit", "1"))] == [experiment["id"]]
    assert "is in use" not in natlab("doctor", "--role", "client")

    assert natlab("stop", experiment["id"]).startswith(f"{run_id} is stop")
    watched = [json.loads(line) for line in natlab("watch", experiment["id"], "--json", status=1).splitlines()]
    assert (watched[-1]["id"], watched[-1]["state"]) == (run_id, "stopped")
    phases = [
        event["phase"] for event in map(json.loads, natlab("logs", run_id, "--json").splitlines()) if "phase" in event
    ]
    assert phases == ["started", "ended", "started", "ended"]
    assert natlab("logs", run_id, "-n", "1").count("\n") == 1

    killed = json.loads(natlab("launch", endless, "--json"))["runs"][0]["id"]
    natlab("kill", killed)
    wait_until(lambda: lab.run(killed).state == "failed")
    assert lab.run(killed).reason == "killed"
    assert natlab("kill", killed, status=2) == ""


def test_an_experiment_goes_from_its_file_to_everything_that_is_made_of_it(
    natlab: Natlab, stack: Command, small_demo: ExperimentSpec, tmp_path: Path
) -> None:
    easy = QuestionSetSpec(data=DemoArithmetic(min_operations=1, max_operations=2), num_prompts=4)
    evaluation = EvaluationSpec(every=0, num_prompts=8, greedy=False, sets={"easy-ones": easy})
    file = write(small_demo, tmp_path / "half.yaml", evaluation=evaluation)
    assert [row["budget"] for row in json.loads(natlab("plan", file, "--json"))["budgets"]] == [
        "full",
        "rpc · linear · ½",
    ]
    ended = json.loads(natlab("launch", file, "--key", "half", "--wait", "--json"))
    assert ended["state"] == "succeeded"
    assert json.loads(natlab("launch", file, "--key", "half", "--json"))["id"] == ended["id"]
    assert json.loads(natlab("compare", ended["id"], "--json"))["cells"][1]["label"] == "rpc · linear · ½"
    assert "easy-ones" in natlab("compare", ended["id"])

    natlab("export", ended["id"], "report.html")
    assert "</html>" in (tmp_path / "report.html").read_text()
    told = json.loads(natlab("backup", "copy.db", "--json"))
    assert told["size_bytes"] == (tmp_path / "copy.db").stat().st_size
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT name FROM experiment WHERE id = ?", (ended["id"],)).fetchone() == (ended["name"],)
    assert json.loads(natlab("gc", "--dry-run", "--json"))["dry_run"] is True
    assert json.loads(natlab("link", "--json"))["link"].startswith(f"{stack.url}?token=")
    report = json.loads(natlab("doctor", "--json"))
    assert report["ok"] and "answers" in {one["name"]: one["found"] for one in report["findings"]}["server"]

    sent = [json.loads(line) for line in natlab("send", ended["id"], "--to", "tensorboard", "--json").splitlines()]
    assert [one["run_id"] for one in sent] == [run["id"] for run in ended["runs"]]
    assert len(list((tmp_path / "reports").rglob("events.out.tfevents.*"))) == 2
    assert natlab("send", ended["id"], "--to", "tensorboard", status=2) == ""  # nothing is doubled

    model = json.loads(natlab("export-model", ended["runs"][0]["id"], "model", "--json"))
    assert model["kind"] == "model" and (tmp_path / "model" / "config.json").exists()


def test_a_run_without_a_server_is_sent_as_well(natlab: Natlab, small_demo: ExperimentSpec, tmp_path: Path) -> None:
    run = small_demo.expand()[1]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run.model_dump(mode="json")))
    ended = json.loads(natlab("train", "run.yaml", "--output", "half", "--json"))
    assert (ended["outcome"], ended["step"]) == ("succeeded", 2)
    assert ended["latest"]["eval/accuracy_low"] is not None
    sent = json.loads(natlab("send", "half", "--to", "tensorboard", "--json"))
    reported = EventTail(tmp_path / "half" / "events.jsonl").read()
    assert sent["events"] == sum(event.type in ("metrics", "evaluation") for event in reported) > 2
