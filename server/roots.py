"""Which files a spec may name: those in the operator's folders, whatever `..` and links are on the way.

A launch makes the server read them for its checks, and a worker for training; without this a spec
would be a way to ask after any file of the machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from nat_core.errors import Fault, SpecError
from nat_core.spec import ExperimentSpec, RunSpec

_NO_FOLDER = re.compile(r"demo|(?!\.)[\w.-]+/[\w.-]+")
"""The demo model, or a hub's owner/name; where a folder of that name lies, it is a path after all."""


def check_roots(spec: ExperimentSpec, roots: Sequence[Path]) -> None:
    """Raise `SpecError` for the first path outside of the roots; no roots allow every path."""
    if not roots:
        return
    resolved = [root.resolve() for root in roots]
    for run in [spec.base, *spec.expand()]:
        for field, path in _paths(run):
            if not _is_within(path, resolved):
                listed = ", ".join(map(str, resolved))
                detail = (
                    f"{field} is {path[:200]!r}, but a spec may name files in {listed} only; move it there, or list "
                    "its folder in the server's NATLAB_ALLOWED_ROOTS"
                )
                raise SpecError(f"base.{detail}", [Fault(f"/base/{field.replace('.', '/')}", detail)])


def _paths(run: RunSpec) -> Iterator[tuple[str, str]]:
    """(field, path) of everything in a run's spec that names a file or a folder."""
    if not _is_hub_id(run.model.path):
        yield "model.path", run.model.path
    sets = {f"evaluation.sets.{name}.data": part.data for name, part in run.evaluation.sets.items()}
    for section, data in {"data": run.data, **sets}.items():
        for name in ("path", "evaluation_path"):
            path = getattr(data, name, None)
            on_the_hub = data.type == "huggingface" and path is not None and _is_hub_id(path)
            if path is not None and not on_the_hub:
                yield f"{section}.{name}", path


def _is_hub_id(path: str) -> bool:
    return _NO_FOLDER.fullmatch(path) is not None and not os.path.isdir(path)  # which a name too long is not, either


def _is_within(path: str, roots: Sequence[Path]) -> bool:
    try:
        real = Path(path).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a home that is nobody's
        return False
    return any(real.is_relative_to(root) for root in roots)
