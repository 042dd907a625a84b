"""What a store answers is told with its figures, and nothing is left in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.doctor.store import check_store
from pipeline.storage.stage_store import StageStore, StoreProbe


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    [finding] = check_store(str(tmp_path / "a" / "store"))
    assert (finding.status, [*tmp_path.iterdir()]) == ("ok", [])


def test_a_store_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    StageStore(tmp_path).write("entry", {"file": b"data"})
    before = sorted(tmp_path.rglob("*"))
    [finding] = check_store(str(tmp_path))
    assert finding.status == "ok"
    assert "ms to write" in finding.finding
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == []


def test_a_folder_that_is_empty_stays_and_stays_empty(tmp_path: Path) -> None:
    [finding] = check_store(str(tmp_path))
    assert (finding.status, tmp_path.is_dir()) == ("ok", True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_store_that_cannot_be_used_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [finding] = check_store(str(tmp_path / "file" / "store"))
    assert (finding.status, "--store" in finding.mend) == ("error", True)
    [finding] = check_store("hdfs://host/store")
    assert finding.status == "error"


@pytest.mark.parametrize(
    ("probe", "statuses"),
    [
        (StoreProbe(3.0, 0.1, 0.1, True), ["warning"]),
        (StoreProbe(0.1, 0.1, 0.1, False), ["ok", "warning"]),
    ],
)
def test_a_slow_store_and_one_without_conditions_are_doubtful(
    probe: StoreProbe, statuses: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageStore, "probe", lambda store: probe)
    findings = [*check_store(str(tmp_path))]
    assert [finding.status for finding in findings] == statuses
    assert all(finding.mend for finding in findings if finding.status != "ok")
