from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from worker.errors import WorkerError
from worker.gpus import Gpus, leasable


def test_gpu_is_leased_once_and_free_again_afterwards(tmp_path: Path) -> None:
    mine, others = Gpus(tmp_path, "box", [0, 1, 2]), Gpus(tmp_path, "box", [0, 1, 2])
    with mine.lease_free() as lease:
        assert len(lease) == 3 and len(others.lease_free()) == 0
        lease.keep(1)
        assert lease.environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
        with others.lease_free() as rest:
            assert rest.environment["CUDA_VISIBLE_DEVICES"] == "1,2"
        assert len(Gpus(tmp_path, "other box", [0]).lease_free()) == 1
    assert len(others.lease_free()) == 3


def test_process_that_got_the_locks_holds_the_gpu_until_it_ends(tmp_path: Path) -> None:
    gpus = Gpus(tmp_path, "box", [0])
    with gpus.lease_free() as lease:
        argv = [sys.executable, "-c", "input()"]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=lease.locks)
    assert len(gpus.lease_free()) == 0
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    assert len(gpus.lease_free()) == 1


def test_run_without_gpus_sees_none_and_a_machine_without_says_nothing(tmp_path: Path) -> None:
    with Gpus(tmp_path, "box", [0]).lease_free() as lease:
        lease.keep(0)
        assert lease.environment["CUDA_VISIBLE_DEVICES"] == ""
    with Gpus(tmp_path, "box").lease_free() as nothing:
        assert nothing.environment == {}


def test_worker_leases_what_its_own_environment_leaves_it() -> None:
    assert leasable([0, 1, 2], None) == [0, 1, 2]
    assert leasable([0, 1, 2], "2, 0") == [0, 2]
    assert leasable([0, 1], "") == [] and leasable([0, 1], "-1") == [] and leasable([0, 1], "1,-1,0") == [1]
    with pytest.raises(WorkerError, match="CUDA_VISIBLE_DEVICES is 'GPU-3f'"):
        leasable([0], "GPU-3f")
