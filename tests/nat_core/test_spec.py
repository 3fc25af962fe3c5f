"""What a spec refuses, in which words, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nat_core.errors import DataError, ModelError, SpecError
from nat_core.preflight import check_experiment, check_run
from nat_core.spec import (
    ExperimentSpec,
    Section,
    demo_experiment,
    load_document,
    parse_experiment_spec,
    parse_run_spec,
    set_field,
)


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        ({"stepz": 3}, "/stepz", ["stepz", "not a field natlab knows", "remove it"]),
        (
            {"budget": {"selector": "rpc", "fraction": 1.5}},
            "/budget/fraction",
            ["budget.fraction", "1.5", "less than or"],
        ),
        (
            {"budget": {"selector": "urs", "fraction": 0}},
            "/budget/fraction",
            ["budget.fraction", "0", "greater than 0"],
        ),
        (
            {"budget": {"selector": "rpc", "law": "uniform", "fraction": 0.3}},
            "/budget",
            ["budget.fraction", "0.3", "uniform keeps at least half", "use 0.5 or more, or law linear"],
        ),
        ({"budget": {"selector": "magic"}}, "/budget", ["magic", "'full', 'urs', 'rpc', 'completions'"]),
        ({"optim": {"learning_rate": float("nan")}}, "/optim/learning_rate", ["optim.learning_rate", "nan", "finite"]),
        ({"data": {"type": "jsonl"}}, "/data/path", ["data.path", "missing"]),
        ({"reward": {"answer_pattern": "(("}}, "/reward/answer_pattern", ["regular expression", "correct it"]),
        ({"model": {"system_prompt": "hi"}}, "/model", ["model.system_prompt", "set model.chat_template"]),
        ({"model": {"chat_template_kwargs": {"a": 1}}}, "/model", ["chat_template_kwargs", "set model.chat_template"]),
        (
            {"model": {"chat_template": True, "chat_template_kwargs": {"tokenize": True}}},
            "/model/chat_template_kwargs",
            ["holds tokenize", "natlab decides itself", "remove it"],
        ),
        (
            {"model": {"chat_template": True, "chat_template_kwargs": {"depth": [1]}}},
            "/model/chat_template_kwargs",
            ["chat_template_kwargs.depth", "[1]", "a number or a text"],
        ),
        (
            {"model": {"lora": {"r": 8, "dropout": 0.1}}},
            "/model/lora/dropout",
            ["model.lora.dropout", "0.1", "another one than the one that samples", "remove it"],
        ),
        ({"model": {"lora": {"quantize": "nf4"}}}, "/model/lora", ["model.lora.quantize", "nf4", "set model.lora.r"]),
        ({"model": {"lora": {"r": 0}}}, "/model/lora/r", ["model.lora.r", "0", "greater than or equal to 1"]),
        ({"steps": "many"}, "/steps", ["steps", "'many'", "integer"]),
    ],
)
def test_a_wrong_field_is_named_with_value_rule_and_remedy(
    document: dict[str, object], pointer: str, words: list[str]
) -> None:
    with pytest.raises(SpecError) as caught:
        parse_run_spec(document)
    assert [fault.pointer for fault in caught.value.faults] == [pointer]
    for word in words:
        assert word in caught.value.faults[0].detail
    assert "\n" not in caught.value.message


def test_every_wrong_field_is_listed() -> None:
    with pytest.raises(SpecError, match=r"and 1 more") as caught:
        parse_run_spec({"steps": 0, "seed": -1})
    assert [fault.pointer for fault in caught.value.faults] == ["/seed", "/steps"]


def test_an_experiment_expands_to_budgets_times_seeds() -> None:
    runs = demo_experiment(steps=5, seeds=(3, 4)).expand()
    assert [(run.seed, run.budget.label) for run in runs] == [
        (seed, label) for seed in (3, 4) for label in ("full", "rpc · linear · ½", "urs · ½", "truncate · ½")
    ]
    assert {run.steps for run in runs} == {5}


def test_an_experiment_survives_its_json() -> None:
    spec = demo_experiment()
    assert ExperimentSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"baseline": 4}, "baseline is 4, but there are 4 budgets"),
        ({"seeds": [1, 1]}, "seeds holds 1 twice"),
        ({"budgets": [{"selector": "full"}, {"selector": "full"}]}, "budgets holds 'full' twice"),
        ({"budgets": []}, "budgets is []"),
    ],
)
def test_an_inconsistent_experiment_is_refused(change: dict[str, object], words: str) -> None:
    document = demo_experiment().model_dump(mode="json") | change
    with pytest.raises(SpecError) as caught:
        parse_experiment_spec(document)
    assert words in caught.value.message


def test_set_field_reaches_into_sections_and_reads_yaml() -> None:
    document: dict[str, object] = {"steps": 3}
    for assignment in ("steps=5", "optim.learning_rate=1.0e-4", "budget={selector: full}"):
        set_field(document, assignment)
    assert document == {"steps": 5, "optim": {"learning_rate": 1e-4}, "budget": {"selector": "full"}}
    for wrong in ("steps", "=3", "steps.more=1"):
        with pytest.raises(SpecError):
            set_field(document, wrong)


def test_load_document_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_document(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(SpecError, match="holds list"):
        load_document(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(SpecError, match="not valid YAML"):
        load_document(tmp_path / "broken.yaml")


def test_preflight_finds_a_model_that_is_not_there(tmp_path: Path) -> None:
    check_run(parse_run_spec({}))  # the demo model
    check_run(parse_run_spec({"model": {"path": "Qwen/Qwen3-8B"}}))  # a hub id: only the trainer can tell
    for path in (str(tmp_path / "gone"), "./gone", "gone", "tests/gone"):
        with pytest.raises(ModelError, match="no such directory") as caught:
            check_run(parse_run_spec({"model": {"path": path}}))
        assert caught.value.faults[0].pointer == "/model/path"
    for path in ("x" * 400, "~nobody-of-that-name/x", "a\0b"):
        with pytest.raises(ModelError):
            check_run(parse_run_spec({"model": {"path": path}}))
    with pytest.raises(ModelError, match="without config"):
        check_run(parse_run_spec({"model": {"path": str(tmp_path)}}))


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "a\0b", "x" * 400])
def test_preflight_of_an_impossible_data_path_is_a_sentence(path: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        check_run(parse_run_spec({"data": {"type": "jsonl", "path": path}}))


def test_budgets_that_differ_in_their_floor_are_two_budgets() -> None:
    budgets = [{"selector": "completions", "floor": floor} for floor in (0.1, 0.2)]
    assert len(parse_experiment_spec({"name": "x", "budgets": budgets}).expand()) == 2


def test_preflight_of_an_experiment_points_into_its_base(tmp_path: Path) -> None:
    document = {"name": "x", "budgets": [{"selector": "full"}], "base": {"model": {"path": str(tmp_path / "gone")}}}
    with pytest.raises(ModelError) as caught:
        check_experiment(parse_experiment_spec(document))
    assert caught.value.faults[0].pointer == "/base/model/path"


@pytest.mark.parametrize(
    "module", ["nat_core", "spec", "events", "errors", "records", "comparison", "preflight", "data"]
)
def test_the_torch_free_modules_are_torch_free(module: str) -> None:
    name = module if module == "nat_core" else f"nat_core.{module}"
    code = f"import {name}, sys; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("document", "detail"),
    [
        ({"baseline": False}, "baseline is false, but input should be a valid integer; change it to fit"),
        ({"margin": True}, "margin is true, but input should be a valid number; change it to fit"),
        ({"seeds": [3, True]}, "seeds.1 is true, but input should be a valid integer; change it to fit"),
        ({"base": {"steps": True}}, "base.steps is true, but input should be a valid integer; change it to fit"),
        (
            {"base": {"optim": {"learning_rate": True}}},
            "base.optim.learning_rate is true, but input should be a valid number; change it to fit",
        ),
        (
            {"budgets": [{"selector": "rpc", "fraction": True}]},
            "budgets.0.fraction is true, but input should be a valid number; change it to fit",
        ),
        (
            {"base": {"model": {"lora": {"r": True}}}},
            "base.model.lora.r is true, but input should be a valid integer; change it to fit",
        ),
    ],
)
def test_true_and_false_are_no_numbers(document: dict[str, object], detail: str) -> None:
    whole = {"name": "x", "budgets": [{"selector": "full"}], **document}
    with pytest.raises(SpecError) as caught:
        parse_experiment_spec(whole)
    (fault,) = caught.value.faults
    assert fault.detail == detail
    assert fault.pointer == "/" + detail.partition(" ")[0].replace(".", "/")


def sections(base: type[Section] = Section) -> list[type[Section]]:
    """Every kind of section that a spec may hold."""
    return [kind for found in base.__subclasses__() for kind in (found, *sections(found))]


def kinds_of(schema: dict[str, Any]) -> set[str]:
    """The types that a field's schema allows, an array's by its items."""
    parts = schema.get("anyOf", []) + ([schema["items"]] if "items" in schema else [])
    return {schema.get("type", "")}.union(*map(kinds_of, parts))


NUMBERS = [
    pytest.param(section, name, "array" in kinds, id=f"{section.__name__}.{name}")
    for section in sections()
    for name, schema in section.model_json_schema().get("properties", {}).items()
    if (kinds := kinds_of(schema)) & {"integer", "number"} and "const" not in schema
]


@pytest.mark.parametrize(("section", "name", "several"), NUMBERS)
def test_no_field_that_takes_a_number_takes_true(section: type[Section], name: str, several: bool) -> None:
    assert len(NUMBERS) > 60
    with pytest.raises(ValidationError) as caught:
        section.model_validate({name: [True] if several else True})
    (found,) = [error for error in caught.value.errors() if error["loc"][0] == name]
    assert found["type"] in ("int_type", "float_type") and repr(found["input"]) == "true"


def test_true_and_false_are_still_what_they_are() -> None:
    assert parse_run_spec({"evaluation": {"greedy": False}}).evaluation.greedy is False


def test_the_compared_example_runs_the_explained_one() -> None:
    compared = parse_experiment_spec(load_document(Path("examples") / "smollm2_budgets.yaml"))
    explained = parse_run_spec(load_document(Path("examples") / "smollm2_reasoning.yaml"))
    assert compared.base.model_copy(update={"budget": explained.budget, "seed": explained.seed}) == explained
    assert explained.budget in compared.budgets
