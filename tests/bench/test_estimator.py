"""The estimator benchmark on a small batch: what must hold whatever the draws; tables and figure from its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.budgets import Meter, budgets_at
from bench.cases import from_run
from bench.estimator import measure
from bench.estimator_figure import Panel, clouds, figure, spread
from bench.estimator_report import HEAD, markdown, table_rows, with_error
from bench.figure_file import write_figure
from tests.bench.builders import tiny_case
from tests.nat_core.builders import run_spec

ROOT = Path(__file__).resolve().parents[2]


def test_every_budget_is_measured_on_a_batch_of_a_run(tmp_path: Path) -> None:
    spec = run_spec(
        data={"type": "demo_arithmetic", "min_operations": 3, "max_operations": 4},
        rollout={"num_prompts": 6, "num_generations": 4, "max_completion_length": 40},
        resources={"num_threads": 1},
    )
    case = from_run("small", spec, tmp_path)
    rows = measure(Meter(case, num_selections=10), 0.25, 3)["rows"]
    tokens = {row["name"]: row for row in rows if row["arm"] == "tokens"}
    flops = {row["name"]: row for row in rows if row["arm"] == "flops"}
    assert list(tokens) == list(flops) == [budget.label for budget in budgets_at(0.25)]
    assert tokens["rpc · linear · ¼"]["flops_share"] < 0.7 < tokens["urs · ¼"]["flops_share"] <= 1
    assert all(row["relative_variance"] > 0 and 0 < row["kept_share"] < 1 for row in tokens.values())
    assert flops["rpc · linear · ¼"] == tokens["rpc · linear · ¼"] | {"arm": "flops"}


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return {"cases": {"tiny": measure(Meter(tiny_case(), num_selections=20), 0.5, 4)}}


def test_markdown_has_a_row_a_budget_and_names_what_cannot_be_reached(report: dict[str, Any]) -> None:
    lines = markdown(report).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(budgets_at(0.5))
    assert {line.count("|") for line in table} == {len(HEAD) + 1}
    uniform = next(line for line in table if "uniform" in line)
    assert "cannot" in uniform and uniform.endswith("at b = 0.5 | – | – | – |")


def test_the_method_page_shows_the_committed_numbers() -> None:
    report = json.loads((ROOT / "bench/results/estimator.json").read_text())
    assert markdown(report) in (ROOT / "docs/method.md").read_text()


def test_table_rows_put_both_arms_of_a_budget_side_by_side() -> None:
    measured = {
        "relative_variance": 0.5,
        "relative_variance_se": 0.01,
        "cosine": 0.8,
        "error_of_mean": 0.1,
        "noise_of_mean": 0.11,
        "flops_share": 0.6,
        "flops_cv": 0.02,
    }
    named = {"name": "rpc · ½", "biased": False, "reached": True}
    rows = [
        {"arm": "flops", "fraction": 0.57} | named | measured | {"relative_variance": 0.4},
        {"arm": "tokens", "fraction": 0.5} | named | measured,
    ]
    assert list(table_rows(rows)) == [
        ["rpc · ½", "0.50 ± 0.01", "0.800", "0.10 (0.11)", "60%", "2.0%", "0.57", "0.40 ± 0.01", "0.800", "2.0%"]
    ]


def test_with_error_leaves_out_errors_of_what_is_next_to_nothing_or_never_varies() -> None:
    assert (with_error(0.42, 0.013), with_error(0.47, 0.0), with_error(1.5e-6, 1e-7)) == (
        "0.42 ± 0.01",
        "0.47",
        "2e-06",
    )


def test_figure_draws_each_reached_budget_in_each_arm_and_opens_the_biased(
    report: dict[str, Any], tmp_path: Path
) -> None:
    drawn = figure(report)
    reached = [row for row in report["cases"]["tiny"]["rows"] if row["reached"]]
    assert sorted(trace["name"] for trace in drawn["data"]) == sorted(row["budget"] for row in reached)
    fills = {trace["name"]: trace["marker"]["color"] for trace in drawn["data"]}
    assert fills["truncate · ½"] == "#ffffff" != fills["rpc · linear · ½"]
    write_figure(figure(report), tmp_path / "figure.html")
    page = (tmp_path / "figure.html").read_text()
    assert "truncate \\u00b7" in page  # Plotly's JSON is plain ASCII
    assert '<script src="http' not in page


def test_figure_refuses_a_kind_of_file_it_cannot_write(report: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"'\.pdf', which nothing here writes; use \.html or \.png"):
        write_figure(figure(report), tmp_path / "figure.pdf")


def test_spread_moves_labels_apart_evenly_and_keeps_them_inside() -> None:
    assert spread([10.0, 50.0], 15, 100) == [10.0, 50.0]
    assert spread([40.0, 40.0, 90.0], 20, 100) == [30.0, 50.0, 90.0]
    assert spread([98.0, 99.0], 20, 100) == [80.0, 100.0]


def test_clouds_part_where_a_column_of_labels_fits_between() -> None:
    panel = Panel((0.0, 1.0), (0.1, 1.0), width=1000, height=300)
    rows = [{"flops_share": share} for share in (0.9, 0.5, 0.6, 0.95)]
    assert [[row["flops_share"] for row in cloud] for cloud in clouds(rows, panel)] == [[0.5, 0.6], [0.9, 0.95]]
