"""A real `vllm serve` on this machine: token ids in and out, weights through a file, whole runs.

It serves another run's export, so that nothing it ever says by itself is what the trainer would say.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import torch

from nat_core.errors import RolloutError
from nat_core.interrupt import Interrupted
from nat_core.model import Policy
from nat_core.rollout.completion import Sampling
from nat_core.rollout.engine import Engine
from nat_core.rollout.vllm_server import ServerEngine
from nat_core.rollout.vllm_transfer import free_port
from nat_core.spec import RunSpec
from tests.vllm.builders import (
    exported,
    greedy,
    greedy_by_hf,
    greedy_by_transformers,
    logprobs,
    opened,
    policy_of,
    prompts_of,
    sampled,
    shake,
    vllm_spec,
)
from tests.vllm.test_training import steps, train

FLAGS = [
    "--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", "--dtype", "float32",
    "--enforce-eager", "--max-model-len", "512",
]  # fmt: skip
ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the worker within its engine: a process less to start
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with a head of its own: on a CPU a server's tied head keeps the weights that it started with."""
    policy, folder = policy_of(vllm_spec()), tmp_path_factory.mktemp("model")
    policy.model.config.tie_word_embeddings = False
    head = policy.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def export(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That model with adapters, trained, and these added to its weights."""
    return exported(tmp_path_factory.mktemp("run"), path=str(model), lora={"r": 4})


@pytest.fixture(scope="module")
def url(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of that export, ended with all its processes."""
    log = tmp_path_factory.mktemp("server") / "log"
    port = free_port()
    # What `vllm serve` runs; that command itself does not start where vLLM is installed as vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(export)]
    command += ["--host", "127.0.0.1", "--port", str(port), *FLAGS]
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=output, stderr=output)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_it_serves(address, server, log)
        yield address
    finally:
        end(server)


def wait_until_it_serves(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    transport = httpx.HTTPTransport(retries=4)  # four seconds in all
    with httpx.Client(transport=transport, timeout=180) as http:
        while server.poll() is None:
            try:
                http.get(f"{address}/health").raise_for_status()
            except httpx.ConnectError:
                continue
            return
    raise RuntimeError(log.read_text()[-3000:])


def end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    server.terminate()
    _, alive = psutil.wait_procs(family, timeout=30)
    for process in alive:
        process.kill()
    server.wait()


def spec_of(url: str, model: Path, **lora: int) -> RunSpec:
    rollout = {"vllm_mode": "server", "vllm_server_base_url": url, "vllm_weight_sync": "disk", "max_batch_size": 16}
    return vllm_spec(
        rollout=rollout,
        model={"path": str(model), "lora": lora},
        objective={"rollout_is": "token"},
        budget={"selector": "full"},
        optim={"learning_rate": 1e-2 if lora else 1e-3},
    )


@pytest.fixture(scope="module")
def as_loaded(url: str, model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    """Greedy tokens of the weights that the server read itself, before it is given any."""
    spec = spec_of(url, model)
    policy = policy_of(spec)
    engine = opened(spec, policy, tmp_path_factory.mktemp("untold"))
    assert isinstance(engine, ServerEngine)
    engine._stale = False
    return greedy(engine, prompts_of(spec, policy))


@pytest.fixture
def spec(url: str, model: Path, as_loaded: list[list[int]]) -> RunSpec:
    return spec_of(url, model)


@pytest.fixture
def policy(spec: RunSpec) -> Policy:
    return policy_of(spec)


@pytest.fixture
def engine(spec: RunSpec, policy: Policy, tmp_path: Path) -> Iterator[Engine]:
    engine = opened(spec, policy, tmp_path)
    yield engine
    engine.close()


def test_an_exported_model_with_its_adapters_added_is_served_as_transformers_has_it(
    export: Path, as_loaded: list[list[int]], policy: Policy, spec: RunSpec
) -> None:
    prompts = prompts_of(spec, policy)
    assert as_loaded == greedy_by_transformers(export, prompts)
    assert as_loaded != greedy_by_hf(policy, prompts)  # it is the trained one


def test_greedy_tokens_are_those_of_the_hugging_face_engine(engine: Engine, policy: Policy, spec: RunSpec) -> None:
    prompts = prompts_of(spec, policy)
    assert greedy(engine, prompts) == greedy_by_hf(policy, prompts)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_rollout_logprobs_are_the_trainers_at_the_sampling_temperature(
    engine: Engine, policy: Policy, spec: RunSpec, temperature: float
) -> None:
    prompts = prompts_of(spec, policy)
    groups = sampled(engine, prompts, temperature=temperature)
    assert [len(group) for group in groups] == [4] * len(prompts)
    for prompt, group in zip(prompts, groups, strict=True):
        assert len({tuple(one.ids) for one in group}) > 1 or temperature < 1
        for one in group:
            ours = logprobs(policy, prompt, one.ids, temperature)
            assert one.logprobs == pytest.approx(ours.tolist(), abs=1e-3)
            assert one.truncated == (one.ids[-1] not in policy.eos_ids)


def test_new_weights_are_sampled_from_after_a_sync_and_not_before(
    engine: Engine, policy: Policy, spec: RunSpec, tmp_path: Path
) -> None:
    prompts = prompts_of(spec, policy)
    old = greedy(engine, prompts)
    shake(policy)
    new = greedy_by_hf(policy, prompts)
    assert greedy(engine, prompts) == old != new
    engine.rest()
    assert greedy(engine, prompts) == new
    assert list(tmp_path.iterdir()) == []


def test_a_stop_leaves_the_server_free_for_the_next(spec: RunSpec, policy: Policy, tmp_path: Path) -> None:
    turns: list[int] = []

    def between() -> None:
        turns.append(1)
        if len(turns) == 2:
            raise Interrupted

    prompts = prompts_of(spec, policy)
    with pytest.raises(Interrupted):
        opened(spec, policy, tmp_path, between).generate(prompts * 8, Sampling(8, 400, 2.0, seed=0))
    assert greedy(opened(spec, policy, tmp_path), prompts) == greedy_by_hf(policy, prompts)


def test_a_server_with_other_log_probabilities_is_found_out(spec: RunSpec, policy: Policy, tmp_path: Path) -> None:
    engine = opened(spec, policy, tmp_path)
    prompts = prompts_of(spec, policy)
    greedy(engine, prompts)
    shake(policy, 0.2)  # and the server is not told
    with pytest.raises(RolloutError, match="differ from the trainer's"):
        sampled(engine, prompts)


@pytest.mark.parametrize("lora", [{}, {"r": 4}], ids=["all weights", "LoRA"])
def test_three_steps_train_from_a_server(
    spec: RunSpec, url: str, model: Path, lora: dict[str, int], tmp_path: Path
) -> None:
    result, events = train(spec_of(url, model, **lora), tmp_path)
    assert result.outcome == "succeeded", result.message
    found = steps(events)
    assert [values["rollout_is_ratio"] for values in found] == [pytest.approx(1.0, abs=1e-3)] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "events.jsonl"]
