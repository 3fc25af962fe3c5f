"""What one check found."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

Level = Literal["ok", "note", "warning", "bad"]


class Role(StrEnum):
    """What a machine is to do."""

    UP = "up"
    CLIENT = "client"
    SERVER = "server"
    WORKER = "worker"


class Finding(BaseModel):
    """One thing that was looked at."""

    name: str
    level: Level = Field(
        description="`note` is good to know, `warning` may hurt later, `bad` keeps natlab from working."
    )
    found: str = Field(description="What is there.")
    remedy: str | None = Field(None, description="What to do about it.")

    @property
    def is_bad(self) -> bool:
        return self.level == "bad"


def ok(name: str, found: str) -> Finding:
    return Finding(name=name, level="ok", found=found)


def note(name: str, found: str, remedy: str | None = None) -> Finding:
    return Finding(name=name, level="note", found=found, remedy=remedy)


def warning(name: str, found: str, remedy: str) -> Finding:
    return Finding(name=name, level="warning", found=found, remedy=remedy)


def bad(name: str, found: str, remedy: str) -> Finding:
    return Finding(name=name, level="bad", found=found, remedy=remedy)
