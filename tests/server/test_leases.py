"""Which runs are to be taken from their workers, by the server's own clock alone."""

from __future__ import annotations

import pytest

from server.leases import KILL_S, Lease, Leases

FIRST: Lease = ("run-0000000000", 1)
SECOND: Lease = ("run-0000000000", 2)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock: Clock) -> Leases:
    return Leases(clock)


def test_silence_counts_from_the_last_word_and_at_the_earliest_from_the_start(leases: Leases, clock: Clock) -> None:
    clock.now += 60
    assert not leases.is_silent(FIRST, 60)  # of which this server never heard
    leases.hear(FIRST)
    clock.now += 60
    assert not leases.is_silent(FIRST, 60)
    clock.now += 0.1
    assert leases.is_silent(FIRST, 60)
    leases.be_patient()
    assert not leases.is_silent(FIRST, 60)


def test_what_is_known_of_an_attempt_says_nothing_of_the_next(leases: Leases, clock: Clock) -> None:
    leases.hear(FIRST)
    leases.kill(FIRST)
    clock.now += 100
    leases.hear(SECOND)
    leases.forget(FIRST)  # its end is stored after a worker has the next one
    assert not leases.is_silent(SECOND, 60)
    assert not leases.outlived_its_kill(SECOND)


def test_a_kill_is_due_from_the_first_time_that_it_was_wished_for(leases: Leases, clock: Clock) -> None:
    leases.kill(FIRST)
    clock.now += KILL_S - 1
    leases.kill(FIRST)
    assert not leases.outlived_its_kill(FIRST)
    clock.now += 1.1
    assert leases.outlived_its_kill(FIRST)
    leases.forget(FIRST)
    assert not leases.outlived_its_kill(FIRST)  # as after a start of the server: the time begins anew
