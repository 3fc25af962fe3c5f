"""How a `vllm serve` gets the policy's weights: by vLLM's own weight transfer, or through files."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import torch
from torch import Tensor

from nat_core.errors import SpecError
from nat_core.model import Policy
from nat_core.rollout.vllm_http import Server
from nat_core.rollout.weights import checkpoint_weights, write_weights
from nat_core.spec import RunSpec


class Transfer(Protocol):
    """A way of weights to a server."""

    def push(self) -> None:
        """Make the server sample from the policy as it is now."""

    def close(self) -> None:
        """Part from the server."""


def open_transfer(spec: RunSpec, policy: Policy, server: Server, run_dir: Path) -> Transfer:
    """The way that the spec names.

    Raises:
        SpecError: it needs a GPU that is not there.
        RolloutError: the server cannot take weights.
    """
    if spec.rollout.vllm_weight_sync == "disk":
        return DiskTransfer(policy, server, run_dir)
    if policy.device.type != "cuda":
        raise SpecError.at(
            "/rollout/vllm_weight_sync",
            f"rollout.vllm_weight_sync is nccl, but the run trains on {policy.device.type} and NCCL sends from GPU to "
            "GPU; use disk",
        )
    return NcclTransfer(policy, server)


@contextmanager
def _paused(server: Server) -> Iterator[None]:
    """While the weights change nothing is sampled, and what was computed with others is forgotten."""
    server.post("/pause", mode="wait")
    try:
        yield
        server.post("/reset_prefix_cache")
    finally:
        server.post("/resume")


class DiskTransfer:
    """Through files that trainer and server both see, under the same path."""

    def __init__(self, policy: Policy, server: Server, run_dir: Path) -> None:
        self._policy, self._server = policy, server
        self._folder = run_dir.resolve() / "weights-for-vllm"

    def push(self) -> None:
        """Write the weights, have them read, remove them."""
        told = {"method": "reload_weights", "kwargs": {"weights_path": str(self._folder)}}
        try:
            write_weights(self._policy, self._folder)
            with _paused(self._server):
                self._server.post("/collective_rpc", told)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Nothing is held."""


class NcclTransfer:
    """From GPU to GPU: vLLM's own trainer side drives the server's weight transfer, and sends beside it."""

    def __init__(self, policy: Policy, server: Server) -> None:
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        self._server = server
        self._engine = WeightTransferTrainerFactory.trainer_init(
            init_info=NCCLTrainerInitInfo(
                master_address=own_address(server.url),
                master_port=free_port(),
                world_size=1 + int(server.get("/get_world_size")["world_size"]),
                rank=0,
            ),
            client=Control(server),
            source=Source(policy),
        )

    def push(self) -> None:
        """Send the weights."""
        with _paused(self._server):
            self._engine.send_weights()

    def close(self) -> None:
        """Leave the group of senders and receivers."""
        self._engine.shutdown()


class Control:
    """What vLLM's trainer side tells the server, over its HTTP endpoints (vLLM's `VLLMWeightSyncClient`)."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Meet the trainer in a group."""
        self._server.post("/init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Expect weights."""
        self._server.post("/start_weight_update")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive the weights so described, which are being sent."""
        self._server.post("/update_weights", {"update_info": update_info})

    def finish_weight_update(self) -> None:
        """All have come."""
        self._server.post("/finish_weight_update")


@dataclass(frozen=True)
class Described:
    """A weight before it is sent."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class Source:
    """The policy's weights as vLLM's trainer side takes them (vLLM's `WeightSource`): each time anew, in one order."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def metadata(self) -> list[Described]:
        """What will come."""
        return [Described(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return checkpoint_weights(self._policy)


def own_address(url: str) -> str:
    """This machine's address as the server at `url` sees it."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    family, kind, _, _, place = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)  # a datagram socket sends nothing by this, but learns its own address
        return str(probe.getsockname()[0])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
