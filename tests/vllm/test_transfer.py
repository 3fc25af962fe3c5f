"""The way of weights by NCCL, as far as it goes without GPUs: vLLM's own trainer side runs, its messages go to a server
that notes them, and what it would broadcast is collected instead of sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.distributed.weight_transfer import nccl_engine

from nat_core.errors import SpecError
from nat_core.rollout.vllm_http import Server
from nat_core.rollout.vllm_transfer import NcclTransfer, free_port, open_transfer, own_address
from nat_core.rollout.weights import checkpoint_weights
from tests.nat_core.builders import tiny_policy
from tests.nat_core.vllm_stub import Stub
from tests.vllm.builders import shake, vllm_spec


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def test_the_handshake_and_each_update_are_what_vllms_workers_expect(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[Any] = []
    left: list[bool] = []
    group = SimpleNamespace(destroy=lambda: left.append(True))
    sent: list[list[tuple[str, torch.Tensor]]] = []
    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", lambda info: met.append(info) or group)

    def broadcast(*, iterator: Iterator[tuple[str, torch.Tensor]], **_: Any) -> None:
        sent.append([(name, tensor.clone()) for name, tensor in iterator])

    monkeypatch.setattr(nccl_engine, "packed_nccl_broadcast_producer", broadcast)
    policy = tiny_policy(dtype=torch.float32)
    transfer = NcclTransfer(policy, Server(stub.url, 10))
    [(path, body)] = stub.asked
    assert path == "/init_weight_transfer_engine"
    told = nccl_engine.NCCLWeightTransferInitInfo(**body["init_info"])
    assert (told.master_address, told.rank_offset, told.world_size) == ("127.0.0.1", 1, 3)
    assert (met[0].master_address, met[0].master_port, met[0].world_size) == ("127.0.0.1", told.master_port, 3)

    for _ in range(2):
        stub.asked.clear()
        shake(policy)
        transfer.push()
        paths = [path for path, _ in stub.asked]
        assert paths == [
            "/pause?mode=wait", "/start_weight_update", "/update_weights", "/finish_weight_update",
            "/reset_prefix_cache", "/resume",
        ]  # fmt: skip
        described = nccl_engine.NCCLWeightTransferUpdateInfo(**stub.asked[2][1]["update_info"])
        now = dict(checkpoint_weights(policy))
        assert described.names == [name for name, _ in sent[-1]] == list(now)
        assert described.shapes == [list(tensor.shape) for tensor in now.values()]
        assert {getattr(torch, name) for name in described.dtype_names} == {torch.float32}
        assert all(tensor.equal(now[name]) for name, tensor in sent[-1])
    transfer.close()
    assert left == [True]


def test_on_a_cpu_nccl_is_refused(stub: Stub, tmp_path: Path) -> None:
    rollout = {"vllm_mode": "server", "vllm_server_base_url": stub.url}
    with pytest.raises(SpecError, match=r"trains on cpu .* use disk"):
        open_transfer(vllm_spec(rollout=rollout), tiny_policy(), Server(stub.url, 10), tmp_path)


def test_the_address_is_the_one_that_the_server_sees() -> None:
    assert own_address("http://127.0.0.1:8000/v1") == "127.0.0.1"
    assert 0 < free_port() < 65_536
