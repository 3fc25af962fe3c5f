"""One rank of `test_ranks.py`: the gradient and metrics of steps, and completions, written by the first rank.

Run as `python -m tests.nat_core.gradient_on_ranks FILE`, by itself or under torchrun.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch

from nat_core.model import Policy
from nat_core.ranks import Ranks, full, join
from nat_core.rollout.completion import Sampling
from nat_core.rollout.hf import generate
from nat_core.sharding import shard
from nat_core.spec import ResourcesSpec, RunSpec
from nat_core.token_selection import GradientMass
from nat_core.update import update_on_batch
from tests.nat_core.builders import Attention, batch, run_spec, tiny_policy

ROWS = batch(
    [5, 5, 5, 3, 3, 3, 6, 6, 6],
    [7, 12, 1, 9, 4, 15, 2, 8, 11],
    [0.5, -1.0, 0.8, 0.4, -0.3, 1.5, 0.0, -0.7, 0.2],
)
for start in (0, 3, 6):  # completions of one prompt have that prompt
    ROWS.prompts[start : start + 3] = [ROWS.prompts[start]] * 3
ROWS.rollout_logprobs.extend(-torch.linspace(0.01, 3, int(n)).cos().abs() for n in ROWS.lengths)

BUDGETS: dict[str, dict[str, Any]] = {
    "full": {"selector": "full"},
    "urs": {"selector": "urs", "fraction": 0.4},
    "rpc": {"selector": "rpc", "fraction": 0.5, "law": "linear"},
    "optimal": {"selector": "rpc", "fraction": 0.4, "law": "optimal"},
    "importance": {"selector": "importance", "fraction": 0.5},
    "few": {"selector": "completions", "fraction": 0.3},  # some rank has nothing to do
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "plain": {},
    "kl, old": {"beta": 0.1, "num_iterations": 2, "rollout_is": "token", "loss_type": "grpo", "epsilon": 0.01},
}
LAYOUTS: dict[str, Attention] = {"packed": "sdpa", "padded": "eager", "recomputed": "sdpa"}


def spec_of(budget: str, objective: str) -> RunSpec:
    return run_spec(
        budget=BUDGETS[budget],
        objective=OBJECTIVES[objective],
        rollout={"max_completion_length": 16, "temperature": 0.8},
        resources={"max_tokens_per_microbatch": 24, "logprob_chunk_tokens": 3},
        optim={"max_grad_norm": 0.5},
    )


def cases() -> list[str]:
    """What is tried together."""
    found = [f"{layout}/{budget}/plain" for layout in ("packed", "padded") for budget in BUDGETS]
    found += [f"{layout}/{budget}/kl, old" for layout in ("packed", "padded") for budget in ("rpc", "optimal")]
    return [*found, "recomputed/full/plain", "recomputed/rpc/kl, old"]


def policy_of(layout: str, seed: int = 0, tied: bool = False) -> Policy:
    policy = tiny_policy(seed, attention=LAYOUTS[layout], tied=tied)
    if layout == "recomputed":
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        policy.model.train()
    return policy


def step(ranks: Ranks, case: str) -> dict[str, Any]:
    """Metrics, the clipped gradient, the weights after a step, and what the law learned."""
    layout, budget, objective = case.split("/")
    spec, tied = spec_of(budget, objective), budget == "rpc"
    policy = shard(policy_of(layout, tied=tied), ranks)
    reference = shard(policy_of(layout, 1, tied), ranks) if spec.objective.beta else None
    assert policy.layout == ("padded" if layout == "padded" else "packed")
    optimizer = torch.optim.AdamW(policy.parameters, lr=1e-2, fused=True)
    law = GradientMass()
    stats = update_on_batch(
        policy,
        optimizer,
        copy.deepcopy(ROWS),
        spec,
        generator=torch.Generator().manual_seed(5),
        reference=reference,
        law_state=law,
    )
    return {
        "metrics": [{k: v for k, v in entry.metrics.items() if not k.startswith("timing")} for entry in stats],
        "gradient": flat([parameter.grad for parameter in policy.parameters]),  # type: ignore[misc]
        "weights": flat([parameter.detach() for parameter in policy.parameters]),
        "law": law.state_dict()["estimate"],
    }


def flat(tensors: list[torch.Tensor]) -> list[float]:
    return [float(x) for tensor in tensors for x in full(tensor).flatten()]


def completions(ranks: Ranks, layout: str) -> list[list[list[int]]]:
    policy = shard(policy_of(layout), ranks)
    prompts = [[2, 3, 4], [5, 6], [7, 8, 9, 10], [3], [4, 4]]
    groups = generate(policy, prompts, Sampling(3, 9, 1.0, seed=11), max_batch_size=4)
    return [[completion.ids for completion in group] for group in groups]


def everything(ranks: Ranks) -> dict[str, Any]:
    sampled = {layout: completions(ranks, layout) for layout in LAYOUTS}
    return {"steps": {case: step(ranks, case) for case in cases()}, "completions": sampled}


def main(path: Path) -> None:
    ranks = join(ResourcesSpec())
    found = ranks.share(everything(ranks))
    if ranks.leads:
        path.write_text(json.dumps(found))
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
