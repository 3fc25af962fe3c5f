"""Contenders take turns; what one of them is to `full` is said of times in the same turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
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
    *,
    warm_up: int = 1,
    enough: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]]:
    """One row a contender: medians over its turns.

    Args:
        selections: turns that count, at most.
        warm_up: turns before those.
        enough: asked after each turn that counts; ends them.
    """
    generator = torch.Generator().manual_seed(0)
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for turn in shown(range(selections + warm_up)):
        for name, contender in contenders.items():
            synchronise(device)
            started = clock()
            work = contender(generator)
            synchronise(device)
            seconds = clock() - started
            if turn >= warm_up:
                turns[name].append({"seconds": seconds, **asdict(work)})
        if turn >= warm_up and enough():
            break
    full = turns[next(iter(contenders))]
    return [_row(name, found, full) for name, found in turns.items()]


def _row(name: str, turns: list[dict[str, Any]], full: list[dict[str, Any]]) -> dict[str, Any]:
    time_share = median(turn["seconds"] / base["seconds"] for turn, base in zip(turns, full, strict=True))
    flops_share = median(turn["flops"] for turn in turns) / full[0]["flops"]
    saved = (1 - time_share) / (1 - flops_share) if flops_share < 1 else None
    warnings = {turn["warning"] for turn in turns if turn["warning"]}
    return {
        "name": name,
        "turns": len(turns),
        "seconds": median(turn["seconds"] for turn in turns),
        "time_share": time_share,
        "flops": median(turn["flops"] for turn in turns),
        "flops_share": flops_share,
        "time_saved_of_flops_saved": saved,
        "kept_tokens": median(turn["kept"] for turn in turns),
        "largest_microbatch": median(turn["largest"] for turn in turns),
        **({"warnings": sorted(warnings)} if warnings else {}),
    }


@dataclass(frozen=True)
class Peaks:
    """GiB of one gradient, at the worst moment of each.

    Attributes:
        activations: what stood beside weights and gradients.
        total: everything.
    """

    activations: float
    total: float


class DeviceMemory:
    """What a GPU's allocator counts, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def level(self) -> int:
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        """Since the last one was taken; then it starts anew."""
        found = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return found


def peaks(contender: Contender, policy: Policy, seed: int = 0, memory: Any = None) -> Peaks:
    """Of one gradient on a GPU; `seed` is of the selection.

    A step frees the gradients of the one before and makes them anew, layer by layer, in the place of activations that
    go. So what gradients hold is followed all the way: taken off at the end, it would hide as many activations.
    """
    for parameter in policy.parameters:
        parameter.grad = None
    gc.collect()
    memory = memory or DeviceMemory(policy.device)
    memory.peak()  # what was before is nobody's
    base, held, most, total = memory.level(), 0, 0, 0
    seen: set[int] = set()

    def note(parameter: torch.Tensor | None) -> None:
        nonlocal held, most, total
        peak = memory.peak()
        most, total = max(most, peak - base - held), max(total, peak)
        if parameter is not None and parameter.grad is not None and id(parameter) not in seen:
            seen.add(id(parameter))
            held += parameter.grad.numel() * parameter.grad.element_size()

    hooks = [parameter.register_post_accumulate_grad_hook(note) for parameter in policy.parameters]
    try:
        contender(torch.Generator().manual_seed(seed))
        note(None)
    finally:
        for hook in hooks:
            hook.remove()
    return Peaks(most / 1024**3, total / 1024**3)


def peak_gib(contender: Contender, policy: Policy, seed: int = 0) -> float:
    """Peak memory of one gradient above weights and gradients: allocated on a GPU, resident set on a CPU.

    `seed` is of the selection.
    """
    if policy.device.type == "cuda":
        return peaks(contender, policy, seed).activations
    for parameter in policy.parameters:
        parameter.grad = torch.zeros_like(parameter)
    gc.collect()
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
