"""`natlab doctor` tells the truth: what is there, what is not, and what to do about it."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from client.cli import run
from client.doctor import CHECKS, Role, machine, services
from client.doctor.packages import Requirement, check_extra, requirements
from nat_core.version import __version__
from tests.client.http import Answer, answering, problem
from tests.e2e.support import free_port

HEALTHY: dict[str, Answer] = {
    "GET /healthz": (200, {"status": "ok", "version": __version__}),
    "GET /api/v1/workers": (200, []),
}


# --- packages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "extra", "met", "missed"),
    [
        ('torch<3,>=2.11; extra == "trainer"', "torch", "trainer", "2.13.1+cu130", "2.9"),
        ("celery[redis]<6,>=5.6; extra == 'server'", "celery", "server", "5.6", "6.0.1"),
        ("typer (>=0.29,<0.30)", "typer", "", "0.29.2", "0.30"),
        ("types-PyYAML; extra == 'dev'", "types-PyYAML", "dev", "1", None),
        ("x~=1.4,!=1.5", "x", "", "1.6rc1", "1.5.0"),
    ],
)
def test_requirements_are_read_from_metadata(line: str, name: str, extra: str, met: str, missed: str | None) -> None:
    requirement = Requirement.parse(line)
    assert (requirement.name, requirement.extra) == (name, extra)
    assert requirement.is_met_by(met)
    assert missed is None or not requirement.is_met_by(missed)


def test_natlab_s_own_metadata_names_the_extras() -> None:
    wanted = requirements()
    assert {"", "trainer", "server", "worker", "embedded"} <= {one.extra for one in wanted}
    assert "torch" in {one.name for one in wanted if one.extra == "trainer"}


def test_a_package_that_is_missing_or_old_is_named_with_the_command() -> None:
    wanted = requirements(
        ['no-such-thing>=1; extra == "server"', 'httpx>=99; extra == "server"', 'pydantic>=2; extra == "server"']
    )
    found = check_extra("server", wanted)
    assert found.level == "bad" and found.remedy == "pip install 'natlab[server]'"
    assert "no-such-thing is missing, httpx is 0." in found.found and "not httpx>=99" in found.found
    assert check_extra("worker", wanted).level == "ok"


# --- the machine ----------------------------------------------------------------------------------


def torch_that(says: str, monkeypatch: pytest.MonkeyPatch, gpu: str | None = None) -> Any:
    monkeypatch.setattr(machine, "_ASK_TORCH", says)
    monkeypatch.setattr(machine, "_nvidia_gpu", lambda: gpu)
    return machine.check_torch()


def told(**fields: Any) -> str:
    return f"import json; print(json.dumps({ {'version': '2.13.0', 'cuda': None, 'gpus': [], **fields}!r}))"


def test_a_torch_that_does_not_start_is_bad_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    found = torch_that("import no_such_torch", monkeypatch)
    assert found.level == "bad" and "No module named 'no_such_torch'" in found.found
    assert "natlab[trainer]" in found.remedy


@pytest.mark.parametrize(
    ("says", "gpu", "level", "words"),
    [
        (told(), None, "note", "built for the CPU, no GPU in use"),
        (told(), "NVIDIA H200", "bad", "but there is a NVIDIA H200"),
        (told(cuda="13.0"), "NVIDIA H200", "bad", "built for CUDA 13.0"),
        (told(cuda="13.0", gpus=["NVIDIA H200"]), "NVIDIA H200", "ok", "on NVIDIA H200"),
    ],
)
def test_torch_must_see_the_gpu_that_is_there(
    says: str, gpu: str | None, level: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = torch_that(says, monkeypatch, gpu)
    assert found.level == level and words in found.found
    assert (found.remedy is None) == (level == "ok")


@pytest.mark.parametrize(
    ("version", "level", "words"),
    [
        (None, "note", "not installed"),
        ("0.32.1+cpu", "ok", "0.32.1"),
        ("0.8.5", "warning", "0.8.5, not vllm>=0.32,<0.34"),
    ],
)
def test_a_vllm_that_runs_would_fail_on_is_told(
    version: str | None, level: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def installed(name: str) -> str:
        if name != "vllm" or version is None:
            raise machine.metadata.PackageNotFoundError(name)
        return version

    lines = ['vllm>=0.32,<0.34; extra == "vllm"', 'torch>=2; extra == "trainer"']
    monkeypatch.setattr(machine.metadata, "version", installed)
    monkeypatch.setattr(machine, "requirements", lambda: requirements(lines))
    found = machine.check_vllm()
    assert found.level == level and words in found.found
    assert (found.remedy is None) == (level == "ok")
    assert found.remedy is None or "pip install 'natlab[vllm]'" in found.remedy


def test_a_data_folder_that_cannot_be_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NATLAB_HOME", str(tmp_path / "file" / "home"))
    found = machine.check_home()
    assert found.level == "bad" and "cannot be written" in found.found and "NATLAB_HOME" in str(found.remedy)


@pytest.mark.parametrize(("gib", "level"), [(0.5, "bad"), (5, "warning"), (500, "ok")])
def test_a_full_disk_is_told_before_it_costs_a_run(
    gib: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATLAB_HOME", str(tmp_path / "home"))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("client.doctor.machine.shutil.disk_usage", lambda path: usage(gib * 2**30))
    found = machine.check_home()
    assert found.level == level and f"{gib:.1f} GiB free" in found.found and "(not made yet)" in found.found


def test_a_token_that_others_can_read_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATLAB_HOME", str(tmp_path))
    (tmp_path / "token").write_text("secret")
    os.chmod(tmp_path / "token", 0o644)
    assert machine.check_home().remedy == f"chmod 600 {tmp_path / 'token'}"
    os.chmod(tmp_path / "token", 0o600)
    assert "secret" not in machine.check_home().found and machine.check_home().level in ("ok", "warning")


def test_an_old_python_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_python().level == "ok"
    version = namedtuple("version", "major minor micro")
    monkeypatch.setattr(machine.sys, "version_info", version(3, 10, 4))
    assert machine.check_python().remedy == "install Python 3.11 or newer, and natlab with it"


def test_elsewhere_than_on_linux_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_system().level == ("ok" if sys.platform == "linux" else "warning")
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert machine.check_system().level == "warning"


# --- services -------------------------------------------------------------------------------------


def test_the_embedded_valkey_is_found_and_a_redis_that_is_away_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    assert services.check_redis_or_valkey().level == "ok"
    assert services.check_redis_named().level == "bad"  # alone, a part needs one that others reach, too
    monkeypatch.setenv("NATLAB_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    for check in (services.check_redis_or_valkey, services.check_redis_named):
        found = check()
        assert found.level == "bad" and "no Redis answers" in found.found and "secret" not in found.found
        assert str(found.remedy).startswith("start one there")


@pytest.mark.parametrize(
    ("routes", "level", "words"),
    [
        ({}, "ok", f"answers, natlab {__version__}"),
        ({"GET /healthz": (200, {"status": "ok", "version": "0.0.1"})}, "warning", "is natlab 0.0.1, this is"),
        ({"GET /api/v1/workers": (401, problem(401, "unauthorized", "needs its token"))}, "bad", "needs its token"),
        ({"GET /healthz": (200, b"<html>")}, "bad", "is no natlab server"),
    ],
)
def test_the_server_that_is_named_is_tried(
    routes: dict[str, Answer], level: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(HEALTHY | routes) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        found = services.check_server()
    assert found.level == level and words in found.found


def test_no_server_where_one_is_needed_is_bad_and_where_one_is_to_be_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("NATLAB_PORT", str(port))
    found = services.check_server()
    assert found.level == "bad" and "natlab up" in str(found.remedy)
    assert services.check_own_server().level == "note"


def test_a_port_that_something_else_holds_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("NATLAB_PORT", str(taken.getsockname()[1]))
        monkeypatch.setattr(services, "_WITHIN_S", 0.2)
        found = services.check_own_server()
    assert found.level == "bad" and "NATLAB_PORT" in str(found.remedy)
    monkeypatch.setenv("NATLAB_PORT", "http")
    assert "NATLAB_PORT is 'http'" in services.check_own_server().found


# --- the command ----------------------------------------------------------------------------------


def test_every_role_is_checked_for_what_it_needs() -> None:
    assert set(CHECKS) == set(Role)
    assert machine.check_torch in CHECKS[Role.WORKER] and machine.check_torch not in CHECKS[Role.CLIENT]


def test_a_client_s_machine_is_ready_when_the_server_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(HEALTHY) as table:
        monkeypatch.setenv("NATLAB_URL", table.url)
        assert run(["doctor", "--role", "client"]) == 0
        assert "This machine is ready for the client." in capsys.readouterr().out
        table.routes["GET /api/v1/workers"] = (401, problem(401, "unauthorized", "this server needs its token"))
        assert run(["doctor", "--role", "client"]) == 1
        printed = capsys.readouterr().out
        assert "✗ server" in " ".join(printed.split()) and "→ set NATLAB_TOKEN" in printed
        assert "1 thing keeps the client from working" in printed
        assert run(["doctor", "--role", "client", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["role"] == "client" and report["ok"] is False
    assert [one["level"] for one in report["findings"] if one["name"] == "server"] == ["bad"]


def test_a_role_that_there_is_none_of_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--role", "surgeon"]) == 2
    assert "surgeon" in capsys.readouterr().err
