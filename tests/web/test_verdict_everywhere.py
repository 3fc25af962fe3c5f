"""The answer is worked out once: the API, the command line, the page and its report say the same, in the same words."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import httpx
import pytest

from client.cli import run
from nat_core.comparison import Comparison
from nat_core.records import ExperimentRecord
from server.main import create_app
from server.settings import Settings
from server.store import Store
from tests.server.support import served
from tests.web.building import finished_experiment, launch, small_spec, train, wide_spec


def settled(store: Store) -> ExperimentRecord:
    return finished_experiment(store, wide_spec("Settled", seeds=range(5)))


def one_seed(store: Store) -> ExperimentRecord:
    return finished_experiment(store, small_spec("One seed"))


def begun(store: Store) -> ExperimentRecord:
    experiment = launch(store, small_spec("Begun", seeds=(0, 1), steps=20))
    train(store, experiment.runs[0])
    train(store, experiment.runs[1], upto=11)
    return store.get_experiment(experiment.id)


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def answer_on(html: str) -> str:
    return text_of(html.split('data-testid="verdict"', 1)[1].split("</section>", 1)[0])


@pytest.mark.parametrize("make", [settled, one_seed, begun])
def test_the_answer_is_the_same_wherever_it_is_read(
    make: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(Settings(home=tmp_path / "home", redis_url=f"unix://{tmp_path}/none.sock", lease_s=3600))
    with served(app) as url:
        experiment: ExperimentRecord = make(app.state.store)  # type: ignore[operator]
        told = httpx.get(f"{url}/api/v1/experiments/{experiment.id}/comparison").json()
        page = httpx.get(f"{url}/experiments/{experiment.id}").text
        report = httpx.get(f"{url}/api/v1/experiments/{experiment.id}/report").text
        listing = httpx.get(f"{url}/experiments").text
        monkeypatch.setenv("NATLAB_URL", url)
        assert run(["compare", experiment.id]) == 0
    table = capsys.readouterr().out
    printed = " ".join(table.split())
    comparison = Comparison.model_validate(told)
    assert comparison == app.state.store.comparison(experiment.id)
    assert comparison.headline in text_of(listing)
    for place in (answer_on(page), answer_on(report), printed):
        assert comparison.headline in place and comparison.detail in place
        assert all(warning in place for warning in comparison.warnings)
    decided = [cell for cell in comparison.cells if cell.verdict.value not in ("baseline", "pending")]
    for cell in decided:
        row = re.findall(rf"^{re.escape(cell.label)} .*$", table, re.MULTILINE)[0]
        assert row.rstrip().endswith(cell.verdict.value)
        assert cell.verdict.value in text_of(page.split('data-testid="cells-table"', 1)[1])
        for place in (answer_on(page), answer_on(report)):
            assert cell.verdict_text in place
    assert bool(decided) == (make is not begun)
