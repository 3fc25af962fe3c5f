"""Measures how fast this machine does a model's update step: `python -m nat_core.measure MODEL_FOLDER`.

A few seconds on one and on two of the model's layers, with random weights, on batches that differ in what takes the
time: many short sequences, few long ones, nearly nothing. All layers are alike, so what one more of them adds is known
for any number. The times are explained by four rates, as well as they can be.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from nat_core.cost import Rates, TokenCost
from nat_core.drawing import draw_step
from nat_core.errors import NatlabError
from nat_core.gradient import accumulate_gradient, synchronise
from nat_core.model import DEMO_DIR
from nat_core.preflight import DEMO_MODEL
from nat_core.random_model import random_completions, random_policy
from nat_core.spec import FullBudget, LoraSpec, ModelSpec, ResourcesSpec, RolloutSpec, RunSpec

_PROMPT = 2
_BATCHES = {  # completions x tokens each, by the kind of device: enough to keep it busy, little enough to be quick
    "cpu": [(2, 2), (64, 14), (4, 254), (1, 1022)],
    "cuda": [(2, 2), (256, 62), (32, 510), (4, 4094), (2, 8190)],
}
_REPEATS = 3


@dataclass(frozen=True)
class _Timing:
    layers: int
    tokens: int
    attention_flops: float
    selected: int
    seconds: float


def measure_rates(config: PreTrainedConfig, device: torch.device, spec: ModelSpec, dtype: str = "float32") -> Rates:
    """Rates of the update step for a model of this configuration.

    Args:
        spec: precision of the passes, gradient checkpointing, adapters, 4 bits.
        dtype: of the weights.
    """
    timings = [
        timing for layers in (1, 2) for timing in _timings(_shallow(config, layers), layers, device, spec, dtype)
    ]
    depth = config.get_text_config().num_hidden_layers
    rows = [[1.0, float(t.layers), float(t.layers * t.tokens), t.attention_flops, float(t.selected)] for t in timings]
    once, per_layer, token, attention, selected = _explained(rows, [t.seconds for t in timings])
    return Rates(once + depth * per_layer, depth * token, attention, selected)


def _shallow(config: PreTrainedConfig, layers: int) -> PreTrainedConfig:
    """The same model with fewer layers."""
    shallow = copy.deepcopy(config)
    text: Any = shallow.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    return shallow


def _timings(config: PreTrainedConfig, layers: int, device: torch.device, spec: ModelSpec, dtype: str) -> list[_Timing]:
    policy = random_policy(config, device, spec, dtype)
    vocabulary, cost = config.get_text_config().vocab_size, policy.token_cost
    found = []
    for count, length in _BATCHES[device.type]:
        batch = random_completions(_PROMPT, count, [length] * count, vocabulary)
        run = RunSpec(
            budget=FullBudget(),
            resources=ResourcesSpec(max_tokens_per_microbatch=2**20),
            rollout=RolloutSpec(max_completion_length=length),
        )
        times = []
        for _ in range(_REPEATS + 1):  # the first warms up
            step = draw_step(policy, batch, run, torch.Generator())
            synchronise(device)
            started = time.perf_counter()
            passes = accumulate_gradient(policy, None, step, run)
            synchronise(device)
            times.append(time.perf_counter() - started)
        (micro,) = passes.microbatches
        attention = _attention_flops(cost, micro.tokens.sequence_lengths)
        found.append(_Timing(layers, micro.tokens.num_places, attention, count * length, min(times[1:])))
    return found


def _attention_flops(cost: TokenCost, lengths: list[int]) -> float:
    return float(sum(cost.attention(length) for length in lengths))


def _explained(rows: list[list[float]], seconds: list[float]) -> list[float]:
    """Factors, none below zero, of the columns that explain the seconds best, relative errors counting.

    The best such factors are the plain least squares of some of the columns; with five of them all choices are tried.
    """
    matrix = torch.tensor(rows, dtype=torch.float64) / torch.tensor(seconds, dtype=torch.float64).unsqueeze(1)
    scale = matrix.amax(0).clamp(min=torch.finfo(matrix.dtype).tiny)
    matrix, ones = matrix / scale, torch.ones(len(rows), 1, dtype=torch.float64)
    best, smallest = torch.zeros(matrix.shape[1], dtype=torch.float64), float(ones.square().sum())
    columns = range(matrix.shape[1])
    for used in (list(c) for count in columns for c in itertools.combinations(columns, count + 1)):
        found: Tensor = torch.linalg.lstsq(matrix[:, used], ones, driver="gelsd").solution
        error = float((matrix[:, used] @ found - ones).square().sum())
        if error < smallest and float(found.min()) >= 0:
            smallest, best = error, torch.zeros_like(best).index_put((torch.tensor(used),), found.squeeze(1))
    factors: list[float] = (best / scale).tolist()
    return factors


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the update step's rates; prints them as JSON.")
    parser.add_argument("model", help=f"a model's folder, or {DEMO_MODEL}")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the passes")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--lora-r", type=int, help="train adapters of this rank")
    parser.add_argument("--lora-target-modules", default=LoraSpec().target_modules, help="in these layers")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--lora-quantize", default="none", choices=["none", "nf4"], help="the model's own weights in 4 bits"
    )
    options = parser.parse_args()
    folder = DEMO_DIR if options.model == DEMO_MODEL else Path(options.model).expanduser()
    lora = LoraSpec(r=options.lora_r, target_modules=options.lora_target_modules, quantize=options.lora_quantize)
    spec = ModelSpec(dtype=options.dtype, gradient_checkpointing=options.gradient_checkpointing, lora=lora)
    try:
        rates = measure_rates(AutoConfig.from_pretrained(folder), torch.device(options.device), spec)
    except NatlabError as error:
        sys.exit(error.message)
    print(json.dumps(asdict(rates)))


if __name__ == "__main__":
    main()
