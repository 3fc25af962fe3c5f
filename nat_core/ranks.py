"""The processes that train one run together, a device each: which one this is, and what they tell each other.

Every rank knows the whole step, so little has to be said: sampled completions, sums of metrics, and whether to stop.
It goes over gloo, in the processor's memory, also where gradients go over NCCL. With one process all of it is nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from nat_core.errors import CheckpointError, DiskError, Fault, ModelError, NatlabError, SpecError
from nat_core.launch import RENDEZVOUS_FILE
from nat_core.spec import ResourcesSpec

T = TypeVar("T")

# A rank may wait for others' rollouts. One that has died is noticed at once, one that hangs by whoever supervises.
_PATIENCE = timedelta(days=1)
_TOLD = "natlab/failed"
_CLASSES: dict[str, type[NatlabError]] = {kind.code: kind for kind in (DiskError, CheckpointError)}


class Deserted(BaseException):
    """Another rank is gone without a word, so this one cannot go on.

    No `Exception`: the run has not failed, it is lost, and may be taken up from its checkpoint.
    """


@dataclass(frozen=True)
class Ranks:
    """Attributes:
    rank: this process, from 0.
    size: how many there are.
    local: this process among those of its machine: the number of its GPU.
    store: where a rank that fails leaves word, for those that only see it gone.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    store: Any = None

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that reports and writes what is written once."""
        return self.rank == 0

    # --- telling each other; every rank must call these at the same point ---

    def gather(self, values: Tensor) -> list[Tensor]:
        """What every rank gives, in their order; 1-d tensors in the processor's memory, each as long as it is."""
        if self.alone:
            return [values]
        sizes = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(values)]))
        lengths = [int(size) for size in sizes]
        sent = torch.zeros(max(lengths), dtype=values.dtype)
        sent[: len(values)] = values
        found = [torch.empty_like(sent) for _ in range(self.size)]
        dist.all_gather(found, sent)
        return [part[:length] for part, length in zip(found, lengths, strict=True)]

    def share(self, value: T) -> list[T]:
        """What every rank gives, in their order: plain values, as JSON, which keeps numbers to the bit."""
        if self.alone:
            return [value]
        sent = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        return [json.loads(part.numpy().tobytes()) for part in self.gather(sent)]

    def sums(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over the ranks, added in their order and so the same everywhere; all must know the same names."""
        parts = self.share(dict(values))
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    def total(self, values: Tensor) -> Tensor:
        """The sum over the ranks of a tensor of any shape in the processor's memory, added in their order."""
        if self.alone:
            return values
        return torch.stack(self.gather(values.flatten())).sum(dim=0).reshape(values.shape)

    def lead(self, work: Callable[[], T]) -> T:
        """What rank 0 makes of it, known to all: a plain value, or its error."""
        if self.alone:
            return work()
        answer: dict[str, Any] = {}
        if self.leads:
            try:
                answer["value"] = work()
            except NatlabError as error:
                answer = _in_words(error)
        answer = self.share(answer)[0]
        if "code" in answer:
            raise _from_words(answer)
        value: T = answer["value"]
        return value

    def unless(self, stop: type[BaseException], work: Callable[[], T]) -> T:
        """What this rank makes of it; `stop` on every rank when one of them raised it."""
        found: list[T] = []
        try:
            found.append(work())
        except stop:
            if self.alone:
                raise
        if self.alone or all(self.share(bool(found))):
            return found[0]
        raise stop

    # --- failing together ---

    def guard(self, work: Callable[[], T]) -> T:
        """What it returns. A rank that fails tells the others why; those raise the same once they miss it.

        Raises:
            Deserted: another rank is gone and has told nothing.
        """
        if self.alone:
            return work()
        try:
            return work()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        assert self.store is not None
        if not _says_gone(error):
            self.store.set(_TOLD, json.dumps(_in_words(error)))
            raise error
        try:
            told = json.loads(self.store.get(_TOLD)) if self.store.check([_TOLD]) else None
        except (RuntimeError, dist.DistError):  # it lay with the rank that is gone
            told = None
        if told is None:
            raise Deserted(f"another of the {self.size} ranks is gone ({' '.join(str(error).split())[:300]})") from None
        raise _from_words(told) from None

    # --- the device, and the end ---

    def take_device(self, resources: ResourcesSpec) -> None:
        """Make this rank's GPU the one that `cuda` means, where there are any.

        Raises:
            ModelError: there are not enough.
        """
        if self.alone:
            return
        if resources.device == "cpu" or not torch.cuda.is_available():
            if resources.gpus:
                _refuse("/resources/gpus", f"resources.gpus is {resources.gpus}, but torch sees no GPU; lower it")
            return
        if self.local >= torch.cuda.device_count():
            detail = f"rank {self.rank} needs GPU {self.local}, but torch sees {torch.cuda.device_count()}"
            _refuse("/resources/gpus", f"{detail}; lower resources.gpus or the number of processes")
        torch.cuda.set_device(self.local)

    def leave(self) -> None:
        """Close the connections."""
        if not self.alone:
            dist.destroy_process_group()


ALONE = Ranks()


def join(resources: ResourcesSpec) -> Ranks:
    """The ranks that torchrun, or `nat_core.launch`, says this process is one of.

    Raises:
        SpecError: there are more or fewer of them than `resources.gpus` asks for.
    """
    environment, asked = os.environ, resources.gpus
    size = int(environment.get("WORLD_SIZE", "1")) if "RANK" in environment else 1
    if asked and asked != size:
        remedy = f"start one for each with torchrun --nproc-per-node {asked}, or leave it unset"
        detail = f"resources.gpus is {asked}, but the number of processes is {size}; {remedy}"
        raise SpecError.at("/resources/gpus", detail)
    if size == 1:
        return ALONE
    rank = int(environment["RANK"])
    path = environment.get(RENDEZVOUS_FILE)
    store = next(rendezvous(f"file://{path}" if path else "env://", rank, size))[0]
    on_gpus = resources.device != "cpu" and torch.cuda.is_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE
    )
    return Ranks(rank, size, int(environment.get("LOCAL_RANK", rank)), store)


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be cut over the ranks (a DTensor); then every rank must ask for it."""
    found: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found


def _says_gone(error: BaseException) -> bool:
    """Whether an error is that a connection to another rank has broken."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _in_words(error: Exception) -> dict[str, str]:
    if isinstance(error, NatlabError):
        return {"code": error.code, "message": error.message}
    return {"code": "error", "message": f"{type(error).__name__}: {error}"}


def _from_words(told: Mapping[str, str]) -> NatlabError:
    error = _CLASSES.get(told["code"], NatlabError)(told["message"])
    error.code = told["code"]
    return error


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise ModelError(detail, [Fault(pointer, detail)])
