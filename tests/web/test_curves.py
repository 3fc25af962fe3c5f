"""Curves: means and bands over seeds, runs still going, biased budgets, what the axis and the table say."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest

from nat_core.events import METRICS
from web.figures import Axes, Curve, Line, curves_chart, line_chart
from web.figures.axes import smoothed
from web.palette import LIGHT

REWARD = METRICS["reward"]


def curve(seed: int, y: list[float | None], cell: int = 0, biased: bool = False, finished: bool = True) -> Curve:
    return Curve("full" if cell == 0 else "truncate · ½", cell, seed, biased, finished, range(1, len(y) + 1), y)


def test_finished_seeds_become_their_mean_and_range() -> None:
    chart = curves_chart(REWARD, [curve(0, [0.2, 0.4]), curve(1, [0.4, 0.8]), curve(2, [0.6, 0.6])], LIGHT)
    band, line = chart.figure["data"]
    assert line["name"] == "full, 3 seeds"
    assert (line["x"], line["y"]) == ([1, 2], [pytest.approx(0.4), pytest.approx(0.6)])
    assert (band["x"], band["y"]) == ([1, 2, 2, 1], [0.6, 0.8, 0.4, 0.2])
    assert band["fillcolor"] == "rgba(61,90,254,0.14)" and line["line"]["color"] == "#3d5afe"
    assert chart.caption == "by step, mean and range of seeds"
    assert chart.num_points == 2


def test_a_run_still_going_is_a_thin_line_beside_the_mean() -> None:
    chart = curves_chart(REWARD, [curve(0, [0.2, 0.4]), curve(1, [0.4, 0.8]), curve(2, [0.6], finished=False)], LIGHT)
    mean, going = (trace for trace in chart.figure["data"] if "fill" not in trace)
    assert mean["y"] == [pytest.approx(0.3), pytest.approx(0.6)]
    assert (going["name"], going["y"], going["line"]["width"]) == ("full, seed 2", [0.6], 1.2)
    assert mean["line"]["width"] == 2


def test_a_single_run_is_one_plain_line_and_a_biased_one_is_dashed() -> None:
    runs = [curve(0, [0.2, 0.3]), curve(0, [0.1, 0.2], cell=1, biased=True)]
    plain, biased = curves_chart(REWARD, runs, LIGHT).figure["data"]
    assert (plain["name"], plain["line"]["dash"], plain["meta"]) == ("full", "solid", {"cell": 0})
    assert (biased["name"], biased["line"]["dash"], biased["meta"]) == ("truncate · ½", "dash", {"cell": 1})


def test_values_that_are_missing_are_left_out_of_the_mean() -> None:
    chart = curves_chart(REWARD, [curve(0, [0.2, None]), curve(1, [0.4, 0.8])], LIGHT)
    assert chart.figure["data"][-1]["y"] == [pytest.approx(0.3), 0.8]


def test_against_tokens_seeds_are_averaged_by_their_place_in_the_series() -> None:
    runs = [
        Curve("full", 0, 0, False, True, [100, 200, 300], [0.1, 0.2, 0.3]),
        Curve("full", 0, 1, False, True, [120, 240], [0.3, 0.4]),
    ]
    line = curves_chart(REWARD, runs, LIGHT, Axes(x="tokens_selected")).figure["data"][-1]
    assert (line["x"], line["y"]) == ([110, 220, 300], [pytest.approx(0.2), pytest.approx(0.3), 0.3])


def test_against_tokens_a_seed_that_failed_early_does_not_end_the_mean_nor_lead_it_backwards() -> None:
    runs = [
        Curve("full", 0, 0, False, True, [100, 150, 200, 250], [0.1, 0.2, 0.3, 0.4]),
        Curve("full", 0, 1, False, True, [300], [0.3]),
    ]
    line = curves_chart(REWARD, runs, LIGHT, Axes(x="tokens_selected")).figure["data"][-1]
    assert (line["x"], line["y"]) == ([200, 200, 250], [pytest.approx(0.2), 0.3, 0.4])


def test_costs_start_at_zero_and_shares_are_per_cent() -> None:
    seconds = line_chart(METRICS["timing_s/update"], [Line("run", 0, [1, 2], [0.5, 0.6])], LIGHT)
    assert seconds.figure["layout"]["yaxis"]["rangemode"] == "tozero"
    assert seconds.caption == "seconds, by step"
    accuracy = line_chart(METRICS["eval/accuracy"], [Line("run", 0, [0, 10], [0.47, 0.8])], LIGHT)
    assert accuracy.figure["layout"]["yaxis"]["rangemode"] == "normal"
    narrow = line_chart(METRICS["eval/accuracy"], [Line("run", 0, [0, 10], [0.47, 0.48])], LIGHT)
    assert narrow.figure["layout"]["yaxis"]["tickformat"] == "~%"  # 47%, 47.5%, 48%: as many decimals as ticks have


def test_a_single_value_and_equal_values_get_a_sensible_range() -> None:
    once = line_chart(METRICS["eval/accuracy"], [Line("run", 0, [0], [0.47])], LIGHT)
    assert once.figure["layout"]["yaxis"]["range"] == [pytest.approx(0.37), pytest.approx(0.57)]
    assert once.figure["data"][0]["mode"] == "lines+markers"
    ones = line_chart(METRICS["budget/effective_sample_size"], [Line("run", 0, range(3), [1.0] * 3)], LIGHT)
    assert ones.figure["layout"]["yaxis"]["range"] == [pytest.approx(0.9), 1.0]
    rate = line_chart(METRICS["learning_rate"], [Line("run", 0, range(3), [1e-4] * 3)], LIGHT)
    assert rate.figure["layout"]["yaxis"]["range"] == [pytest.approx(0.9e-4), pytest.approx(1.1e-4)]


def test_the_reference_is_grey_and_behind() -> None:
    lines = [Line("rpc", 1, [1], [0.5]), Line("full", 0, [1], [0.9], muted=True)]
    first, second = line_chart(METRICS["timing_s/update"], lines, LIGHT).figure["data"]
    assert (first["name"], first["line"]["color"], first["line"]["dash"]) == ("full", LIGHT.ink_3, "dot")
    assert (second["name"], second["line"]["color"]) == ("rpc", LIGHT.cell(1))


def test_it_is_said_in_a_sentence_and_a_table() -> None:
    chart = line_chart(METRICS["eval/accuracy"], [Line("full", 0, [0, 30, 60], [0.47, 0.85, 0.84])], LIGHT)
    assert chart.summary == "Accuracy: full from 47.0% to 84.0% at step 60."
    assert chart.columns == ["Line", "First", "Latest", "Lowest", "Highest", "Points"]
    assert chart.rows == [["full", "47.0%", "84.0%", "47.0%", "85.0%", "3"]]


def test_no_value_yet_is_said() -> None:
    chart = line_chart(REWARD, [Line("full", 0, [1], [None]), Line("rpc", 1, [], [])], LIGHT)
    assert chart.num_points == 0 and chart.figure["data"] == []
    assert chart.summary == "No reward yet; the line starts with the first value."
    assert curves_chart(METRICS["kl"], [], LIGHT, over=True).summary == "No KL was reported."


def test_an_axis_from_zero_has_no_needless_decimals_that_its_margin_would_cut() -> None:
    nearly_full = [Line("run", 0, [1, 2], [0.99, 1.0])]
    use = line_chart(METRICS["system/host_cpu"], nearly_full, LIGHT).figure["layout"]
    close = line_chart(METRICS["eval/accuracy"], nearly_full, LIGHT).figure["layout"]
    rare = [Line("run", 0, [1, 2], [0.0, 0.0004])]
    closest = line_chart(METRICS["clip_ratio"], rare, LIGHT).figure["layout"]
    assert closest["margin"]["l"] > close["margin"]["l"] > use["margin"]["l"]


def test_small_shares_and_large_numbers_are_read_without_zeros_or_exponents() -> None:
    clipped = line_chart(METRICS["clip_ratio"], [Line("run", 0, [1, 2], [0.0, 0.0004])], LIGHT)
    assert clipped.rows == [["run", "0.0%", "0.040%", "0.0%", "0.040%", "2"]]
    assert clipped.figure["data"][0]["hovertemplate"] == "%{y:.3~p}"
    fast = line_chart(METRICS["perf/tokens_per_s"], [Line("run", 0, [1], [52_345.0])], LIGHT)
    assert fast.figure["data"][0]["hovertemplate"] == "%{y:,.4~r} tokens/s"
    flops = line_chart(METRICS["flops/update"], [Line("run", 0, [1, 2], [5.12e9, 1.2e15])], LIGHT)
    assert flops.rows[0][1:3] == ["5.12G FLOP", "1.20P FLOP"] and flops.caption == "FLOP, by step"
    assert flops.figure["layout"]["yaxis"]["tickformat"] == "~s"
    rate = line_chart(METRICS["learning_rate"], [Line("run", 0, [1, 2], [1e-4, 5e-5])], LIGHT)
    shown = rate.figure["layout"]["yaxis"]
    assert (shown["tickformat"], shown["exponentformat"]) == ("", "e")  # 0.00005 would be cut off at the left
    norm = line_chart(METRICS["grad_norm"], [Line("run", 0, [1, 2], [0.5, 200_000.0])], LIGHT)
    assert norm.figure["layout"]["yaxis"]["tickformat"] == "~s"


def test_a_hover_label_has_whole_names_and_says_of_what_its_number_is() -> None:
    chart = curves_chart(REWARD, [curve(0, [0.2, 0.4])], LIGHT)
    assert chart.figure["layout"]["xaxis"]["unifiedhovertitle"] == {"text": "step %{x}"}
    assert chart.figure["layout"]["hoverlabel"]["namelength"] == -1


@pytest.mark.parametrize("key", METRICS)
def test_every_metric_makes_a_figure_that_plotly_knows(key: str) -> None:
    chart = curves_chart(METRICS[key], [curve(0, [0.2, None, 0.4]), curve(1, [0.4, 0.5, 0.8])], LIGHT)
    go.Figure(chart.figure)
    assert chart.num_points == 3 and METRICS[key].label in chart.summary


def test_the_moving_average_has_no_bias_at_its_start() -> None:
    # Weights (1−w)·w^k over their sum: of 1 and 4 at w = ½ that is (½·1 + 1·4) / 1.5.
    assert smoothed([1.0, 4.0], 0.5) == pytest.approx([1.0, 3.0])
    assert smoothed([1.0, 4.0, 7.0], 0.5) == pytest.approx([1.0, 3.0, (0.25 + 2 + 7) / 1.75])
    assert smoothed([5.0] * 4, 0.9) == pytest.approx([5.0] * 4)
    assert smoothed([None, 2.0, None, 2.0], 0.9) == [None, pytest.approx(2.0), None, pytest.approx(2.0)]


def test_smoothing_draws_the_values_faint_and_tells_them_unsmoothed() -> None:
    values = [0.5 + 0.4 * (-1) ** step for step in range(20)]
    chart = line_chart(REWARD, [Line("full", 0, range(20), values)], LIGHT, Axes(smooth=0.5))
    faint, line = chart.figure["data"]
    assert faint["y"] == pytest.approx(values, abs=1e-6) and faint["hoverinfo"] == "skip"
    assert line["y"] == pytest.approx(smoothed(values, 0.5), abs=1e-6) and "hoverinfo" not in line
    assert chart.num_points == 20 and chart.caption == "by step, smoothed 0.5"
    assert chart.rows[0][1] == "0.900" and chart.rows[0][2] == "0.100"
    few = line_chart(REWARD, [Line("full", 0, range(3), [0.1, 0.5, 0.2])], LIGHT, Axes(smooth=0.5))
    assert len(few.figure["data"]) == 1  # each value has its own marker: nothing to smooth


def test_a_logarithmic_axis_needs_values_above_zero() -> None:
    losses = [10.0 / (step + 1) for step in range(30)]
    chart = line_chart(REWARD, [Line("full", 0, range(30), losses)], LIGHT, Axes(log=True))
    assert chart.figure["layout"]["yaxis"]["type"] == "log" and chart.caption.endswith("log scale")
    assert math.log10(max(losses) / min(losses)) < 1.5 and chart.figure["layout"]["yaxis"]["dtick"] == "D1"
    zero = line_chart(REWARD, [Line("full", 0, range(30), [0.0, *losses[1:]])], LIGHT, Axes(log=True))
    assert "type" not in zero.figure["layout"]["yaxis"] and "not log" in zero.caption
    banded = curves_chart(REWARD, [curve(0, [0.0, 0.4]), curve(1, [0.4, 0.8])], LIGHT, Axes(log=True))
    assert "type" not in banded.figure["layout"]["yaxis"]  # the band goes down to zero
