"""Stored script in every text that people, workers and trainers can send: a real browser shows it and runs none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from nat_core.events import AnyEvent, LogEvent, SampleEvent, StateEvent
from server.ingest import Batch, store_batches
from server.main import create_app
from server.settings import Settings
from tests.server.support import evaluation, metrics, served, valkey

pytestmark = pytest.mark.slow

WAYS = [
    "<script>window.hacked='{0}'</script>",
    "<img src=x onerror=\"window.hacked='{0}'\">",
    '"><svg onload="window.hacked=\'{0}\'">',
    "' onmouseover='window.hacked=\"{0}\"' x='",
    "</script></title></textarea></style><script>window.hacked='{0}'</script>",
    "javascript:window.hacked='{0}'",
    "<a href=\"javascript:window.hacked='{0}'\">{0}</a>",
    "${{window.hacked='{0}'}}{{{{constructor.constructor('window.hacked=1')()}}}}",
]


def hostile(field: str, way: int | None = None) -> str:
    """Attempts on one field; `hacked` would say which one."""
    return " ".join(attempt.format(field) for attempt in (WAYS if way is None else [WAYS[way]]))


@dataclass
class Attacked:
    url: str
    experiment_id: str
    run_id: str
    other_run: str


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """A served application in which every text is an attempt."""
    with valkey() as redis_url:
        home = tmp_path_factory.mktemp("attacked")
        app = create_app(Settings(home=home, redis_url=redis_url))
        with served(app) as url, httpx.Client(base_url=f"{url}/api/v1") as http:

            def call(method: str, path: str, **body: Any) -> Any:
                answer = http.request(method, path, json=body or None)
                assert answer.is_success, answer.text
                return answer.json()

            launched = call(
                "POST",
                "/experiments",
                name=hostile("name", 1)[:120],
                tags=[hostile("tag", 0)[:40], hostile("tag", 5)[:40]],
                notes=hostile("notes"),
                base={"steps": 4, "data": {"type": "demo_arithmetic"}},
                budgets=[{"selector": "full"}, {"selector": "rpc"}],
            )
            first, second = (run["id"] for run in launched["runs"])
            worker = 'w"><img src=x onerror=hacked=1>'
            hardware = {"device": hostile("device"), "gpus": [{"name": hostile("gpu"), "memory_gib": 1}]}
            call("PUT", f"/workers/{worker}", hostname=hostile("hostname", 1), hardware=hardware)
            for run_id, outcome in ((first, "succeeded"), (second, "failed")):
                call("POST", f"/runs/{run_id}/claim", worker_id=worker)
                store_batches(app.state.store, [Batch(run_id, 1, events())])
                call("PATCH", f"/runs/{run_id}", tags=[hostile("run-tag", 0)[:40]], notes=hostile("run-notes"))
                ended = {"outcome": outcome, "reason": hostile("reason", 1), "message": hostile("message")}
                call("POST", f"/runs/{run_id}/finish", attempt=1, **ended)
                folder = home / "runs" / run_id
                folder.mkdir(parents=True)
                (folder / "trainer.log").write_text(hostile("printed"))
            yield Attacked(url, launched["id"], first, second)


def events() -> list[AnyEvent]:
    tokens = [attempt.format("token") for attempt in WAYS]
    return [
        StateEvent(seq=1, time=1, step=0, phase="started", hardware={"cpu": hostile("cpu"), "threads": 1}),
        LogEvent(seq=2, time=1, step=0, message=hostile("log"), level="error"),
        metrics(3, 1, reward=0.5, tokens__selected=10.0, tokens__generated=20.0),
        evaluation(4, 2, [2, 2]),
        SampleEvent(
            seq=5,
            time=2,
            step=2,
            prompt=hostile("prompt"),
            tokens=tokens,
            keep=[True] * len(tokens),
            inclusion_prob=[0.5] * len(tokens),
            reward=1.0,
            advantage=0.5,
            answer=hostile("answer"),
        ),
        StateEvent(seq=6, time=3, step=4, phase="ended", outcome="failed", reason="x", message=hostile("ended")),
    ]


def pages_of(attacked: Attacked) -> list[str]:
    run, experiment = attacked.run_id, attacked.experiment_id
    tabs = [f"/runs/{run}{tab}" for tab in ("", "/tokens?step=2", "/logs", "/config")]
    return [
        "/experiments",
        "/experiments?archived=true",
        f"/experiments/{experiment}",
        f"/experiments/{experiment}?q=<img src=x onerror=hacked=1>&sort=<svg onload=hacked=1>",
        f"/experiments/new?clone={experiment}",
        f"/compare?runs={run},{attacked.other_run}",
        *tabs,
        f"/runs/{attacked.other_run}",
        f"/runs/{attacked.other_run}/logs",
        "/workers",
        "/experiments/<img src=x onerror=hacked=1>",
        "/runs/<script>hacked=1</script>",
    ]


def test_no_stored_text_becomes_script_or_element_on_any_page(attacked: Attacked, page: Page) -> None:
    seen = ""
    for path in pages_of(attacked):
        page.goto(attacked.url + path)
        expect(page.locator("body")).to_be_visible()
        page.wait_for_load_state("load")
        page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
        page.mouse.move(200, 200)
        assert page.evaluate("window.hacked") is None, path
        assert page.locator("[onerror], [onload], [onmouseover], a[href^='javascript:']").count() == 0, path
        assert page.locator("script:not([src]):not([type='application/json'])").count() == 0, path
        seen += page.locator("body").inner_text()
    for field in ("name", "message", "log", "printed", "prompt", "token"):
        assert f"window.hacked='{field}'" in seen or f'window.hacked="{field}"' in seen, f"{field} is shown nowhere"


@pytest.mark.parametrize(
    "path", ["/api/v1/runs/{run}/logs", "/api/v1/runs/{run}", "/runs/{run}/numbers.csv?name=reward"]
)
def test_what_is_no_page_is_not_taken_for_one(attacked: Attacked, path: str) -> None:
    answer = httpx.get(attacked.url + path.format(run=attacked.run_id))
    assert answer.status_code == 200 and "html" not in answer.headers["content-type"]
    assert answer.headers["x-content-type-options"] == "nosniff"
