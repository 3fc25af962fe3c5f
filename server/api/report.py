"""An experiment as one file to keep or send."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from server.api.conditional import ConditionalRoute
from server.api.deps import StoreDep
from server.reading import kept_comparison
from web.report import report_page

router = APIRouter(prefix="/experiments", tags=["experiments"], route_class=ConditionalRoute)
_MAX_POINTS = 600


@router.get("/{experiment_id}/report", response_class=HTMLResponse)
def report(experiment_id: str, store: StoreDep) -> HTMLResponse:
    """The experiment's answer, tables and figures as one self-contained HTML file."""
    experiment = store.get_experiment(experiment_id)
    page = report_page(
        experiment,
        kept_comparison(store, experiment),
        lambda run_ids, keys, ends=False: store.metric_series(run_ids, keys, max_points=_MAX_POINTS, ends=ends),
    )
    headers = {
        "Content-Disposition": f'attachment; filename="{experiment.id}-report.html"',
        "Cache-Control": "no-store",
    }
    return HTMLResponse(page, headers=headers)
