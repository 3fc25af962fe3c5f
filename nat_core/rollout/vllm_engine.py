"""What both ways of using vLLM share: when it gets new weights, how requests are seeded, what comes back."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nat_core.model import Policy
from nat_core.rollout.agreement import check_agreement
from nat_core.rollout.completion import Completion, Sampling
from nat_core.spec import RunSpec


class VllmEngine(ABC):
    """Samples by vLLM, with weights that are brought up to date before the first sample after they changed."""

    def __init__(self, spec: RunSpec, policy: Policy, between: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Args:
        between: called every now and then while sampling; may raise.
        tell: takes what is worth a line in the log.
        """
        self._spec, self._policy = spec, policy
        self._between, self._tell = between, tell
        self._stale = True
        self._to_compare = self._to_tell = True

    @property
    @abstractmethod
    def description(self) -> str:
        """How completions are sampled, for the log."""

    def generate(self, prompts: list[list[int]], sampling: Sampling) -> list[list[Completion]]:
        """The completions of each prompt, given as token ids.

        vLLM batches as it sees fit, and rounding depends on the batch: the same seed makes nearly, not always, the same
        completions.
        """
        if self._stale:
            self._bring_weights()
            self._stale, self._to_compare = False, True
        asked = parameters(self._policy.eos_ids, sampling)
        seeds = [place_seed(sampling.seed, place) for place in range(len(prompts))]
        groups = self._sample(prompts, [asked | {"seed": seed} for seed in seeds])
        if sampling.temperature is not None and self._to_compare:
            self._compare(prompts, groups, sampling.temperature)
        return groups

    def rest(self) -> None:
        """The weights are about to change."""
        self._stale = True

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds."""

    @abstractmethod
    def _bring_weights(self) -> None:
        """Give vLLM the policy's weights, and let it forget what it computed with others."""

    @abstractmethod
    def _sample(self, prompts: list[list[int]], asked: list[dict[str, Any]]) -> list[list[Completion]]:
        """Completions of each prompt as `asked` of it, in vLLM's names of sampling parameters."""

    def _compare(self, prompts: list[list[int]], groups: list[list[Completion]], temperature: float) -> None:
        difference = check_agreement(self._policy, prompts, groups, temperature)
        self._to_compare = False
        if not self._to_tell:
            return
        self._to_tell, advice = False, ""
        if self._spec.objective.rollout_is == "none" and difference > 1e-3:
            advice = "; objective.rollout_is would correct for it"
        self._tell(f"vLLM's log-probabilities differ from the trainer's by {difference:.2g} on average{advice}")


def place_seed(seed: int, place: int) -> int:
    """Seed of the request for the prompt at a place; vLLM counts up from it for the prompt's further completions."""
    return random.Random(f"{seed}/{place}").getrandbits(48)


def parameters(eos_ids: set[int], sampling: Sampling) -> dict[str, Any]:
    """What is asked of vLLM for every prompt; all of it, since a server may have other defaults."""
    return {
        "n": sampling.num_samples,
        "max_tokens": sampling.max_completion_length,
        "temperature": 0.0 if sampling.temperature is None else sampling.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": sorted(eos_ids),
        "logprobs": None if sampling.temperature is None else 0,  # the sampled token's, and no other
    }


def completion(ids: Sequence[int], logprobs: Sequence[float] | None, eos_ids: set[int]) -> Completion:
    """What vLLM sampled, as natlab has it."""
    ended = bool(ids) and ids[-1] in eos_ids
    return Completion(list(ids), truncated=not ended, logprobs=list(logprobs or ()))


def chosen(ids: Sequence[int], logprobs: Sequence[Mapping[int, Any]] | None) -> list[float] | None:
    """Log-probabilities of the sampled tokens, from those that vLLM gives for each place."""
    return None if logprobs is None else [float(at[token].logprob) for token, at in zip(ids, logprobs, strict=True)]
