"""What every way of sampling completions offers the trainer, and which of them a spec asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from nat_core.model import Policy
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.hf import HfEngine
from nat_core.spec import RunSpec


class Engine(Protocol):
    """Samples from the policy as it is when asked, for training and evaluation alike."""

    @property
    def description(self) -> str:
        """How completions are sampled, for the log."""

    def generate(self, prompts: list[list[int]], sampling: Sampling) -> list[list[Completion]]:
        """The completions of each prompt, given as token ids."""

    def rest(self) -> None:
        """The weights are about to change: give memory back until the next call of `generate`."""

    def close(self) -> None:
        """Free what the engine holds."""


def open_engine(
    spec: RunSpec, policy: Policy, run_dir: Path, between: Callable[[], None], tell: Callable[[str], None]
) -> Engine:
    """The engine that the spec names.

    Args:
        run_dir: the run's folder, through which weights may go.
        between: called every now and then while an engine samples that makes no passes of the policy; may raise.
        tell: takes what is worth a line in the log.

    Raises:
        SpecError: vLLM is missing, or cannot serve the model.
        RolloutError: the vLLM server does not answer.
    """
    if spec.rollout.engine == "hf":
        return HfEngine(policy, spec.rollout.max_batch_size)
    # vLLM is no requirement of natlab's, so none of its modules is imported unless asked for.
    if spec.rollout.vllm_mode == "server":
        from nat_core.rollout.vllm_server import ServerEngine

        return ServerEngine(spec, policy, run_dir, between, tell)
    from nat_core.rollout.vllm import ColocatedEngine

    return ColocatedEngine(spec, policy, between, tell)
