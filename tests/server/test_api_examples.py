"""Every operation of the OpenAPI document shows an example, and every example holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from fastapi.testclient import TestClient

from server.main import create_app
from server.settings import Settings
from tests.server.conftest import Api


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    app = create_app(Settings(home=tmp_path_factory.mktemp("home")))
    made = app.openapi()
    app.state.broker.close()
    app.state.store.close()
    return made


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def fits(document: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    """Whether a value is of a schema that may refer to the document's components."""
    whole = {**schema, "components": document["components"]}
    validator = jsonschema.Draft202012Validator(whole)
    return not list(validator.iter_errors(value))


def test_every_parameter_that_must_be_given_has_an_example(document: dict[str, Any]) -> None:
    bare = [
        f"{name}: {parameter['name']}"
        for name, operation in operations(document)
        for parameter in operation.get("parameters", [])
        if parameter["required"] and "example" not in parameter
    ]
    assert bare == []


def test_every_example_of_a_parameter_is_one(document: dict[str, Any]) -> None:
    shown = 0
    for name, operation in operations(document):
        for parameter in operation.get("parameters", []):
            if "example" in parameter:
                assert fits(document, parameter["schema"], parameter["example"]), (name, parameter)
                shown += 1
    assert shown > 40


def test_every_body_has_an_example_that_fits(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            assert "example" in content, f"{name}: add its body to server/examples.py"
            assert fits(document, content["schema"], content["example"]), name


def test_every_answer_has_an_example_that_fits(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 300 or status == "204":
                continue
            assert answer.get("content"), (name, status)
            for media_type, content in answer["content"].items():
                assert "example" in content, f"{name} {status} {media_type}: add it to server/examples.py"
                assert "schema" not in content or fits(document, content["schema"], content["example"]), (name, status)


def test_fits_can_tell_what_does_not(document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/RunRecord"}
    assert not fits(document, schema, {"id": 1})


def test_the_launch_that_is_shown_launches(client: TestClient, document: dict[str, Any]) -> None:
    shown = document["paths"]["/api/v1/experiments"]["post"]["requestBody"]["content"]["application/json"]["example"]
    answer = client.post("/api/v1/experiments", json=shown)
    assert answer.status_code == 201
    assert [run["label"] for run in answer.json()["runs"]] == ["full", "rpc · linear · ½"]


def test_the_worker_s_day_that_is_shown_works(client: TestClient, api: Api, document: dict[str, Any]) -> None:
    """Register, claim, beat and finish as the examples do, with the run that there is."""
    run_id = api.one_run()

    def send(method: str, path: str, **values: str) -> Any:
        content = document["paths"][path][method]["requestBody"]["content"]["application/json"]
        answer = client.request(method, path.format(**values), json=content["example"])
        assert answer.is_success, answer.text
        return answer.json()

    worker = document["paths"]["/api/v1/workers/{worker_id}"]["put"]["parameters"][0]["example"]
    send("put", "/api/v1/workers/{worker_id}", worker_id=worker)
    send("post", "/api/v1/runs/{run_id}/claim", run_id=run_id)
    assert send("post", "/api/v1/runs/{run_id}/heartbeat", run_id=run_id)["desired"] == "run"
    assert send("post", "/api/v1/runs/{run_id}/finish", run_id=run_id)["state"] == "succeeded"
