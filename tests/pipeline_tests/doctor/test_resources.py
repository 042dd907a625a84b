"""What a machine, or its container, does not give to a fit per core is told, with a figure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.doctor import resources
from pipeline.doctor.cgroup import limit_of_cores, limit_of_memory
from pipeline.doctor.resources import check_memory, check_shm, check_threads, limit_finding


def test_threads_and_cores_that_fit_are_well() -> None:
    findings = [*check_threads({"OMP_NUM_THREADS": "1"}, cores=8, limit=8.0)]
    assert [finding.status for finding in findings] == ["ok", "ok"]


def test_a_container_with_fewer_cores_and_more_threads_per_fit_are_doubtful() -> None:
    cores, threads = check_threads({"OMP_NUM_THREADS": "8"}, cores=64, limit=2.5)
    assert (cores.status, threads.status) == ("warning", "warning")
    assert "2.5 of 64 cores" in cores.finding
    assert "--workers 2" in cores.mend
    assert "OMP_NUM_THREADS" in threads.mend


@pytest.mark.parametrize(
    ("files", "own", "cores", "memory"),
    [
        ({"cpu.max": "150000 100000", "memory.max": "1000"}, "0::/", 1.5, 1000),
        ({"a/cpu.max": "max 100000", "cpu.max": "200000 100000"}, "0::/a", 2.0, None),
        ({"a/memory.max": "900", "memory.max": "max"}, "0::/a/b", None, 900),
        (
            {
                "cpu/d/cpu.cfs_quota_us": "50000",
                "cpu/d/cpu.cfs_period_us": "100000",
                "memory/d/memory.limit_in_bytes": "700",
                "memory/memory.limit_in_bytes": str(2**63 - 4096),
            },
            "4:cpu,cpuacct:/d\n3:memory:/d\n2:pids:/d",
            0.5,
            700,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/", None, None),
        ({"cpu.max": "nonsense"}, "0::/../..", None, None),
        ({}, "", None, None),
    ],
)
def test_the_limits_of_both_versions_of_control_groups_are_read(
    files: dict[str, str], own: str, cores: float | None, memory: int | None, tmp_path: Path
) -> None:
    groups = tmp_path / "groups"
    groups.mkdir()
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(own)
    assert limit_of_cores(groups, tmp_path / "own") == cores
    assert limit_of_memory(groups, tmp_path / "own") == memory
    assert limit_of_cores(groups, tmp_path / "missing") is None


def test_memory_that_is_too_small_is_told_with_how_many_fits_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(resources, "limit_of_cores", lambda: None)
    [finding] = check_memory(limit_bytes=900 * 2**20)
    assert (finding.status, "--workers 2" in finding.mend) == ("warning", True)
    [finding] = check_memory(limit_bytes=100 * 2**20)
    assert (finding.status, "--workers 1" in finding.mend) == ("error", True)


def test_shared_memory_that_is_not_there_or_small_is_doubtful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [finding] = check_shm(tmp_path / "none")
    assert (finding.status, "tmpfs" in finding.mend) == ("warning", True)
    monkeypatch.setattr(resources, "SMALL_SHM_BYTES", 2**60)
    [finding] = check_shm(tmp_path)
    assert (finding.status, "--shm-size" in finding.mend) == ("warning", True)


@pytest.mark.parametrize(
    ("soft", "hard", "status", "mend"),
    [
        (-1, -1, "ok", ""),
        (65536, 65536, "ok", ""),
        (1024, 65536, "warning", "Before a study: `ulimit -n 4096`"),
        (1024, -1, "warning", "Before a study: `ulimit -n 4096`"),
        (256, 1024, "warning", "Have an administrator raise the limit"),
    ],
)
def test_a_limit_that_is_low_is_told_with_who_can_raise_it(
    soft: int, hard: int, status: str, mend: str
) -> None:
    finding = limit_finding("-n", "open files", 4096, soft, hard)
    assert finding.status == status
    assert finding.mend.startswith(mend)
    assert bool(finding.mend) == (status != "ok")
