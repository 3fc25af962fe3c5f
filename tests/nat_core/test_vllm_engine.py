"""What vLLM rollouts do around the engine itself, which `make test-vllm` runs for real: no vLLM needed here."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from nat_core import __main__ as trainer
from nat_core import adapter
from nat_core.demo.pretrain import build_tokenizer
from nat_core.errors import DiskError, RolloutError, SpecError
from nat_core.interrupt import Interrupted
from nat_core.model import Policy, load_policy
from nat_core.preflight import ALLOWED_VLLM_SERVERS, check_engine
from nat_core.rollout import vllm as colocated
from nat_core.rollout import weights
from nat_core.rollout.agreement import check_agreement
from nat_core.rollout.completion import Completion, Sampling
from nat_core.rollout.engine import open_engine
from nat_core.rollout.hf import generate
from nat_core.rollout.vllm_engine import place_seed
from nat_core.rollout.weights import checkpoint_weights
from nat_core.spec import ModelSpec, ResourcesSpec, RolloutSpec, RunSpec
from tests.nat_core.builders import run_spec, save_tiny_model, tiny_model, tiny_policy
from tests.nat_core.vllm_stub import Stub

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
URL = "http://127.0.0.1:8000"


def server_spec(url: str = URL, **rollout: object) -> RunSpec:
    options = {"engine": "vllm", "vllm_mode": "server", "vllm_server_base_url": url, "vllm_weight_sync": "disk"}
    return run_spec(rollout=options | rollout)


# --- before a run ---


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ({"vllm_mode": "server"}, "vllm_server_base_url is missing"),
        ({"vllm_server_base_url": URL}, "vllm_mode is colocate"),
        ({"vllm_mode": "server", "vllm_server_base_url": "http://user:secret@box"}, "vllm_server_base_url is"),
        ({"vllm_mode": "server", "vllm_server_base_url": "file:///etc/passwd"}, "vllm_server_base_url is"),
    ],
)
def test_mode_and_address_must_fit(rollout: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        run_spec(rollout={"engine": "vllm"} | rollout)


def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else find(name, *rest))


def test_a_missing_vllm_is_told_before_torch_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_vllm(monkeypatch)
    check_engine(RolloutSpec())
    with pytest.raises(SpecError, match=r"pip install 'natlab\[vllm\]'"):
        check_engine(RolloutSpec(engine="vllm"))
    monkeypatch.setattr(trainer, "load", lambda: pytest.fail("torch was loaded"))
    monkeypatch.setattr(trainer.signal, "signal", lambda *_: None)
    (tmp_path / "spec.json").write_text('{"rollout": {"engine": "vllm"}}')
    assert trainer.main([str(tmp_path / "spec.json"), "--output", str(tmp_path / "run")]) == trainer.EXIT_BAD_SPEC
    assert "natlab[vllm]" in capsys.readouterr().err


def test_only_servers_that_the_operator_allows_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    without_vllm(monkeypatch)  # by disk it takes HTTP and files alone
    rollout = server_spec().rollout
    with pytest.raises(SpecError, match=f"{ALLOWED_VLLM_SERVERS} allows none"):
        check_engine(rollout, {})
    with pytest.raises(SpecError, match=r"allows http://127\.0\.0\.1:80;"):
        check_engine(rollout, {ALLOWED_VLLM_SERVERS: "http://127.0.0.1:80"})
    check_engine(rollout, {ALLOWED_VLLM_SERVERS: f"http://other:1, {URL}/"})


# --- the same distribution ---


def test_log_probabilities_of_the_policy_agree_and_others_do_not() -> None:
    policy = tiny_policy(dtype=torch.float32)
    groups = generate(policy, PROMPTS, Sampling(2, 12, 0.6, seed=1), max_batch_size=8)
    assert check_agreement(policy, PROMPTS, groups, 0.6) < 1e-5
    with pytest.raises(RolloutError, match="processed_logprobs"):
        check_agreement(policy, PROMPTS, groups, 0.1)
    absent = [[Completion(one.ids, one.truncated, [float("nan")] * len(one.ids)) for one in group] for group in groups]
    with pytest.raises(RolloutError):
        check_agreement(policy, PROMPTS, absent, 0.6)


def test_log_probabilities_from_before_a_temperature_near_1_are_told_from_rounding() -> None:
    policy = tiny_policy(dtype=torch.float32)
    groups = generate(policy, PROMPTS, Sampling(1, 100, 0.9, seed=2), max_batch_size=8)

    def plain(prompt: list[int], one: Completion) -> Completion:
        """As a server gives it that was started without processed_logprobs."""
        with torch.no_grad():
            logits = policy.model(input_ids=torch.tensor([prompt + one.ids])).logits[0, len(prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1).gather(1, torch.tensor(one.ids).unsqueeze(1)).squeeze(1)
        return Completion(one.ids, one.truncated, logprobs.tolist())

    unprocessed = [[plain(prompt, one) for one in group] for prompt, group in zip(PROMPTS, groups, strict=True)]
    assert sum(len(one.ids) for [one] in groups) >= 32
    assert check_agreement(policy, PROMPTS, groups, 0.9) < 1e-5
    with pytest.raises(RolloutError, match=r"before the temperature of 0\.9: .* --logprobs-mode processed_logprobs"):
        check_agreement(policy, PROMPTS, unprocessed, 0.9)
    assert check_agreement(policy, PROMPTS, unprocessed, 1.0) < 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_weights_go_by_the_names_of_the_models_own_files(tied: bool, tmp_path: Path) -> None:
    policy = tiny_policy(dtype=torch.float32, tied=tied)
    policy.model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    sent = dict(checkpoint_weights(policy))
    assert sent.keys() == saved.keys() and all(sent[name].equal(saved[name]) for name in saved)
    assert all(not tensor.requires_grad for tensor in sent.values())


def test_a_mixtures_experts_are_sent_as_its_files_have_them(tmp_path: Path) -> None:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        vocab_size=16, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, num_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    policy = tiny_policy()
    policy.model = Qwen3MoeForCausalLM(config)
    policy.model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert any(".experts.3." in name for name in saved)
    assert {name: tuple(t.shape) for name, t in checkpoint_weights(policy)} == {
        n: tuple(t.shape) for n, t in saved.items()
    }


def test_seeds_of_requests_differ_by_place_and_call() -> None:
    seeds = {place_seed(seed, place) for seed in range(20) for place in range(20)}
    assert len(seeds) == 400 and place_seed(1, 2) == place_seed(1, 2)
    assert max(seeds) < 2**63 - 1024  # room for a prompt's further completions


# --- asleep while the weights change ---


class Recorder:
    """Stands in for vLLM's `LLM`: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def sleep(self, level: int) -> None:
        self.told.append(f"sleep {level}")

    def wake_up(self, tags: list[str]) -> None:
        self.told.append(f"wake {tags[0]}")

    def collective_rpc(self, method: Any, kwargs: Any = None) -> None:
        self.told.append(f"{method} {len(list(kwargs['weights_iterator']))}" if kwargs else method.__name__)

    def reset_prefix_cache(self) -> None:
        self.told.append("forget")


@pytest.mark.parametrize("sleeps", [True, False])
def test_memory_is_given_back_once_and_weights_come_before_the_cache(
    sleeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, llm = tiny_policy(dtype=torch.float32), Recorder()
    count = len(dict(checkpoint_weights(policy)))
    monkeypatch.setattr(colocated, "_start", lambda *_: llm)
    engine = colocated.ColocatedEngine(run_spec(rollout={"engine": "vllm"}), policy, lambda: None, lambda _: None)
    engine._sleeps = sleeps
    monkeypatch.setattr(engine, "_sample", lambda prompts, asked: [[Completion([1], False)] for _ in prompts])

    def ask() -> None:
        engine.generate(PROMPTS, Sampling(1, 4, None, seed=0))

    bring = [f"reload_weights {count}", "_renew_heads", "forget"]
    ask()
    ask()
    assert llm.told == bring  # the first weights too: a resumed run's are not those in the model's folder
    llm.told.clear()
    engine.rest()
    engine.rest()
    ask()
    if sleeps:
        bring = ["sleep 2", "wake weights", f"reload_weights {count}", "_renew_heads", "wake kv_cache", "forget"]
    assert llm.told == bring


def test_the_longest_row_keeps_to_the_places_that_the_model_has() -> None:
    policy = tiny_policy()  # 256
    assert colocated.longest(run_spec(rollout={"max_prompt_length": 2048}), policy) == 256
    assert colocated.longest(run_spec(rollout={"max_prompt_length": 60, "max_completion_length": 40}), policy) == 100


# --- a server ---


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.hold.set()
        server.shutdown()


def test_a_server_gets_the_weights_and_then_token_ids_with_every_setting(stub: Stub, tmp_path: Path) -> None:
    policy = tiny_policy(dtype=torch.float32)
    engine = open_engine(server_spec(stub.url), policy, tmp_path, lambda: None, lambda _: None)
    groups = engine.generate(PROMPTS, Sampling(2, 12, None, seed=4))
    assert [[one.ids for one in group] for group in groups] == [[[2, 3, 1], [3, 3, 1]]] * 3
    assert [one.truncated for group in groups for one in group] == [False] * 6
    paths = [path for path, _ in stub.asked]
    assert paths[:4] == ["/pause?mode=wait", "/collective_rpc", "/reset_prefix_cache", "/resume"]
    assert stub.asked[1][1]["method"] == "reload_weights"
    assert stub.weights.keys() == dict(checkpoint_weights(policy)).keys()
    assert list(tmp_path.iterdir()) == []  # weights that were read are not kept
    bodies = {tuple(body["prompt"]): body for path, body in stub.asked if path == "/v1/completions"}
    assert len(bodies) == 3
    body = bodies[5, 6, 7]
    assert body["seed"] == place_seed(4, 0) and (body["n"], body["temperature"], body["logprobs"]) == (2, 0.0, None)
    assert (body["top_k"], body["top_p"], body["min_p"], body["repetition_penalty"]) == (0, 1.0, 0.0, 1.0)
    assert body["stop_token_ids"] == [1] and body["return_token_ids"] and body["model"] == "served"
    assert [bodies[tuple(prompt)]["max_tokens"] for prompt in PROMPTS] == [12, 12, 11]  # 16 places are served
    stub.asked.clear()
    engine.generate(PROMPTS, Sampling(1, 2, None, seed=4))
    assert {path for path, _ in stub.asked} == {"/v1/completions"}
    engine.close()


def test_a_server_that_cannot_take_weights_is_told_how(stub: Stub, tmp_path: Path) -> None:
    stub.missing = {"/pause", "/collective_rpc"}
    engine = open_engine(server_spec(stub.url), tiny_policy(), tmp_path, lambda: None, lambda _: None)
    with pytest.raises(RolloutError, match=r"404 to POST /pause.*VLLM_SERVER_DEV_MODE=1"):
        engine.generate(PROMPTS, Sampling(1, 2, None, seed=4))
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_a_clear_error(stub: Stub, tmp_path: Path) -> None:
    url = stub.url
    stub.shutdown()
    stub.server_close()
    with pytest.raises(RolloutError, match=f"{url} gave no answer to GET /v1/models .*resume the run"):
        open_engine(server_spec(url), tiny_policy(), tmp_path, lambda: None, lambda _: None)


def test_a_stop_does_not_wait_for_the_server(stub: Stub, tmp_path: Path) -> None:
    turns: list[int] = []

    def between() -> None:
        turns.append(1)
        if len(turns) == 3:
            raise Interrupted

    engine = open_engine(server_spec(stub.url), tiny_policy(), tmp_path, between, lambda _: None)
    stub.hold.clear()
    with pytest.raises(Interrupted):
        engine.generate(PROMPTS, Sampling(1, 2, None, seed=4))
    assert not stub.hold.is_set()


def test_the_demo_model_goes_to_the_server_as_its_own_files(stub: Stub, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    policy = load_policy(ModelSpec(path=str(folder)), ResourcesSpec(device="cpu"))
    engine = open_engine(server_spec(stub.url), policy, tmp_path / "run", lambda: None, lambda _: None)
    engine.generate([[5]], Sampling(1, 2, None, seed=4))
    saved = load_file(folder / "model.safetensors")
    assert stub.weights.keys() == saved.keys() and all(stub.weights[name].equal(saved[name]) for name in saved)


# --- adapters: vLLM is given whole weights ---

IDS = torch.tensor([[5, 6, 7, 8]])
KINDS: dict[str, dict[str, Any]] = {
    "every layer": {"r": 4},
    "some layers": {"r": 4, "target_modules": "q_proj, down_proj"},
    "4 bits": {"r": 4, "quantize": "nf4"},
    "some of 4 bits": {"r": 4, "quantize": "nf4", "target_modules": "v_proj"},
}


def adapted(folder: Path, lora: dict[str, Any]) -> Policy:
    """A policy whose adapters say something."""
    spec = ModelSpec.model_validate({"path": str(folder), "lora": lora})
    policy = load_policy(spec, ResourcesSpec(device="cpu"))
    with torch.no_grad():
        for weight in policy.parameters:
            weight.normal_(std=0.2, generator=torch.Generator().manual_seed(3))
    return policy


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_model_with_the_sent_weights_is_the_adapted_policy(kind: str, tmp_path: Path) -> None:
    policy = adapted(save_tiny_model(tmp_path), KINDS[kind])
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    expected, untrained = logits(policy.model), tiny_model(len(policy.tokenizer))
    plain = tiny_model(len(policy.tokenizer), seed=1)
    plain.load_state_dict(dict(checkpoint_weights(policy)))  # every weight by its own name, and no other
    assert torch.allclose(logits(plain), expected, atol=1e-5)
    assert not torch.allclose(logits(untrained), expected, atol=0.05)
    assert all(tensor.equal(before[name]) for name, tensor in policy.model.state_dict().items())
    assert logits(policy.model).equal(expected)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_matrices_that_lie_the_other_way_are_sent_as_their_files_have_them(quantize: str, tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=32, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    policy = adapted(tmp_path, {"r": 4, "quantize": quantize})
    plain = GPT2LMHeadModel(config).eval()
    plain.load_state_dict(dict(checkpoint_weights(policy)), strict=False)
    assert torch.allclose(logits(plain), logits(policy.model), atol=1e-5)


def test_no_two_layers_of_an_adapted_model_are_whole_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = adapted(save_tiny_model(tmp_path), {"r": 4})
    made: list[str] = []
    add = adapter.added
    monkeypatch.setattr(adapter, "added", lambda model, name, weight: (made.append(name), add(model, name, weight))[1])
    sent = checkpoint_weights(policy)
    assert next(sent)[0] == "model.embed_tokens.weight"
    assert next(sent)[0].startswith("model.layers.0.")
    assert any(".layers.0.mlp." in name for name in made) and not any(".layers.1.mlp." in name for name in made)


def test_adapters_go_to_a_server_merged_and_in_files_of_any_number(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_FILE_BYTES", 4000)
    policy = adapted(save_tiny_model(tmp_path / "model"), {"r": 4})
    (tmp_path / "run" / "weights-for-vllm").mkdir(parents=True)
    (tmp_path / "run" / "weights-for-vllm" / "model-00099.safetensors").write_text("left by a killed trainer")
    engine = open_engine(server_spec(stub.url), policy, tmp_path / "run", lambda: None, lambda _: None)
    engine.generate([[5]], Sampling(1, 2, None, seed=4))
    sent = dict(checkpoint_weights(policy))
    assert stub.num_files > 3
    assert stub.weights.keys() == sent.keys() and all(stub.weights[name].equal(sent[name]) for name in sent)


def test_weights_that_find_no_room_are_a_disk_error_and_leave_nothing(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    engine = open_engine(
        server_spec(stub.url), tiny_policy(dtype=torch.float32), tmp_path, lambda: None, lambda _: None
    )
    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(DiskError, match=r"weights-for-vllm cannot be written .*No space left"):
        engine.generate([[5]], Sampling(1, 2, None, seed=4))
    assert list(tmp_path.iterdir()) == []
