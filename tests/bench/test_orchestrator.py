"""The orchestrator benchmark at toy sizes: nothing is lost, and what is measured is what the row says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import orchestrator_cases as cases
from bench.orchestrator import Result, kept_rows
from bench.orchestrator_load import KEYS, batches, percentile
from bench.orchestrator_training import launches, median_interval, reporting, streaming
from nat_core.events import METRICS


def test_percentile_is_the_smallest_value_that_the_share_does_not_exceed() -> None:
    values = list(map(float, range(100, 0, -1)))
    assert (percentile(values, 0.95), percentile(values, 1.0), percentile([7.0], 0.95)) == (95.0, 100.0, 7.0)


@pytest.mark.parametrize(
    ("value", "limit", "at_least", "kept"),
    [(5, 5, False, True), (6, 5, False, False), (6, 5, True, True), (4, 5, True, False), (9, None, False, True)],
)
def test_a_limit_is_kept_from_the_right_side(value: float, limit: float | None, at_least: bool, kept: bool) -> None:
    assert Result("x", value, "ms", limit, at_least).kept is kept


def test_the_load_is_ten_declared_metrics_a_step_in_order() -> None:
    assert len(KEYS) == 10 and set(KEYS) <= METRICS.keys()
    events = [event for batch in batches("run-0000000000", 25, 10) for event in batch.events]
    assert [event.seq for event in events] == list(range(1, 26)) == [event.step for event in events]


@pytest.mark.parametrize("size", [1, 20])
def test_ingest_counts_every_point_that_was_sent(size: int) -> None:
    found = cases.ingest(num_runs=3, steps=50, size=size)
    assert (found["points"], found["points_lost"]) == (1500, 0)
    assert found["points_per_s"] == pytest.approx(1500 / found["seconds"])


def test_charts_and_listings_answer_over_http() -> None:
    assert cases.charts(num_runs=2, steps=2_000, requests=2, of=2)["requests"] == 2
    assert cases.run_list(num_runs=3, requests=3)["slowest_ms"] > 0


@pytest.mark.slow
def test_streams_lose_nothing_beside_readers_that_stall() -> None:
    found = cases.streams(clients=6, stalled=2, messages=5)
    assert (found["missed"], found["stalled"]) == (0, 2)


def test_median_interval_counts_from_both_ends() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert median_interval(list(map(float, range(100)))) == (40.0, 59.0)


def test_rows_of_cases_that_were_not_run_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    assert kept_rows(path, ["launch"]) == []
    path.write_text(json.dumps({"rows": [{"case": "ingest"}, {"case": "launch"}, {"case": "one of old"}]}))
    assert kept_rows(path, ["launch"]) == [{"case": "ingest"}] and kept_rows(path, ["ingest", "launch"]) == []


def test_reporting_a_step_takes_less_than_a_step() -> None:
    assert 0 < reporting(events=20) < 1000


@pytest.mark.slow
def test_launches_begin_warm_and_straight_after_another() -> None:
    found = launches(times=1)
    (warm,), (busy,) = found["launches"], found["straight_after"]
    for launch in (warm, busy):
        assert 0 < launch["claimed_s"] <= launch["started_s"] < launch["first_step_s"]
    assert found["slowest_s"] == warm["first_step_s"] and found["straight_after_s"] == busy["first_step_s"]


@pytest.mark.slow
def test_streaming_compares_the_same_steps() -> None:
    found = streaming(pairs=1, steps=3, threads=1)
    assert (found["pairs"], found["steps"]) == (1, 2)
    assert found["added_low"] <= found["added"] <= found["added_high"] and found["at_rest"] > 0
