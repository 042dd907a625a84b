"""Folders that cannot be written, disks without room, and paths too long for sockets are told."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.doctor import disks
from pipeline.doctor.disks import check_disks, check_home, check_ray_folder, folder_fault

Usage = namedtuple("Usage", "total used free")
GB = 2**30


@pytest.mark.parametrize(
    ("free", "status"), [(100 * GB, "ok"), (GB, "warning"), (100 * 2**20, "error"), (0, "error")]
)
def test_a_disk_without_room_is_told_once(
    free: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(200 * GB, 200 * GB - free, free))
    before = sorted(tmp_path.rglob("*"))
    [finding] = check_disks({"results": tmp_path / "a" / "b", "store": tmp_path})
    assert (finding.status, bool(finding.mend)) == (status, status != "ok")
    assert str(tmp_path) in finding.finding
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [finding] = check_disks({"store": tmp_path / "file" / "store"})
    assert finding.status == "error"
    assert "choose another folder" in finding.mend


def test_a_path_too_long_for_sockets_is_told_where_no_other_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    assert "characters" in str(folder_fault(long, longest=40))
    assert folder_fault(tmp_path, longest=1000) is None

    monkeypatch.setenv("RAY_TMPDIR", str(long))
    [finding] = check_ray_folder()
    assert (finding.status, "RAY_TMPDIR" in finding.mend) == ("error", True)


def test_homes_and_compiled_code_without_a_place_are_doubtful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    findings = [*check_home()]
    assert [finding.status for finding in findings] == ["warning", "warning"]
    assert ["HOME" in findings[0].mend, "NUMBA_CACHE_DIR" in findings[1].mend] == [True, True]


def test_compiled_code_has_a_place_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert disks.compiled_folder() == tmp_path
    assert [*tmp_path.iterdir()] == []
