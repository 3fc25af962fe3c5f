"""Troubleshooting by error code: what to do about each from `remedies`, its HTTP status from the server's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nat_core.errors import SpecError
from scripts.docs_pages.remedies import OF_APIS, OF_CALLERS, OF_RUNS, OF_STARTS, Remedy
from scripts.docs_pages.tables import code
from server.errors import ServerError

_HEAD = """# Troubleshooting

Whatever natlab refuses or gives up has a code that programs switch on, and one sentence for people: what is wrong, and
what to do. The sentence is where you saw the code: in the command's output, beside the field of the launch page, on
the run's page, in an answer's `detail`. This page tells what is behind each code.

Before anything else: `natlab doctor` looks at this machine (Python, packages, torch and its GPU, memory, disk, Redis,
the server) and says what to do about what is missing, and `natlab logs RUN` shows what a run said. The logs of
`natlab up` are in `NATLAB_HOME/logs`.
"""


@dataclass(frozen=True)
class _Group:
    title: str
    about: str
    remedies: Mapping[str, Remedy]


GROUPS = (
    _Group(
        "Why a run ended",
        "The `reason` of a run or of one of its attempts, shown beside its state. Errors of the run itself end it at "
        "once; what befell its trainer or worker puts it back into the queue, up to `NATLAB_MAX_RESTARTS` times.",
        OF_RUNS,
    ),
    _Group(
        "What the server refused",
        "The `code` of a problem document, with the HTTP status it comes with. The command line ends with status 2.",
        OF_APIS,
    ),
    _Group(
        "What did not start, or could not be made",
        "Said by a command that ends with status 1 or 2 before it has done anything.",
        OF_STARTS,
    ),
    _Group("What the client found", "Raised by the Python client; said by the command line.", OF_CALLERS),
)


def page() -> str:
    return _HEAD + "".join(f"\n## {group.title}\n\n{group.about}\n{_told(group)}" for group in GROUPS)


def _told(group: _Group) -> str:
    statuses = _statuses() if group.remedies is OF_APIS else {}
    return "".join(
        f"\n### {code(name)}\n\n"
        + (f"HTTP {statuses[name]}. " if name in statuses else "")
        + f"{remedy.what}\n\n→ {remedy.do}\n"
        for name, remedy in group.remedies.items()
    )


def _statuses() -> dict[str, int]:
    """HTTP status by code, as the server's own errors have it."""
    own = {kind.code: int(kind.status) for kind in _below(ServerError)}
    specs = {kind.code: 422 for kind in (SpecError, *_below(SpecError))}
    return {**specs, **own, "method_not_allowed": 405, "internal": 500}


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
