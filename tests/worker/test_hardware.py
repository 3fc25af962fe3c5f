from __future__ import annotations

from pathlib import Path

from worker import hardware


def test_report_names_the_processor_and_versions() -> None:
    report = hardware.report()
    assert report["cpu"] and report["cores"] >= 1 and report["memory_gib"] > 0
    assert set(report["versions"]) >= {"python", "natlab"}


def test_gpus_are_read_from_the_drivers_own_list(tmp_path: Path) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho '0, NVIDIA H200, NVL, 143771'\necho '1, Tesla T4, [N/A]'\n")
    driver.chmod(0o755)
    assert hardware.gpus(str(driver)) == [
        {"index": 0, "name": "NVIDIA H200, NVL", "memory_gib": 140.4},
        {"index": 1, "name": "Tesla T4", "memory_gib": None},
    ]


def test_no_driver_means_no_gpus(tmp_path: Path) -> None:
    assert hardware.gpus(str(tmp_path / "none")) == []
