"""The launch page: the form and the file of one experiment, and what it is expected to cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nat_core.records import ExperimentPlan, ExperimentRecord, WorkerRecord
from nat_core.spec import ExperimentSpec
from web import views
from web.assets import LAUNCH_SCRIPTS
from web.draft import MAX_YAML, plan_of
from web.form import launch_form
from web.presets import PRESETS
from web.templating import render

TOKEN_HEADER = "Authorization: Bearer ${NATLAB_TOKEN:-$(cat .natlab/token)}"


def launch_page(
    spec: ExperimentSpec,
    cloned_from: ExperimentRecord | None,
    preset: str = "demo",
    with_token: bool = False,
    workers: Sequence[WorkerRecord] = (),
) -> str:
    """The launch form, filled with a spec: a clone's, or that of a preset.

    `with_token` where the server wants one; `workers` are those that are there to train it.
    """
    return render(
        "launch.html",
        section="experiments",
        form=launch_form(spec),
        presets=PRESETS,
        preset=preset,
        cloned_from=cloned_from,
        token_header=TOKEN_HEADER if with_token else "",
        spec_yaml=views.as_yaml(views.said(spec)),
        max_yaml=MAX_YAML,
        workers=workers,
        document=spec.model_dump_json(),
        cloned_budgets=json.dumps(_budgets(spec)) if cloned_from else "",
        scripts=LAUNCH_SCRIPTS,
    )


def _budgets(spec: ExperimentSpec) -> dict[str, Any]:
    """What a clone's budgets are told apart from."""
    plan = plan_of(spec)
    return {"labels": plan.budgets, "baseline": plan.budgets[plan.baseline]}


def plan_fragment(plan: ExperimentPlan, spec: ExperimentSpec) -> str:
    """The plan's table and warnings, which the page puts in their place as the draft changes."""
    listed = any(budget.budget == "full" for budget in plan.budgets)
    biased = [budget.biased for budget in spec.budgets]
    return render("plan.html", plan=plan, rows=plan.budgets, biased=biased, reference=None if listed else plan.full)
