"""What can be done to a run in its state: buttons that appear where the table of transitions knows the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nat_core.records import TRANSITIONS, RunState


@dataclass(frozen=True)
class RunAction:
    """A button. `ways` are the states it leads from and to, by name; `needs` is a state that must be known, too."""

    name: str
    label: str
    ways: Mapping[str, str]
    confirm: str = ""
    needs: str = ""
    danger: bool = False


_ACTIONS = (
    RunAction("resume", "Resume", {"paused": "queued"}),
    RunAction("pause", "Pause", {"queued": "paused", "running": "pausing"}),
    RunAction(
        "stop",
        "Stop",
        {"queued": "stopped", "paused": "stopped", "running": "stopping", "pausing": "stopping"},
        "Stop this run? It saves a checkpoint and ends.",
    ),
    RunAction(
        "kill",
        "Kill",
        {"running": "failed", "pausing": "failed", "stopping": "failed"},
        "Kill this run? Its trainer ends within seconds and saves nothing; what its newest checkpoint lacks is lost.",
        needs="pausing",
        danger=True,
    ),
)


def offered(state: RunState) -> list[RunAction]:
    """The actions that are legal in this state, in the order of their buttons."""
    known = {str(one) for one in RunState}
    onward = {str(one) for one in TRANSITIONS[state]}
    return [
        action
        for action in _ACTIONS
        if action.ways.get(str(state)) in onward and (not action.needs or action.needs in known)
    ]
