"""States and verdicts as the pages show them: always a tone, an icon and a word, never colour alone."""

from __future__ import annotations

from dataclasses import dataclass

from nat_core.comparison import Verdict


@dataclass(frozen=True)
class Badge:
    """`tone` is a class of the style sheet, `icon` one of the shapes in `macros.html`."""

    tone: str
    icon: str
    word: str


_STATES = {
    "queued": Badge("mute", "clock", "queued"),
    "running": Badge("run", "play", "running"),
    "pausing": Badge("warn", "pause", "pausing"),
    "paused": Badge("mute", "pause", "paused"),
    "stopping": Badge("warn", "square", "stopping"),
    "stopped": Badge("mute", "square", "stopped"),
    "succeeded": Badge("good", "check", "succeeded"),
    "failed": Badge("bad", "cross", "failed"),
}

_VERDICTS = {
    Verdict.BASELINE: Badge("plain", "diamond", "baseline"),
    Verdict.NON_INFERIOR: Badge("good", "check", "non-inferior"),
    Verdict.INFERIOR: Badge("bad", "cross", "inferior"),
    Verdict.INCONCLUSIVE: Badge("warn", "question", "inconclusive"),
    Verdict.NO_CLAIM: Badge("mute", "dash", "no claim"),
    Verdict.PENDING: Badge("mute", "clock", "pending"),
}


def state_badge(state: str) -> Badge:
    """Badge of a run's or an experiment's state."""
    return _STATES[str(state)]


def verdict_badge(verdict: Verdict) -> Badge:
    return _VERDICTS[verdict]
