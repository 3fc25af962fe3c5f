"""Builds natlab's wheel and sdist from a copy of what is tracked, and makes environments to install them in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.support import REPOSITORY


def run(*argv: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 250) -> str:
    """Run a command that must succeed, with nothing set that could lead back to the repository; its output."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env=kept | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, f"{argv} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_of_the_source(folder: Path) -> Path:
    """What git tracks, and nothing that an earlier build left."""
    listed = run("git", "ls-files", "-z", cwd=REPOSITORY)
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


def build(kind: str, source: Path, out: Path) -> Path:
    """`wheel` or `sdist` of a source folder, by the setuptools that is installed."""
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source, cwd=source)
    [made] = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def empty_environment(folder: Path) -> Path:
    """A new virtual environment; its Python."""
    venv.create(folder, with_pip=True, symlinks=True)
    return folder / "bin" / "python"


def lend_libraries(python: Path) -> None:
    """Let an environment see the libraries that are installed here, all but natlab itself.

    Torch and its kin are gigabytes: what is to be shown is that the wheel works, not that they can be fetched.
    """
    there = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=python.parent).strip())
    ours = Path(sysconfig.get_path("purelib"))
    lent = there.parent / "lent"
    lent.mkdir()
    for path in ours.iterdir():
        if "natlab" not in path.name and path.suffix != ".pth":
            (lent / path.name).symlink_to(path)
    (there / "lent.pth").write_text(f"{lent}\n")
