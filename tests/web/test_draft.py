"""The launch page's file: read with bounds, judged like any spec, with the line of what is wrong."""

from __future__ import annotations

import pytest
import yaml
from fastapi.testclient import TestClient

from nat_core.spec import demo_experiment, parse_experiment_spec
from web.draft import MAX_YAML, draft_of_document, draft_of_yaml, line_of

GOOD = """\
name: Half?  # asks
base: {steps: 7}
budgets:
- selector: full
- selector: rpc
  fraction: 0.25
seeds: [0, 2]
"""


def test_a_good_file_gives_its_document_and_its_runs() -> None:
    draft = draft_of_yaml(GOOD)
    assert draft.faults == [] and draft.document is not None and draft.plan is not None
    assert parse_experiment_spec(draft.document) == parse_experiment_spec(yaml.safe_load(GOOD))
    assert draft.document["base"]["rollout"]["num_prompts"] > 0  # every field is there, for the form to show
    assert (draft.plan.budgets, draft.plan.seeds, draft.plan.steps) == (["full", "rpc · linear · ¼"], [0, 2], 7)
    assert draft.yaml == GOOD


def test_a_document_becomes_a_file_right_or_wrong() -> None:
    document = demo_experiment().model_dump(mode="json")
    draft = draft_of_document(document)
    assert yaml.safe_load(draft.yaml) == document and draft.faults == []
    wrong = draft_of_document({"name": "", "base": {"steps": "many"}, "budgets": []})
    assert yaml.safe_load(wrong.yaml)["base"]["steps"] == "many"
    assert {fault.pointer for fault in wrong.faults} == {"/name", "/base/steps", "/budgets"}
    assert wrong.plan is None and wrong.document is None


@pytest.mark.parametrize(
    ("old", "new", "pointer", "line"),
    [
        ("steps: 7", "steps: 0", "/base/steps", 2),
        ("fraction: 0.25", "fraction: 2", "/budgets/1/fraction", 6),
        ("  fraction: 0.25", "  share: 0.25", "/budgets/1/share", 6),
        ("seeds: [0, 2]", "seeds: [0, x]", "/seeds/1", 7),
        ("name: Half?  # asks\n", "", "/name", 1),
    ],
)
def test_faults_name_their_line(old: str, new: str, pointer: str, line: int) -> None:
    (fault,) = draft_of_yaml(GOOD.replace(old, new)).faults
    assert (fault.pointer, fault.line) == (pointer, line)


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("name: [1", "not valid YAML", 2),
        ("name: a\n\tb: 1", "not valid YAML", 2),
        ("- 1\n- 2", "holds no fields", 0),
        ("", "holds no fields", 0),
        ("a: &x [1]\nb: *x", "*x is an alias", 2),
        ("a: " + "[" * 30_000, "nested more than", 1),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML", 1),
        ("x" * (MAX_YAML + 1), "shorten it", 0),
        ("name: \x00", "not valid YAML", 0),
        (GOOD + "base: {steps: 9}\n", "base is set here again, after line 2", 8),
        ("budgets:\n- {selector: full, selector: rpc}\nname: a\nname: b", "selector is set here again", 2),
    ],
)
def test_what_is_no_file_is_refused_at_its_line(text: str, says: str, line: int) -> None:
    (fault,) = draft_of_yaml(text).faults
    assert says in fault.detail and fault.pointer == ""
    assert fault.line in (line, line - 1, line + 1)


def test_a_line_is_that_of_the_nearest_part_that_is_there() -> None:
    root = yaml.compose(GOOD)
    assert root is not None
    assert [line_of(root, pointer) for pointer in ("", "/base/rollout/x", "/budgets/9", "/seeds")] == [1, 2, 3, 7]


def test_the_server_answers_drafts_and_stores_nothing(client: TestClient) -> None:
    answer = client.post("/experiments/draft", json={"yaml": GOOD}).json()
    assert answer["plan"]["seeds"] == [0, 2] and answer["document"]["seeds"] == [0, 2]
    answer = client.post("/experiments/draft", json={"document": {"name": "x"}}).json()
    assert answer["faults"][0]["pointer"] == "/budgets" and answer["yaml"] == "name: x\n"
    assert client.post("/experiments/draft", json={"yaml": 3}).status_code == 422
    assert client.get("/api/v1/experiments").json()["items"] == []
