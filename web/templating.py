"""Templates: Jinja with escaping always on, and the filters that write numbers."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nat_core.version import __version__
from web import assets, formatting, views
from web.badges import state_badge, verdict_badge

_FILTERS = ["number", "signed", "significant", "percent", "points", "count", "clock", "duration", "ago", "moment"]
_FILTERS += ["interval", "plus_minus", "change", "plural", "sentence", "uncapital", "file_size"]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(formatting, name) for name in _FILTERS})
    environment.globals.update(
        version=__version__,
        plotly_url=assets.PLOTLY_URL,
        htmx_url=assets.HTMX_URL,
        font_url=assets.FONT_URL,
        state_badge=state_badge,
        verdict_badge=verdict_badge,
        told_cells=views.told_cells,
        tells_each=views.tells_each,
        title_mark=views.title_mark,
    )
    return environment


_ENVIRONMENT = _environment()


def compile_templates() -> None:
    """Read every template at the start, not while the first page waits."""
    for name in _ENVIRONMENT.list_templates(extensions=["html"]):
        _ENVIRONMENT.get_template(name)


def render(template: str, **context: Any) -> str:
    """The page as text. A name that the template uses and the context lacks is an error."""
    return _ENVIRONMENT.get_template(template).render(**context)
