"""A marker tells the driver's store from another one at the same path, and is gone afterwards."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import SurroundingsError
from tuning.ray_backend import store_marker
from tuning.ray_backend.store_marker import KEPT_S, PREFIX, marked_store


@pytest.mark.parametrize("is_there", [True, False])
def test_the_same_folder_is_known_also_before_it_is_made(is_there: bool, tmp_path: Path) -> None:
    store = tmp_path / "store"
    if is_there:
        store.mkdir()
    for uri in (str(store), store.as_uri()):
        with marked_store(uri) as marker:
            assert marker.find_fault() is None
            marker.raise_if_not_here()
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(PREFIX)] == []


def test_another_folder_a_copy_from_before_and_no_folder_are_told(tmp_path: Path) -> None:
    store, other = tmp_path / "store", tmp_path / "other"
    store.mkdir()
    other.mkdir()
    with marked_store(str(store)) as first:
        (other / first.name).write_text((store / first.name).read_text())
    with marked_store(str(store)) as marker:
        for there in (other, tmp_path / "none"):
            elsewhere = replace(marker, uri=str(there))
            assert elsewhere.find_fault() == "is not the driver's"
            with pytest.raises(SurroundingsError, match="is not the driver's"):
                elsewhere.raise_if_not_here()
        assert not (tmp_path / "none").exists()
        (store / marker.name).write_text("another word")
        assert marker.find_fault() == "is not the driver's"


def test_two_drivers_have_markers_of_their_own(tmp_path: Path) -> None:
    with marked_store(str(tmp_path)) as first, marked_store(str(tmp_path)) as second:
        assert first.find_fault() is None
        assert second.find_fault() is None


def test_only_old_markers_of_others_are_removed(tmp_path: Path) -> None:
    old, new = tmp_path / f"{PREFIX}old", tmp_path / f"{PREFIX}new"
    for path, age in ((old, KEPT_S + 100), (new, 100.0)):
        path.touch()
        time = path.stat().st_mtime - age
        os.utime(path, (time, time))
    with marked_store(str(tmp_path)):
        assert (old.exists(), new.exists()) == (False, True)


class Bucket:
    """Objects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def write(self, name: str, data: bytes) -> None:
        """Keep an object."""
        self.objects[name] = data

    def read(self, name: str) -> bytes | None:
        """Return an object."""
        return self.objects.get(name)

    def delete(self, name: str) -> None:
        """Delete an object."""
        del self.objects[name]


def test_an_object_store_is_known_by_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, other = Bucket(), Bucket()
    monkeypatch.setattr(store_marker, "ObjectStore", lambda address, **bounds: bucket)
    with marked_store("s3://bucket/store") as marker:
        assert marker.find_fault() is None
        monkeypatch.setattr(store_marker, "ObjectStore", lambda address, **bounds: other)
        assert marker.find_fault() == "is not the driver's"
        assert "same settings" in marker.mend
    assert bucket.objects == {}
