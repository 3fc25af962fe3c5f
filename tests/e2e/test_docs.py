"""Every script of README and docs that is marked runnable, exactly as it stands there, against a live stack."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.api import NatLab
from tests.docs.pages import blocks, pages, worked_examples
from tests.e2e.support import REPOSITORY, Command, stack_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# Python blocks of a page share their names, as in a notebook; what a script leaves behind running is stopped.
_DRIVER = """
import json, subprocess, sys
from client import NatLab

names = {"__name__": "__main__"}
for place, line, language, text in json.load(sys.stdin):
    print(f"=== {place}", flush=True)
    if language == "python":
        exec(compile("\\n" * (line - 1) + text, place, "exec"), names)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True)
    sys.stdout.flush()
    with NatLab() as lab:
        for experiment in lab.experiments(limit=3):
            if experiment.state in ("queued", "running"):
                lab.stop_experiment(experiment)
"""

SAID = {
    "README.md": [r"^rpc|^ +budget|budget +seed", r"run-"],
    "docs/start.md": [r"Is half enough\?", r"2 of 2|succeeded", r"report\.html"],
    "docs/budget.md": [r"rpc · linear · ½"],
    "docs/python-client.md": [
        r"^full succeeded 0\.\d+",
        r"tokens/selected",
        r"\bmean\b",
        r"^evaluated at step 2",
        r"^live rpc · linear · ½ succeeded 2",
    ],
    "docs/rest.md": [r"^full +\d+\.\d%", r"^rpc .*saved (2[5-9]|[3-6]\d|7[0-5])% of the tokens"],
}


def live_pages() -> list[str]:
    with_scripts = [page for page in pages() if any(block.mark == "runnable" for block in blocks(page))]
    return [page for page in with_scripts if page not in worked_examples()]


def test_every_page_with_a_script_says_what_it_should_print() -> None:
    assert set(live_pages()) == SAID.keys()


@pytest.mark.parametrize("page", live_pages())
def test_the_scripts_of_a_page_run(page: str, stack: Command, tmp_path: Path) -> None:
    assert shutil.which("curl"), "the REST scripts need curl; install it"
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    scripts = [
        (str(block), block.line, block.language, block.text.replace("http://127.0.0.1:8300", stack.url))
        for block in blocks(page)
        if block.mark == "runnable"
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = stack_environment(stack.home, 0, NATLAB_URL=stack.url, PYTHONPATH=str(REPOSITORY), PATH=path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _DRIVER],
        input=json.dumps(scripts),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr + stack.logs()
    for pattern in SAID[page]:
        assert re.search(pattern, done.stdout, re.MULTILINE), f"{pattern!r} is not in\n{done.stdout}"


def test_the_rest_page_s_launch_launches_once(stack: Command, lab: NatLab) -> None:
    [script] = [block.text for block in blocks("docs/rest.md") if "Idempotency-Key: tonight" in block.text]
    script = script.replace("tonight", "another night")  # the page's own launch may have been and gone
    found = []
    for _ in range(2):
        argv = ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8300", stack.url)]
        environment = stack_environment(stack.home, 0)
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found.append(json.JSONDecoder().raw_decode(done.stdout)[0]["id"])
    assert found[0] == found[1]
    lab.wait(lab.stop_experiment(found[0]))
