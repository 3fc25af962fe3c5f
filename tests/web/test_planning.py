"""The plan before launch: what each budget's step takes beside full's, scaled, and whether it fits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nat_core.cost import KNOWN, ModelShape, plan_step, shape_of, spread
from nat_core.errors import ModelError
from nat_core.records import Assumed, Room, Speed, WorkerRecord
from nat_core.spec import ExperimentSpec, FullBudget, ResourcesSpec, RpcBudget, parse_experiment_spec
from web.launch_pages import plan_fragment
from web.planning import assumptions, plan_experiment
from web.queue_pages import worker_row
from web.room import choose_room, present, room_of

DEMO = shape_of("demo")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def experiment(*budgets: dict[str, Any], seeds: int = 1, **base: Any) -> ExperimentSpec:
    listed = list(budgets or ({"selector": "full"}, {"selector": "rpc", "fraction": 0.5}))
    return parse_experiment_spec({"name": "x", "base": base, "budgets": listed, "seeds": list(range(seeds))})


def worker(name: str, *gpus: float | None, memory: Any = 64.0, labels: tuple[str, ...] = ()) -> WorkerRecord:
    hardware = {"memory_gib": memory, "gpus": [{"index": i, "memory_gib": size} for i, size in enumerate(gpus)]}
    return WorkerRecord(id=name, hostname=name, labels=list(labels), hardware=hardware, registered_at=NOW, seen_at=NOW)


def test_a_plan_counts_the_runs_and_puts_every_budget_beside_full() -> None:
    spec = experiment(seeds=3, steps=7, resources={"per_device_train_batch_size": 32})
    assumed = assumptions(spec.base)
    plan = plan_experiment(spec, DEMO, assumed)
    assert (plan.num_runs, plan.steps_total, plan.cells) == (6, 42, ["full", "rpc · linear · ½"])
    full, half = plan.budgets
    assert plan.full == full and (full.flops_share, full.total_share) == (1.0, 1.0)
    assert full.tokens_selected == full.tokens_generated == 16 * 8 * assumed.completion_tokens
    assert half.tokens_selected / half.tokens_generated == pytest.approx(0.5)
    assert 0.5 < half.flops_share < 0.7 and half.total_gib < full.total_gib
    assert plan.tokens_generated_total == 3 * 7 * 2 * full.tokens_generated
    assert plan.tokens_selected_total == pytest.approx(3 * 7 * 1.5 * full.tokens_generated)


def test_lengths_spread_about_the_mean_that_was_said() -> None:
    assert spread(8, 100, 4) == [4, 6, 10, 12]
    assert spread(90, 100, 4) == [82, 88, 92, 98]  # none is longer than the longest, and the mean stays
    assert spread(500, 100, 2) == [100, 100]


def test_a_large_step_is_planned_on_some_of_its_completions_and_scaled() -> None:
    spec = experiment(rollout={"num_prompts": 256, "num_generations": 8, "max_completion_length": 512})
    assumed = Assumed(prompt_tokens=40, completion_tokens=256)
    for plan, budget in zip(plan_experiment(spec, DEMO, assumed).budgets, spec.budgets, strict=True):
        exact = plan_step(spec.base.model_copy(update={"budget": budget}), DEMO, 40, spread(256, 512, 2048))
        assert plan.tokens_generated == pytest.approx(exact.tokens_generated, rel=0.01)
        assert plan.flops == pytest.approx(exact.flops, rel=0.01)
        assert plan.num_microbatches == pytest.approx(exact.num_microbatches, rel=0.05)
        assert plan.total_gib == pytest.approx(exact.total_gib, rel=0.05)


def test_a_micro_batch_that_is_larger_than_the_sample_is_planned_whole() -> None:
    rollout = {"num_prompts": 128, "num_generations": 8, "max_completion_length": 64}
    spec = experiment(rollout=rollout, resources={"per_device_train_batch_size": 1024})
    plan = plan_experiment(spec, DEMO, Assumed(prompt_tokens=8, completion_tokens=32))
    exact = plan_step(spec.base.model_copy(update={"budget": FullBudget()}), DEMO, 8, spread(32, 64, 1024))
    assert plan.full is not None and plan.full.total_gib == pytest.approx(exact.total_gib)


def test_assumptions_follow_the_task_and_give_way_to_what_is_said() -> None:
    demo = experiment(rollout={"max_completion_length": 96}).base
    assert assumptions(demo) == Assumed(prompt_tokens=34, completion_tokens=76)  # 9 to 12 operations
    assert assumptions(demo, 50, 60) == Assumed(prompt_tokens=50, completion_tokens=60)
    data = {"type": "jsonl", "path": "rows.jsonl"}
    rows = experiment(data=data, rollout={"max_prompt_length": 400, "max_completion_length": 300}).base
    assert assumptions(rows) == Assumed(prompt_tokens=100, completion_tokens=150)


def test_what_does_not_fit_is_said_with_the_way_out() -> None:
    assumed = Assumed(prompt_tokens=40, completion_tokens=512)
    room = Room(worker_id="box", on_gpu=True, memory_gib=7.0)
    small = KNOWN["HuggingFaceTB/SmolLM2-135M"]
    plan = plan_experiment(experiment(rollout={"max_completion_length": 1024}), small, assumed, room)
    assert [budget.fits for budget in plan.budgets] == [False, False]
    (warning,) = plan.warnings
    assert warning.startswith("no budget fits worker box's GPU of 7.00 GiB: a step needs ")
    assert warning.endswith("lower resources.max_tokens_per_microbatch or turn on model.gradient_checkpointing")
    roomy = room.model_copy(update={"memory_gib": 500.0})
    assert plan_experiment(experiment(), small, assumed, roomy).warnings == []
    (warning,) = plan_experiment(experiment(), KNOWN["Qwen/Qwen3-8B"], assumed, room).warnings
    assert "take a smaller model" in warning  # no smaller batch would do
    by_count = experiment(resources={"per_device_train_batch_size": 64}, model={"gradient_checkpointing": True})
    (warning,) = plan_experiment(by_count, small, assumed, room.model_copy(update={"memory_gib": 2.2})).warnings
    assert warning.endswith("; lower resources.per_device_train_batch_size")


def test_only_the_budgets_that_do_not_fit_are_named() -> None:
    spec = experiment(rollout={"max_completion_length": 1024}, resources={"per_device_train_batch_size": 8})
    assumed = Assumed(prompt_tokens=40, completion_tokens=512)
    small = KNOWN["HuggingFaceTB/SmolLM2-135M"]
    full, half = plan_experiment(spec, small, assumed).budgets
    between = Room(worker_id="box", on_gpu=False, memory_gib=(full.total_gib + half.total_gib) / 2)
    (warning,) = plan_experiment(spec, small, assumed, between).warnings
    assert warning.startswith("full won't fit worker box's memory of ")


def test_seconds_are_told_where_the_plan_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_experiment(experiment(), DEMO, Assumed(prompt_tokens=30, completion_tokens=70))
    assert plan.full is not None
    timed = plan.full.model_copy(update={"seconds": 1.5, "seconds_share": 1.0})
    html = plan_fragment(plan.model_copy(update={"full": timed, "budgets": [timed]}), experiment())
    assert "1.5 s" in html and ">Time<" in html


def test_a_plan_for_several_gpus_says_what_is_of_each_and_what_of_all() -> None:
    assumed = Assumed(prompt_tokens=40, completion_tokens=256)
    small = KNOWN["HuggingFaceTB/SmolLM2-135M"]
    speed = Speed(flops_per_s=1e12, num_runs=3)
    room = Room(worker_id="box", on_gpu=True, memory_gib=80.0)
    plan = plan_experiment(experiment(resources={"gpus": 4}), small, assumed, room, speed)
    alone = plan_experiment(experiment(), small, assumed, room, speed)
    assert (plan.num_devices, alone.num_devices) == (4, 1)
    assert plan.full is not None and alone.full is not None
    assert plan.full.flops == alone.full.flops and plan.full.total_gib < alone.full.total_gib
    # The speed is that of whole runs on as many devices.
    assert plan.full.seconds == pytest.approx(plan.full.flops / speed.flops_per_s, rel=0.01)
    told = plan_fragment(plan, experiment(resources={"gpus": 4}))
    assert "of all 4 GPUs together; memory and time are those of each" in told
    assert "GPUs together" not in plan_fragment(alone, experiment())


# --- models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134.5e6),
        ("HuggingFaceTB/SmolLM2-360M-Instruct", 361.8e6),
        ("HuggingFaceTB/SmolLM2-1.7B", 1.711e9),
        ("Qwen/Qwen3-0.6B", 596e6),
        ("Qwen/Qwen3-1.7B", 1.72e9),
        ("Qwen/Qwen3-4B", 4.02e9),
        ("Qwen/Qwen3-8B", 8.19e9),
        ("Qwen/Qwen3-14B", 14.77e9),
        ("Qwen/Qwen2.5-0.5B-Instruct", 494.0e6),
        ("Qwen/Qwen2.5-1.5B", 1.5437e9),
        ("Qwen/Qwen2.5-3B-Instruct", 3.0859e9),
        ("Qwen/Qwen2.5-7B", 7.6156e9),
    ],
)
def test_known_models_have_as_many_parameters_as_their_cards_say(name: str, parameters: float) -> None:
    assert shape_of(name).parameters == pytest.approx(parameters, rel=2e-3)


def test_a_model_s_sizes_come_from_its_folder_or_the_hub_s_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = (Path(__file__).parents[2] / "nat_core/demo/model/config.json").read_text()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for folder in (tmp_path / "mine", tmp_path / "hub/models--some--model/snapshots/1a2b"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(config)
    assert shape_of(str(tmp_path / "mine")) == shape_of("some/model") == DEMO
    with pytest.raises(ModelError, match="sizes are not known on this machine"):
        shape_of("some/other")


@pytest.mark.parametrize("config", ["[]", "{}", '{"num_attention_heads": 0, "hidden_size": 4}', "no json"])
def test_a_config_that_makes_no_sense_is_a_sentence(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError):
        shape_of(str(tmp_path))


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    sizes = ("num_attention_heads", "hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "head_dim")
    (tmp_path / "config.json").write_text("{" + ",".join(f'"{size}": 1' for size in sizes[:-1]) + ', "head_dim": 1}')
    assert isinstance(shape_of(str(tmp_path)), ModelShape)
    (tmp_path / "config.json").write_text(
        '{"num_hidden_layers": 0,' + ",".join(f'"{s}": 1' for s in sizes if s != "num_hidden_layers") + "}"
    )
    with pytest.raises(ModelError, match="not above 0"):
        shape_of(str(tmp_path))


# --- workers ----------------------------------------------------------------------------------------


def test_room_is_a_gpu_s_memory_or_the_machine_s() -> None:
    box = worker("box", 80.0, 24.0)
    assert room_of(box, ResourcesSpec()).memory_gib == 24.0  # a run may get either
    assert room_of(box, ResourcesSpec(device="cpu")).memory_gib == 64.0
    assert not room_of(box, ResourcesSpec(gpus=0)).on_gpu
    assert room_of(worker("plain", memory="much"), ResourcesSpec()).memory_gib is None
    assert room_of(worker("odd", None), ResourcesSpec()).memory_gib is None


def test_the_largest_that_takes_the_runs_is_chosen_unless_one_is_asked_for() -> None:
    workers = [worker("small", 24.0, labels=("lab",)), worker("large", 80.0), worker("host")]
    assert choose_room(workers, ResourcesSpec()).worker_id == "large"  # type: ignore[union-attr]
    assert choose_room(workers, ResourcesSpec(worker_label="lab")).worker_id == "small"  # type: ignore[union-attr]
    asked = choose_room(workers, ResourcesSpec(worker_label="lab"), "large")
    assert asked is not None and "'lab'" in asked.refusal
    assert choose_room(workers, ResourcesSpec(gpus=2)) is None
    assert choose_room(workers, ResourcesSpec(), "gone") is None
    two = choose_room(workers, ResourcesSpec(gpus=2), "host")
    assert two is not None and "2 GPUs and it has none" in two.refusal
    plan = plan_experiment(experiment(), DEMO, Assumed(prompt_tokens=9, completion_tokens=9), two)
    assert plan.warnings[0].startswith("worker host takes none of these runs: they need 2 GPUs")


def test_workers_that_are_silent_and_idle_are_not_there() -> None:
    silent = worker("silent").model_copy(update={"seen_at": NOW - timedelta(minutes=5)})
    busy = silent.model_copy(update={"id": "busy", "run_id": "run-1"})
    before_the_clock_was_set_back = silent.model_copy(update={"id": "early", "seen_at": NOW + timedelta(hours=1)})
    found = present([silent, busy, before_the_clock_was_set_back, worker("new")], NOW)
    assert [one.id for one in found] == ["busy", "new"]


def test_a_worker_last_heard_of_before_the_clock_was_set_back_is_not_there() -> None:
    early = worker("early").model_copy(update={"seen_at": NOW + timedelta(hours=1)})
    new = worker("new").model_copy(update={"seen_at": NOW + timedelta(seconds=2)})
    assert present([early, new], NOW) == [new]
    assert worker_row(early, None, NOW).badge.word == "silent"


# --- what the page shows ----------------------------------------------------------------------------


def test_the_fragment_escapes_names_and_says_what_is_unknown() -> None:
    assumed = Assumed(prompt_tokens=9, completion_tokens=9)
    room = Room(worker_id="<b>box</b>", on_gpu=False, memory_gib=1e-6)
    html = plan_fragment(plan_experiment(experiment(), DEMO, assumed, room), experiment())
    assert "<b>box" not in html and "&lt;b&gt;box" in html and "does not fit" in html
    unknown = plan_fragment(plan_experiment(experiment(), "its sizes are not known", assumed), experiment())
    assert "Its sizes are not known." in unknown and "<table" not in unknown


def test_full_stands_beside_budgets_that_lack_it() -> None:
    spec = experiment({"selector": "rpc", "fraction": 0.5})
    html = plan_fragment(plan_experiment(spec, DEMO, Assumed(prompt_tokens=9, completion_tokens=9)), spec)
    assert html.count("<tr") == 3 and "to compare with" in html
    assert RpcBudget().label in html


def test_a_biased_budget_is_hollow_in_the_plan_as_everywhere() -> None:
    spec = experiment({"selector": "full"}, {"selector": "truncate", "fraction": 0.5})
    html = plan_fragment(plan_experiment(spec, DEMO, Assumed(prompt_tokens=9, completion_tokens=9)), spec)
    assert ('class="dot c0"' in html, 'class="dot c1 hollow"' in html) == (True, True)
