"""The metrics glossary, from the table that charts and tooltips are built from."""

from __future__ import annotations

from nat_core.events import METRICS, Direction, MetricInfo, Panel
from scripts.docs_pages.tables import code, table

_HEAD = """# Metrics

Every number that a run reports, under the key that the API, the client and `events.jsonl` use. *Better* says which way
a metric gets better; where it says nothing, neither way is. Shares lie between 0 and 1. What is named an estimate is a
Horvitz-Thompson estimate from the tokens that were kept, so that it means the same under every unbiased budget (see
[the method](method.md)); under the biased ones, `truncate` and `top_surprisal`, it is the mean over the tokens kept.

Questions of a named set (`evaluation.sets`) have the `eval/` metrics under their own name: `eval/math500/accuracy`.
"""
_PANELS = {
    Panel.LEARNING: ("Learning", "Whether it gets better at what it is trained for."),
    Panel.BUDGET: ("Budget", "What was generated, what was trained on, and how noisy that made the gradient."),
    Panel.COST: ("Cost", "Time and memory. They compare between runs on the same hardware only."),
    Panel.POLICY: ("Policy", "How the policy moves."),
    Panel.COMPLETIONS: ("Completions", "What is sampled."),
    Panel.SYSTEM: ("System", "The machine, sampled by the worker every few seconds."),
}
_BETTER = {Direction.HIGHER: "higher", Direction.LOWER: "lower", Direction.NEITHER: ""}


def page() -> str:
    return _HEAD + "".join(_panel(panel) for panel in Panel)


def _panel(panel: Panel) -> str:
    title, about = _PANELS[panel]
    rows = [_row(key, info) for key, info in METRICS.items() if info.panel == panel]
    return f"\n## {title}\n\n{about}\n\n" + table(["metric", "shown as", "unit", "better", "what it is"], rows)


def _row(key: str, info: MetricInfo) -> tuple[str, ...]:
    return code(key), info.label, info.unit, _BETTER[info.direction], info.description
