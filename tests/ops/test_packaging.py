"""What an installed natlab needs beside its Python files is named in pyproject.toml."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from nat_core.preflight import check_model
from nat_core.spec import demo_experiment, load_document, parse_experiment_spec, parse_run_spec
from tests.e2e.support import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("nat_core", "server", "worker", "web", "client")


def tracked(*paths: str) -> list[PurePosixPath]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *paths], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [PurePosixPath(name) for name in listed.stdout.split("\0") if name]


def test_every_data_file_is_package_data() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    packed = {
        PurePosixPath(path.relative_to(REPOSITORY).as_posix())
        for package, globs in patterns.items()
        for pattern in globs
        for path in (REPOSITORY / package).glob(pattern)
        if path.is_file()
    }
    missing = [str(path) for path in tracked(*PACKAGES) if path.suffix != ".py" and path not in packed]
    assert missing == []


def test_constraints_pin_every_requirement_without_a_build_tag() -> None:
    pins = dict(
        line.strip().lower().split("==")
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert not [name for name, version in pins.items() if "+" in version]
    wanted = PROJECT["project"]["dependencies"] + [
        item for name, extra in PROJECT["project"]["optional-dependencies"].items() for item in extra if name != "vllm"
    ]
    for requirement in wanted:
        name = requirement.split(">")[0].split("[")[0].strip().lower()
        assert name == "natlab" or name in pins, requirement


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    document = load_document(path)
    if "budgets" in document:
        assert len(parse_experiment_spec(document, path.name).expand()) == len(document["budgets"]) * len(
            document["seeds"]
        )
    else:
        parse_run_spec(document, path.name)


def test_the_demo_example_is_the_demo_experiment_s_prefix_cut() -> None:
    example = parse_run_spec(load_document(REPOSITORY / "examples" / "demo.yaml"))
    assert example == demo_experiment().expand()[1]
    check_model(example.model)


def test_nothing_names_a_machine_s_paths() -> None:
    """Files name no folder of the machine they were written on."""
    guilty = []
    for path in tracked():
        try:
            text = (REPOSITORY / path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        guilty += [f"{path}: {word}" for word in ("/work" + "/", "/opt" + "/wheels") if word in text]
    assert guilty == []
