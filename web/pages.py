"""Each page as a function from records to HTML text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nat_core.comparison import Comparison
from nat_core.records import ExperimentRecord, Page, Problem, RunRecord
from nat_core.spec import demo_experiment
from web import views
from web.columns import BudgetItem, budget_columns, run_columns
from web.compare import Group, compared_table, group_differences
from web.diff import differences
from web.figures import X_AXES
from web.formatting import sentence
from web.launch_pages import TOKEN_HEADER
from web.listing import ListedExperiment
from web.metrics import metrics_of
from web.table import Row, Table, make_table
from web.templating import render
from web.view import TABLES, TableView, link, table_view

TABLE_SUBS = {
    "budgets": "means over seeds, ± 95% intervals not adjusted for the number of budgets",
    "runs": "newest values",
}


@dataclass(frozen=True)
class LegendEntry:
    """A line of the curves' legend."""

    label: str
    colour: int
    biased: bool


def experiments_page(
    page: Page[ListedExperiment],
    archived: bool,
    here: str,
    server_url: str,
    with_token: bool = False,
    words: str = "",
    is_newest: bool = True,
) -> str:
    """The table of experiments, of those with `words` if there are any; `with_token` where the server wants one.

    `is_newest` says that the page is the first one, so that there is none to go back to.
    """
    view = {"archived": "true" if archived else None, "q": words or None}
    rows = [{"experiment": item, "progress": views.runs_progress(item.runs)} for item in page.items]
    return render(
        "experiments.html",
        section="experiments",
        rows=rows,
        archived=archived,
        here=here,
        older=link({}, **view, cursor=page.next_cursor) if page.next_cursor else "",
        newest="" if is_newest else link({}, **view),
        words=words,
        curl=launch_command(server_url, with_token),
        archive_curl=_curl(f"{server_url}/api/v1/experiments/EXPERIMENT/archive", [], with_token),
    )


def launch_command(server_url: str, with_token: bool = False) -> str:
    """The demo's launch as one command; the token itself stays in the reader's shell."""
    demo = views.said(demo_experiment())
    parts = {key: demo[key] for key in ("name", "base", "budgets", "seeds")}
    lines = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in parts.items()]
    body = ("{" + ",\n ".join(lines) + "}").replace("'", "'\\''")
    options = ["-H 'Content-Type: application/json'", f"-d '{body}'"]
    return _curl(f"{server_url}/api/v1/experiments", options, with_token)


def _curl(url: str, options: Sequence[str], with_token: bool) -> str:
    """A call as one command; the token comes from the reader's shell, hence the other quotes."""
    header, *more = options or [""]
    token = f'-H "{TOKEN_HEADER}"' if with_token else ""
    return " \\\n  ".join(part for part in (f"curl -X POST {url}", header, token, *more) if part)


def experiment_page(experiment: ExperimentRecord, comparison: Comparison, query: Mapping[str, str]) -> str:
    """The answer, what it cost, the budgets or the runs as a table, the curves. `query` is the address's."""
    view = table_view(query)
    budgets = [budget.model_dump(mode="json") for budget in experiment.spec.budgets]
    metrics = metrics_of([experiment.spec.base])
    open_charts = views.open_charts(views.EXPERIMENT_CHARTS, metrics)
    return render(
        "experiment.html",
        section="experiments",
        experiment=experiment,
        comparison=comparison,
        facts=views.experiment_facts(experiment),
        overall=views.experiment_progress(experiment),
        active=any(views.is_active(run) for run in experiment.runs),
        baseline_label=comparison.cells[comparison.baseline].label,
        savings_of=views.savings_cell(comparison),
        table=experiment_table(experiment, comparison, view, query),
        view=view,
        table_links={name: link(query, table=name, sort=None, cols=None, sel=None) for name in TABLES},
        table_sub=TABLE_SUBS[view.table],
        plain_link=link(query, cols=None),
        clear_filter=link(query, q=None),
        cost_axes=X_AXES,
        x_words=views.X_WORDS,
        open_charts=open_charts,
        groups_of_charts=views.more_charts(open_charts, metrics),
        legend=[LegendEntry(budget.label, cell, budget.biased) for cell, budget in enumerate(experiment.spec.budgets)],
        metrics=metrics,
        differing=differences(budgets),
        spec_yaml=views.as_yaml(experiment.spec.model_dump(mode="json")),
        hardware=views.experiment_hardware(experiment),
    )


def experiment_table(
    experiment: ExperimentRecord, comparison: Comparison, view: TableView, query: Mapping[str, str]
) -> Table:
    """The budgets, with the baseline pinned above the others, or the runs."""
    metrics = metrics_of([experiment.spec.base])
    if view.table == "runs":
        return make_table("Run", run_columns(metrics), _run_rows(experiment), view, query)
    return make_table("Budget", budget_columns(metrics), _budget_rows(experiment, comparison, query), view, query)


def _budget_rows(
    experiment: ExperimentRecord, comparison: Comparison, query: Mapping[str, str]
) -> list[Row[BudgetItem]]:
    """Each leads to the runs of its seeds."""
    rows = []
    for cell in comparison.cells:
        runs = tuple(run for run in experiment.runs if run.cell == cell.cell and not run.archived)
        rows.append(
            Row(
                id=str(cell.cell),
                label=cell.label,
                item=BudgetItem(cell, runs),
                colour=cell.cell,
                biased=cell.biased,
                note="biased" if cell.biased else "",
                url=link(query, table="runs", q=cell.label, sort=None, cols=None, sel=None),
                pinned=cell.cell == comparison.baseline,
                runs=tuple(run.id for run in runs),
            )
        )
    return rows


def _run_rows(experiment: ExperimentRecord) -> list[Row[RunRecord]]:
    return [
        Row(
            id=run.id,
            label=run.label,
            item=run,
            colour=run.cell,
            biased=experiment.spec.budgets[run.cell].biased,
            url=f"/runs/{run.id}",
            runs=(run.id,),
        )
        for run in sorted(experiment.runs, key=lambda run: (run.seed, run.cell))
    ]


def compare_page(
    groups: Sequence[Group], experiment: ExperimentRecord | None, here: str, query: Mapping[str, str]
) -> str:
    """Runs side by side; `experiment` where they are all of one."""
    view = table_view({**query, "table": "runs"})
    runs = [run for group in groups for run in group.runs]
    metrics = metrics_of(run.spec for run in runs)
    open_charts = views.open_charts(views.EXPERIMENT_CHARTS, metrics)
    return render(
        "compare.html",
        section="experiments",
        groups=groups,
        experiment=experiment,
        num_runs=len(runs),
        run_ids=",".join(run.id for run in runs),
        here=here,
        differing=group_differences(groups),
        table=compared_table(groups, view, query),
        table_links={},
        table_sub=TABLE_SUBS["runs"],
        view=view,
        plain_link=link(query, cols=None),
        clear_filter=link(query, q=None),
        x_words=views.X_WORDS,
        legend=[LegendEntry(group.label, group.colour, group.biased) for group in groups],
        open_charts=open_charts,
        groups_of_charts=views.more_charts(open_charts, metrics),
        metrics=metrics,
    )


_ERROR_TITLES = {
    404: "Not found",
    422: "This address is not understood",
    500: "The server made a mistake",
    503: "Not just now",
}


def error_page(problem: Problem) -> str:
    """What went wrong, in words; `Try again` where that may help."""
    title = _ERROR_TITLES.get(problem.status, problem.title)
    again = problem.status in (429, 500, 503)
    return render("error.html", section="", title=title, detail=sentence(problem.detail), again=again)
