"""Numbers and times as the pages write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.web.records import estimate
from web import formatting as f


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.56, 1, "1,234.6"), (-0.3, 1, "−0.3"), (-0.04, 1, "0.0"), (None, 1, "—"), (5, 0, "5")],
)
def test_number(value: float | None, digits: int, text: str) -> None:
    assert f.number(value, digits) == text


def test_signed_knows_zero_from_nearly_zero() -> None:
    assert [f.signed(v) for v in (0.3, -0.3, 0.0, 0.04, -0.04)] == ["+0.3", "−0.3", "0.0", "0.0", "0.0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"), (41.8, "41.8"), (2.4, "2.40"), (12345, "12,345"), (0.0123, "0.0123"), (1e-6, "1.00e−06"),
        (0, "0"), (None, "—"), (-0.92, "−0.920"), (999.7, "1,000"),
    ],
)  # fmt: skip
def test_significant(value: float | None, text: str) -> None:
    assert f.significant(value) == text


def test_a_moment_is_told_in_utc() -> None:
    there = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert f.moment(there) == "2026-02-28 23:30:00 UTC"
    assert f.moment(datetime(2026, 3, 1, 1, 30)) == "2026-03-01 01:30:00 UTC"


def test_shares_and_changes() -> None:
    assert [f.percent(v) for v in (0.501, 1, 1.0, None)] == ["50.1%", "100%", "100%", "—"]
    assert f.points(-0.003) == "−0.3"
    assert [f.change(v) for v in (0.46, -0.12, 0.0, None)] == ["−46%", "+12%", "0%", "—"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (950, "950"),
        (12_345, "12.3k"),
        (8_100_000, "8.10M"),
        (999_999, "1.00M"),
        (99_950, "100k"),
        (1.2e15, "1.20P"),
        (None, "—"),
    ],
)
def test_count(value: float | None, text: str) -> None:
    assert f.count(value) == text


def test_times() -> None:
    assert [f.clock(s) for s in (35, 130, 3723, None)] == ["0:35", "2:10", "1:02:03", "—"]
    assert [f.duration(s) for s in (41, 2280, 7500)] == ["41 s", "38 min", "2 h 5 min"]
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert f.ago(now - timedelta(seconds=2), now) == "just now"
    assert f.ago(now - timedelta(minutes=30), now) == "30 min ago"
    assert f.ago(now - timedelta(days=30), now) == "30 Jan 2026"
    assert f.ago(datetime(2026, 3, 1, 11, 59), now) == "60 s ago"


def test_intervals() -> None:
    known = estimate(-0.003, -0.009, 0.003)
    assert f.interval(known, 100, 1, sign=True) == "[−0.9, +0.3]"
    assert f.plus_minus(known, 100) == "±0.6"
    assert f.interval(estimate(0.5)) == f.plus_minus(None) == ""


def test_words() -> None:
    assert f.plural(1, "run") == "1 run" and f.plural(2000, "run") == "2,000 runs"
    assert f.sentence("the loss was nan") == "The loss was nan."
    assert f.sentence("Done!") == "Done!"
    assert [f.uncapital(label) for label in ("Reward", "KL")] == ["reward", "KL"]
