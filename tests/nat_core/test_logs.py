"""The log of server and worker: records that keep to their line, say which run they mean, and keep secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator

import pytest

from nat_core import logs

Log = Callable[..., tuple[logging.Logger, io.StringIO]]


@pytest.fixture
def log() -> Iterator[Log]:
    made: list[tuple[logging.Logger, logging.Handler]] = []

    def make(as_json: bool = False, secrets: tuple[str, ...] = ()) -> tuple[logging.Logger, io.StringIO]:
        stream = io.StringIO()
        handler, logger = logging.StreamHandler(stream), logging.getLogger("nat_core.test_logs")
        handler.setFormatter(logs.Lines(as_json, secrets))
        logger.addHandler(handler)
        made.append((logger, handler))
        return logger, stream

    yield make
    for logger, handler in made:
        logger.removeHandler(handler)


def test_control_characters_stay_visible_and_on_their_line(log: Log) -> None:
    logger, stream = log()
    logger.warning("name is %s", "a\x1b[31m\x07b\r\n2026-01-01T00:00:00Z info server all is well\x9b")
    (line,) = stream.getvalue().splitlines()
    assert r"a\x1b[31m\x07b\x0d\n2026-01-01" in line and line.endswith(r"\x9b")


def test_a_record_names_run_and_attempt(log: Log) -> None:
    logger, stream = log()
    logger.warning("taken", extra=logs.about("run-0000000001", 3))
    assert stream.getvalue().endswith("warning nat_core.test_logs taken run=run-0000000001 attempt=3\n")


def test_json_records_hold_the_same_in_fields(log: Log) -> None:
    logger, stream = log(as_json=True)
    logger.warning("late\n%s", "\x1b", extra=logs.about("run-0000000001", 2))
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert (record["run"], record["attempt"], record["level"]) == ("run-0000000001", 2, "warning")
    assert record["message"] == "late\n\x1b" and "\x1b" not in line


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_is_indented_and_free_of_controls(log: Log, as_json: bool) -> None:
    logger, stream = log(as_json)
    try:
        raise ValueError("first\n2026-01-01T00:00:00.000Z info server forged\x1b[2J")
    except ValueError:
        logger.exception("failed")
    lines = stream.getvalue().splitlines()
    assert "ValueError" in stream.getvalue() and "\x1b" not in stream.getvalue()
    assert [line for line in lines[1:] if not line.startswith("    ")] == []


@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_blotted_out_wherever_they_turn_up(log: Log, as_json: bool) -> None:
    logger, stream = log(as_json, ("hunter2-hunter2",))
    try:
        raise ValueError("redis://:hunter2-hunter2@host")
    except ValueError:
        logger.exception("GET /?token=%s failed", "hunter2-hunter2", extra=logs.about("hunter2-hunter2"))
    assert "hunter2" not in stream.getvalue() and stream.getvalue().count("***") >= 3
