"""The tabs of a run: each is an address, and shows what its run reported."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nat_core.events import CheckpointEvent, LogEvent, StateEvent
from nat_core.records import RunRecord, RunState
from server.ingest import Batch, store_batches
from server.life import RunLife
from server.store import Store
from tests.web.building import HARDWARE, finished_experiment, launch, small_spec, train
from tests.web.test_pages import rows_of, text_of
from web.history import log_view
from web.run_pages import TABS, use_charts


@pytest.fixture
def run(store: Store) -> RunRecord:
    """A finished run of the prefix cut."""
    return finished_experiment(store, small_spec(steps=12), evaluate_every=4).runs[1]


def resumed(store: Store) -> str:
    """A run that was lost after step 6 and went on from step 4 with another worker."""
    run = launch(store, small_spec(steps=12)).runs[0]
    train(store, run, upto=6, evaluate_every=2)
    life = RunLife(store)
    life.finish(run.id, 1, "lost", "worker_lost", "worker cpu-box-1 was silent")
    store.register_worker("cpu-box-2", "cpu-box-2", HARDWARE)
    life.claim(run.id, "cpu-box-2")
    started = StateEvent(seq=1, time=100, step=4, phase="started", hardware={**HARDWARE, "neighbours": 2})
    log = LogEvent(seq=2, time=101, step=4, level="warning", message="went on")
    store_batches(store, [Batch(run.id, 2, [started, log], folder=(1,))])
    return run.id


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_has_an_address_of_its_own(client: TestClient, run: RunRecord, tab: str) -> None:
    path = f"/runs/{run.id}" + ("" if tab == "overview" else f"/{tab}")
    html = client.get(path).text
    assert f'href="{path}" aria-current="page">{TABS[tab]}</a>' in html
    assert client.get(f"/runs/{run.id}/nonsense").status_code == 422


def test_the_head_tells_of_attempts_restarts_and_where_it_went_on(client: TestClient, store: Store) -> None:
    run_id = resumed(store)
    html = client.get(f"/runs/{run_id}").text
    head = text_of(html.split('id="run-head"', 1)[1].split('id="tiles"', 1)[0])
    assert "attempt 2 · 1 restart · went on from step 4 · cpu-box-2" in head
    first, second = rows_of(html, "attempts")
    assert "cpu-box-1" in first and "worker_lost worker cpu-box-1 was silent" in first
    assert "cpu-box-2" in second and " 4 " in second
    RunLife(store).finish(run_id, 2, "lost", "trainer_lost", "the trainer ended on signal 9")
    assert "Back in the queue: The trainer ended on signal 9." in text_of(client.get(f"/runs/{run_id}").text)


def test_samples_are_found_by_words_step_and_outcome(client: TestClient, run: RunRecord) -> None:
    every = client.get(f"/runs/{run.id}/tokens").text
    assert len(rows_of(every, "found")) == 16 and rows_of(every, "found")[0].startswith("Step 12, 4")
    found = client.get(f"/runs/{run.id}/tokens?q=%23%23%23%23+4&in=4&outcome=right").text
    assert [row.split("7 +")[0].strip() for row in rows_of(found, "found")] == [f"Step 4, {n}" for n in (4, 3, 2, 1)]
    assert "Step 4 · sample 1 of 4" in found
    assert "q=%23%23%23%23+4&amp;outcome=right&amp;in=4&amp;step=4&amp;sample=2" in found
    nothing = client.get(f"/runs/{run.id}/tokens?q=nowhere").text
    assert "No sample matches" in nothing and 'data-testid="found"' not in nothing
    assert "No sample matches" in client.get(f"/runs/{run.id}/tokens?outcome=wrong").text
    # An address that makes no sense shows what there is.
    odd = client.get(f"/runs/{run.id}/tokens", params={"in": "x", "step": "-1", "sample": "9" * 40, "outcome": "?"})
    assert odd.status_code == 200 and len(rows_of(odd.text, "found")) == 16


def test_samples_that_a_restart_superseded_are_gone(client: TestClient, store: Store) -> None:
    run_id = resumed(store)
    steps = {row.split(",")[0] for row in rows_of(client.get(f"/runs/{run_id}/tokens").text, "found")}
    assert steps == {"Step 0", "Step 2", "Step 4"}


def test_the_log_shows_the_lines_with_the_words(client: TestClient, store: Store) -> None:
    run_id = resumed(store)
    html = client.get(f"/runs/{run_id}/logs?q=WENT").text
    assert "1 of 4 lines with" in text_of(html) and re.search(r'<span class="warn">[^<]+went on', html)
    assert "No line has these words" in client.get(f"/runs/{run_id}/logs?q=nowhere").text
    assert text_of(client.get(f"/runs/{run_id}/logs").text).count("training on full") == 1


def test_log_lines_are_toned_by_what_they_say() -> None:
    view = log_view("12:00 info    fine\n12:01 warning slow\nValueError: bad\n", "")
    assert ([line.tone for line in view.lines], view.num_lines) == (["", "warn", "bad"], 3)


def test_events_are_told_newest_first_by_kind_and_page(client: TestClient, store: Store, run: RunRecord) -> None:
    rows = rows_of(client.get(f"/runs/{run.id}/events").text, "events")
    assert "evaluation accuracy" in rows[0] and "started on cpu, EPYC 9474F" in rows[-1]
    assert len(rows) == 6  # four evaluations, a log line, the start
    assert len(rows_of(client.get(f"/runs/{run.id}/events?type=metrics").text, "events")) == 12
    assert len(rows_of(client.get(f"/runs/{run.id}/events?type=nonsense").text, "events")) == 6
    long = launch(store, small_spec("Long", steps=150)).runs[0]
    train(store, long, upto=130)
    page = client.get(f"/runs/{long.id}/events?type=metrics").text
    older = re.search(r'href="([^"]+before=\d+)"', page)
    assert len(rows_of(page, "events")) == 100 and older is not None
    rest = client.get(unescape(older[1])).text
    assert [row.split()[2] for row in rows_of(rest, "events")] == [str(step) for step in range(30, 0, -1)]
    assert "Older events" not in rest


def test_events_name_their_attempt_where_there_were_several(client: TestClient, store: Store) -> None:
    newest, *_, oldest = rows_of(client.get(f"/runs/{resumed(store)}/events").text, "events")
    assert re.search(r" 2 4 log warning: went on", newest) and re.search(r" 1 0 state started on", oldest)


def test_system_tab_tells_the_machine_and_its_neighbours(client: TestClient, store: Store, run: RunRecord) -> None:
    html = client.get(f"/runs/{run.id}/system").text
    assert "EPYC 9474F" in text_of(html) and 'data-testid="neighbours"' not in html
    assert 'data-testid="chart-timing_s/rollout"' in html and 'data-testid="chart-perf/peak_memory_gib"' in html
    assert "2 other trainers ran on the same machine" in client.get(f"/runs/{resumed(store)}/system").text


def test_config_tab_shows_what_the_budget_changes(client: TestClient, run: RunRecord) -> None:
    html = client.get(f"/runs/{run.id}/config").text
    assert "selector: rpc" in unescape(html)
    assert rows_of(html, "diff-table")[:2] == ["selector full rpc", "fraction — 0.5"]


def test_checkpoints_tab_offers_what_lies_here(client: TestClient, store: Store, run: RunRecord) -> None:
    address = f"/runs/{run.id}/checkpoints"
    assert "No checkpoint here" in client.get(address).text
    store_batches(store, [Batch(run.id, 1, [CheckpointEvent(seq=99, time=1, step=12, path="p", size_bytes=9)])])
    assert "The trainer wrote 1 checkpoint, on the disk of worker cpu-box-1" in text_of(client.get(address).text)
    folder: Path = store.settings.runs / run.id / "checkpoints" / "step-00000012"
    folder.mkdir(parents=True)
    (folder / "state.json").write_bytes(b"x" * 3 * 1024 * 1024)
    (folder / "manifest.json").write_text(json.dumps({"state.json": {}}))
    html = client.get(address).text
    (row,) = rows_of(html, "checkpoints")
    assert row.startswith("12 step-00000012") and "3.00 MiB" in row
    link = re.search(r'href="(/api/[^"]+)" download', html)
    assert link is not None and client.get(link[1]).headers["content-type"] == "application/x-tar"


def test_the_system_tab_draws_what_was_sampled_over_wall_clock(client: TestClient, run: RunRecord) -> None:
    html = client.get(f"/runs/{run.id}/system").text
    shown = re.findall(r'data-testid="chart-(system/\w+)"', html)
    assert shown == ["system/cpu_cores", "system/memory_gib", "system/host_cpu", "system/host_memory_gib"]
    assert f'data-figures="/runs/{run.id}/figures.json?x=wall_s"' in html
    assert 'data-value="wall_s" aria-pressed="true"' in html and 'data-value="step" aria-pressed="false"' in html
    metrics = client.get(f"/runs/{run.id}/metrics").text
    assert f'data-figures="/runs/{run.id}/figures.json"' in metrics
    assert 'data-value="step" aria-pressed="true"' in metrics


def test_a_gpu_s_charts_are_there_before_its_first_sample(client: TestClient, store: Store) -> None:
    run = launch(store, small_spec()).runs[0]
    on_gpu = run.model_copy(update={"hardware": {"device": "cuda"}})
    assert [key for key in use_charts(on_gpu) if "gpu" in key] == [
        "system/gpu",
        "system/gpu_memory_gib",
        "system/gpu_power_w",
    ]
    assert not any("gpu" in key for key in use_charts(run)) and len(use_charts(run)) == 4
    ended = on_gpu.model_copy(update={"state": RunState.FAILED})
    assert use_charts(ended) == []
    sampled = ended.model_copy(update={"latest": {"system/gpu": 0.9, "reward": 1.0}})
    assert use_charts(sampled) == ["system/gpu"]
    RunLife(store).act(run.id, "stop")
    assert "No use was sampled" in client.get(f"/runs/{run.id}/system").text


def test_the_system_tab_has_the_costs_that_were_reported(client: TestClient, store: Store, run: RunRecord) -> None:
    html = client.get(f"/runs/{run.id}/system").text
    assert "chart-timing_s/step" in html and "chart-perf/rank_imbalance" not in html  # one process trained it
    waiting = launch(store, small_spec()).runs[0]
    assert "chart-perf/rank_imbalance" in client.get(f"/runs/{waiting.id}/system").text
    figures = client.get(f"/runs/{run.id}/figures.json?names=kl").json()["figures"]
    assert figures["kl"]["summary"] == "No KL was reported."
