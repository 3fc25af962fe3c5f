"""The launch form: drawn from the schema, so every field of a spec has its control, help and bounds."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from nat_core.spec import (
    CsvData,
    ExactMatch,
    ExperimentSpec,
    JsonlData,
    RunSpec,
    UrsBudget,
    demo_experiment,
    parse_experiment_spec,
)
from web.controls import KINDS, Choice, Control, Field, Kind, Rows, bounds_text, text_of
from web.draft import draft_of_yaml
from web.form import MAIN, LaunchForm, launch_form
from web.launch_pages import launch_page
from web.presets import PRESETS


def chosen(control: Control) -> Kind:
    """The kind that a choice has chosen."""
    assert isinstance(control, Choice)
    return next(kind for kind in control.kinds if kind.tag == control.chosen)


def all_fields(form: LaunchForm) -> list[Field]:
    """The fields that stand in the form, rows left out."""
    rest = [field for _, _, fields in form.expert for field in fields]
    kinds = [chosen(form.chosen[pointer]).controls for pointer in ("/base/data", "/base/reward")]
    found = [*form.main.values(), *(part for kind in kinds for part in kind), *rest]
    return [control for control in found if isinstance(control, Field)]


def leaves(document: Any, pointer: str = "") -> list[str]:
    if not isinstance(document, dict) or not document:
        return [pointer]
    return [leaf for key, value in document.items() for leaf in leaves(value, f"{pointer}/{key}")]


def test_every_field_of_a_spec_has_a_control_filled_with_its_value() -> None:
    spec = demo_experiment(steps=7, seeds=(3, 4))
    form = launch_form(spec)
    pointers = {field.pointer for field in all_fields(form)}
    apart = ("/budgets", "/seeds", "/baseline", "/tags", "/base/budget", "/base/seed", "/base/evaluation/sets")
    fixed = (
        "/base/data/type",
        "/base/reward/type",
        "/base/model/lora/dropout",
    )  # choices, and what leaves none
    wanted = {leaf for leaf in leaves(spec.model_dump(mode="json")) if not leaf.startswith((*apart, *fixed))}
    assert pointers == wanted
    values = {field.pointer: field.value for field in all_fields(form)}
    assert (values["/base/steps"], form.seeds) == ("7", "3, 4")
    assert values["/base/optim/learning_rate"] == "0.0001"


@pytest.mark.parametrize("value", [1e-6, 0.1, 2e-5 / 3, 1 / 3, 1.0, 123456.789012345])
def test_a_number_in_a_control_is_the_number_that_was_set(value: float) -> None:
    assert float(text_of(value)) == value
    assert [text_of(0.1), text_of(1e-6), text_of(1.0)] == ["0.1", "1e-06", "1"]


def test_text_is_drawn_as_it_is_with_its_spaces_and_line_breaks() -> None:
    data = CsvData(path="/data/rows.tsv", delimiter="\t", prompt_template="\n{prompt}")
    reward = ExactMatch(answer_pattern="\n(.*) ")
    spec = demo_experiment()
    cloned = spec.model_copy(update={"base": spec.base.model_copy(update={"data": data, "reward": reward})})
    fields = {field.pointer: field for field in all_fields(launch_form(cloned))}
    delimiter, template = fields["/base/data/delimiter"], fields["/base/data/prompt_template"]
    assert (delimiter.kind, delimiter.value, delimiter.default) == ("character", "\\t", ",")
    assert "`\\t` is a tab" in delimiter.help
    pattern = fields["/base/reward/answer_pattern"]
    assert (template.rows, pattern.rows, pattern.verbatim, delimiter.rows) == (3, 1, True, 0)
    html = launch_page(cloned, None)
    assert ">\n\n{prompt}</textarea>" in html and ">\n\n(.*) </textarea>" in html  # HTML drops the first line break


def test_controls_know_their_help_bounds_and_choices_from_the_schema() -> None:
    fields = {field.pointer: field for field in all_fields(launch_form(demo_experiment()))}
    generations = fields["/base/rollout/num_generations"]
    assert (generations.kind, generations.bounds) == ("integer", "2 to 1,024")
    assert generations.help == RunSpec().rollout.__class__.model_fields["num_generations"].description
    assert fields["/base/objective/loss_type"].choices == ("dapo", "grpo", "dr_grpo", "cispo", "gspo")
    high = fields["/base/objective/epsilon_high"]
    assert (high.nullable, high.value, high.kind, high.bounds) == (True, "", "number", "above 0, at most 100")
    assert fields["/base/evaluation/greedy"].kind == "boolean"
    assert fields["/notes"].rows == 3


def test_a_section_within_a_section_and_a_table_of_words_have_controls() -> None:
    fields = {field.pointer: field for field in all_fields(launch_form(demo_experiment()))}
    rank, words = fields["/base/model/lora/r"], fields["/base/model/chat_template_kwargs"]
    assert (rank.kind, rank.nullable) == ("integer", True)
    assert (words.kind, words.value) == ("mapping", "{}")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"minimum": 1, "maximum": 4096}, "1 to 4,096"),
        ({"exclusiveMinimum": 0, "maximum": 1}, "above 0, at most 1"),
        ({"minimum": 0}, ""),
        ({"minimum": 0, "exclusiveMaximum": 1}, "at least 0, below 1"),
    ],
)
def test_bounds_in_words(schema: dict[str, Any], text: str) -> None:
    assert bounds_text(schema) == text


def test_a_budget_row_asks_only_what_leaves_a_choice() -> None:
    form = launch_form(demo_experiment())
    assert {part.name: part.selectors for part in form.budget_fields} == {
        "fraction": ("completions", "importance", "rpc", "top_surprisal", "truncate", "urs"),
        "law": ("rpc",),
        "coupling": ("rpc",),
        "design": ("urs",),
        "weighting": ("completions",),
        "floor": ("completions", "importance", "rpc"),
    }
    assert set(form.selectors) == {"full", "urs", "rpc", "completions", "importance", "truncate", "top_surprisal"}


def test_a_field_is_shown_where_it_says_something() -> None:
    parts = {part.name: part for part in launch_form(demo_experiment()).budget_fields}
    assert parts["floor"].limits == {"rpc": ("law", ("optimal",))}  # the only one that hangs on another field
    assert parts["floor"].shown_for == "completions importance rpc:law=optimal"
    assert parts["floor"].applies({"selector": "rpc", "law": "optimal"})
    assert not parts["floor"].applies({"selector": "rpc", "law": "linear"})
    assert parts["floor"].applies({"selector": "importance"}) and not parts["floor"].applies({"selector": "urs"})
    assert all(part.limits == {} for name, part in parts.items() if name != "floor")


def test_a_clone_shows_the_other_kind_of_data() -> None:
    base = RunSpec(data=JsonlData(path="/data/train.jsonl", max_rows=8))
    form = launch_form(ExperimentSpec(name="x", base=base, budgets=[UrsBudget(fraction=0.25)], baseline=0))
    kind = chosen(form.chosen["/base/data"])
    assert kind.tag == "jsonl"
    values = {control.name: control.value for control in kind.controls if isinstance(control, Field)}
    assert (values["path"], values["max_rows"], values["prompt_field"]) == ("/data/train.jsonl", "8", "question")
    assert form.budgets == [{"selector": "urs", "fraction": "0.25", "design": "bernoulli"}]


def test_every_kind_of_data_and_reward_is_offered_by_a_name_with_help_and_its_fields() -> None:
    form = launch_form(demo_experiment())
    for name in ("data", "reward"):
        choice = form.chosen[f"/base/{name}"]
        assert isinstance(choice, Choice)
        assert [kind.tag for kind in choice.kinds] == list(KINDS[name])  # a new kind needs a name here
        assert all(kind.help for kind in choice.kinds)
    kinds = {kind.tag: [part.pointer for part in kind.controls] for kind in form.chosen["/base/reward"].kinds}  # type: ignore[union-attr]
    assert kinds["length"] == ["/base/reward/free", "/base/reward/limit"]
    assert kinds["sum"] == ["/base/reward/parts"]


def test_lists_have_a_row_of_their_own_with_choices_in_it() -> None:
    form = launch_form(demo_experiment())
    sets, parts = form.items
    assert (sets.name, sets.named, sets.noun) == ("sets", True, "set")
    assert [part.pointer for part in sets.controls] == ["/data", "/reward", "/num_prompts", "/num_samples"]
    data, reward = sets.controls[:2]
    assert isinstance(data, Choice) and data.chosen == "demo_arithmetic"
    assert isinstance(reward, Choice) and reward.nullable and reward.chosen == ""  # as the run's own
    assert isinstance(reward.kinds[-1].controls[0], Rows)
    assert (parts.name, parts.named) == ("parts", False)
    weight, single = parts.controls
    assert isinstance(weight, Field) and weight.value == "1"
    assert isinstance(single, Choice) and "sum" not in [kind.tag for kind in single.kinds]


def test_a_generator_s_settings_are_written_as_json() -> None:
    data = {"type": "reasoning_gym", "task": "chain_sum", "config": {"max_terms": 3}}
    spec = parse_experiment_spec({"name": "x", "base": {"data": data}, "budgets": [{"selector": "full"}]})
    fields = {part.pointer: part for part in chosen(launch_form(spec).chosen["/base/data"]).controls}
    config = fields["/base/data/config"]
    assert isinstance(config, Field)
    assert (config.kind, config.value, config.default) == ("mapping", '{"max_terms": 3}', "{}")


def test_page_has_one_control_and_one_place_for_messages_per_pointer() -> None:
    html = launch_page(demo_experiment(), None)
    for pointer in MAIN:
        assert html.count(f'data-pointer="{pointer}"') == 1
        assert html.count(f'data-fault="{pointer}"') == 1
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for described in re.findall(r'aria-describedby="([^"]+)"', html):
        assert set(described.split()) <= set(ids)
    assert html.count('data-testid="budget-row"') == 5  # four rows and the template of a new one


def test_values_are_escaped() -> None:
    spec = demo_experiment().model_copy(update={"name": '"><script>x</script>', "notes": "</textarea><b>"})
    html = launch_page(spec, None)
    assert "<script>x" not in html and "</textarea><b>" not in html
    assert "&lt;script&gt;x" in html


@pytest.mark.parametrize("key", PRESETS)
def test_every_preset_fills_the_form(key: str) -> None:
    spec = PRESETS[key].spec()
    html = launch_page(spec, None, key)
    assert unescape(html).count(spec.name) >= 2  # in its field and in the file
    assert f'href="/experiments/new?preset={key}" aria-current="true"' in html
    (file,) = re.findall(r'<textarea id="yaml"[^>]*>([^<]*)</textarea>', html)
    draft = draft_of_yaml(unescape(file))  # what may be typed in before the form's first answer is there
    assert draft.faults == [] and draft.document == spec.model_dump(mode="json")
