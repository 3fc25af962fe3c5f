from __future__ import annotations

from pathlib import Path

import pytest

from nat_core.events import LogEvent, MetricsEvent
from tests.server.support import metrics
from worker.tail import EventTail


def line(seq: int) -> str:
    return metrics(seq, seq, reward=seq / 10).model_dump_json() + "\n"


def test_tail_waits_for_the_file_and_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    path.write_text(line(1) + line(2)[:20])
    assert [event.seq for event in tail.read()] == [1]
    assert tail.read() == []
    path.write_text(line(1) + line(2))
    assert [event.seq for event in tail.read()] == [2]


def test_tail_reads_a_long_file_in_chunks_and_a_line_longer_than_one(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    long = LogEvent(seq=2, time=0, step=0, message="x" * 600_000).model_dump_json()
    path.write_text(line(1) + long + "\n" + "".join(line(seq) for seq in range(3, 6000)))
    tail, batches = EventTail(path), []
    while events := tail.read():
        batches.append(events)
    assert [event.seq for events in batches for event in events] == list(range(1, 6000))
    assert len(batches) > 2


def test_tail_goes_back_to_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(line(seq) for seq in range(1, 6)))
    tail = EventTail(path)
    tail.read()
    tail.rewind(3)
    assert [event.seq for event in tail.read()] == [4, 5]
    tail.rewind(0)
    assert [event.seq for event in tail.read()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("broken", ["no json\n", '{"seq":2}\n', "\n", line(7), "\xff\n", '{"seq":2,"a":"\u2028"}\n'])
def test_line_that_is_no_event_becomes_a_log_event_with_its_number(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes((line(1) + broken + line(3)).encode("latin-1", "ignore"))
    first, second, third = EventTail(path).read()
    assert isinstance(first, MetricsEvent) and isinstance(third, MetricsEvent)
    assert isinstance(second, LogEvent) and second.seq == 2 and second.level == "error" and second.step == 1
    assert "line 2 of events.jsonl" in second.message
