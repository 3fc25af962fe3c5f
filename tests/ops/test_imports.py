"""What must stay light: none of these brings torch along, each tried in a fresh interpreter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.e2e.support import REPOSITORY

LIGHT = [
    "server.main",
    "server.__main__",
    "web",
    "web.assets",
    "client.cli",
    "client.up",
    "client.train",
    "worker.app",
    "worker.__main__",
    "nat_core",
    "nat_core.spec",
    "nat_core.events",
    "nat_core.errors",
    "nat_core.logs",
    "nat_core.records",
    "nat_core.comparison",
    "nat_core.preflight",
    "nat_core.version",
]


# Each in a fork of its own, so that it is imported alone and first; what they share of others' code is there already.
EACH = """
import importlib, json, os, sys
for name in ("pydantic", "fastapi", "sqlmodel", "alembic.command", "celery", "redis", "httpx", "typer", "rich"):
    importlib.import_module(name)
for module in sys.argv[1:]:
    if (child := os.fork()) == 0:
        try:
            importlib.import_module(module)
            found = [name for name in ("torch", "transformers") if name in sys.modules]
        except BaseException as error:
            found = [repr(error)]
        print(json.dumps([module, found]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def brought_along() -> dict[str, list[str]]:
    """By module, what of torch and transformers is there once it is imported, or what went wrong."""
    done = subprocess.run(
        [sys.executable, "-c", EACH, *LIGHT], cwd=REPOSITORY, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("module", LIGHT)
def test_importing_it_loads_no_torch(brought_along: dict[str, list[str]], module: str) -> None:
    assert brought_along[module] == []


def test_the_command_line_starts_without_scipy_and_the_server() -> None:
    code = "import sys, client.cli; print([n for n in ('scipy', 'fastapi', 'celery', 'redis') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_import_contracts_hold_and_each_can_be_broken(tmp_path: Path) -> None:
    """The contracts of pyproject.toml pass on the code as it is, and every one fails on a copy that breaks it."""
    assert lint_imports(REPOSITORY) == (0, [])
    for package in ("nat_core", "server", "worker", "web", "client"):
        for source in (REPOSITORY / package).rglob("*.py"):
            copy = tmp_path / source.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    for package, forbidden in {
        "nat_core": "client.api",
        "web": "server.store",
        "server": "worker.settings",
        "worker": "server.settings, nat_core.comparison",
        "client": "web.assets, nat_core.trainer",
    }.items():
        (tmp_path / package / "forbidden.py").write_text(f"import {forbidden}\n")
    status, broken = lint_imports(tmp_path)
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert status == 1
    assert broken == [contract["name"] for contract in contracts]


def lint_imports(folder: Path) -> tuple[int, list[str]]:
    """Exit status of import-linter, and the names of the broken contracts."""
    code = (
        "import sys; sys.path.insert(0, ''); from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
        timeout=120,
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    return done.returncode, re.findall(r"^(.+) BROKEN", done.stdout, re.MULTILINE)
