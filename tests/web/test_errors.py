"""Who looks at an address that cannot be shown gets a page that says why; a program gets the problem document."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from server.errors import BusyError
from server.store import Store
from tests.web.building import launch, small_spec

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_an_address_that_is_none_is_a_page_for_people_alone(client: TestClient) -> None:
    looked_at = client.get("/nowhere", headers=BROWSER)
    assert (looked_at.status_code, looked_at.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "Not found" in looked_at.text and "There is nothing to see at /nowhere." in looked_at.text
    assert 'href="/experiments">All experiments' in looked_at.text
    for path, headers in (("/nowhere", {}), ("/api/v1/nowhere", BROWSER)):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 404 and answer.json()["code"] == "not_found"


def test_an_address_that_makes_no_sense_says_what_is_wrong(client: TestClient, store: Store) -> None:
    run = launch(store, small_spec()).runs[0]
    for path, wrong in ((f"/runs/{run.id}/nonsense", "nonsense"), ("/experiments?archived=maybe", "maybe")):
        answer = client.get(path, headers=BROWSER)
        assert answer.status_code == 422 and "This address is not understood" in answer.text
        assert wrong in answer.text and "Try again" not in answer.text


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (BusyError("the database was written to by others for 2 s; try again"), 503, "Not just now"),
        (RuntimeError("secret"), 500, "The server made a mistake"),
    ],
)
def test_a_page_that_fails_can_be_tried_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, title: str
) -> None:
    def fail(*_args: Any) -> None:
        raise error

    monkeypatch.setattr("server.pages.list_page", fail)
    answer = client.get("/experiments", headers=BROWSER)
    assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store")
    assert title in answer.text and 'href="">Try again' in answer.text and "secret" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")


def test_what_a_script_asks_of_a_page_is_answered_for_scripts(client: TestClient) -> None:
    answer = client.post("/experiments/draft/plan", json={"document": {}, "prompt_tokens": "many"}, headers=BROWSER)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == "/prompt_tokens"
