"""What the pages say of runs and experiments, from records made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nat_core.comparison import RunOutcome
from nat_core.events import METRICS
from nat_core.records import ExperimentRecord, MetricSeries, RunRecord, RunState
from nat_core.spec import ExperimentSpec, FullBudget, RpcBudget, RunSpec
from tests.web.records import cell, comparison, estimate
from web import views
from web.badges import state_badge, verdict_badge
from web.formatting import NOTHING

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run(cell: int = 0, seed: int = 0, state: str = "running", step: int = 12, **more: object) -> RunRecord:
    fields = {
        "id": f"run-{cell}{seed}", "experiment_id": "exp-1", "label": ["full", "rpc · linear · ½"][cell], "cell": cell,
        "seed": seed, "state": state, "attempt": 1, "step": step, "steps": 60, "created_at": NOW,
    }  # fmt: skip
    return RunRecord.model_validate({**fields, **more})


def experiment(*runs: RunRecord, baseline: int = 0) -> ExperimentRecord:
    spec = ExperimentSpec(
        name="Half?", base=RunSpec(), budgets=[FullBudget(), RpcBudget()], seeds=[0, 1], baseline=baseline
    )
    return ExperimentRecord(
        id="exp-1", name="Half?", state="running", tags=[], notes="", archived=False, created_at=NOW, spec=spec,
        runs=list(runs),
    )  # fmt: skip


def series(key: str, *y: float | None) -> MetricSeries:
    return MetricSeries(run_id="r", key=key, x=list(range(len(y))), y=list(y))


def outcome(step: int = 2, **sums: float) -> RunOutcome:
    return RunOutcome(run_id="r", cell=0, seed=0, state=RunState.RUNNING, step=step, **sums)


def test_progress_tells_time_gone_and_time_left() -> None:
    started = NOW - timedelta(seconds=35)
    assert views.run_progress(run(started_at=started, eta_s=130), NOW).text == "step 12 of 60 · 0:35 < 2:10 left"
    assert views.run_progress(run(started_at=started), NOW).text == "step 12 of 60 · 0:35 so far"
    ended = run(state="succeeded", step=60, started_at=started, finished_at=NOW)
    assert views.run_progress(ended, NOW + timedelta(days=1)) == views.Progress(100.0, "step 60 of 60 · 0:35")
    assert views.run_progress(run(state="queued", step=0), NOW) == views.Progress(0.0, "step 0 of 60")


def test_an_experiment_counts_runs_that_ended_early_as_done() -> None:
    half_way = experiment(run(state="failed", step=3), run(cell=1, step=30))
    assert views.experiment_progress(half_way) == views.Progress(75.0, "1 of 2 runs")


def test_the_whole_experiments_time_left_is_that_of_the_slowest_run_or_of_all_at_the_pace_of_those_that_train() -> None:
    both = experiment(run(state="succeeded", step=60), run(cell=1, eta_s=65))
    assert views.experiment_progress(both).text == "1 of 2 runs · 1:05 left"
    # Two runs train, 48 steps in 480 s and in 240 s: together 0.3 steps a second. 96 are theirs, 60 wait: 520 s.
    busy = [run(eta_s=480), run(cell=1, eta_s=240), run(seed=1, state="queued", step=0)]
    assert views.experiment_progress(experiment(*busy)).text == "0 of 3 runs · about 9 min left"
    paused = run(cell=1, seed=1, state="paused", step=6)
    assert views.experiment_progress(experiment(*busy, paused)).text == "0 of 4 runs · about 9 min left"
    only_waiting = [run(state="queued", step=0), run(cell=1, eta_s=0.0, step=60)]
    assert views.experiment_progress(experiment(*only_waiting)).text == "0 of 2 runs"


def test_a_tab_tells_from_afar_how_far_its_page_is_or_how_it_ended() -> None:
    assert views.title_mark("running", views.Progress(41.7, "")) == "42%"
    assert [views.title_mark(state, views.Progress(100, "")) for state in ("succeeded", "failed")] == ["✓", "✕"]
    assert views.title_mark(RunState.STOPPING, views.Progress(9, "")) == "9%"


def test_facts_of_an_experiment() -> None:
    started = NOW - timedelta(seconds=90)
    ended = experiment(run(state="succeeded", step=60, started_at=started, finished_at=NOW, worker_id="box"))
    assert views.experiment_facts(ended, NOW + timedelta(hours=1)) == [
        "1 of 1 runs", "2 budgets × 2 seeds", "60 steps", "1:30", "worker box",
    ]  # fmt: skip


def test_tiles_compare_with_the_baseline_of_the_same_seed() -> None:
    base = outcome(tokens_generated=300, tokens_selected=300, forward_backward_s=2.0, peak_memory_gib=0.75)
    own = outcome(tokens_generated=200, tokens_selected=100, forward_backward_s=1.0, peak_memory_gib=0.9)
    accuracy, tokens, time, memory = views.run_tiles(series("eval/accuracy", 0.47, None, 0.532), own, base, "full")
    assert (accuracy.value, accuracy.note, accuracy.tone) == ("53.2%", "+6.2 points since start", "good")
    assert (tokens.value, tokens.note) == ("50.0%", "100 of 200 generated")
    assert (time.value, time.note, time.tone) == ("0.500 s", "−50% against full", "good")
    assert (memory.value, memory.note, memory.tone) == ("0.900 GiB", "+20% against full", "bad")


def test_tiles_of_a_run_that_has_not_begun_make_no_numbers_up() -> None:
    assert [tile.value for tile in views.run_tiles(None, outcome(step=0), None, "")] == [NOTHING] * 4


def test_the_baselines_twin_has_the_same_seed() -> None:
    runs = [run(0, 0), run(1, 0), run(0, 1), run(1, 1)]
    found = experiment(*runs)
    assert views.baseline_run(found, runs[3]) == runs[2]
    assert views.baseline_run(found, runs[2]) is None


def test_savings_shown_are_those_asked_for_else_the_best_else_the_first() -> None:
    saved = {"step_s": estimate(0.1)}
    cells = [cell(0, "full", None, 1.0, savings=saved)]
    cells += [cell(n, f"c{n}", None, 0.5, savings=saved) for n in (1, 2)] + [cell(3, "c3", None, 0.5)]
    assert views.savings_cell(comparison(*cells, best=2)) == 2
    assert views.savings_cell(comparison(*cells, best=2), chosen=1) == 1
    assert views.savings_cell(comparison(*cells), chosen=3) == 1
    assert views.savings_cell(comparison(cells[0], cells[3])) is None


def test_every_metric_has_one_place_on_a_page() -> None:
    for shown in (views.RUN_CHARTS, views.EXPERIMENT_CHARTS):
        rest = [key for _, metrics in views.more_charts(shown) for key, _ in metrics]
        assert sorted([*shown, *rest]) == sorted(METRICS)


def test_every_state_has_an_icon_and_a_word() -> None:
    badges = [state_badge(state) for state in RunState]
    assert len({badge.word for badge in badges}) == len(badges)
    assert all(badge.icon and badge.tone for badge in badges)
    assert {verdict_badge(c.verdict).word for c in (cell(0, "a", None, 1), cell(1, "b", None, 1))} == {
        "baseline",
        "inconclusive",
    }


def test_hardware_in_one_line() -> None:
    assert views.hardware_text({"device": "cpu", "memory_gib": 23.5, "env": {"a": 1}}) == "device cpu, memory GiB 23.5"
    assert views.hardware_text(None) == ""
    boxes = [{"device": "cpu", "neighbours": 0}, {"device": "cpu", "neighbours": 1}, None]
    assert views.experiment_hardware(experiment(*(run(hardware=box) for box in boxes))) == ["device cpu"]
