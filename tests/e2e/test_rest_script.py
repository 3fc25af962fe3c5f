"""The README's scripts, exactly as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from client.api import NatLab
from tests.e2e.support import REPOSITORY, Command, stack_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def code_block(language: str, containing: str) -> str:
    """The README's one code block in a language that contains a text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    [block] = [block for block in blocks if containing in block]
    return str(block)


def test_the_httpx_script_launches_watches_and_compares(stack: Command, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(code_block("python", "httpx"), encoding="utf-8")
    environment = stack_environment(stack.home, 0, NATLAB_URL=stack.url)
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + stack.logs()
    lines = done.stdout.splitlines()
    assert any(re.match(r"full +\d+\.\d%", line) for line in lines), done.stdout
    saved = [float(match[1]) for line in lines if (match := re.match(r"rpc .*saved (\d+)% of the tokens", line))]
    assert len(saved) == 1, done.stdout
    assert 25 <= saved[0] <= 75


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_commands_launch_the_same_way(stack: Command, lab: NatLab, tmp_path: Path) -> None:
    commands = code_block("sh", "curl").replace("http://127.0.0.1:8300", stack.url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=REPOSITORY,
        env=stack_environment(stack.home, 0),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    first = json.JSONDecoder().raw_decode(done.stdout)[0]
    assert lab.experiment(first["id"]).name == first["name"]
    for run in first["runs"]:
        lab.stop(run["id"])
    lab.wait(first["id"])
