"""Contenders take turns; what one of them is to `full` is said of times in the same turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.contenders import Contender
from nat_core.gradient import synchronise
from nat_core.model import Policy


def take_turns(
    contenders: dict[str, Contender],
    device: torch.device,
    selections: int,
    shown: Callable[[range], Iterable[int]] = iter,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """One row a contender: medians over its turns. One turn each goes uncounted first."""
    generator = torch.Generator().manual_seed(0)
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for turn in shown(range(selections + 1)):
        for name, contender in contenders.items():
            synchronise(device)
            started = clock()
            work = contender(generator)
            synchronise(device)
            seconds = clock() - started
            if turn:
                turns[name].append({"seconds": seconds, **asdict(work)})
    full = turns[next(iter(contenders))]
    return [_row(name, found, full) for name, found in turns.items()]


def _row(name: str, turns: list[dict[str, float]], full: list[dict[str, float]]) -> dict[str, Any]:
    time_share = median(turn["seconds"] / base["seconds"] for turn, base in zip(turns, full, strict=True))
    flops_share = median(turn["flops"] for turn in turns) / full[0]["flops"]
    saved = (1 - time_share) / (1 - flops_share) if flops_share < 1 else None
    return {
        "name": name,
        "seconds": median(turn["seconds"] for turn in turns),
        "time_share": time_share,
        "flops": median(turn["flops"] for turn in turns),
        "flops_share": flops_share,
        "time_saved_of_flops_saved": saved,
        "kept_tokens": median(turn["kept"] for turn in turns),
        "largest_microbatch": median(turn["largest"] for turn in turns),
    }


def peak_gib(contender: Contender, policy: Policy, seed: int = 0) -> float:
    """Peak memory of one gradient above weights and gradients: allocated on a GPU, resident set on a CPU.

    `seed` is of the selection.
    """
    for parameter in policy.parameters:
        parameter.grad = torch.zeros_like(parameter)
    gc.collect()
    if policy.device.type == "cuda":
        level = torch.cuda.memory_allocated(policy.device)
        torch.cuda.reset_peak_memory_stats(policy.device)
        contender(torch.Generator().manual_seed(seed))
        return (torch.cuda.max_memory_allocated(policy.device) - level) / 1024**3
    from nat_core.memory import PeakMemory  # needs psutil, which a GPU's memory does not

    with PeakMemory(policy.device) as memory:
        contender(torch.Generator().manual_seed(seed))
    return memory.peak_gib


def allocated_gib(contender: Contender, policy: Policy, seed: int = 0) -> float:
    """The same by what its tensors take: what a CPU's allocator keeps for later and cannot give back is left out."""
    if policy.device.type == "cuda":
        return peak_gib(contender, policy, seed)
    for parameter in policy.parameters:
        parameter.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        contender(torch.Generator().manual_seed(seed))
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in policy.parameters)
    return (max(accumulate(sizes), default=0) - gradients) / 1024**3
