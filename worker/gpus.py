"""GPU leases: which GPUs of this machine a run has to itself.

Each GPU has a lock file in the data folder, which all workers of a machine share. The trainer holds
the locks as long as it lives, so that a GPU is free exactly when nobody computes on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from worker.errors import WorkerError


class Gpus:
    """The GPUs that workers of this machine may lease, by the driver's number.

    Args:
        home: the data folder that the machine's workers share.
        hostname: keeps machines apart where that folder is on a network.
    """

    def __init__(self, home: Path, hostname: str, indices: Sequence[int] = ()) -> None:
        self._stem = home / f"gpu-{hostname.replace('/', '-')[:100]}"
        self.indices = tuple(indices)

    def lease_free(self) -> Lease:
        """All that are free right now; give back what the run does not need."""
        held = {}
        for index in self.indices:
            lock = os.open(f"{self._stem}-{index}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                held[index] = lock
        return Lease(held, known=bool(self.indices))


class Lease:
    """Some GPUs, held by this process and by those that got `locks` from it. Use as a context manager.

    Args:
        locks: lock by GPU.
        known: whether the machine has GPUs to lease at all; else a trainer may see what there is.
    """

    def __init__(self, locks: Mapping[int, int] | None = None, known: bool = False) -> None:
        self._locks = dict(locks or {})
        self._known = known

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exception: object) -> None:
        self.keep(0)

    def __len__(self) -> int:
        return len(self._locks)

    @property
    def indices(self) -> tuple[int, ...]:
        """The GPUs it holds, by the driver's number."""
        return tuple(self._locks)

    @property
    def locks(self) -> tuple[int, ...]:
        return tuple(self._locks.values())

    @property
    def environment(self) -> dict[str, str]:
        """What makes CUDA show exactly these, numbered as the driver numbers them."""
        if not self._known:
            return {}
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, self._locks))}

    def keep(self, count: int) -> None:
        """Give back all but so many."""
        for index in list(self._locks)[count:]:
            with contextlib.suppress(OSError):
                os.close(self._locks.pop(index))


def leasable(found: Sequence[int], visible: str | None) -> list[int]:
    """The GPUs among `found` that `CUDA_VISIBLE_DEVICES` leaves to this worker; all of them where it is not set.

    Raises:
        WorkerError: it names them otherwise than by number.
    """
    if visible is None:
        return list(found)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    names = names[: names.index("-1")] if "-1" in names else names  # which ends the list for CUDA, too
    if not all(name.isdecimal() for name in names):
        raise WorkerError(
            f"CUDA_VISIBLE_DEVICES is {visible!r}, but a worker leases GPUs by the driver's number; list numbers"
        )
    return [index for index in found if str(index) in names]
