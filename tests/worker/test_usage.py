"""What a trainer takes of its machine: measured, brought together by step, told once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import redis

from nat_core.events import METRICS, MetricsEvent
from tests.server.support import evaluation, metrics, wait_until
from worker.relay import STREAM, EventRelay
from worker.tail import EventTail
from worker.usage import Meter, Usage
from worker.usage_log import UsageLog


@pytest.fixture
def kept(tmp_path: Path) -> UsageLog:
    return UsageLog(tmp_path / "usage.1.jsonl")


def usage_of(kept: UsageLog, *samples: tuple[float, Mapping[str, float]]) -> Usage:
    usage = Usage(dict, kept)
    usage._waiting.extend(samples)
    return usage


def values(event: object) -> Mapping[str, float | None]:
    assert isinstance(event, MetricsEvent)
    return event.values


def test_each_step_gets_the_samples_taken_since_the_step_before(kept: UsageLog) -> None:
    usage = usage_of(
        kept,
        (1000.5, {"system/cpu_cores": 1.0, "system/memory_gib": 3.0}),
        (1001.0, {"system/cpu_cores": 2.0, "system/memory_gib": 2.0}),
        (1001.5, {"system/cpu_cores": 5.0}),
        (1009.0, {"system/cpu_cores": 7.0}),
    )
    first, told, second, third = usage.told(
        [metrics(1, 1, reward=0.5), evaluation(2, 1, [4]), metrics(3, 2, reward=0.6), metrics(4, 3, reward=0.7)]
    )
    assert values(first) == {"reward": 0.5, "system/cpu_cores": 1.5, "system/memory_gib": 3.0}  # mean, and highest
    assert told == evaluation(2, 1, [4])
    assert values(second) == {"reward": 0.6, "system/cpu_cores": 5.0}
    assert values(third) == {"reward": 0.7}  # nothing was sampled in it


def test_what_is_sent_again_goes_with_the_same_samples_whoever_sends_it(kept: UsageLog, tmp_path: Path) -> None:
    usage = usage_of(kept, (1000.0, {"system/cpu_cores": 1.0}), (1001.5, {"system/cpu_cores": 3.0}))
    steps = [metrics(1, 1, reward=0.5), metrics(2, 2, reward=0.6), metrics(3, 3, reward=0.7)]
    (first,) = usage.told(steps[:1])
    assert values(first) == {"reward": 0.5, "system/cpu_cores": 1.0}
    again, second, third = usage.told(steps)
    assert again == first and values(second)["system/cpu_cores"] == 3.0 and third == steps[2]
    assert usage.told(steps) == [first, second, third]
    with (tmp_path / "usage.1.jsonl").open("a") as file:
        file.write('{"seq": 3, "val')  # its worker was killed
    assert UsageLog(tmp_path / "usage.1.jsonl").told(steps) == [first, second, third]  # as a later attempt sends it


def test_samples_that_the_disk_does_not_take_are_sent_once(tmp_path: Path) -> None:
    usage = usage_of(UsageLog(tmp_path / "gone" / "usage.1.jsonl"), (1000.0, {"system/cpu_cores": 1.0}))
    (first,), (again,) = (usage.told([metrics(1, 1, reward=0.5)]) for _ in range(2))
    assert values(first) == {"reward": 0.5, "system/cpu_cores": 1.0} and values(again) == {"reward": 0.5}


def test_sampling_goes_on_in_the_background_until_the_trainer_is_gone(kept: UsageLog) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with Usage(Meter(sleeper.pid), kept, every_s=0.02) as usage:
        wait_until(lambda: len(usage._waiting) >= 3)
        sleeper.communicate(b"\n")
        wait_until(lambda: not usage._thread.is_alive())


def test_sampling_ends_with_its_run(kept: UsageLog) -> None:
    with Usage(Meter(os.getpid()), kept, every_s=0.02) as usage:
        wait_until(lambda: len(usage._waiting) >= 2)
    wait_until(lambda: not usage._thread.is_alive())


def test_a_meter_reads_a_process_with_its_children() -> None:
    child = "import os; block = b'x' * 2**26; input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE) as process:
        meter = Meter(process.pid)
        wait_until(lambda: meter()["system/memory_gib"] > 2**26 / 2**30)  # the child's block is counted
        process.communicate(b"\n")


def test_a_meter_tells_rates_from_the_second_reading_on() -> None:
    meter = Meter(os.getpid())
    first = meter()
    assert "system/cpu_cores" not in first and "system/host_cpu" not in first
    sum(n * n for n in range(300_000))
    second = meter()
    assert second["system/cpu_cores"] > 0.0 and 0.0 <= second["system/host_cpu"] <= 1.0
    assert 0 < second["system/memory_gib"] < second["system/host_memory_gib"] * 2
    assert set(second) <= METRICS.keys()


def driver(folder: Path, printed: str) -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\necho \"$@\" >> {folder}/asked\nprintf '{printed}'\n")
    path.chmod(0o755)
    return str(path)


def test_a_meter_asks_the_driver_for_the_leased_gpus_alone(tmp_path: Path) -> None:
    meter = Meter(os.getpid(), [1, 3], driver(tmp_path, "80, 20480, 300.5\\n40, 10240, [N/A]\\n"))
    found = {key: value for key, value in meter().items() if key.startswith("system/gpu")}
    assert found == {"system/gpu": pytest.approx(0.6), "system/gpu_memory_gib": 20.0, "system/gpu_power_w": 300.5}
    assert "--id=1,3" in (tmp_path / "asked").read_text()


def test_a_driver_that_fails_is_not_asked_again(tmp_path: Path) -> None:
    meter = Meter(os.getpid(), [0], str(tmp_path / "none"))
    assert not any(key.startswith("system/gpu") for key in meter())
    driver(tmp_path, "1, 2, 3\\n")
    meter._driver = str(tmp_path / "nvidia-smi")
    assert "system/gpu" not in meter() and not (tmp_path / "asked").exists()


def test_the_relay_sends_what_was_sampled(tmp_path: Path, redis_url: str, kept: UsageLog) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(metrics(1, 1, reward=0.1).model_dump_json() + "\n")
    usage = usage_of(kept, (1000.0, {"system/host_cpu": 0.25}))
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        EventRelay(EventTail(path), connection, "run-a", 1, told=usage.told).pump()
        ((_, fields),) = connection.xrange(STREAM)  # type: ignore[misc]
    (event,) = json.loads(fields["events"])
    assert event["values"] == {"reward": 0.1, "system/host_cpu": 0.25}
