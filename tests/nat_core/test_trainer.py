"""The loop end to end on small real models: events, resume, stop, failure."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from transformers import PreTrainedTokenizerFast

from nat_core.checkpoint_folder import list_checkpoints, verify_checkpoint
from nat_core.demo.task import random_chain
from nat_core.errors import CheckpointError
from nat_core.events import (
    AnyEvent,
    CheckpointEvent,
    EvaluationEvent,
    LogEvent,
    MetricsEvent,
    SampleEvent,
    StateEvent,
    parse_event,
)
from nat_core.model import Policy, load_policy
from nat_core.reward.sample import Sample, Verdict
from nat_core.reward.table import VERIFIERS, Kind
from nat_core.rollout import slots
from nat_core.spec import ModelSpec, ResourcesSpec, RunSpec
from nat_core.step_metrics import combined
from nat_core.trainer import Trainer, TrainResult, stream_seed
from tests.nat_core.builders import OUR_ROWS, WHOLE_SETS, needs_whole_gsm8k, run_spec, save_tiny_model


def demo_spec(**changes: object) -> RunSpec:
    """The demo at a size that trains a step in a second."""
    return run_spec(
        **{
            "data": {"type": "demo_arithmetic", "min_operations": 1, "max_operations": 3},
            "rollout": {"num_prompts": 4, "num_generations": 6, "max_completion_length": 32},
            "evaluation": {"num_prompts": 4, "num_samples": 2, "every": 0, "greedy": False},
            "optim": {"learning_rate": 1e-4},
            "resources": {"num_threads": 1},
            "steps": 3,
        }
        | changes
    )


def train(spec: RunSpec, folder: Path, **arguments: object) -> tuple[TrainResult, list[AnyEvent]]:
    events: list[AnyEvent] = []
    result = Trainer(spec, folder, sink=events.append, **arguments).train()  # type: ignore[arg-type]
    return result, events


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(folder / "checkpoints")[-1] / "model" / "model.safetensors")


def test_a_run_reports_every_step_and_ends_well(tmp_path: Path) -> None:
    result, events = train(demo_spec(evaluation={"num_prompts": 4, "num_samples": 2, "every": 0}), tmp_path)
    assert result == TrainResult("succeeded", 3)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [parse_event(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == events
    steps = [event for event in events if isinstance(event, MetricsEvent) and "reward" in event.values]
    assert [event.step for event in steps] == [1, 2, 3]
    assert isinstance(events[0], StateEvent) and events[0].hardware and events[0].hardware["threads"] == 1
    assert isinstance(events[-1], StateEvent) and events[-1].outcome == "succeeded"
    evaluations = [event for event in events if isinstance(event, EvaluationEvent)]
    assert [event.step for event in evaluations] == [0, 3]
    assert evaluations[0].accuracy == sum(evaluations[0].correct) / 8
    assert evaluations[0].accuracy_greedy in (0, 1 / 4, 2 / 4, 3 / 4, 1)
    for event in steps:
        tokens = event.values
        assert tokens["tokens/selected"] <= tokens["tokens/live"] <= tokens["tokens/generated"]  # type: ignore[operator]
        assert tokens["timing_s/forward_backward"] <= tokens["timing_s/update"] <= tokens["timing_s/step"]  # type: ignore[operator]


def test_samples_show_what_the_budget_did(tmp_path: Path) -> None:
    _, events = train(demo_spec(budget={"selector": "rpc", "fraction": 0.5}), tmp_path)
    samples = [event for event in events if isinstance(event, SampleEvent)]
    assert samples
    for sample in samples:
        count = len(sample.tokens)
        assert sample.logprobs is not None
        assert len(sample.keep) == len(sample.inclusion_prob) == len(sample.logprobs) == count
        assert max(sample.logprobs) <= 0
        assert sample.keep == sorted(sample.keep, reverse=True)  # a prefix
        assert sample.inclusion_prob == sorted(sample.inclusion_prob, reverse=True)
        assert sample.advantage != 0


def test_probing_the_gradient_changes_nothing_else(tmp_path: Path) -> None:
    budget = {"selector": "rpc", "law": "optimal"}
    _, plain = train(demo_spec(budget=budget), tmp_path / "plain")
    evaluation = {"num_prompts": 4, "num_samples": 2, "every": 0, "gradient_probe_every": 2}
    _, probed = train(demo_spec(budget=budget, evaluation=evaluation), tmp_path / "probed")

    def losses(events: list[AnyEvent]) -> list[float | None]:
        return [e.values["loss"] for e in events if isinstance(e, MetricsEvent)]

    assert losses(plain) == losses(probed)
    values = [event.values for event in probed if isinstance(event, MetricsEvent)]
    assert ["probe/cosine" in entry for entry in values] == [False, True, False]
    assert 0 < values[1]["probe/cosine"] < 1 and values[1]["probe/relative_variance"] > 0  # type: ignore[operator]


def test_long_completions_lose_reward_where_that_is_asked_for(tmp_path: Path) -> None:
    _, plain = train(demo_spec(steps=1), tmp_path / "plain")
    objective = {"overlong_buffer": 32, "overlong_penalty": 0.5}
    _, taken = train(demo_spec(steps=1, objective=objective), tmp_path / "taken")

    def first(events: list[AnyEvent]) -> dict[str, float | None]:
        return next(e.values for e in events if isinstance(e, MetricsEvent))

    mean_length = first(plain)["completions/mean_length"]
    assert mean_length == first(taken)["completions/mean_length"] and mean_length
    loss_of_reward = first(plain)["reward"] - first(taken)["reward"]  # type: ignore[operator]
    assert loss_of_reward == pytest.approx(0.5 * mean_length / 32, rel=1e-5)


def test_cells_of_a_seed_share_prompts_and_rollout_streams(tmp_path: Path) -> None:
    """Before the first update nothing may depend on the budget."""
    first = []
    for name in ("full", "urs", "truncate"):
        _, events = train(demo_spec(budget={"selector": name}, steps=1), tmp_path / name)
        values = next(e.values for e in events if isinstance(e, MetricsEvent) and "reward" in e.values)
        evaluation = next(e for e in events if isinstance(e, EvaluationEvent))
        first.append((values["reward"], values["tokens/generated"], evaluation.correct))
    assert first[0] == first[1] == first[2]
    assert stream_seed(0, "rollout", 1) != stream_seed(0, "rollout", 2) != stream_seed(1, "rollout", 2)


def test_kl_and_several_iterations_train(tmp_path: Path) -> None:
    spec = demo_spec(objective={"beta": 0.1, "num_iterations": 2, "loss_type": "grpo"}, steps=2)
    result, events = train(spec, tmp_path)
    assert result.outcome == "succeeded"
    last = [e.values for e in events if isinstance(e, MetricsEvent) and "kl" in e.values][-1]
    assert last["kl"] is not None and last["kl"] > 0


@pytest.mark.parametrize(
    ("num_iterations", "expected"),
    [(1, [2e-3, 4e-3, 4e-3, 2e-3]), (2, [3e-3, 4e-3 * (1 + 5 / 6) / 2, 4e-3 * 7 / 12, 4e-3 * 1 / 4])],
    ids=["one optimizer step", "two on each batch"],
)
def test_the_learning_rate_reported_is_the_one_the_step_was_made_with(
    tmp_path: Path, num_iterations: int, expected: list[float]
) -> None:
    optim = {"learning_rate": 4e-3, "lr_scheduler_type": "linear", "warmup_steps": 2}
    _, events = train(demo_spec(steps=4, optim=optim, objective={"num_iterations": num_iterations}), tmp_path)
    told = [event.values["learning_rate"] for event in events if isinstance(event, MetricsEvent)]
    assert told == pytest.approx(expected)


def test_a_failure_is_the_last_event_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Sample) -> Verdict:
        raise ZeroDivisionError("no units")

    monkeypatch.setitem(VERIFIERS, "exact_match", Kind(lambda _: broken))
    result, events = train(demo_spec(), tmp_path)
    assert result.outcome == "failed" and result.reason == "reward" and "ZeroDivisionError" in str(result.message)
    assert isinstance(events[-1], StateEvent) and events[-1].reason == "reward"


def test_memory_that_sampling_lacks_is_not_blamed_on_the_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    monkeypatch.setattr(slots, "sample", too_much)
    result, _ = train(demo_spec(), tmp_path)
    assert result.reason == "oom" and "tried to allocate 9 GiB" in str(result.message)
    assert "lower rollout.max_batch_size" in str(result.message) and "microbatch" not in str(result.message)


def cramped(share: float) -> Callable[..., Policy]:
    """Loads a model on what stands in for a device: with room for this share of the first training pass."""

    def load(model: ModelSpec, resources: ResourcesSpec) -> Policy:
        policy, sizes = load_policy(model, resources), []

        def check(module: torch.nn.Module, args: object, given: dict[str, torch.Tensor]) -> None:
            if torch.is_grad_enabled():
                sizes.append(given["input_ids"].numel())
                if sizes[-1] > share * sizes[0]:
                    raise torch.OutOfMemoryError("tried to allocate more")

        policy.model.get_decoder().register_forward_pre_hook(check, with_kwargs=True)
        return policy

    return load


def test_a_step_that_does_not_fit_is_halved_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nat_core.trainer.load_policy", cramped(0.6))
    result, events = train(demo_spec(steps=1), tmp_path)
    assert result == TrainResult("succeeded", 1)
    (warning,) = (event for event in events if isinstance(event, LogEvent) and event.level == "warning")
    assert re.search(
        r"out of memory with micro-batches of \d+ tokens; the step was done over with \d+", warning.message
    )


def test_a_step_whose_half_does_not_fit_ends_the_run_as_oom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nat_core.trainer.load_policy", cramped(0.1))
    result, events = train(demo_spec(steps=1), tmp_path)
    assert (result.outcome, result.reason, result.steps) == ("failed", "oom", 0)
    assert re.search(r"micro-batches of \d+ tokens and again with \d+ .*max_tokens_per_microbatch", str(result.message))
    assert isinstance(events[-1], StateEvent) and events[-1].reason == "oom" and events[-1].message == result.message


def test_the_log_says_what_was_chosen_for_device_and_model(tmp_path: Path) -> None:
    _, events = train(demo_spec(steps=1), tmp_path)
    said = [event.message for event in events if isinstance(event, LogEvent)]
    assert any(message.startswith("demo: ") and " in float32 on cpu, budget " in message for message in said)
    packed = "rows packed without padding, a group's prompt once; attention over sequences one by one"
    assert f"micro-batches: {packed}" in said and "rollouts: no row waits for another" in said


def test_a_prompt_over_the_limit_is_a_clear_error(tmp_path: Path) -> None:
    spec = demo_spec(rollout={"num_prompts": 1, "num_generations": 2, "max_prompt_length": 2})
    result, events = train(spec, tmp_path)
    assert result.reason == "bad_spec" and "rollout.max_prompt_length is 2" in str(result.message)
    assert result.steps == 0 and not any(isinstance(event, EvaluationEvent) for event in events)


def demo_rows(path: Path, *lengths: int) -> str:
    """A file of demo prompts with so many operations each."""
    chains = [random_chain(random.Random(i), n, n) for i, n in enumerate(lengths)]
    path.write_text("".join(json.dumps({"question": c.prompt, "answer": c.answer}) + "\n" for c in chains))
    return str(path)


def test_a_long_row_ends_the_run_before_its_first_step_or_is_skipped_and_told(tmp_path: Path) -> None:
    data = {"type": "jsonl", "path": demo_rows(tmp_path / "rows.jsonl", 2, 1, 9, 2, 1, 2, 1, 2)}
    rollout = {"num_prompts": 4, "num_generations": 2, "max_completion_length": 8, "max_prompt_length": 12}
    spec = demo_spec(data=data, rollout=rollout, evaluation={"num_prompts": 2, "num_samples": 1, "every": 0}, steps=1)
    result, events = train(spec, tmp_path / "fail")
    assert result.reason == "data" and "line 3 has a prompt of 29 tokens" in str(result.message), result
    assert not any(isinstance(event, EvaluationEvent | MetricsEvent) for event in events)
    skipping = spec.model_copy(update={"data": spec.data.model_copy(update={"on_bad_row": "skip"})})
    result, events = train(skipping, tmp_path / "skip")
    assert result.outcome == "succeeded", result.message
    told = [event.message for event in events if isinstance(event, LogEvent) and event.level == "warning"]
    assert any("1 rows were skipped" in message and "line 3" in message for message in told), told


def test_named_sets_are_answered_too_and_change_nothing_else(tmp_path: Path) -> None:
    easy = {"type": "demo_arithmetic", "min_operations": 1, "max_operations": 1}
    letters = {"type": "format", "pattern": "#"}
    sets = {
        "easy": {"data": easy, "num_prompts": 5, "num_samples": 3},
        "rows": {"data": {"type": "jsonl", "path": demo_rows(tmp_path / "rows.jsonl", 1, 2)}, "reward": letters},
    }
    _, plain = train(demo_spec(steps=2), tmp_path / "plain")
    evaluation = {"num_prompts": 4, "num_samples": 2, "every": 0, "sets": sets}
    _, asked = train(demo_spec(steps=2, evaluation=evaluation), tmp_path / "asked")

    def evaluations(events: list[AnyEvent]) -> list[EvaluationEvent]:
        return [event for event in events if isinstance(event, EvaluationEvent)]

    def losses(events: list[AnyEvent]) -> list[float | None]:
        return [event.values["loss"] for event in events if isinstance(event, MetricsEvent)]

    assert losses(plain) == losses(asked)
    assert [e.correct for e in evaluations(plain)] == [e.correct for e in evaluations(asked)]
    for event in evaluations(asked):
        assert set(event.sets) == {"easy", "rows"} and evaluations(plain)[0].sets == {}
        assert (event.sets["easy"].num_prompts, event.sets["easy"].num_samples) == (5, 3)
        assert (event.sets["rows"].num_prompts, event.sets["rows"].num_samples) == (2, 2)
        assert event.sets["easy"].majority_at_k is not None and event.sets["rows"].majority_at_k is None
        assert event.accuracy_low is not None and event.accuracy_low <= event.accuracy <= event.accuracy_high  # type: ignore[operator]
        assert event.pass_at_k is not None and event.pass_at_k >= event.accuracy == event.pass_at[1]


def test_rewards_scored_in_other_processes_train_as_the_same_ones_scored_here(tmp_path: Path) -> None:
    _, here = train(demo_spec(steps=2), tmp_path / "here")
    reward = {"type": "sum", "parts": [{"reward": {"type": "math_verify"}}]}
    _, apart = train(demo_spec(steps=2, reward=reward), tmp_path / "apart")

    def numbers(events: list[AnyEvent]) -> list[tuple[float | None, float | None]]:
        return [(e.values["reward"], e.values["loss"]) for e in events if isinstance(e, MetricsEvent)]

    assert numbers(here) == numbers(apart)
    scoring = [child for child in psutil.Process().children() if "nat_core.reward.worker" in " ".join(child.cmdline())]
    assert not scoring


def test_checkpoints_are_pruned_and_damage_is_found(tmp_path: Path) -> None:
    train(demo_spec(steps=3, checkpoint={"every": 1, "keep": 2}), tmp_path)
    kept = list_checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in kept] == ["step-00000002", "step-00000003"]
    verify_checkpoint(kept[-1])
    file = kept[-1] / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors is not what was written"):
        verify_checkpoint(kept[-1])


def test_a_checkpoint_loads_as_a_plain_model_directory(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    _, events = train(demo_spec(steps=1), tmp_path)
    saved = next(event for event in events if isinstance(event, CheckpointEvent))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / saved.path / "model")
    expected = weights(tmp_path)
    assert all(model.state_dict()[name].equal(tensor) for name, tensor in expected.items())


def real_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained here, the kind real models carry."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    special = ["<pad>", "<eos>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


@pytest.mark.parametrize(
    "rows",
    [OUR_ROWS, pytest.param(WHOLE_SETS / "gsm8k" / "train.jsonl", marks=needs_whole_gsm8k)],
    ids=["our rows", "whole GSM8K"],
)
def test_a_model_directory_and_gsm8k_rows_train_two_steps(rows: Path, tmp_path: Path) -> None:
    texts = [" ".join(json.loads(line).values()) for line in OUR_ROWS.read_text().splitlines()]
    model = save_tiny_model(tmp_path / "model", real_tokenizer(texts))
    spec = run_spec(
        model={"path": str(model)},
        data={"type": "jsonl", "path": str(rows), "prompt_template": "Question: {prompt}\nAnswer:"},
        # A random model never finds the number; its last vowel is the reference's often enough to learn from.
        reward={"answer_pattern": "([aeiou])"},
        rollout={"num_prompts": 2, "num_generations": 8, "max_completion_length": 24},
        evaluation={"num_prompts": 2, "num_samples": 2, "every": 0},
        optim={"learning_rate": 1e-3},
        budget={"selector": "rpc", "fraction": 0.5},
        resources={"num_threads": 1},
        steps=2,
    )
    result, events = train(spec, tmp_path / "run")
    assert result.outcome == "succeeded", result.message
    steps = [event.values for event in events if isinstance(event, MetricsEvent) and "reward" in event.values]
    assert len(steps) == 2 and all(values["tokens/selected"] for values in steps)
    before = load_file(model / "model.safetensors")
    assert any(not tensor.equal(before[name]) for name, tensor in weights(tmp_path / "run").items())


def test_combined_adds_work_and_averages_the_rest() -> None:
    stats = [
        {"tokens/selected": 3.0, "loss": 1.0, "perf/peak_memory_gib": 2.0},
        {"tokens/selected": 5.0, "loss": 2.0, "perf/peak_memory_gib": 1.0, "entropy": 0.5},
    ]
    assert combined(stats) == {"tokens/selected": 8.0, "loss": 1.5, "perf/peak_memory_gib": 2.0, "entropy": 0.5}


def test_checkpoints_come_by_time_too(tmp_path: Path) -> None:
    _, often = train(demo_spec(checkpoint={"every_s": 1e-6, "keep": 1}), tmp_path / "often")
    _, never = train(demo_spec(checkpoint={"every_s": 0}), tmp_path / "never")
    assert [event.step for event in often if isinstance(event, CheckpointEvent)] == [1, 2, 3]
    assert [event.step for event in never if isinstance(event, CheckpointEvent)] == [3]
