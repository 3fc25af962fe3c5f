from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient


def test_openapi_describes_every_resource_and_its_errors(client: TestClient) -> None:
    document = client.get("/api/v1/openapi.json").json()
    for path in ("experiments", "experiments/plan", "runs", "runs/{run_id}/metrics", "metrics", "workers", "stream"):
        assert f"/api/v1/{path}" in document["paths"]
    launch = document["paths"]["/api/v1/experiments"]["post"]
    assert launch["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ExperimentSpec")
    assert {"201", "422", "503"} <= set(launch["responses"])
    refused = launch["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"]
    assert refused.endswith("/Problem")
    assert not any(path.startswith("/experiments") for path in document["paths"])  # pages are no API


def test_docs_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/api/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) == 3 and all(source.startswith("/api/docs/") for source in sources)
    assert "<script>" not in page and "style=" not in page
    for source in sources:
        answer = client.get(source)
        assert answer.status_code == 200 and len(answer.text) > 100
    assert "SwaggerUIBundle" in client.get("/api/docs/swagger-ui-bundle.js").text


@pytest.mark.parametrize("name", ["LICENSE", "..%2fmain.py", "swagger-ui.css.gz"])
def test_docs_serve_no_other_file(client: TestClient, name: str) -> None:
    assert client.get(f"/api/docs/{name}").status_code == 404


def test_health_needs_nothing_and_readiness_needs_the_ingestor(client: TestClient, app: FastAPI) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    refused = client.get("/readyz")
    assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
    with client:  # entering runs the lifespan, and with it the threads
        assert client.get("/readyz").json()["status"] == "ready"


def test_unknown_paths_and_methods_are_problems(client: TestClient) -> None:
    assert client.get("/api/v1/nothing").json()["code"] == "not_found"
    answer = client.put("/api/v1/experiments", json={})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"]
