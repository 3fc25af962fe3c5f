"""A vLLM engine in the trainer's process: asleep while the weights change, given them in memory before it samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nat_core.errors import ModelError
from nat_core.model import DEMO_DIR, Policy
from nat_core.preflight import DEMO_MODEL
from nat_core.rollout.completion import Completion
from nat_core.rollout.vllm_engine import VllmEngine, chosen, completion
from nat_core.rollout.weights import checkpoint_weights
from nat_core.spec import RunSpec

# The engine core in this process: it takes weights by reference, and no process of it can outlive the trainer.
_ALWAYS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
_UNLESS_SET = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the threads are the trainer's, too
    "VLLM_LOGGING_LEVEL": "ERROR",  # it warns of much that is meant
    "VLLM_NO_USAGE_STATS": "1",
}


class ColocatedEngine(VllmEngine):
    """vLLM on the trainer's own device."""

    def __init__(self, spec: RunSpec, policy: Policy, between: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Start it.

        Raises:
            ModelError: vLLM cannot serve the model, or not on this device.
        """
        super().__init__(spec, policy, between, tell)
        self._sleeps = policy.device.type == "cuda" and spec.rollout.vllm_enable_sleep_mode
        self._asleep = False
        self._llm = _start(spec, policy, self._sleeps)

    @property
    def description(self) -> str:
        """How completions are sampled, for the log."""
        rests = "asleep during updates" if self._sleeps else "always awake"
        return f"vLLM in the trainer's process, {rests}; a resumed run samples nearly the same, not to the bit"

    def rest(self) -> None:
        """Weights and cache leave the GPU: the next weights replace these anyway."""
        super().rest()
        if self._sleeps and not self._asleep:
            self._llm.sleep(level=2)
            self._asleep = True

    def close(self) -> None:
        """End the engine, so that another may be started in this process."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm
        cleanup_dist_env_and_memory()

    def _bring_weights(self) -> None:
        # Weights wake before the cache does: each needs memory, and what was computed with older ones is worthless.
        if self._asleep:
            self._llm.wake_up(tags=["weights"])
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": checkpoint_weights(self._policy)})
        if self._policy.device.type == "cpu":
            self._llm.collective_rpc(_renew_heads)
        if self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        self._llm.reset_prefix_cache()

    def _sample(self, prompts: list[list[int]], asked: list[dict[str, Any]]) -> list[list[Completion]]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        engine, whole = self._llm.llm_engine, {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": False}
        for place, (prompt, parameters) in enumerate(zip(prompts, asked, strict=True)):
            engine.add_request(str(place), {"prompt_token_ids": prompt}, SamplingParams(**parameters, **whole))
        found: dict[int, list[Completion]] = {}
        try:
            with _process_left_as_it_is(self._policy.device):
                while engine.has_unfinished_requests():
                    self._between()
                    found |= {int(o.request_id): self._completions(o) for o in engine.step() if o.finished}
        finally:
            engine.abort_request([str(place) for place in range(len(prompts)) if place not in found])
        return [found[place] for place in range(len(prompts))]

    def _completions(self, output: Any) -> list[Completion]:
        by_index = sorted(output.outputs, key=lambda one: one.index)
        return [
            completion(one.token_ids, chosen(one.token_ids, one.logprobs), self._policy.eos_ids) for one in by_index
        ]


def _start(spec: RunSpec, policy: Policy, sleeps: bool) -> Any:
    os.environ.update(_ALWAYS | {name: os.environ.get(name, value) for name, value in _UNLESS_SET.items()})
    from vllm import LLM

    on_gpu = policy.device.type == "cuda"
    rollout, model = spec.rollout, spec.model
    source = str(DEMO_DIR) if model.path == DEMO_MODEL else str(Path(model.path).expanduser())
    with _process_left_as_it_is(policy.device):
        try:
            return LLM(
                model=source,
                revision=None if Path(source).is_dir() else model.revision,
                dtype=model.dtype,
                skip_tokenizer_init=True,
                generation_config="vllm",
                max_model_len=longest(spec, policy),
                max_num_seqs=rollout.max_batch_size,
                enable_prefix_caching=True,
                logprobs_mode="processed_logprobs",
                enforce_eager=not on_gpu,
                enable_sleep_mode=sleeps,
                seed=spec.seed,
                **({"gpu_memory_utilization": rollout.vllm_gpu_memory_utilization} if on_gpu else {}),
            )
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # foreign code: what it cannot serve it refuses in many ways
            reason = " ".join(str(error).split())[:300]
            raise ModelError.at(
                "/rollout/engine",
                f"rollout.engine is vllm, but vLLM cannot serve {model.path} here ({reason}); use hf, or correct that",
            ) from error


def longest(spec: RunSpec, policy: Policy) -> int:
    """Tokens of the longest prompt with its completion, as far as the model has places."""
    places = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None)
    asked = spec.rollout.max_prompt_length + spec.rollout.max_completion_length
    return min(asked, places) if places else asked


def _renew_heads(worker: Any) -> None:
    """vLLM packs matrices for the CPU, after a reload anew, but leaves out a head whose weights are the embeddings'."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in worker.model_runner.get_model().modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


@contextmanager
def _process_left_as_it_is(device: torch.device) -> Iterator[None]:
    """vLLM seeds torch's random numbers, and on a CPU lets nobody set its threads any more: both are the trainer's."""
    threads, set_num_threads = torch.get_num_threads(), torch.set_num_threads
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(threads)
