"""Savings bars: lengths, the paper's marks, numbers clear of the marks, costs that rose."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from nat_core.comparison import CellComparison
from tests.web.records import cell, estimate
from web.figures import Chart, savings_chart
from web.figures.savings import number_spot, saving_interval
from web.palette import DARK, LIGHT


def half(**savings: float) -> CellComparison:
    saved = {key: estimate(value, value - 0.03, value + 0.03) for key, value in savings.items()}
    return cell(1, "rpc · ½", estimate(0.83), 0.5, savings=saved)


def bars(chart: Chart, color: str) -> list[tuple[float, float]]:
    shapes = chart.figure["layout"]["shapes"]
    return [(s["x0"], s["x1"]) for s in shapes if s["type"] == "rect" and s["fillcolor"] == color]


def texts(chart: Chart) -> list[str]:
    return [note["text"] for note in chart.figure["layout"]["annotations"]]


def test_bars_are_as_long_as_the_savings_and_marks_stand_at_the_papers() -> None:
    cut = half(tokens_selected=0.5, forward_backward_s=0.46, peak_memory_gib=0.36, step_s=0.21)
    chart = savings_chart(cut, "full", LIGHT)
    assert bars(chart, "#00897b") == [(0, 0.5), (0, 0.46), (0, 0.36), (0, 0.21)]
    marks = [s["x0"] for s in chart.figure["layout"]["shapes"] if s["type"] == "line"]
    assert marks == [0.50, 0.29, 0.18]
    assert [text for text in texts(chart) if text.startswith("paper")] == ["paper 50%", "paper 29%", "paper 18%"]
    assert [text for text in texts(chart) if text.startswith("<b>")] == [
        "<b>−50%</b>", "<b>−46%</b>", "<b>−36%</b>", "<b>−21%</b>",
    ]  # fmt: skip
    assert "[−53, −47]" in texts(chart)


def test_a_cost_that_rose_goes_left_of_zero_in_the_colour_of_bad_news() -> None:
    chart = savings_chart(half(tokens_selected=0.5, step_s=-0.12), "full", DARK)
    assert bars(chart, DARK.bad) == [(-0.12, 0)]
    assert "<b>+12%</b>" in texts(chart)
    assert chart.figure["layout"]["xaxis"]["range"] == [pytest.approx(-0.16), 1]
    assert "whole step +12%" in chart.summary


def test_what_is_not_known_is_said() -> None:
    chart = savings_chart(half(tokens_selected=0.5), "full", LIGHT)
    assert texts(chart).count("not known") == 3
    assert chart.num_points == 1
    assert chart.rows[1] == ["Forward+backward", "—", "", "−29%"]
    nothing = savings_chart(half(), "full", LIGHT)
    assert nothing.num_points == 0 and nothing.summary.startswith("Savings of rpc · ½ appear")


@pytest.mark.parametrize("width", [0.15, 0.24])
@pytest.mark.parametrize("paper", [None, 0.18, 0.29, 0.5])
def test_a_number_never_stands_on_a_mark_nor_leaves_the_row(paper: float | None, width: float) -> None:
    for saving in [step / 100 for step in range(-30, 101)]:
        spot = number_spot(saving, paper, width)
        inside = spot < saving
        left, right = (spot - width, spot) if inside else (spot, spot + width)
        assert (left >= 0 and right <= 1.01) or not inside
        if paper is not None:
            assert not left < paper < right, (saving, paper)


def test_the_interval_is_one_of_the_change() -> None:
    assert saving_interval(estimate(0.46, 0.43, 0.49)) == "[−49, −43]"
    assert saving_interval(estimate(0.02, -0.03, 0.07)) == "[−7, +3]"
    assert saving_interval(estimate(0.46)) == ""


def test_it_is_said_in_a_sentence_and_a_table_and_plotly_knows_it() -> None:
    chart = savings_chart(half(tokens_selected=0.501, forward_backward_s=0.46), "full", LIGHT)
    assert chart.summary == (
        "rpc · ½ against full, same seeds: tokens trained on −50% (paper −50%), forward+backward −46% (paper −29%)."
    )
    assert chart.rows[0] == ["Tokens trained on", "−50.1%", "[−53, −47]", "−50%"]
    go.Figure(chart.figure)
