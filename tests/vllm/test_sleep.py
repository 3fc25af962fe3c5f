"""Sleep and wake on a GPU: memory given back for the update, and the right weights after it."""

from __future__ import annotations

import torch

from nat_core.rollout.vllm import ColocatedEngine
from tests.vllm.builders import greedy, greedy_by_hf, policy_of, prompts_of, shake, vllm_spec


def free_gib() -> float:
    return torch.cuda.mem_get_info()[0] / 2**30


def test_memory_is_free_during_the_update_and_the_new_weights_are_there_after_it() -> None:
    spec = vllm_spec(resources={"device": "cuda"}, rollout={"vllm_gpu_memory_utilization": 0.3})
    policy = policy_of(spec)
    prompts = prompts_of(spec, policy)
    engine = ColocatedEngine(spec, policy, lambda: None, lambda message: None)
    try:
        assert greedy(engine, prompts) == greedy_by_hf(policy, prompts)
        awake = free_gib()
        for _ in range(2):
            engine.rest()
            total = torch.cuda.mem_get_info()[1] / 2**30
            assert free_gib() - awake > 0.2 * total
            shake(policy)
            assert greedy(engine, prompts) == greedy_by_hf(policy, prompts)
            assert abs(free_gib() - awake) < 0.05 * total
    finally:
        engine.close()
