"""vLLM in the trainer's process, a real engine: the trainer's own model, before and after its weights change.

It starts from another run's export, so that nothing it ever says by itself is what the trainer would say.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from nat_core.data import open_source
from nat_core.errors import RolloutError
from nat_core.evaluate import Evaluator
from nat_core.interrupt import Interrupted
from nat_core.model import Policy
from nat_core.reward import Scorer
from nat_core.rollout import vllm
from nat_core.rollout.completion import Sampling
from nat_core.rollout.hf import HfEngine
from nat_core.rollout.vllm import ColocatedEngine
from tests.vllm.builders import (
    LENGTH,
    exported,
    greedy,
    greedy_by_hf,
    greedy_by_transformers,
    logprobs,
    policy_of,
    prompts_of,
    sampled,
    shake,
    vllm_spec,
)

SPEC = vllm_spec()


class Stop:
    """Asks for a stop at a turn of the engine, where one is set."""

    def __init__(self) -> None:
        self.turns, self.at = 0, -1

    def __call__(self) -> None:
        self.turns += 1
        if self.turns == self.at:
            raise Interrupted


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policy_of(SPEC)


@pytest.fixture(scope="module")
def stop() -> Stop:
    return Stop()


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def running(export: Path, policy: Policy, stop: Stop) -> Iterator[ColocatedEngine]:
    engine = ColocatedEngine(vllm_spec(model={"path": str(export)}), policy, stop, lambda message: None)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def as_loaded(running: ColocatedEngine, policy: Policy) -> list[list[int]]:
    """Greedy tokens of the weights that vLLM read itself, before it is given any."""
    running._stale = False
    try:
        return greedy(running, prompts_of(SPEC, policy))
    finally:
        running.rest()


@pytest.fixture
def engine(running: ColocatedEngine, as_loaded: list[list[int]], policy: Policy) -> Iterator[ColocatedEngine]:
    """As it was before each test, weights included."""
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    yield running
    policy.model.load_state_dict(before)
    running.rest()


def test_an_exported_model_says_in_vllm_what_it_says_in_transformers(
    export: Path, as_loaded: list[list[int]], policy: Policy
) -> None:
    prompts = prompts_of(SPEC, policy)
    assert as_loaded == greedy_by_transformers(export, prompts)
    assert as_loaded != greedy_by_hf(policy, prompts)  # it is the trained one


def test_greedy_tokens_are_those_of_the_hugging_face_engine(engine: ColocatedEngine, policy: Policy) -> None:
    prompts = prompts_of(SPEC, policy)
    found = greedy(engine, prompts)
    assert found == greedy_by_hf(policy, prompts)
    assert len({tuple(ids) for ids in found}) == len(prompts)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_rollout_logprobs_are_the_trainers_at_the_sampling_temperature(
    engine: ColocatedEngine, policy: Policy, temperature: float
) -> None:
    prompts = prompts_of(SPEC, policy)
    for prompt, group in zip(prompts, sampled(engine, prompts, temperature=temperature), strict=True):
        for one in group:
            ours = logprobs(policy, prompt, one.ids, temperature)
            assert one.logprobs == pytest.approx(ours.tolist(), abs=1e-3)


def test_every_prompt_gets_its_group_and_completions_end_where_the_model_does(
    engine: ColocatedEngine, policy: Policy
) -> None:
    prompts = prompts_of(SPEC, policy)
    groups = sampled(engine, prompts, temperature=1.5, count=6)
    assert [len(group) for group in groups] == [6] * len(prompts)
    for one in (one for group in groups for one in group):
        assert 1 <= len(one.ids) <= LENGTH and len(one.logprobs) == len(one.ids)
        assert one.truncated == (one.ids[-1] not in policy.eos_ids)
        assert not policy.eos_ids & set(one.ids[:-1])
    assert all(len({tuple(one.ids) for one in group}) > 1 for group in groups)  # siblings have seeds of their own
    short = engine.generate(prompts, Sampling(1, 3, 1.0, seed=0))
    assert [(len(one.ids), one.truncated) for [one] in short] == [(3, True)] * len(prompts)


def test_greedy_completions_carry_no_logprobs(engine: ColocatedEngine, policy: Policy) -> None:
    groups = engine.generate(prompts_of(SPEC, policy), Sampling(1, 4, None, seed=0))
    assert {tuple(one.logprobs) for group in groups for one in group} == {()}


def test_the_seed_fixes_the_sample_and_leaves_other_streams_alone(engine: ColocatedEngine, policy: Policy) -> None:
    prompts = prompts_of(SPEC, policy)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first = sampled(engine, prompts)
    assert torch.rand(1).equal(expected)

    def ids(groups: list[list[Any]]) -> list[list[int]]:
        return [one.ids for group in groups for one in group]

    assert ids(sampled(engine, prompts)) == ids(first) != ids(sampled(engine, prompts, seed=2))


def test_new_weights_are_sampled_from_after_a_sync_and_not_before(engine: ColocatedEngine, policy: Policy) -> None:
    prompts = prompts_of(SPEC, policy)
    old = greedy(engine, prompts)
    shake(policy)
    new = greedy_by_hf(policy, prompts)
    assert greedy(engine, prompts) == old != new
    engine.rest()
    assert greedy(engine, prompts) == new
    for prompt, group in zip(prompts, sampled(engine, prompts), strict=True):
        ours = logprobs(policy, prompt, group[0].ids, 1.0)
        assert group[0].logprobs == pytest.approx(ours.tolist(), abs=1e-3)


def test_adapters_are_sampled_with_and_the_trainers_weights_stay(
    engine: ColocatedEngine, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = vllm_spec(model={"lora": {"r": 4}})
    adapted = policy_of(spec)
    prompts = prompts_of(spec, adapted)
    monkeypatch.setattr(vllm, "_start", lambda *_: engine._llm)  # the same engine, another policy's
    other = ColocatedEngine(spec, adapted, lambda: None, lambda message: None)
    plain = greedy(other, prompts)
    assert plain == greedy_by_hf(policy, prompts)  # fresh adapters add nothing
    for _ in range(2):
        shake(adapted, 0.1)
        before = {name: tensor.clone() for name, tensor in adapted.model.state_dict().items()}
        other.rest()
        new = greedy(other, prompts)
        assert new == greedy_by_hf(adapted, prompts) != plain
        assert all(tensor.equal(before[name]) for name, tensor in adapted.model.state_dict().items())
        for prompt, group in zip(prompts, sampled(other, prompts), strict=True):
            ours = logprobs(adapted, prompt, group[0].ids, 1.0)
            assert group[0].logprobs == pytest.approx(ours.tolist(), abs=1e-3)
        plain = new


def test_a_prompt_is_computed_once_until_the_weights_change(
    engine: ColocatedEngine, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached: list[int] = []
    completions = engine._completions
    monkeypatch.setattr(
        engine, "_completions", lambda output: (cached.append(output.num_cached_tokens), completions(output))[1]
    )
    [prompt] = prompts_of(SPEC, policy, 1)
    long = [(prompt * 300)[:300]]
    first = greedy(engine, long)
    assert greedy(engine, long) == first
    engine.rest()
    assert greedy(engine, long) == first
    assert cached[0] == cached[2] == 0 < cached[1] <= 300


def test_a_stop_ends_a_rollout_in_the_middle_and_the_engine_goes_on(
    engine: ColocatedEngine, policy: Policy, stop: Stop
) -> None:
    prompts = prompts_of(SPEC, policy)
    expected = greedy(engine, prompts)
    stop.at = stop.turns + 5
    with pytest.raises(Interrupted):
        sampled(engine, prompts)
    assert greedy(engine, prompts) == expected


def test_an_engine_with_other_weights_is_found_out(engine: ColocatedEngine, policy: Policy) -> None:
    prompts = prompts_of(SPEC, policy)
    greedy(engine, prompts)  # which brings the weights
    shake(policy, 0.2)
    with pytest.raises(RolloutError, match="differ from the trainer's"):
        sampled(engine, prompts)


def test_an_evaluation_by_vllm_says_what_the_trainers_own_model_says(engine: ColocatedEngine, policy: Policy) -> None:
    spec = vllm_spec(
        data={"type": "demo_arithmetic", "min_operations": 4, "max_operations": 8},
        rollout={"max_completion_length": 96},
        evaluation={"num_prompts": 16, "num_samples": 4},
    )
    shake(policy, 0.013)  # so that it is often wrong, and not always
    engine.rest()
    with closing(Evaluator(spec, open_source(spec.data, 16), Scorer(spec.reward), lambda message: None)) as evaluator:
        own, _ = evaluator.evaluate(policy, engine, 3)
        expected, _ = evaluator.evaluate(policy, HfEngine(policy, 64), 3)
    assert own.accuracy_greedy == expected.accuracy_greedy and 0 < expected.accuracy_greedy < 1
    assert abs(own.accuracy - expected.accuracy) < 0.3  # other random numbers, the same distribution
    assert own.accuracy_low < own.accuracy < own.accuracy_high  # type: ignore[operator]
    assert own.pass_at.keys() == {1, 2, 4} and own.pass_at[1] == pytest.approx(own.accuracy)
    assert own.majority_at_k is not None


def test_the_engine_runs_in_the_trainers_process(engine: ColocatedEngine) -> None:
    """So that nothing of it outlives a trainer that is killed."""
    assert not [child for child in psutil.Process().children(recursive=True) if "Engine" in " ".join(child.cmdline())]


def test_the_threads_are_left_as_the_trainer_set_them(engine: ColocatedEngine, tmp_path: Path) -> None:
    assert torch.get_num_threads() == 1
    assert len(psutil.Process().cpu_affinity()) == psutil.cpu_count()
