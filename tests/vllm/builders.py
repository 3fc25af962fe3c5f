"""Specs, policies and prompts for tests of vLLM, and what Hugging Face's own passes say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from nat_core.data import open_source
from nat_core.model import Policy, load_policy
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.engine import Engine, open_engine
from nat_core.rollout.hf import HfEngine
from nat_core.spec import RunSpec
from nat_core.trainer import Trainer, TrainResult
from tests.nat_core.builders import run_spec

LENGTH = 48


def vllm_spec(**changes: object) -> RunSpec:
    """The demo with rollouts by vLLM, at a size that trains a step in seconds."""
    rollout = {"engine": "vllm", "num_prompts": 8, "num_generations": 4, "max_completion_length": LENGTH}
    return run_spec(
        **{
            "rollout": rollout | dict(changes.pop("rollout", {})),  # type: ignore[call-overload]
            "data": {"type": "demo_arithmetic", "min_operations": 1, "max_operations": 3},
            "evaluation": {"num_prompts": 4, "num_samples": 2, "every": 0},
            "optim": {"learning_rate": 1e-3},
            "resources": {"num_threads": 1},
            "steps": 3,
        }
        | changes
    )


def policy_of(spec: RunSpec) -> Policy:
    return load_policy(spec.model, spec.resources)


def opened(spec: RunSpec, policy: Policy, folder: Path, between: Callable[[], None] = lambda: None) -> Engine:
    return open_engine(spec, policy, folder, between, lambda message: None)


def prompts_of(spec: RunSpec, policy: Policy, count: int = 8) -> list[list[int]]:
    source = open_source(spec.data, spec.evaluation.num_prompts)
    return [policy.encode(example) for example in source.training_batch(0, 0, count)]


def greedy(engine: Engine, prompts: list[list[int]]) -> list[list[int]]:
    groups = engine.generate(prompts, Sampling(1, LENGTH, None, seed=0))
    return [group[0].ids for group in groups]


def greedy_by_hf(policy: Policy, prompts: list[list[int]]) -> list[list[int]]:
    return greedy(HfEngine(policy, 64), prompts)


def greedy_by_transformers(folder: Path, prompts: list[list[int]]) -> list[list[int]]:
    """What anyone gets who loads the folder, natlab left out."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    found = [model.generate(torch.tensor([p]), do_sample=False, max_new_tokens=LENGTH)[0].tolist() for p in prompts]
    return [ids[len(prompt) :] for ids, prompt in zip(found, prompts, strict=True)]


def exported(folder: Path, **model: object) -> Path:
    """The model of a run of one large step, as `natlab export-model` writes it."""
    spec = vllm_spec(model=model, rollout={"engine": "hf"}, optim={"learning_rate": 1e-2}, steps=1)
    assert Trainer(spec, folder / "run").train() == TrainResult("succeeded", 1)
    command = [sys.executable, "-m", "client", "export-model", str(folder / "run"), str(folder / "exported")]
    subprocess.run(command, check=True)
    return folder / "exported"


def sampled(
    engine: Engine, prompts: list[list[int]], *, seed: int = 1, temperature: float = 1.0, count: int = 4
) -> list[list[Completion]]:
    return engine.generate(prompts, Sampling(count, LENGTH, temperature, seed=seed))


@torch.no_grad()
def logprobs(policy: Policy, prompt: list[int], ids: list[int], temperature: float) -> torch.Tensor:
    """The policy's own, of each token: Float [T]."""
    logits = policy.model(input_ids=torch.tensor([prompt + ids], device=policy.device)).logits[0].float() / temperature
    rows = torch.log_softmax(logits, -1)[len(prompt) - 1 : -1]
    return rows.gather(1, torch.tensor(ids, device=policy.device).unsqueeze(1)).squeeze(1).cpu()


@torch.no_grad()
def shake(policy: Policy, by: float = 0.02) -> None:
    """Change every weight, as an update would, and more."""
    generator = torch.Generator().manual_seed(3)
    for parameter in policy.parameters:
        parameter += by * torch.randn(parameter.shape, generator=generator).to(parameter.device)
