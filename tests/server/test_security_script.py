"""Stored script in every text that people, workers and trainers can send: real Chromium shows it and runs none.

Texts are read from the models of specs, events and bodies, and pages from the application's routes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect
from pydantic import BaseModel, TypeAdapter

from nat_core import events, spec
from nat_core.events import AnyEvent
from nat_core.spec import ExperimentSpec
from server.api import experiments, gc, runs, workers
from server.ingest import Batch, store_batches
from server.main import create_app
from server.run_pages import Tab
from server.settings import Settings
from tests.server.hostile import Hostile
from tests.server.support import served, valkey
from tests.server.test_security_routes import routes_of
from tests.web.browsing import browser, page

__all__ = ["browser", "page"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BODIES: list[type[BaseModel]] = [
    ExperimentSpec,
    experiments.ExperimentEdit,
    runs.RunEdit,
    runs.Claim,
    runs.Heartbeat,
    runs.Finish,
    workers.Registration,
    workers.Offer,
    gc.Sweep,
]
EVENTS: list[type[BaseModel]] = [
    events.MetricsEvent,
    events.SampleEvent,
    events.EvaluationEvent,
    events.CheckpointEvent,
    events.LogEvent,
    events.StateEvent,
]
FURTHER = ("worker_id", "trainer.log", "a checkpoint's file", "an address")
SPECS = [
    (spec.JsonlData, spec.FormatReward),
    (spec.CsvData, spec.ExactMatch),
    (spec.ParquetData, spec.CustomReward),
    (spec.HubData, spec.ExactMatch),
    (spec.Gsm8kData, spec.MathVerify),
    (spec.Math500Data, spec.FormatReward),
    (spec.ReasoningGymData, spec.ReasoningGymReward),
]

OUT = {
    "EvaluationSpec.sets": "refused: one word of small letters",
    "LoraSpec.target_modules": "refused: words with commas between",
    "ReasoningGymData.task": "refused: one word",
    "CustomReward.function": "refused: words with dots and a colon between",
    "CsvData.delimiter": "too short: one character",
    "MetricsEvent.values": "refused: the names of declared metrics only",
    "Claim.worker_id": "not attacked by itself: must be a registered worker's, as worker_id is",
    "a checkpoint's file": "shown nowhere: pages tell how many files and how large",
    "Claim.instance": "shown nowhere: a word between server and worker",
    "Heartbeat.instance": "shown nowhere: must be the claim's",
    "Finish.instance": "shown nowhere: must be the claim's",
    "Offer.instance": "shown nowhere: a word between server and worker",
    "Registration.instance": "shown nowhere: a word between server and worker",
    "Registration.home": "shown nowhere: a word between server and worker",
}
"""The places that no page shows, and why."""


@dataclass
class Attacked:
    """A served application in which every text is an attempt."""

    app: FastAPI
    url: str
    hostile: Hostile
    experiments: list[str]
    runs: list[str]

    def get(self, path: str) -> httpx.Response:
        """An answer without its body, for a stream's has no end."""
        with httpx.stream("GET", self.url + path, follow_redirects=True) as answer:
            return answer


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    hostile = Hostile([*BODIES, *EVENTS], *FURTHER)
    with valkey() as redis_url:
        home = tmp_path_factory.mktemp("attacked")
        app = create_app(Settings(home=home, redis_url=redis_url, lease_s=3600))
        records = [app.state.store.create_experiment(launched, announce=lambda _: None) for launched in specs(hostile)]
        ids = [run.id for record in records for run in record.runs]
        with served(app) as url, httpx.Client(base_url=f"{url}/api/v1") as http:
            trained(hostile, http, app, ids)
            edits = {"experiments": experiments.ExperimentEdit, "runs": runs.RunEdit}
            for kind, model, edited in zip(edits, edits.values(), (records[1].id, ids[2]), strict=True):
                assert http.patch(f"/{kind}/{edited}", json=hostile.filled(model)).is_success
            yield Attacked(app, url, hostile, [record.id for record in records], ids)


def specs(hostile: Hostile) -> Iterator[ExperimentSpec]:
    """One for each kind of data, and one whose reward is a sum."""
    for chosen in SPECS:
        yield ExperimentSpec.model_validate(hostile.filled(ExperimentSpec, *chosen))
    document = hostile.filled(ExperimentSpec, spec.JsonlData)
    parts = [hostile.filled(part) for part in (spec.FormatReward, spec.ExactMatch, spec.CustomReward)]
    document["base"]["reward"] = {"type": "sum", "parts": [{"reward": part} for part in parts]}
    yield ExperimentSpec.model_validate(document)


def trained(hostile: Hostile, http: httpx.Client, app: FastAPI, ids: list[str]) -> None:
    """The first run fails after it reported everything there is, the second was lost once and waits."""
    worker = hostile.word("worker_id")
    registration = hostile.filled(workers.Registration)
    registration["hardware"] |= hardware(hostile, "Registration.hardware")
    assert http.put(f"/workers/{quote(worker, safe='')}", json=registration).is_success
    claim = {**hostile.filled(runs.Claim), "worker_id": worker}
    ending = {**hostile.filled(runs.Finish), "instance": claim["instance"]}
    for run_id, outcome in zip(ids, ("failed", "lost"), strict=False):
        assert http.post(f"/runs/{run_id}/claim", json=claim).is_success
        store_batches(app.state.store, [Batch(run_id, 1, reported(hostile))])
        assert http.post(f"/runs/{run_id}/finish", json={**ending, "outcome": outcome}).is_success
    folder = app.state.settings.runs / ids[0]
    checkpoint, name = folder / "checkpoints" / "step-00000002", hostile.word("a checkpoint's file")
    checkpoint.mkdir(parents=True)
    (checkpoint / name).write_text("x")
    (checkpoint / "manifest.json").write_text(json.dumps({name: {"size": 1}}))
    (folder / "trainer.log").write_text(hostile.attempts("trainer.log")[0])


def reported(hostile: Hostile) -> list[AnyEvent]:
    *documents, started = ({**hostile.filled(model), "type": model.model_fields["type"].default} for model in EVENTS)
    machine = hardware(hostile, "StateEvent.hardware")
    first = {**started, "phase": "started", "step": 0, "hardware": {**started["hardware"], **machine}}
    last = {**started, "phase": "ended", "outcome": "failed"}
    told = enumerate([first, *documents, last], 1)
    return [TypeAdapter(AnyEvent).validate_python({**document, "seq": seq}) for seq, document in told]


def hardware(hostile: Hostile, place: str) -> dict[str, Any]:
    """The words under the names that pages look for."""
    text = hostile.attempts(place)[0]
    gpu = {"index": text, "name": text, "memory_gib": 1}
    return {"device": text, "cpu": text, "torch": text, "gpus": [gpu], "versions": {text: text}}


def test_every_body_is_attacked(attacked: Attacked) -> None:
    document = json.dumps(attacked.app.openapi()["paths"])
    bodies = re.findall(r'"requestBody".{0,200}?"#/components/schemas/([\w-]+)"', document)
    known = {model.__name__ for model in BODIES}
    assert {name.removesuffix("-Input") for name in bodies} == known, "a new body: list it in BODIES, and send it"
    assert set(EVENTS) == set(get_args(get_args(AnyEvent)[0]))


def addresses(attacked: Attacked) -> list[str]:
    """Of every GET route of the application, with each of the values that its parameters may have."""
    word = attacked.hostile.word("an address")
    values = {
        "experiment_id": [attacked.experiments[0], quote(word)],
        "run_id": [attacked.runs[0], quote(word)],
        "tab": list(get_args(Tab)),
        "name": ["step-00000002"],
        "kind": ["csv", "json"],
        "file": ["app.css"],
    }
    found = []
    for method, template in routes_of(attacked.app.routes):
        if method == "GET":
            names = re.findall(r"\{(\w+)\}", template)
            for chosen in itertools.product(*(values[name] for name in names)):
                found.append(template.format(**dict(zip(names, chosen, strict=True))))
    return list(dict.fromkeys(found))


def further_pages(attacked: Attacked) -> list[str]:
    """What a route shows of other experiments, or with a query."""
    first, second = attacked.runs[:2]
    word = quote(attacked.hostile.word("an address"))
    picked = ",".join(attacked.runs[::2])
    return [
        *(f"/experiments/{experiment}" for experiment in attacked.experiments[1:]),
        *(f"/experiments/new?clone={experiment}" for experiment in attacked.experiments),
        *(f"/runs/{run}/config" for run in attacked.runs[2::2]),
        f"/runs/{second}",
        f"/runs/{attacked.runs[2]}",
        f"/runs/{first}/tokens?step=2&q={word}",
        f"/runs/{first}/logs?q={word}",
        f"/runs/{first}/events?type={word}",
        f"/experiments?archived=true&q={word}",
        f"/experiments/{attacked.experiments[0]}?q={word}&sort={word}&table={word}",
        f"/compare?runs={picked}&q={word}",
    ]


def is_page(answer: httpx.Response) -> bool:
    return answer.headers["content-type"].startswith("text/html")


def assert_inert(page: Page, where: str) -> str:
    """Nothing of what was told has become a part of the page; returns all that stands on it."""
    page.wait_for_load_state("load")
    page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    page.mouse.move(200, 200)
    page.mouse.move(400, 300)
    assert page.evaluate("window.hacked") is None, where
    handlers = page.evaluate(
        "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(name => name.startsWith('on'))"
    )
    assert handlers == [], where
    assert page.locator("a[href^='javascript:' i], iframe, object, embed, base").count() == 0, where
    shown: str = page.evaluate(
        "document.documentElement.outerHTML + [...document.querySelectorAll('input, textarea')].map(e => e.value)"
    )
    return shown


def test_no_stored_text_becomes_script_or_element_on_any_page(attacked: Attacked, page: Page, tmp_path: Path) -> None:
    shown: set[str] = set()
    pages = [path for path in addresses(attacked) if is_page(attacked.get(path))]
    saved = [path for path in pages if "attachment" in attacked.get(path).headers.get("content-disposition", "")]
    assert len(saved) == 1 and saved[0].endswith("/report")
    for path in dict.fromkeys([*pages, *further_pages(attacked)]):
        if path in saved:
            continue
        page.goto(attacked.url + path)
        if "clone=" in path:  # what the server says of the form is shown, too
            expect(page.get_by_test_id("plan")).not_to_be_empty()
        shown |= attacked.hostile.found_in(assert_inert(page, path))
        scripts = page.locator("script:not([src]):not([type='application/json'])")
        assert scripts.count() == 0, path
    for experiment in attacked.experiments:
        report = tmp_path / f"{experiment}.html"
        report.write_text(httpx.get(f"{attacked.url}/api/v1/experiments/{experiment}/report").text)
        page.goto(report.as_uri())
        shown |= attacked.hostile.found_in(assert_inert(page, report.name))
    places = set(attacked.hostile.marks)
    assert places - shown == OUT.keys(), "list in OUT what no page shows, and why; take out what one does"


def test_text_that_arrives_while_a_page_is_open_is_no_script_either(attacked: Attacked, page: Page) -> None:
    tag = attacked.hostile.attempts("RunEdit.tags")[-5]
    for path, what in (
        (f"/experiments/{attacked.experiments[2]}", f"experiments/{attacked.experiments[2]}"),
        (f"/runs/{attacked.runs[4]}", f"runs/{attacked.runs[4]}"),
    ):
        page.goto(attacked.url + path)
        expect(page.locator("#live")).to_contain_text("live")
        edit = {"tags": ["new", tag[:40]], "notes": attacked.hostile.attempts("RunEdit.notes")[0]}
        assert httpx.patch(f"{attacked.url}/api/v1/{what}", json=edit).is_success
        expect(page.locator(".facts .tag", has_text="new")).to_be_visible()
        assert_inert(page, path)


NO_PAGES = re.compile(
    r"/api/v1/(?!.*/report$)|/static/|/(healthz|readyz|metrics|favicon\.ico)$|.*/(figures\.json|numbers\.\w+)$"
)


def test_what_is_no_page_is_not_taken_for_one(attacked: Attacked) -> None:
    for path in addresses(attacked):
        answer = attacked.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        no_page = NO_PAGES.match(path) or (answer.status_code == 404 and path.startswith("/api/"))
        assert is_page(answer) != bool(no_page), path
