"""What can be done to a run in its state, as buttons: which are legal, `nat_core.records.ACTIONS` says."""

from __future__ import annotations

from dataclasses import dataclass

from nat_core.records import Action, RunState, actions_of


@dataclass(frozen=True)
class Button:
    """How an action is offered; one that cannot be taken back asks first."""

    name: Action
    label: str
    confirm: str = ""
    danger: bool = False


_BUTTONS = (
    Button("resume", "Resume"),
    Button("pause", "Pause"),
    Button("stop", "Stop", "Stop this run? It saves a checkpoint and ends."),
    Button(
        "kill",
        "Kill",
        "Kill this run? Its trainer ends within seconds and saves nothing; what its newest checkpoint lacks is lost.",
        danger=True,
    ),
)
_POINTLESS = {("kill", RunState.QUEUED), ("kill", RunState.PAUSED), ("stop", RunState.STOPPING)}
"""Legal, and no more than what a gentler button beside it does."""


def offered(state: RunState) -> list[Button]:
    """The buttons of a run in this state, in their order."""
    legal = actions_of(state)
    return [button for button in _BUTTONS if button.name in legal and (button.name, state) not in _POINTLESS]
