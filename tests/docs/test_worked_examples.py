"""The pages on adding a selector, a loss, a reward and a metric: done to a copy of natlab, to the letter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, read, worked_examples
from tests.e2e.support import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

EXAMPLES = [block for page in worked_examples() for block in blocks(page)]
TESTS = [block.about for block in EXAMPLES if block.mark == "new" and block.about.startswith("tests/")]


def create(file: Path, block: Block) -> None:
    assert not file.exists(), f"{block}: {block.about} is there already"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.text, encoding="utf-8")


def append(file: Path, block: Block) -> None:
    file.write_text(f"{file.read_text(encoding='utf-8')}\n\n{block.text}", encoding="utf-8")


def change(file: Path, block: Block) -> None:
    """Lines with `-` and those without a sign have to be there, in this order and once; those with `+` come in."""
    lines = block.text.splitlines()
    old = "\n".join(line[1:] for line in lines if line[:1] != "+")
    new = "\n".join(line[1:] for line in lines if line[:1] != "-")
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{block}: {block.about} holds {text.count(old)} times what is to be changed:\n{old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


DONE: dict[str, Callable[[Path, Block], None]] = {"new": create, "append": append, "change": change}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of natlab to which all of the pages have been done."""
    copy = tmp_path_factory.mktemp("natlab")
    for name in ("nat_core", "examples"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    for block in EXAMPLES:
        if block.mark in DONE:
            DONE[block.mark](copy / block.about, block)
    return copy


def run(changed: Path, *argv: str) -> str:
    """Run a command in the copy; its output. `nat_core` is the copy's, everything else the repository's."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": f"{changed}{os.pathsep}{REPOSITORY}", "PATH": path, "COLUMNS": "160"}
    done = subprocess.run(argv, cwd=changed, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("block", [block for block in EXAMPLES if block.mark in DONE], ids=str)
def test_what_is_done_with_a_block_is_said_to_the_reader_too(block: Block) -> None:
    lines = read(block.page).splitlines()
    assert f"`{block.about}`" in lines[block.line - 5]  # the comment, an empty line, and what a reader sees


def test_each_page_has_a_test_and_all_of_them_pass(changed: Path) -> None:
    assert len(TESTS) == len(worked_examples()) == 4
    printed = run(changed, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert " passed" in printed and "skipped" not in printed


@pytest.mark.parametrize("block", [block for block in EXAMPLES if block.mark == "runnable"], ids=str)
def test_the_run_at_its_end_does_what_it_says(changed: Path, block: Block) -> None:
    printed = run(changed, "bash", "-euo", "pipefail", "-c", block.text)
    assert "succeeded at step 1" in printed


def test_what_the_pages_make_keeps_to_the_house_s_lint(changed: Path) -> None:
    run(changed, sys.executable, "-m", "ruff", "check", "--no-cache", "--ignore", "F401,I001", "nat_core")
