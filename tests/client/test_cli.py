"""The command line: what it prints, and the status it ends with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from client.cli import COMMANDS, run
from nat_core.version import __version__
from tests.client.builders import a_comparison, a_run, a_worker, an_experiment, with_sets
from tests.client.http import answering, problem
from tests.e2e.support import REPOSITORY

EXPERIMENT = "name: half\nbudgets:\n  - selector: full\n  - selector: rpc\n    fraction: 0.5\n"


@pytest.fixture
def experiment_file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    return path


def test_launch_sends_the_file_with_its_changed_fields(
    experiment_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({"POST /api/v1/experiments": (201, an_experiment())}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["launch", str(experiment_file), "--set", "base.steps=7", "--set", "seeds=[0, 1]"]) == 0
    assert table.asked[0].body["base"]["steps"] == 7
    assert table.asked[0].body["seeds"] == [0, 1] and "priority" not in table.asked[0].path
    assert f"{table.url}/experiments/exp-0000000000" in capsys.readouterr().out


def test_launch_can_jump_the_queue(experiment_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"POST /api/v1/experiments": (201, an_experiment())}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["launch", str(experiment_file), "--priority", "7"]) == 0
    assert table.asked[0].path == "/api/v1/experiments?priority=7"


def test_launch_as_json_prints_the_record_alone(
    experiment_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({"POST /api/v1/experiments": (201, an_experiment())}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["launch", str(experiment_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == an_experiment().model_dump(mode="json")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            "name: x\nbudgets: [{selector: rpc, fraction: 1.5}]",
            r"budgets.0.fraction is 1.5, but .* less than or equal to 1",
        ),
        ("name: x\nbudgets: [{selector: rpc, law: uniform, fraction: 0.25}]", "keeps at least half; use 0.5 or more"),
        ("name: x\nbudget: []\nbudgets: [{selector: full}]", "budget is not a field natlab knows"),
        ("- a\n- b", "holds list, not a mapping"),
        ("name: [", "is not valid YAML or JSON"),
        ("name: x\nbase:\n  steps: 3\n  steps: 4\nbudgets: []", "line 4: steps is set here again, after line 3"),
    ],
)
def test_bad_input_is_one_sentence_on_stderr_and_status_2(
    document: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(document)
    assert run(["launch", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert re.search(said, printed.err)


@pytest.mark.parametrize(
    ("command", "example", "said"),
    [
        ("launch", "demo.yaml", "is one run, but `natlab launch` takes an experiment"),
        ("train", "experiment.yaml", "is an experiment, but `natlab train` trains one run"),
    ],
)
def test_a_file_of_the_other_kind_is_told_where_it_belongs(
    command: str, example: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ["--output", str(tmp_path / "out")] if command == "train" else []
    assert run([command, str(REPOSITORY / "examples" / example), *output]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("model: {path: /no/such/model}", "model.path is /no/such/model"),
        ("data: {type: jsonl, path: /no/such/rows.jsonl}", "/no/such/rows.jsonl"),
        ("steps: 0", "steps is 0"),
        ("nonsense: 1", "nonsense is not a field natlab knows"),
    ],
)
def test_train_refuses_bad_input_before_it_starts_anything(
    spec: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(spec)
    assert run(["train", str(path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_train_names_the_file_and_line_of_a_broken_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1", "answer": "#### 2"}\n{"question": "2+2", \n')
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"data": {"type": "jsonl", "path": str(rows)}}))
    assert run(["train", str(path), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert str(rows) in error
    assert "2" in error.replace(str(rows), "")
    assert not (tmp_path / "out").exists()


def test_train_never_writes_over_an_earlier_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("steps: 1\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "events.jsonl").write_text("")
    assert run(["train", str(path), "--output", str(tmp_path / "out")]) == 2
    assert "already holds a run; choose another folder" in capsys.readouterr().err
    assert not (tmp_path / "out" / "spec.json").exists()


def test_an_api_error_is_its_sentence_with_status_2_and_an_absent_broker_status_1(
    experiment_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    routes = {
        "POST /api/v1/runs/run-1/stop": (409, problem(409, "illegal_transition", "run-1 has ended; nothing to stop")),
        "POST /api/v1/experiments": (503, problem(503, "broker_unavailable", "Redis cannot be reached; start it")),
    }
    with answering(routes) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["stop", "run-1"]) == 2
        assert capsys.readouterr().err == "run-1 has ended; nothing to stop\n"
        assert run(["launch", str(experiment_file)]) == 1
        assert capsys.readouterr().err == "Redis cannot be reached; start it\n"


@pytest.mark.parametrize(
    ("action", "state"), [("stop", "stopping"), ("pause", "pausing"), ("resume", "queued"), ("kill", "stopping")]
)
def test_actions_say_what_the_run_is_now(
    action: str, state: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({f"POST /api/v1/runs/run-1/{action}": (202, a_run(1, state=state))}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run([action, "run-1"]) == 0
    assert capsys.readouterr().out == f"run-0000000001 is {state}.\n"


def test_stop_takes_an_experiment_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stopping = an_experiment(a_run(0, state="stopping"), a_run(1, state="stopped"))
    with answering({"POST /api/v1/experiments/exp-1/stop": (202, stopping)}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["stop", "exp-1"]) == 0
        assert capsys.readouterr().out == "run-0000000000 is stopping.\nrun-0000000001 is stopped.\n"
        assert run(["stop", "exp-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == stopping.model_dump(mode="json")


def test_compare_shows_named_sets_beside_the_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = an_experiment(a_run(0, state="succeeded", latest={"eval/aime-24/accuracy": 0.25}))
    routes = {
        "GET /api/v1/experiments/exp-1/comparison": (200, a_comparison()),
        "GET /api/v1/experiments/exp-1": (200, with_sets(ended, "aime-24")),
    }
    with answering(routes) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["compare", "exp-1"]) == 0
        rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        assert "Accuracy on aime-24" in rows and "full 25.0%" in rows
        assert run(["compare", "exp-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == a_comparison().model_dump(mode="json")


def test_compare_prints_the_table_and_the_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    routes = {
        "GET /api/v1/experiments/exp-1/comparison": (200, a_comparison()),
        "GET /api/v1/experiments/exp-1": (200, an_experiment()),
    }
    with answering(routes) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["compare", "exp-1"]) == 0
    printed = capsys.readouterr().out
    rows = [" ".join(line.split()) for line in printed.splitlines()]
    assert rows[1] == "full 81.2% – 100% – – – baseline"
    assert rows[2] == "truncate · ½ (biased) 79.0% -2.2 points 50% 50% 31% – no claim"
    assert "Half the tokens, no claim yet" in printed
    assert "Runs were not on the same hardware." in printed


def test_ls_lists_runs_and_an_empty_list_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = an_experiment(a_run(0, state="running", step=4, latest={"eval/accuracy": 0.5}), a_run(1))
    with answering({"GET /api/v1/experiments": (200, {"items": [running.model_dump(mode="json")]})}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["ls"]) == 0
        printed = capsys.readouterr().out
        assert "run-0000000000" in printed
        assert "4/10" in printed
        assert "50.0%" in printed
        table.routes["GET /api/v1/experiments"] = (200, {"items": []})
        assert run(["ls"]) == 0
        assert "natlab launch FILE" in capsys.readouterr().out
        assert run(["ls", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []


def test_workers_are_listed_and_a_silent_one_does_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({"GET /api/v1/workers": (200, [a_worker("box-a"), a_worker("box-b", silent_s=300)])}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["workers", "--require", "box-a"]) == 0
        assert "H200" in capsys.readouterr().out
        table.routes["GET /api/v1/workers"] = (200, [a_worker("[/box]")])  # which is no markup
        assert run(["workers"]) == 0 and "[/box]-1" in capsys.readouterr().out
        table.routes["GET /api/v1/workers"] = (200, [a_worker("box-b", silent_s=-7200)])  # the clock was set back since
        assert run(["workers"]) == 0 and "0 s ago" in capsys.readouterr().out
        assert run(["workers", "--require", "box-b"]) == 1
        table.routes["GET /api/v1/workers"] = (200, [a_worker("box-b", silent_s=300)])
        capsys.readouterr()
        assert run(["workers", "--require", "box-b"]) == 1
        assert capsys.readouterr().err == "no worker of host box-b was heard of in the last 60 s; see its log\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--seeds", "0,x"], "--seeds is '0,x'"),
        (["demo", "--seeds", "1,1"], "seeds holds 1 twice"),
        (["demo", "--steps", "0"], "--steps"),
        (["launch"], "Missing argument 'FILE'. See `natlab launch --help`."),
        (["lunch"], "Did you mean 'launch'? See `natlab --help`."),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("url", ["gpu-box:8300", "gpu-box", "http:", "http://box:83o0", "http://[", "ftp://box:8300"])
def test_an_address_that_is_none_is_bad_input_and_no_server_that_is_away(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NATLAB_URL", url)
    assert run(["ls"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"the server's address is {url!r}, which is none (")
    assert "write it as http://gpu-box:8300" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("command", [["ls"], ["link"], ["up"], ["backup", "copy.db"]])
def test_a_data_folder_of_nobody_is_one_sentence(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NATLAB_HOME", "~nobody-at-all/natlab")
    assert run(command) == 2
    assert capsys.readouterr().err == (
        "NATLAB_HOME is '~nobody-at-all/natlab', but there is no such user; write the folder out\n"
    )


def test_without_arguments_the_commands_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([]) == 0
    printed = capsys.readouterr().out
    assert "..." not in printed.partition("Commands:")[2]  # none is cut off where terminals are narrow
    for command in COMMANDS:
        assert f"\n  {command} " in printed
    assert "Exit status: 0 fine, 1 something failed, 2 the input was wrong" in " ".join(printed.split())


def test_the_version_is_where_people_look_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["version"]):
        assert run(arguments) == 0
        assert capsys.readouterr().out == f"{__version__}\n"
    assert run(["-h"]) == 0
    first = capsys.readouterr().out
    assert run(["--help"]) == 0
    assert capsys.readouterr().out == first
    assert run(["launch", "-h"]) == 0
    assert "natlab launch" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does_and_speaks_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"natlab {command}" in printed and printed.count(".") >= 1
    assert "--json" in printed or command in ("server", "worker")  # these become another process


@pytest.mark.parametrize("action", ["stop", "pause", "resume", "kill"])
def test_actions_as_json_are_the_run(
    action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering({f"POST /api/v1/runs/run-1/{action}": (202, a_run(1))}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run([action, "run-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == a_run(1).model_dump(mode="json")


def test_launch_with_a_key_of_its_own_sends_it(experiment_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"POST /api/v1/experiments": (201, an_experiment())}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["launch", str(experiment_file), "--key", "tonight"]) == 0
    assert table.asked[0].headers["Idempotency-Key"] == "tonight"


@pytest.mark.parametrize("key", ["", "  ", "clé", "two\nlines", "x" * 201])
def test_a_key_that_no_header_carries_is_one_sentence(
    key: str, experiment_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["launch", str(experiment_file), "--key", key]) == 2
    assert capsys.readouterr().err.startswith(f"key is {key[:200]!r}, but it is sent in a header")


def test_gc_and_version_and_link_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    swept = {"experiments": [], "checkpoints": [], "folders": ["run-1"], "folder_bytes": 7, "database_bytes": 0}
    with answering({"POST /api/v1/gc": (200, swept)}) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["gc", "--dry-run", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {**swept, "dry_run": True}
        assert run(["version", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"version": __version__}
        monkeypatch.setenv("NATLAB_TOKEN", "a-token-that-is-long")
        assert run(["link", "--json"]) == 0
        link = json.loads(capsys.readouterr().out)
        assert link == {"url": table.url, "link": f"{table.url}?token=a-token-that-is-long"}


def completions(line: str, word: int, **environment: str) -> list[str]:
    """What bash would offer, as the completion script asks for it."""
    asked = {"_NATLAB_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(word), **environment}
    done = subprocess.run(
        [sys.executable, "-m", "client"], cwd=REPOSITORY, env=os.environ | asked, capture_output=True, text=True
    )
    return done.stdout.split()


def test_the_shell_completes_commands_and_ids() -> None:
    assert completions("natlab wo", 1) == ["workers", "worker"]
    with answering({"GET /api/v1/experiments": (200, {"items": [an_experiment().model_dump(mode="json")]})}) as table:
        assert completions("natlab kill ", 2, NATLAB_URL=table.url) == ["run-0000000000", "run-0000000001"]
        assert completions("natlab kill run-0000000001", 2, NATLAB_URL=table.url) == ["run-0000000001"]
        assert completions("natlab compare ", 2, NATLAB_URL=table.url) == ["exp-0000000000"]
        assert completions("natlab stop ", 2, NATLAB_URL=table.url) == [
            "exp-0000000000",
            "run-0000000000",
            "run-0000000001",
        ]


def test_completion_keeps_quiet_when_the_server_is_away() -> None:
    assert completions("natlab kill ", 2, NATLAB_URL="http://127.0.0.1:1") == []
