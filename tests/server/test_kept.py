"""Answers are kept until their experiment changes, and no longer."""

from __future__ import annotations

from server.kept import Kept


def test_an_answer_is_made_once_until_something_changes() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    kept: Kept[int] = Kept()
    assert [kept.of("e", ("r1",), make) for _ in range(3)] == [0, 0, 0]
    kept.changed("another")
    assert kept.of("e", ("r1",), make) == 0
    kept.changed("e")
    assert kept.of("e", ("r1",), make) == 1
    assert kept.of("e", (), make) == 2  # a run was deleted


def test_an_answer_that_was_read_before_a_change_is_not_taken_for_later() -> None:
    kept: Kept[str] = Kept()

    def made_while_it_changes() -> str:
        kept.changed("e")
        return "before"

    assert kept.of("e", (), made_while_it_changes) == "before"
    assert kept.of("e", (), lambda: "after") == "after"


def test_of_many_experiments_the_newest_are_kept() -> None:
    kept: Kept[int] = Kept(most=2)
    for number, name in enumerate("abc"):
        kept.of(name, (), lambda number=number: number)  # type: ignore[misc]
    assert [kept.of(name, (), lambda: 9) for name in "bca"] == [1, 2, 9]
