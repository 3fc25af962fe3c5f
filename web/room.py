"""Which memory a run will have: that of the worker which is to take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nat_core.records import Room, WorkerRecord
from nat_core.spec import ResourcesSpec
from web.formatting import plural
from web.queue_pages import is_heard_of


def present(workers: Sequence[WorkerRecord], now: datetime) -> list[WorkerRecord]:
    """Those that are there: at work, or heard of lately."""
    return [worker for worker in workers if worker.run_id or is_heard_of(worker, now)]


def choose_room(workers: Sequence[WorkerRecord], resources: ResourcesSpec, wanted: str = "") -> Room | None:
    """That of the worker asked for; else the largest among those that take such runs; None where there is none."""
    rooms = [room_of(worker, resources) for worker in workers]
    if wanted:
        return next((room for room in rooms if room.worker_id == wanted), None)
    return max((room for room in rooms if not room.refusal), key=lambda room: room.memory_gib or 0.0, default=None)


def room_of(worker: WorkerRecord, resources: ResourcesSpec) -> Room:
    """The memory of one of its GPUs, or its own where the runs use none."""
    gpus = _gpus(worker.hardware)
    on_gpu = bool(gpus) and resources.device != "cpu" and resources.gpus != 0
    sizes = [size for gpu in gpus if (size := _number(gpu.get("memory_gib"))) is not None]
    memory = min(sizes, default=None) if on_gpu else _number(worker.hardware.get("memory_gib"))
    return Room(worker_id=worker.id, on_gpu=on_gpu, memory_gib=memory, refusal=_refusal(worker, resources, len(gpus)))


def _refusal(worker: WorkerRecord, resources: ResourcesSpec, num_gpus: int) -> str:
    if resources.worker_label is not None and resources.worker_label not in worker.labels:
        return f"resources.worker_label is {resources.worker_label!r}, which it has not; label it, or clear the field"
    needed = resources.gpus if resources.gpus is not None else int(resources.device == "cuda")
    if needed > num_gpus:
        return f"they need {plural(needed, 'GPU')} and it has {num_gpus or 'none'}; lower resources.gpus"
    return ""


def _gpus(hardware: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = hardware.get("gpus")
    return [gpu for gpu in found if isinstance(gpu, dict)] if isinstance(found, list) else []


def _number(value: Any) -> float | None:
    """A size that a worker told; what is no number counts as not told."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
