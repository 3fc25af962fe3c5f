"""The loss and every gradient against TRL's own `GRPOTrainer._compute_loss`, on the same tensors and weights.

TRL pads prompts on the left and completions on the right and makes everything at once; ours cuts, sorts and splits.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from nat_core.drawing import Step
from nat_core.gradient import accumulate_gradient
from nat_core.model import Policy
from nat_core.spec import RunSpec
from nat_core.token_selection import select_tokens
from tests.nat_core.builders import batch, gradients, run_spec, tiny_policy

BATCH = batch([5, 3, 6, 4], [7, 12, 1, 9], [0.5, -1.0, 0.8, -0.3], [False, True, False, False])
LIMIT = 12
WIDTH = int(BATCH.lengths.max())

# (our objective, TRL's arguments)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dapo": ({}, {"loss_type": "dapo"}),
    "grpo": ({"loss_type": "grpo"}, {"loss_type": "grpo"}),
    "dr_grpo": ({"loss_type": "dr_grpo"}, {"loss_type": "dr_grpo"}),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 1.2}, {"loss_type": "cispo", "epsilon_high": 1.2}),
    "gspo": ({"loss_type": "gspo"}, {"loss_type": "grpo", "importance_sampling_level": "sequence"}),
    "delta": ({"delta": 1.4}, {"loss_type": "dapo", "delta": 1.4}),
    "entropy bonus": ({"entropy_coef": 0.1}, {"loss_type": "dapo", "entropy_coef": 0.1}),
    "entropy bonus, grpo": (
        {"loss_type": "grpo", "entropy_coef": 0.1},
        {"loss_type": "grpo", "entropy_coef": 0.1},
    ),
}
for _name in ("dapo", "gspo"):
    CASES[f"{_name}, KL with ratio"] = (CASES[_name][0] | {"use_bias_correction_kl": True}, CASES[_name][1])
for _name in ("dapo", "grpo", "dr_grpo", "cispo"):
    CASES[f"{_name}, truncated masked"] = (
        CASES[_name][0] | {"mask_truncated_completions": True},
        CASES[_name][1] | {"mask_truncated_completions": True},
    )


def other_logprobs(seed: int) -> torch.Tensor:
    """How far another policy's log-probabilities are from ours: enough for the clip to decide some tokens."""
    return torch.randn(len(BATCH.completions), WIDTH, generator=torch.Generator().manual_seed(seed)) * 0.4


def logprobs_of(policy: Policy, spec: RunSpec) -> torch.Tensor:
    """Every completion token's log-probability, one plain sequence at a time."""
    rows = []
    for prompt, completion in zip(BATCH.prompts, BATCH.completions, strict=True):
        logits = policy.model(input_ids=torch.cat([prompt, completion]).unsqueeze(0)).logits[0]
        scaled = torch.log_softmax(logits / spec.rollout.temperature, -1)[len(prompt) - 1 : -1]
        rows.append(scaled.gather(1, completion.unsqueeze(1)).squeeze(1))
    return pad_sequence(rows, batch_first=True).detach()


def ours(policy: Policy, spec: RunSpec, old: torch.Tensor, reference: Policy | None) -> tuple[float, torch.Tensor]:
    live = BATCH.live(spec)
    rows = BATCH.rows(live)
    selection = select_tokens(spec.budget, rows.lengths, generator=torch.Generator())
    step = Step(live, rows, BATCH.totals(spec), selection, old[live][:, : int(rows.lengths.max())])
    loss = accumulate_gradient(policy, reference, step, spec).sums["loss"]
    return loss, gradients(policy)


def theirs(
    policy: Policy, spec: RunSpec, arguments: dict[str, Any], old: torch.Tensor, ref: torch.Tensor | None, folder: Path
) -> tuple[float, torch.Tensor]:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    settings = {"epsilon": 0.2, "epsilon_high": 0.28} | arguments
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=GRPOConfig(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=LIMIT,
            temperature=spec.rollout.temperature,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            disable_dropout=True,
            use_bias_correction_kl=spec.objective.use_bias_correction_kl,
            **settings,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["1"] * 4}),
        processing_class=policy.tokenizer,
    )
    trainer.beta = spec.objective.beta  # set late: with beta it would fetch the reference from a hub by name
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    inputs = trl_inputs(spec, old, ref)
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in trainer.model.parameters()])  # type: ignore[union-attr]


def trl_inputs(spec: RunSpec, old: torch.Tensor, ref: torch.Tensor | None) -> dict[str, Any]:
    completion_mask = (torch.arange(WIDTH) < BATCH.lengths.unsqueeze(1)).long()
    if spec.objective.mask_truncated_completions:
        completion_mask = completion_mask * (~BATCH.truncated).long().unsqueeze(1)  # as TRL does it after sampling
    inputs: dict[str, Any] = {
        "prompt_ids": pad_sequence(BATCH.prompts, batch_first=True, padding_side="left"),
        "prompt_mask": pad_sequence([torch.ones_like(p) for p in BATCH.prompts], batch_first=True, padding_side="left"),
        "completion_ids": pad_sequence(BATCH.completions, batch_first=True),
        "completion_mask": completion_mask,
        "advantages": BATCH.advantages.float(),
        "old_per_token_logps": old,
        "num_items_in_batch": completion_mask.sum(),
    }
    return inputs if ref is None else inputs | {"ref_per_token_logps": ref}


@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_are_trls(name: str, beta: float, tmp_path: Path) -> None:
    objective, arguments = CASES[name]
    spec = run_spec(
        budget={"selector": "full"},
        objective={"epsilon_high": 0.28, "beta": beta} | objective,
        rollout={"max_completion_length": LIMIT, "temperature": 0.8},
        resources={"max_tokens_per_microbatch": 24, "logprob_chunk_tokens": 3},
    )
    policy, reference = tiny_policy(0, torch.float32), tiny_policy(1, torch.float32)
    old = logprobs_of(policy, spec) + other_logprobs(2)
    theirs_policy = Policy(copy.deepcopy(policy.model), policy.tokenizer, policy.device, policy.spec)
    loss, gradient = ours(policy, spec, old, reference if beta else None)
    ref = logprobs_of(reference, spec) if beta else None
    trl_loss, trl_gradient = theirs(theirs_policy, spec, arguments, old, ref, tmp_path)
    assert loss == pytest.approx(trl_loss, rel=1e-5, abs=1e-6)
    assert float(trl_gradient.norm()) > 1e-3
    assert float((gradient - trl_gradient).norm()) <= 1e-5 * float(trl_gradient.norm())
