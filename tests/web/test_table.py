"""Tables: order, filter, columns and the best of each, as the address asks."""

from __future__ import annotations

import pytest

from nat_core.comparison import Estimate
from nat_core.events import METRICS, Direction
from tests.web.records import cell, estimate
from web.columns import BudgetItem, budget_columns
from web.diff import differences
from web.table import Cell, Column, Row, Table, make_table
from web.view import TableView, link, table_view

Item = tuple[float | None, float]
COLUMNS: tuple[Column[Item], ...] = (
    Column("cost", "Cost", lambda item: Cell(str(item[0]), value=item[0]), better=Direction.LOWER),
    Column("score", "Score", lambda item: Cell(str(item[1]), value=item[1]), better=Direction.HIGHER),
    Column("extra", "Extra", lambda item: Cell("x", value=1), chosen=False),
)
ROWS = [
    Row("0", "full", (4.0, 0.8), 0, pinned=True),
    Row("1", "rpc half", (2.0, 0.9), 1),
    Row("2", "urs half", (None, 0.7), 2, biased=True, note="biased"),
    Row("3", "rpc quarter", (1.0, 0.7), 3),
]


def table(**view: str) -> Table:
    return make_table("Budget", COLUMNS, ROWS, table_view(view), view)


def ids(shown: Table) -> list[str]:
    return [row.id for row in shown.rows]


def test_rows_sort_by_a_column_with_the_pinned_one_above_and_unknown_values_below() -> None:
    assert ids(table()) == ["0", "1", "2", "3"]
    assert ids(table(sort="cost")) == ["0", "3", "1", "2"]
    assert ids(table(sort="-cost")) == ["0", "1", "3", "2"]
    assert ids(table(sort="-name")) == ["0", "2", "3", "1"]
    assert ids(table(sort="extra")) == ["0", "1", "2", "3"]  # not shown, so nothing to sort by


def test_a_head_sorts_the_best_first_then_the_other_way_then_not_at_all() -> None:
    cost, score = table(q="rpc").heads
    assert (cost.order, cost.url, score.url) == ("", "?q=rpc&sort=cost", "?q=rpc&sort=-score")
    assert table(sort="-score").heads[1].url == "?sort=score"
    ascending = table(sort="score").heads[1]
    assert (ascending.order, ascending.url) == ("ascending", "?")


def test_the_filter_wants_every_word_and_keeps_the_pinned_row() -> None:
    assert ids(table(q="RPC half")) == ["0", "1"] and table(q="rpc half").num_hidden == 2
    assert ids(table(q="biased")) == ["0", "2"]
    assert ids(table(q="nothing")) == ["0"]


def test_a_selected_row_stays_whatever_the_filter_so_that_another_is_found_beside_it() -> None:
    shown = table(q="urs", sel="3")
    assert ids(shown) == ["0", "2", "3"] and shown.num_hidden == 1
    assert [row.selected for row in shown.rows] == [False, False, True]


def test_the_best_of_a_column_is_marked_over_all_rows_and_never_among_equals() -> None:
    shown = table()
    assert [[cell.best for cell in row.cells] for row in shown.rows] == [
        [False, False], [False, True], [False, False], [True, False],
    ]  # fmt: skip
    assert not any(cell.best for row in table(q="full").rows for cell in row.cells)  # the best is left out
    alone = make_table("Budget", COLUMNS, ROWS[:1], TableView(), {})
    assert not any(cell.best for cell in alone.rows[0].cells)


@pytest.mark.parametrize(
    ("accuracy", "small"),
    [
        (estimate(0.84, 0.82, 0.86), "±2.0"),
        (estimate(0.99, 0.965, 0.997, num_seeds=1), "[96.5, 99.7]"),  # Wilson's: near the end it is lopsided
        (estimate(0.84), ""),
    ],
)
def test_an_interval_is_told_by_its_half_only_where_the_mean_lies_in_its_middle(accuracy: Estimate, small: str) -> None:
    column = next(column for column in budget_columns(METRICS) if column.key == "accuracy")
    assert column.cell(BudgetItem(cell(0, "full", accuracy, 1.0), ())).small == small


def test_columns_are_those_chosen_or_the_usual_ones() -> None:
    assert [head.key for head in table().heads] == ["cost", "score"]
    assert [head.key for head in table(cols="extra,cost,none").heads] == ["cost", "extra"]
    assert [head.key for head in table(cols="none").heads] == ["cost", "score"]
    assert [(key, shown) for key, _, _, shown in table(cols="extra").choices] == [
        ("cost", False), ("score", False), ("extra", True),
    ]  # fmt: skip


def test_addresses_are_read_leniently_and_written_legibly() -> None:
    assert table_view({"table": "nonsense", "q": "x" * 999}) == TableView(words="x" * 200)
    assert table_view({"sel": "1, 2,,1"}).selected == frozenset({"1", "2"})
    assert link({"q": "a b", "sort": "x"}, sort=None, cols="a,b/c") == "?q=a+b&cols=a,b/c"


def test_differences_are_the_fields_that_are_not_all_the_same() -> None:
    one = {"seed": 0, "steps": 6, "budget": {"selector": "full"}, "on": True}
    two = {"seed": 1, "steps": 6, "budget": {"selector": "rpc", "fraction": 0.5}, "on": None}
    rows = differences([one, two], without=("seed",))
    assert [(row.field, row.values) for row in rows] == [
        ("budget.selector", ("full", "rpc")),
        ("budget.fraction", ("—", "0.5")),
        ("on", ("yes", "not set")),
    ]
    assert differences([one, one]) == []
