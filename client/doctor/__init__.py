"""`natlab doctor`: what this machine has of what natlab needs, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata

from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.doctor import machine, services
from client.doctor.finding import Finding, Level, Role, bad
from client.doctor.packages import check_extra, requirements

__all__ = ["CHECKS", "Finding", "Role", "examine", "show"]

Check = Callable[[], Finding]


def _packages(extra: str) -> Check:
    return partial(_check_packages, extra)


def _check_packages(extra: str) -> Finding:
    try:
        return check_extra(extra, requirements())
    except metadata.PackageNotFoundError:
        return bad("packages", "natlab itself is not installed for this Python", "in natlab's folder: pip install .")


_EVERYWHERE: tuple[Check, ...] = (machine.check_natlab, machine.check_python, _packages(""))
_SERVING: tuple[Check, ...] = (_packages("server"), machine.check_home, machine.check_sqlite)
_TRAINING: tuple[Check, ...] = (
    machine.check_system,
    _packages("worker"),
    _packages("trainer"),
    machine.check_torch,
    machine.check_vllm,
    machine.check_memory,
)

CHECKS: dict[Role, tuple[Check, ...]] = {
    Role.UP: (
        *_EVERYWHERE,
        *_TRAINING,
        *_SERVING,
        services.check_redis_or_valkey,
        services.check_own_server,
    ),
    Role.CLIENT: (*_EVERYWHERE, services.check_server),
    Role.SERVER: (*_EVERYWHERE, *_SERVING, services.check_redis_named, services.check_own_server),
    Role.WORKER: (*_EVERYWHERE, *_TRAINING, machine.check_home, services.check_redis_named, services.check_server),
}

_MARKS: dict[Level, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "note": ("·", "cyan"),
    "warning": ("!", "yellow"),
    "bad": ("✗", "red"),
}


def examine(role: Role = Role.UP) -> list[Finding]:
    """Make the checks of a role, in order; none changes anything."""
    return [check() for check in CHECKS[role]]


def show(findings: Sequence[Finding], role: Role, out: Console) -> None:
    """A line for each finding, its remedy below it, and the sum of it all."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.level]
        words = Text(finding.found)
        if finding.remedy is not None:
            words.append(f"\n→ {finding.remedy}", style=style)
        table.add_row(Text(mark, style=style), Text(finding.name, style="bold"), words)
    out.print(table)
    out.print()
    wrong = sum(finding.is_bad for finding in findings)
    what = {Role.UP: "`natlab up`", Role.CLIENT: "the client", Role.SERVER: "a server", Role.WORKER: "a worker"}[role]
    if wrong:
        sentence = f"{wrong} thing{'s keep' if wrong > 1 else ' keeps'} {what} from working: see ✗ above."
    else:
        sentence = f"This machine is ready for {what}."
    out.print(Text(sentence, style="bold"), soft_wrap=True)
