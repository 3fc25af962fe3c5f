"""What the pages say, worked out from records: pure functions from records to what a template prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import yaml

from nat_core.comparison import CellComparison, Comparison, RunOutcome, Verdict
from nat_core.events import METRICS, MetricInfo, Panel
from nat_core.records import ExperimentRecord, MetricSeries, RunRecord, RunState
from nat_core.spec import ExperimentSpec
from web.formatting import change, clock, count, duration, elapsed_s, percent, plural, points, significant
from web.metrics import set_accuracies

# Charts that stand open on the pages; the rest of METRICS waits behind its panel's heading.
EXPERIMENT_CHARTS = ("eval/accuracy", "reward", "budget/effective_sample_size")
RUN_CHARTS = (
    "eval/accuracy",
    "reward",
    "tokens/selected",
    "timing_s/update",
    "timing_s/forward_backward",
    "perf/peak_memory_gib",
)
X_WORDS = {
    "step": "step",
    "tokens_selected": "tokens trained on",
    "tokens_generated": "tokens generated",
    "update_s": "update seconds",
    "wall_s": "wall-clock",
}


@dataclass(frozen=True)
class Progress:
    """How far a run or an experiment is. `percent` is 0 to 100."""

    percent: float
    text: str


@dataclass(frozen=True)
class Tile:
    """One figure at the head of a page. `tone` colours the note: good, bad or mute."""

    label: str
    value: str
    note: str = ""
    tone: str = "mute"


def open_charts(usual: Sequence[str], metrics: Mapping[str, MetricInfo]) -> tuple[str, ...]:
    """The charts that stand open, with the accuracies of named sets after the run's own."""
    return (usual[0], *set_accuracies(metrics), *usual[1:])


def more_charts(
    shown: Sequence[str], metrics: Mapping[str, MetricInfo] = METRICS
) -> list[tuple[str, list[tuple[str, MetricInfo]]]]:
    """Every metric that is not among `shown`, by panel, in their order."""
    groups = []
    for panel in Panel:
        rest = [(key, info) for key, info in metrics.items() if info.panel is panel and key not in shown]
        if rest:
            groups.append((panel.value.capitalize(), rest))
    return groups


def run_progress(run: RunRecord, now: datetime | None = None) -> Progress:
    """`step 12 of 60 · 0:35 < 2:10 left`."""
    share = run.step / run.steps if run.steps else 0.0
    text = f"step {run.step} of {run.steps}"
    took = run_seconds(run, now)
    if took is not None:
        text += f" · {clock(took)}"
        if not run.state.is_final:
            text += f" < {clock(run.eta_s)} left" if run.eta_s is not None else " so far"
    return Progress(100 * min(1.0, share), text)


def run_facts(run: RunRecord) -> list[str]:
    """What is to say of a run beside its progress: its attempts where there were several, and who trains it."""
    facts = []
    if run.attempt > 1:
        facts.append(f"attempt {run.attempt}")
    if run.restarts:
        facts.append(plural(run.restarts, "restart"))
    if run.resumed_step:
        facts.append(f"went on from step {run.resumed_step:,}")
    if run.worker_id:
        facts.append(run.worker_id)
    return facts


def run_seconds(run: RunRecord, now: datetime | None = None) -> float | None:
    """Seconds since the run started, until it ended."""
    if run.started_at is None:
        return None
    return elapsed_s(run.started_at, run.finished_at or now or datetime.now(UTC))


def is_active(run: RunRecord) -> bool:
    """Whether it is still to end."""
    return not run.state.is_final


class Going(Protocol):
    """As much of a run as its progress needs."""

    @property
    def state(self) -> RunState: ...
    @property
    def step(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def eta_s(self) -> float | None: ...


def experiment_progress(experiment: ExperimentRecord) -> Progress:
    """Steps done of all runs' steps; a run that ended early counts as done."""
    return runs_progress(experiment.runs)


def runs_progress(runs: Sequence[Going]) -> Progress:
    total = sum(run.steps for run in runs)
    done = sum(run.steps if run.state.is_final else run.step for run in runs)
    finished = sum(run.state.is_final for run in runs)
    share = done / total if total else 0.0
    return Progress(100 * share, " · ".join([f"{finished} of {len(runs)} runs", *_time_left(runs)]))


def _time_left(runs: Sequence[Going]) -> list[str]:
    """While every run that is to end trains, that of the slowest; with some that wait, what is left at the pace so far.

    The pace is that of the runs which train now, together. Paused ones wait for a person and are not counted.
    """
    training = [(run, run.eta_s) for run in runs if run.eta_s]
    waiting = [run for run in runs if run.eta_s is None and not run.state.is_final and run.state is not RunState.PAUSED]
    if not training:
        return []
    if not waiting:
        return [f"{clock(max(eta for _, eta in training))} left"]
    pace = sum((run.steps - run.step) / eta for run, eta in training)
    steps = sum(run.steps - run.step for run in [*waiting, *(run for run, _ in training)])
    return [f"about {duration(steps / pace)} left"] if pace else []


_TITLE_MARKS = {"succeeded": "✓", "failed": "✕", "stopped": "■", "paused": "❙❙", "queued": "…"}


def title_mark(state: str, share: Progress) -> str:
    """What a tab tells of its page from afar: how it ended, or how far it is."""
    return _TITLE_MARKS.get(str(state), f"{share.percent:.0f}%")


def experiment_facts(experiment: ExperimentRecord, now: datetime | None = None) -> list[str]:
    """`20 of 20 runs`, `4 budgets × 5 seeds`, `38 min`, `on gpu-box-1`."""
    spec = experiment.spec
    budgets, seeds = len(spec.budgets), len(spec.seeds)
    facts = [
        experiment_progress(experiment).text,
        f"{budgets} budget{'s' if budgets != 1 else ''} × {seeds} seed{'s' if seeds != 1 else ''}",
        f"{spec.base.steps:,} steps",
    ]
    starts = [run.started_at for run in experiment.runs if run.started_at]
    if starts:
        ends = [run.finished_at for run in experiment.runs if run.finished_at]
        going = any(is_active(run) for run in experiment.runs)
        end = (now or datetime.now(UTC)) if going or not ends else max(ends)
        facts.append(clock(elapsed_s(min(starts), end)))
    workers = sorted({run.worker_id for run in experiment.runs if run.worker_id})
    if workers:
        facts.append(f"worker {workers[0]}" if len(workers) == 1 else f"{len(workers)} workers")
    return facts


def told_cells(comparison: Comparison) -> list[CellComparison]:
    """The budgets that there is a sentence to say of: all but the baseline, once one of them has a verdict."""
    others = [cell for cell in comparison.cells if cell.cell != comparison.baseline]
    return [] if all(cell.verdict is Verdict.PENDING for cell in others) else others


def tells_each(comparison: Comparison) -> bool:
    """Whether the answer's detail is nothing but the sentence of every budget, which read better as a list."""
    told = [cell for cell in told_cells(comparison) if not cell.biased]
    return bool(told) and comparison.detail == " ".join(f"{cell.label}: {cell.verdict_text}" for cell in told)


def savings_cell(comparison: Comparison, chosen: int | None = None) -> int | None:
    """Whose savings to show: the one asked for, the best, or the first other than the baseline that has any."""
    with_savings = [cell.cell for cell in comparison.cells if cell.savings and cell.cell != comparison.baseline]
    for candidate in (chosen, comparison.best_cell):
        if candidate in with_savings:
            return candidate
    return with_savings[0] if with_savings else None


def run_tiles(accuracy: MetricSeries | None, own: RunOutcome, base: RunOutcome | None, base_label: str) -> list[Tile]:
    """Accuracy, tokens, time and memory of a run, against its baseline of the same seed where there is one.

    Args:
        accuracy: of its evaluations so far.
        base: the baseline as far as `own` has come.
    """
    return [
        _accuracy_tile([value for value in accuracy.y if value is not None] if accuracy else []),
        _tokens_tile(own),
        _time_tile(own, base, base_label),
        _memory_tile(own, base, base_label),
    ]


def _accuracy_tile(values: Sequence[float]) -> Tile:
    if not values:
        return Tile("Accuracy, sampled answers", percent(None), "not evaluated yet")
    if len(values) == 1:
        return Tile("Accuracy, sampled answers", percent(values[-1]), "before training")
    gain = values[-1] - values[0]
    tone = "good" if gain > 0 else "bad" if gain < 0 else "mute"
    return Tile("Accuracy, sampled answers", percent(values[-1]), f"{points(gain)} points since start", tone)


def _tokens_tile(own: RunOutcome) -> Tile:
    kept, made = own.tokens_selected, own.tokens_generated
    if not made:
        return Tile("Tokens trained on", percent(None), "no step yet")
    return Tile("Tokens trained on", percent(kept / made), f"{count(kept)} of {count(made)} generated")


def _time_tile(own: RunOutcome, base: RunOutcome | None, base_label: str) -> Tile:
    mean = _mean_s(own)
    if not mean:
        return Tile("Forward+backward", significant(None), "no step yet")
    note, tone = _against(mean, _mean_s(base) if base else None, base_label)
    return Tile("Forward+backward", f"{significant(mean)} s", note or "mean of a step", tone)


def _memory_tile(own: RunOutcome, base: RunOutcome | None, base_label: str) -> Tile:
    peak = own.peak_memory_gib
    if peak is None:
        return Tile("Peak memory", significant(None), "no step yet")
    note, tone = _against(peak, base.peak_memory_gib if base else None, base_label)
    return Tile("Peak memory", f"{significant(peak)} GiB", note or "of the update", tone)


def _against(value: float, base: float | None, base_label: str) -> tuple[str, str]:
    if not base:
        return "", "mute"
    saving = 1 - value / base
    tone = "good" if saving > 0.005 else "bad" if saving < -0.005 else "mute"
    return f"{change(saving)} against {base_label}", tone


def _mean_s(outcome: RunOutcome) -> float | None:
    return outcome.forward_backward_s / outcome.step if outcome.step else None


def baseline_run(experiment: ExperimentRecord, run: RunRecord) -> RunRecord | None:
    """The baseline's run with the same seed; None for the baseline itself."""
    if run.cell == experiment.spec.baseline:
        return None
    twins = (r for r in experiment.runs if r.cell == experiment.spec.baseline and r.seed == run.seed)
    return next(twins, None)


def hardware_text(hardware: Mapping[str, Any] | None) -> str:
    """The hardware's facts in one line, in the order they were recorded."""
    if not hardware:
        return ""
    plain = ((key, value) for key, value in hardware.items() if not isinstance(value, dict | list))
    return ", ".join(f"{hardware_word(key)} {value}" for key, value in plain)


def experiment_hardware(experiment: ExperimentRecord) -> list[str]:
    """Each hardware that runs of the experiment were on, once; who shared it, a warning tells."""
    machines = [
        {key: value for key, value in (run.hardware or {}).items() if key != "neighbours"} for run in experiment.runs
    ]
    return sorted({text for machine in machines if (text := hardware_text(machine))})


def hardware_word(key: str) -> str:
    """`memory_gib` as `memory GiB`."""
    return key.replace("_gib", " GiB").replace("_", " ")


_TAGS = ("type", "selector")


def said(spec: ExperimentSpec) -> dict[str, Any]:
    """What was set of an experiment, without its defaults, but with the tags that tell of which kind a part is."""
    short: dict[str, Any] = _with_tags(spec.model_dump(mode="json"), spec.model_dump(mode="json", exclude_unset=True))
    short["base"].pop("budget", None)  # every run has one of the experiment's
    return short


def _with_tags(whole: Any, set_: Any) -> Any:
    if isinstance(set_, dict):
        return {
            key: _with_tags(value, set_[key]) if key in set_ else value
            for key, value in whole.items()
            if key in set_ or key in _TAGS
        }
    if isinstance(set_, list):
        return [_with_tags(*pair) for pair in zip(whole, set_, strict=True)]
    return set_


def as_yaml(document: Mapping[str, Any]) -> str:
    """A spec as the YAML file that `natlab train` reads."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)
