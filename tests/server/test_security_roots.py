"""A spec names files in the operator's folders only, and the answer tells nothing of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from server.main import create_app
from server.settings import Settings
from tests.server.support import experiment, row_counts

ROW = '{"question": "1 + 1 =", "answer": "2"}\n'


@pytest.fixture
def client(tmp_path: Path, redis_url: str) -> TestClient:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for folder in ("data", "elsewhere"):
        (tmp_path / folder / "rows.jsonl").write_text(ROW * 500)
    (tmp_path / "data" / "link.jsonl").symlink_to(tmp_path / "elsewhere" / "rows.jsonl")
    settings = Settings(home=tmp_path / "home", redis_url=redis_url, allowed_roots=(tmp_path / "data",))
    return TestClient(create_app(settings), base_url="http://127.0.0.1:8300")


def launch(client: TestClient, place: str = "", **base: Any) -> Any:
    return client.post(f"/api/v1/experiments{place}", json=experiment(base={"steps": 2, **base}))


def test_a_file_in_a_root_is_taken(client: TestClient, tmp_path: Path) -> None:
    data = {"type": "jsonl", "path": str(tmp_path / "data" / "rows.jsonl")}
    assert launch(client, data=data).status_code == 201, launch(client, data=data).text


@pytest.mark.parametrize("place", ["", "/plan"])
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{}/elsewhere/rows.jsonl",
        "{}/data/../elsewhere/rows.jsonl",
        "{}/data/link.jsonl",
        "~nobody-at-all/x",
        "{}/data-too/rows.jsonl",
        "{}/elsewhere/none.jsonl",
        "/proc/self/environ",
        "{}/data/../../../../etc/passwd",
    ],
)
def test_a_file_outside_is_refused_in_the_same_words_whether_it_is_there(
    client: TestClient, tmp_path: Path, path: str, place: str
) -> None:
    answer = launch(client, place, data={"type": "jsonl", "path": path.format(tmp_path)})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_spec"), answer.text
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/base/data/path" and "NATLAB_ALLOWED_ROOTS" in fault["detail"]
    assert "question" not in answer.text and "root:" not in answer.text
    assert row_counts(client.app)["experiment"] == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field",
    ["model.path", "data.evaluation_path", "data.path", "evaluation.sets.x.data.path", "evaluation.sets.y.data.path"],
)
def test_models_and_evaluation_files_are_looked_at_too(client: TestClient, tmp_path: Path, field: str) -> None:
    data = {"type": "jsonl", "path": str(tmp_path / "data" / "rows.jsonl")}
    base = {
        "model.path": {"model": {"path": str(tmp_path / "elsewhere")}},
        "data.evaluation_path": {"data": {**data, "evaluation_path": "/etc/passwd"}},
        "data.path": {"data": {"type": "huggingface", "path": str(tmp_path / "elsewhere")}},
        "evaluation.sets.x.data.path": {
            "evaluation": {"sets": {"x": {"data": {"type": "csv", "path": "/etc/passwd"}}}}
        },
        "evaluation.sets.y.data.path": {"evaluation": {"sets": {"y": {"data": {"type": "gsm8k", "path": "/etc"}}}}},
    }[field]
    answer = launch(client, **base)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [f"/base/{field.replace('.', '/')}"]


def test_the_demo_and_hub_ids_are_no_paths(client: TestClient) -> None:
    assert launch(client).status_code == 201
    assert launch(client, "/plan", model={"path": "Qwen/Qwen3-0.6B"}).status_code == 200
    assert launch(client, "/plan", data={"type": "huggingface", "path": "openai/gsm8k"}).status_code == 200
    assert launch(client, "/plan", data={"type": "gsm8k"}).status_code == 200


def test_roots_come_from_the_environment_and_are_few_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    env = {"NATLAB_REDIS_URL": "redis://127.0.0.1"}
    assert Settings.from_env(env).allowed_roots == (tmp_path, tmp_path / "me")
    listed = Settings.from_env({**env, "NATLAB_ALLOWED_ROOTS": "/srv/data:models"})
    assert listed.allowed_roots == (Path("/srv/data"), tmp_path / "models")


def test_a_hub_id_too_long_for_any_file_is_the_asker_s_mistake(client: TestClient) -> None:
    model = {"path": f"{'a' * 300}/b"}
    answer = launch(client, model=model)
    assert (answer.status_code, answer.json()["code"]) == (422, "model"), answer.text
    draft = {"document": experiment(base={"steps": 2, "model": model})}
    assert client.post("/experiments/draft/plan", json=draft).status_code == 200
