"""The page of one run: its head, and one tab at a time. A tab is an address and a template, with what that reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nat_core.events import METRICS, Panel
from nat_core.records import CheckpointRecord, ExperimentRecord, RunDetail, RunRecord
from web import views
from web.diff import Difference, differences
from web.history import EVENT_TYPES, EVENT_WORDS, EventRow, LogView
from web.metrics import metrics_of
from web.run_actions import offered
from web.templating import render
from web.tokens import OUTCOMES, SampleChoice, SampleFilter, SampleRow, SampleView
from web.view import link

TABS = {
    "overview": "Overview",
    "metrics": "Metrics",
    "tokens": "Tokens",
    "system": "System",
    "logs": "Logs",
    "config": "Config",
    "checkpoints": "Checkpoints",
    "events": "Events",
}
WITH_CHARTS = ("overview", "metrics", "system")
X_DEFAULTS = {"system": "wall_s"}
"""Tabs whose curves are drawn over something else than the step, unless the address says what."""
LIVE_PARTS = {"logs": "logs", "checkpoints": "checkpoints", "events": "events"}
"""Tabs of which a part follows the run, and the id of that part."""


@dataclass(frozen=True)
class TokensPart:
    """One sample, and those that were found beside it, newest first; `whole` where no more would be found."""

    choice: SampleChoice | None
    sample: SampleView | None
    rows: Sequence[SampleRow]
    wanted: SampleFilter
    whole: bool
    outcomes: Mapping[str, str]

    @classmethod
    def of(
        cls,
        choice: SampleChoice | None,
        sample: SampleView | None,
        rows: Sequence[SampleRow],
        wanted: SampleFilter,
        whole: bool,
    ) -> TokensPart:
        return cls(choice, sample, rows, wanted, whole, OUTCOMES)

    def url(self, step: int | None = None, sample: int | None = None) -> str:
        """The address of a sample of the same search."""
        chosen = {"q": self.wanted.words, "outcome": self.wanted.outcome}
        if self.wanted.step is not None:
            chosen["in"] = str(self.wanted.step)
        places = {"step": step, "sample": sample}
        return link({key: value for key, value in chosen.items() if value}, **_texts(places))


@dataclass(frozen=True)
class LogsPart:
    """The log's lines, and the words that were looked for."""

    log: LogView
    words: str


@dataclass(frozen=True)
class ConfigPart:
    """The specification as a file, and what its budget changes against the baseline's."""

    yaml: str
    differing: Sequence[Difference]
    labels: tuple[str, str]
    colours: tuple[int, int]


@dataclass(frozen=True)
class CheckpointsPart:
    """What lies in the run's folder here, and how many its trainer reported."""

    found: Sequence[CheckpointRecord]
    num_reported: int


@dataclass(frozen=True)
class EventsPart:
    """A page of events, newest first; `older` is the number to go on before."""

    rows: Sequence[EventRow]
    kind: str
    older: int | None
    kinds: Mapping[str, str]

    @classmethod
    def of(cls, rows: Sequence[EventRow], kind: str, older: int | None) -> EventsPart:
        return cls(rows, kind, older, EVENT_WORDS)


def event_kind(name: str) -> str:
    """A kind of events that there is; the life of the run for any other."""
    return name if name in EVENT_TYPES else "life"


def config_part(run: RunDetail, experiment: ExperimentRecord) -> ConfigPart:
    """Only the budget can differ between runs of one seed."""
    base = experiment.spec.budgets[experiment.spec.baseline]
    both = [base.model_dump(mode="json"), run.spec.budget.model_dump(mode="json")]
    return ConfigPart(
        yaml=views.as_yaml(run.spec.model_dump(mode="json")),
        differing=differences(both),
        labels=(base.label, run.label),
        colours=(experiment.spec.baseline, run.cell),
    )


def run_page(
    run: RunDetail,
    experiment: ExperimentRecord,
    baseline: RunRecord | None,
    tiles: Sequence[views.Tile],
    tab: str,
    here: str,
    part: Any = None,
) -> str:
    """One run: state and progress, its figures in brief, then the chosen tab, which reads `part`."""
    metrics = metrics_of([run.spec])
    learning = tuple(key for key, info in metrics.items() if info.panel is Panel.LEARNING)
    return render(
        "run.html",
        section="experiments",
        run=run,
        experiment=experiment,
        base_label=baseline.label if baseline else "",
        how_far=views.run_progress(run),
        facts=views.run_facts(run),
        active=views.is_active(run),
        actions=offered(run.state),
        tiles=tiles,
        tabs=TABS,
        tab=tab,
        here=here,
        with_charts=tab in WITH_CHARTS,
        live_part=LIVE_PARTS.get(tab, ""),
        siblings=sorted(experiment.runs, key=lambda other: (other.seed, other.cell)),
        run_charts=views.open_charts(views.RUN_CHARTS, metrics),
        use_charts=use_charts(run),
        x_default=X_DEFAULTS.get(tab, "step"),
        system_charts=cost_charts(run),
        open_charts=learning,
        groups_of_charts=views.more_charts(learning, metrics),
        x_words=views.X_WORDS,
        legend=[],
        metrics=metrics,
        part=part,
        hardware={views.hardware_word(key): value for key, value in (run.hardware or {}).items()},
        neighbours=(run.hardware or {}).get("neighbours") or 0,
    )


def use_charts(run: RunRecord) -> list[str]:
    """Charts of the machine's use: those that have values, and while the run may still get some, those of its kind."""
    on_gpu = str((run.hardware or {}).get("device", "")).startswith("cuda")
    keys = [key for key, info in METRICS.items() if info.panel is Panel.SYSTEM]
    awaited = [key for key in keys if views.is_active(run) and (on_gpu or not key.startswith("system/gpu"))]
    return [key for key in keys if key in run.latest or key in awaited]


def cost_charts(run: RunRecord) -> list[str]:
    """Charts of a step's time and memory: every one before the first step, then those that its steps tell of."""
    keys = [key for key, info in METRICS.items() if info.panel is Panel.COST]
    return [key for key in keys if key in run.latest] or keys


def _texts(numbers: Mapping[str, int | None]) -> dict[str, str | None]:
    return {key: None if value is None else str(value) for key, value in numbers.items()}
