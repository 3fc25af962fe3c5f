"""What is built is what is installed elsewhere: the wheel runs the demo, the client comes without torch."""

from __future__ import annotations

import email
import io
import json
import re
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

from nat_core.version import __version__
from tests.e2e.support import REPOSITORY, free_port, processes_of
from tests.packaging.installed import build, copy_of_the_source, empty_environment, lend_libraries, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PACKAGES = ("nat_core", "server", "worker", "web", "client")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LIGHT = {"httpx", "narwhals", "pydantic", "pyyaml", "rich", "typer"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_the_packages_whole_and_nothing_else(wheel: Path, source: Path) -> None:
    held = {name for name in contents(wheel) if ".dist-info/" not in name}
    tracked = {
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == tracked
    assert {f"{package}/py.typed" for package in PACKAGES} <= held


def test_the_wheel_says_its_one_version_licence_python_and_extras(wheel: Path) -> None:
    held = contents(wheel)
    [told] = [text.decode() for name, text in held.items() if name.endswith(".dist-info/METADATA")]
    message = email.message_from_string(told)
    assert message["Version"] == __version__ and wheel.name.startswith(f"natlab-{__version__}-")
    assert (message["License-Expression"], message["Requires-Python"]) == ("Apache-2.0", PROJECT["requires-python"])
    assert any(name.endswith("/licenses/LICENSE") for name in held)
    extras = set(message.get_all("Provides-Extra"))
    assert {"client", "server", "worker", "cuda", "dev", "docs"} <= extras
    assert message["Description-Content-Type"] == "text/markdown"


def test_the_version_stands_in_one_place() -> None:
    sources = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    places = [path for path in sources if f'__version__ = "{__version__}"' in path.read_text(encoding="utf-8")]
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert [path.relative_to(REPOSITORY).as_posix() for path in places] == ["nat_core/version.py"]


def test_the_sdist_makes_the_same_wheel(wheel: Path, source: Path, tmp_path: Path) -> None:
    sdist = build("sdist", source, tmp_path / "sdist")
    with tarfile.open(fileobj=io.BytesIO(sdist.read_bytes())) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [folder] = (tmp_path / "unpacked").iterdir()
    again = contents(build("wheel", folder, tmp_path / "again"))
    first = contents(wheel)
    assert again.keys() == first.keys()
    assert [name for name in first if first[name] != again[name] and not name.endswith("/RECORD")] == []


def test_the_client_is_there_in_seconds_and_without_torch(wheel: Path, tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "client")
    began = time.monotonic()
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[client]", cwd=tmp_path)
    seconds = time.monotonic() - began
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path))
    there = {package["name"].lower() for package in listed}
    assert LIGHT | {"natlab"} <= there
    assert not there & {"torch", "transformers", "numpy", "fastapi", "celery", "plotly", "scipy"}
    assert len(there) <= 30, there
    code = "from client import NatLab, AsyncNatLab; import sys; print('torch' in sys.modules, NatLab.__module__)"
    assert run(python, "-c", code, cwd=tmp_path).split() == ["False", "client.api"]
    natlab = python.parent / "natlab"
    assert run(natlab, "version", cwd=tmp_path).strip() == __version__
    print(f"installed in {seconds:.1f} s")

    # What this machine lacks for being more than a client, the doctor tells, with what to do about it.
    doctor = run("sh", "-c", f"{natlab} doctor --role worker --json || test $? = 1", cwd=tmp_path)
    told = {finding["name"]: finding for finding in json.loads(doctor)["findings"]}
    assert json.loads(doctor)["ok"] is False
    for extra, missing in (("worker", "celery"), ("trainer", "torch")):
        finding = told[f"packages: {extra}"]
        assert finding["level"] == "bad" and f"{missing} is missing" in finding["found"]
        assert finding["remedy"] == f"pip install 'natlab[{extra}]'"
    assert told["torch"]["level"] == "bad" and "No module named 'torch'" in told["torch"]["found"]
    assert told["packages"]["level"] == "ok"
    # And that helps, though no index has natlab: pip takes the one that is there, and adds what the extra names.
    remedy = ["install", "--dry-run", "--disable-pip-version-check", "natlab[worker]"]
    assert re.search(r"Would install .*\bcelery-5", run(python, "-m", "pip", *remedy, cwd=tmp_path))


def test_the_installed_wheel_runs_the_demo_to_its_table_far_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "environment")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    lend_libraries(python)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = f"import importlib; print(*(importlib.import_module(n).__file__ for n in {PACKAGES!r}), sep='\\n')"
    where = run(python, "-c", code, cwd=elsewhere)
    assert [line for line in where.splitlines() if not line.startswith(str(tmp_path / "environment"))] == []
    environment = {"NATLAB_HOME": str(elsewhere / "home"), "NATLAB_PORT": str(free_port()), "COLUMNS": "160"}
    demo = [python.parent / "natlab", "demo", "--steps", "1", "--exit"]
    printed = run(*demo, cwd=elsewhere, env=environment, timeout_s=550)  # four runs that evaluate, however busy it is
    table = printed.partition("\nBudget ")[2]
    rows = re.findall(r"^(full|rpc · linear · ½|urs · ½|truncate · ½ \(biased\)) .*%", table, re.MULTILINE)[:4]
    assert rows == ["full", "rpc · linear · ½", "urs · ½", "truncate · ½ (biased)"], printed
    assert processes_of(elsewhere / "home") == []
    assert {path.name for path in elsewhere.iterdir()} == {"home"}
