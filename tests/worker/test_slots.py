"""Which slots are started again, and which end all of them. With real processes: `test_process`."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from worker.slots import run_slots


class Slot:
    """A worker process that has ended with a status, or has not."""

    def __init__(self, returncode: int | None = None) -> None:
        self.returncode = returncode
        self.told_to_go = False

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.told_to_go = True

    def wait(self) -> None:
        """It goes."""


@pytest.fixture
def to_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Slot]]:
    """The processes that come into being, in this order; with the last one the parent is told to leave."""
    slots: list[Slot] = []

    def start(*_: object) -> Slot:
        if len(slots) == 1:
            signal.raise_signal(signal.SIGTERM)
        return slots.pop(0)

    monkeypatch.setattr("worker.slots._start", start)
    monkeypatch.setattr("worker.slots._RESTART_S", 0.0)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield slots
    for number, handler in before.items():
        signal.signal(number, handler)


def test_slot_that_cannot_start_again_at_once_ends_no_other(to_start: list[Slot]) -> None:
    trains, dies, finds_no_server, finds_it_again = Slot(), Slot(1), Slot(2), Slot()
    to_start += [trains, dies, finds_no_server, finds_it_again]
    assert run_slots(2, ["worker"], {}) == 0
    assert to_start == [] and trains.told_to_go and finds_it_again.told_to_go


def test_slot_that_cannot_start_at_first_ends_them_all(to_start: list[Slot]) -> None:
    waits, cannot, never = Slot(), Slot(2), Slot()
    to_start += [waits, cannot, never]
    assert run_slots(2, ["worker"], {}) == 2
    assert to_start == [never] and waits.told_to_go
