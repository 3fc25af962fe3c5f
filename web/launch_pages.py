"""The launch page: the form and the file of one experiment."""

from __future__ import annotations

from nat_core.records import ExperimentRecord
from nat_core.spec import ExperimentSpec
from web import views
from web.draft import MAX_YAML
from web.form import DATA_TYPES, launch_form
from web.presets import PRESETS
from web.templating import render

TOKEN_HEADER = "Authorization: Bearer ${NATLAB_TOKEN:-$(cat .natlab/token)}"


def launch_page(
    spec: ExperimentSpec, cloned_from: ExperimentRecord | None, preset: str = "demo", with_token: bool = False
) -> str:
    """The launch form, filled with a spec: a clone's, or that of a preset; `with_token` where the server wants one."""
    return render(
        "launch.html",
        section="experiments",
        form=launch_form(spec),
        data_types=DATA_TYPES,
        presets=PRESETS,
        preset=preset,
        cloned_from=cloned_from,
        token_header=TOKEN_HEADER if with_token else "",
        spec_yaml=views.as_yaml(spec.model_dump(mode="json", exclude_unset=True)),
        max_yaml=MAX_YAML,
    )
