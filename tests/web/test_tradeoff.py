"""Accuracy against cost: the points, intervals, band, line and labels of small comparisons, number by number."""

from __future__ import annotations

from itertools import combinations

import plotly.graph_objects as go
import pytest

from tests.web.records import cell, comparison, estimate
from web.figures.labels import Point, line_boxes, place_labels
from web.figures.tradeoff import pareto_front, tradeoff_chart
from web.palette import DARK, LIGHT

FULL = cell(0, "full", estimate(0.84, 0.82, 0.86), 1.0)
HALF = cell(1, "rpc · ½", estimate(0.83, 0.81, 0.85), 0.5)
CUT = cell(2, "truncate · ½", estimate(0.75, 0.74, 0.76), 0.25, biased=True)


def traces(chart, name):  # type: ignore[no-untyped-def]
    return next(trace for trace in chart.figure["data"] if trace["name"] == name)


def test_points_stand_where_the_numbers_are() -> None:
    chart = tradeoff_chart(comparison(FULL, HALF, CUT), LIGHT)
    half = traces(chart, "rpc · ½")
    assert (half["x"], half["y"]) == ([0.5], [0.83])
    assert half["error_y"]["array"] == [pytest.approx(0.02)]
    assert half["error_y"]["arrayminus"] == [pytest.approx(0.02)]
    assert half["marker"]["color"] == "#00897b" == half["error_y"]["color"]
    assert chart.num_points == 3


def test_a_biased_budget_is_hollow_and_a_going_one_faded() -> None:
    going = cell(1, "rpc · ½", estimate(0.6), 0.5, num_finished=0)
    chart = tradeoff_chart(comparison(FULL, going, CUT), LIGHT)
    assert traces(chart, "truncate · ½")["marker"]["color"] == LIGHT.panel
    assert traces(chart, "rpc · ½")["opacity"] < 1 == traces(chart, "full")["opacity"]
    assert chart.caption.startswith("latest")


def test_pareto_line_joins_what_nothing_beats_and_only_what_is_finished() -> None:
    assert pareto_front([(1.0, 0.84), (0.5, 0.83), (0.25, 0.75)]) == [2, 1, 0]
    assert pareto_front([(0.5, 0.8), (0.6, 0.79), (0.7, 0.8), (0.8, 0.9)]) == [0, 3]
    assert pareto_front([(0.5, 0.8), (0.5, 0.9)]) == [1]
    line = traces(tradeoff_chart(comparison(FULL, HALF, CUT), LIGHT), "Pareto line")
    assert (line["x"], line["y"], line["line"]["dash"]) == ([0.25, 0.5, 1.0], [0.75, 0.83, 0.84], "dash")
    going = cell(1, "rpc · ½", estimate(0.83), 0.5, num_finished=0)
    line = traces(tradeoff_chart(comparison(FULL, going, CUT), LIGHT), "Pareto line")
    assert line["x"] == [0.25, 1.0]
    alone = tradeoff_chart(comparison(FULL), LIGHT)
    assert [trace["name"] for trace in alone.figure["data"]] == ["full"]


def test_margin_band_lies_below_the_baseline() -> None:
    chart = tradeoff_chart(comparison(FULL, HALF, margin=0.02), LIGHT)
    (band,) = chart.figure["layout"]["shapes"]
    assert (band["y0"], band["y1"]) == (pytest.approx(0.82), 0.84)
    texts = [note["text"] for note in chart.figure["layout"]["annotations"]]
    assert "margin: 2 points below full" in texts
    pending = tradeoff_chart(comparison(cell(0, "full", None, None), HALF), LIGHT)
    assert pending.figure["layout"]["shapes"] == []


def test_ticks_of_close_budgets_have_the_decimals_that_tell_them_apart() -> None:
    close = cell(1, "rpc · ½", estimate(0.841, 0.839, 0.843), 0.5)
    chart = tradeoff_chart(comparison(cell(0, "full", estimate(0.84, 0.838, 0.842), 1.0), close), LIGHT)
    low, high = chart.figure["layout"]["yaxis"]["range"]
    assert high - low < 0.06  # of six ticks, some stand between whole per cents
    assert chart.figure["layout"]["yaxis"]["tickformat"] == "~%"
    wide = tradeoff_chart(comparison(FULL, HALF), LIGHT)
    assert chart.figure["layout"]["margin"]["l"] > wide.figure["layout"]["margin"]["l"]


def test_points_in_one_place_stand_side_by_side_and_tell_their_true_cost() -> None:
    twin = cell(2, "urs · ½", estimate(0.83, 0.81, 0.85), 0.5)
    chart = tradeoff_chart(comparison(FULL, HALF, twin), LIGHT)
    left, right = traces(chart, "rpc · ½"), traces(chart, "urs · ½")
    assert left["x"][0] < 0.5 < right["x"][0]
    assert left["x"][0] + right["x"][0] == pytest.approx(1.0)
    assert "50.0%" in left["hovertemplate"] and "50.0%" in right["hovertemplate"]
    # Far apart in accuracy, they do not hide each other and stay where they are.
    apart = cell(2, "truncate · ½", estimate(0.7, 0.69, 0.71), 0.5)
    chart = tradeoff_chart(comparison(FULL, HALF, apart), LIGHT)
    assert traces(chart, "truncate · ½")["x"] == traces(chart, "rpc · ½")["x"] == [0.5]


def test_an_interval_wider_than_the_picture_does_not_flatten_it() -> None:
    unsure = cell(1, "rpc · ½", estimate(0.83, -1.5, 3.2, num_seeds=2), 0.5)
    chart = tradeoff_chart(comparison(FULL, unsure), LIGHT)
    low, high = chart.figure["layout"]["yaxis"]["range"]
    assert 0.7 < low < 0.8 and 0.86 < high < 1.0
    assert chart.rows[1] == ["rpc · ½", "83.0%", "[−150.0, 320.0]", "50.0%"]


@pytest.mark.parametrize("compact", [False, True])
def test_labels_cover_neither_each_other_nor_a_point(compact: bool) -> None:
    width, height = (250.0, 230.0) if compact else (600.0, 250.0)
    points = [Point(100, 100, 80, 120), Point(113, 104, 84, 124), Point(126, 99, 79, 119), Point(230, 90, 70, 110)]
    texts = ["rpc · ½", "urs · ½", "truncate · ½", "full"]
    labels = place_labels(texts, points, width, height)
    taken = [box for point in points for box in point.boxes]
    for one, other in combinations([label.box for label in labels], 2):
        assert one.overlap(other) == 0
    for label in labels:
        assert all(label.box.overlap(box) == 0 for box in taken)
        assert label.box.left >= 0 and label.box.right <= width and label.box.top >= 0 and label.box.bottom <= height


def test_a_crowded_phone_names_the_pareto_line_and_the_baseline_alone() -> None:
    others = [cell(n, f"urs {n}", estimate(0.7), 0.5 + n / 20) for n in range(2, 8)]
    for compact, named in ((True, {"full", "rpc · ½"}), (False, {"full", "rpc · ½", *(c.label for c in others)})):
        chart = tradeoff_chart(comparison(FULL, HALF, *others), LIGHT, compact=compact)
        texts = {note["text"] for note in chart.figure["layout"]["annotations"]}
        assert {text for text in texts if not text.startswith("margin")} == named
        assert chart.num_points == 8


def test_a_label_keeps_off_a_line() -> None:
    start, end = Point(100, 100, 100, 100), Point(300, 74, 74, 74)
    line = line_boxes(start, end)
    (label,) = place_labels(["rpc · linear · ½"], [start], 600, 250, line)
    assert all(label.box.overlap(box) == 0 for box in line)


def test_labels_of_neighbours_keep_off_each_other_s_intervals() -> None:
    """Three budgets that cost nearly the same: beside its point, the middle one's label would lie over an interval."""
    points = [Point(338, 97, 63, 125), Point(350, 94, 64, 125), Point(364, 115, 35, 195)]
    labels = place_labels(["urs · ½", "rpc · linear · ½", "truncate · ½"], points, 640, 240)
    assert sum(label.box.overlap(box) for label in labels for point in points for box in point.boxes) == 0


def test_other_costs_stand_on_the_axis() -> None:
    half = cell(1, "rpc · ½", estimate(0.83), 0.5, peak_memory_gib=estimate(3.05))
    full = cell(0, "full", estimate(0.84), 1.0, peak_memory_gib=estimate(6.31))
    chart = tradeoff_chart(comparison(full, half), LIGHT, "memory")
    assert traces(chart, "rpc · ½")["x"] == [3.05]
    assert chart.figure["layout"]["xaxis"]["title"]["text"] == "peak memory, GiB"
    assert chart.rows[0][-1] == "6.31 GiB"
    assert tradeoff_chart(comparison(full, half), LIGHT, "seconds").num_points == 0


def test_it_is_said_in_a_sentence_and_a_table() -> None:
    chart = tradeoff_chart(comparison(FULL, HALF), LIGHT)
    assert chart.summary == (
        "Final accuracy against share of generated tokens trained on: full 84.0% at 100%; rpc · ½ 83.0% at 50.0%."
    )
    assert chart.columns == ["Budget", "Accuracy", "95% interval", "Share of generated tokens trained on"]
    assert chart.rows == [["full", "84.0%", "[82.0, 86.0]", "100%"], ["rpc · ½", "83.0%", "[81.0, 85.0]", "50.0%"]]


def test_nothing_evaluated_is_said() -> None:
    chart = tradeoff_chart(comparison(cell(0, "full", None, None)), LIGHT)
    assert chart.num_points == 0 and "first evaluation" in chart.summary and chart.figure["data"] == []


def test_labels_are_text_and_figures_are_plotlys() -> None:
    hostile = cell(1, "<b>rpc</b> & co", estimate(0.8, 0.7, 0.9), 0.5)
    for palette in (LIGHT, DARK):
        chart = tradeoff_chart(comparison(FULL, hostile), palette)
        go.Figure(chart.figure)  # refuses what Plotly does not know
        texts = [note["text"] for note in chart.figure["layout"]["annotations"]]
        assert "&lt;b&gt;rpc&lt;/b&gt; &amp; co" in texts
        assert chart.figure["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"
        assert "width" not in chart.figure["layout"] and "height" not in chart.figure["layout"]


def test_the_margin_s_note_keeps_off_the_labels() -> None:
    """Three budgets in one place and intervals that cross the whole plot: only above the band is room on a phone."""
    wide = {"low": 0.1, "high": 1.0}
    cells = [
        cell(0, "full", estimate(0.707, **wide), 0.95),
        cell(1, "rpc · linear · ½", estimate(0.688, **wide), 0.478),
        cell(2, "urs · ½", estimate(0.680, **wide), 0.486),
        cell(3, "truncate · ½", estimate(0.691, **wide), 0.487),
    ]
    notes = tradeoff_chart(comparison(*cells), LIGHT, compact=True).figure["layout"]["annotations"]
    (note,) = (one for one in notes if one["text"].startswith("margin"))
    assert (note["y"], note["yanchor"], note["xanchor"]) == (0.707, "bottom", "left")
