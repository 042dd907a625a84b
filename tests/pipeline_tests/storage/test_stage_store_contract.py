"""Every kind of store keeps the same promises: a folder, a `file://` URI, and an object store.

The object store is a real S3 server, in `make test-cluster` alone.
"""

from __future__ import annotations

import io
import json
import shutil
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.fitting.trainer import fit
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.trained_stage import STAGE_FILE, WEIGHTS_FILE, TrainedStage
from pipeline.storage.atomic_folder import MANIFEST, manifest_of
from pipeline.storage.stage_store import (
    FORMAT,
    FORMAT_ENTRY,
    FORMAT_FILE,
    REMOTE_FORMAT,
    StageStore,
)
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec
from tests.pipeline_tests.problems import pose
from tests.s3 import Proxy

KINDS = ["folder", "file URI", pytest.param("S3", marks=pytest.mark.cluster)]
NAME = "key-checkpoint"


@dataclass(frozen=True)
class Location:
    """Where a store is.

    Attributes:
        uri: names it.
        folder: holds its entries; None for an object store.
    """

    uri: str
    folder: Path | None

    def open(self) -> StageStore:
        """Open the store, as another process would."""
        return StageStore(self.uri)

    def entries(self) -> set[str]:
        """Return the names of its entries."""
        return set(self.open().names())

    def damage(self, name: str, file: str, how: str) -> None:
        """Damage a file of an entry; in an object store, where that is in the one object."""
        if self.folder is not None:
            path = self.folder / name / file
            if how == "removed":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:-1] if how == "cut short" else b"")
            return

        objects = self.open().objects
        packed = objects.read(f"{name}.zip")
        assert packed is not None
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            files = {member: archive.read(member) for member in archive.namelist()}
        content = files.pop(file)
        if how != "removed":
            files[file] = content[:-1] if how == "cut short" else b""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in files.items():
                archive.writestr(member, data)
        objects.write(f"{name}.zip", buffer.getvalue())


@pytest.fixture(params=KINDS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Return the location of a store that does not exist yet."""
    if request.param == "S3":
        proxy: Proxy = request.getfixturevalue("service")
        return Location(proxy.uri(f"my runs/{tmp_path.name}"), None)
    folder = tmp_path / "store"
    return Location(str(folder) if request.param == "folder" else f"file://{folder}", folder)


@pytest.fixture(params=KINDS[:2])
def folder_location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Return the location of a store in a folder, which does not exist yet."""
    folder = tmp_path / "store"
    return Location(str(folder) if request.param == "folder" else f"file://{folder}", folder)


def folder_of(location: Location) -> Path:
    """Return the folder of a store that is one."""
    assert location.folder is not None
    return location.folder


@pytest.fixture(scope="module")
def stage() -> TrainedStage:
    """Return a trained stage."""
    corpus = tiny_corpus()
    return fit(pose(AutoEncoderTask("voice"), corpus, tiny_spec()), corpus)


def test_a_stage_that_is_put_comes_back_the_same(location: Location, stage: TrainedStage) -> None:
    location.open().put(stage)

    stored = location.open().get(stage.key)
    assert stored is not None
    assert stored.to_files() == stage.to_files()
    assert location.entries() == {stage.key}


def test_putting_a_stage_twice_is_harmless(location: Location, stage: TrainedStage) -> None:
    store = location.open()
    store.put(stage)
    store.put(stage)

    assert store.get(stage.key) is not None
    assert location.entries() == {stage.key}


def test_what_was_never_put_is_none(location: Location, stage: TrainedStage) -> None:
    store = location.open()
    assert store.get(stage.key) is None
    assert store.read(NAME, dict) is None

    store.put(stage)
    assert store.get("another key") is None


def test_files_that_are_written_again_replace_all_earlier_ones(location: Location) -> None:
    store = location.open()
    store.write(NAME, {"a": b"1", "b": b"2"})
    assert store.read(NAME, dict) == {"a": b"1", "b": b"2"}

    store.write(NAME, {"a": b"3"})
    assert store.read(NAME, dict) == {"a": b"3"}
    assert location.open().read(NAME, dict) == {"a": b"3"}


@pytest.mark.parametrize("file", [STAGE_FILE, WEIGHTS_FILE, MANIFEST])
@pytest.mark.parametrize("damage", ["cut short", "empty", "removed"])
def test_a_damaged_entry_counts_as_none_and_can_be_written_again(
    location: Location, stage: TrainedStage, file: str, damage: str
) -> None:
    store = location.open()
    store.put(stage)
    location.damage(stage.key, file, damage)
    assert store.get(stage.key) is None

    store.put(stage)
    stored = store.get(stage.key)
    assert stored is not None
    assert stored.to_files() == stage.to_files()


def test_files_that_cannot_be_parsed_count_as_none(location: Location) -> None:
    store = location.open()
    store.write(NAME, {"a": b"no number"})

    assert store.read(NAME, lambda files: int(files["a"])) is None
    assert store.read(NAME, lambda files: files["b"]) is None


def test_what_is_removed_is_gone_and_the_rest_stays(
    location: Location, stage: TrainedStage
) -> None:
    store = location.open()
    store.put(stage)
    store.write(NAME, {"a": b"1"})

    store.remove(NAME)
    assert store.read(NAME, dict) is None
    assert location.entries() == {stage.key}
    assert store.get(stage.key) is not None


def test_removing_what_is_not_there_is_harmless(location: Location) -> None:
    store = location.open()
    store.remove(NAME)
    assert store.read(NAME, dict) is None


def test_a_store_of_a_later_format_is_refused_in_a_sentence(location: Location) -> None:
    location.open().write(NAME, {})
    if location.folder is None:
        number = str(REMOTE_FORMAT + 1).encode()
        objects = location.open().objects
        objects.write(f"{FORMAT_ENTRY}/{FORMAT_FILE}", number)
        objects.write(f"{FORMAT_ENTRY}/{MANIFEST}", manifest_of({FORMAT_FILE: number}))
    else:
        location.open().write(FORMAT_ENTRY, {FORMAT_FILE: str(FORMAT + 1).encode()})

    with pytest.raises(InputError, match=r"by a later version of Affectune.*another store"):
        location.open()


def test_a_store_of_an_earlier_format_is_refused_in_a_sentence(
    folder_location: Location, stage: TrainedStage
) -> None:
    store = folder_location.open()
    store.write(stage.key, {STAGE_FILE: b"{}", "weights": b"as they were written once"})
    store.remove(FORMAT_ENTRY)

    with pytest.raises(InputError, match=r"by an earlier version of Affectune.*another store"):
        folder_location.open()
    assert {path.name for path in folder_of(folder_location).iterdir()} == {stage.key}


@pytest.mark.parametrize("damage", ["empty", "flipped", "no manifest", "removed", "a file"])
def test_where_the_format_is_damaged_the_stages_say_which_it_is(
    folder_location: Location, stage: TrainedStage, damage: str
) -> None:
    folder_location.open().put(stage)
    entry = folder_of(folder_location) / FORMAT_ENTRY
    match damage:
        case "empty":
            (entry / FORMAT_FILE).write_bytes(b"")
        case "flipped":
            (entry / FORMAT_FILE).write_bytes(str(FORMAT + 1).encode())
        case "no manifest":
            (entry / MANIFEST).unlink()
        case _:
            shutil.rmtree(entry)
            if damage == "a file":
                entry.write_bytes(b"in the way")

    store = folder_location.open()
    assert store.get(stage.key) is not None
    store.write(NAME, {"a": b"1"})
    assert folder_location.open().read(NAME, dict) == {"a": b"1"}
    assert json.loads((entry / FORMAT_FILE).read_bytes()) == FORMAT


def test_a_damaged_format_without_a_stage_that_tells_is_called_damaged(
    folder_location: Location,
) -> None:
    folder_location.open().write("0" * 64, {"a": b"no stage"})
    (folder_of(folder_location) / FORMAT_ENTRY / FORMAT_FILE).write_bytes(b"")

    with pytest.raises(InputError, match="Cannot read which format the store"):
        folder_location.open()


def test_a_stage_under_the_key_of_another_counts_as_none(
    location: Location, stage: TrainedStage
) -> None:
    store, other = location.open(), replace(stage, key="f" * 64)
    store.write(stage.key, other.to_files())
    store.write(other.key, stage.to_files())
    assert store.get(stage.key) is store.get(other.key) is None

    store.put(stage)
    assert store.get(stage.key) is not None
    assert store.get(other.key) is None


@pytest.mark.parametrize("content", [b"[]", b"null", b"[" * 100_000, b'{"history": 1}'])
def test_an_entry_that_hangs_together_but_is_no_stage_counts_as_none(
    location: Location, stage: TrainedStage, content: bytes
) -> None:
    store = location.open()
    store.write(stage.key, {**stage.to_files(), STAGE_FILE: content})
    assert store.get(stage.key) is None


def test_what_is_no_entry_may_lie_in_the_folder(
    folder_location: Location, stage: TrainedStage
) -> None:
    (folder_of(folder_location) / "lost+found").mkdir(parents=True)
    folder_location.open().put(stage)
    assert folder_location.open().get(stage.key) is not None


def test_the_check_of_a_usable_store_leaves_no_entry(location: Location) -> None:
    location.open().raise_if_unusable()
    assert location.entries() == set()


def test_the_check_of_a_store_that_cannot_be_written_names_it(folder_location: Location) -> None:
    store = folder_location.open()
    shutil.rmtree(folder_of(folder_location), ignore_errors=True)
    folder_of(folder_location).write_text("in the way")

    with pytest.raises(InputError, match="Cannot use the store") as caught:
        store.raise_if_unusable()
    assert folder_location.uri in str(caught.value)


def test_who_claims_a_key_can_write_and_read_it(location: Location) -> None:
    store = location.open()
    with store.claim("key", timeout_s=1):
        store.write("key", {"a": b"1"})
        assert store.read("key", dict) == {"a": b"1"}
    assert location.open().read("key", dict) == {"a": b"1"}


def test_the_version_of_an_entry_changes_when_it_is_written_otherwise(location: Location) -> None:
    store = location.open()
    assert store.version(NAME) is None
    first = store.write(NAME, {"a": b"1"})
    assert first is not None
    assert location.open().version(NAME) == first
    second = store.write(NAME, {"a": b"2"})
    assert location.open().version(NAME) == second != first


def test_a_probe_tells_latency_and_conditional_writes_and_leaves_nothing(
    location: Location,
) -> None:
    probe = location.open().probe()
    assert probe.has_conditional_writes
    assert 0 < probe.latency_s < 30
    assert {found.name.partition("/")[0] for found in location.open().objects.names()} == {
        FORMAT_ENTRY
    }


def test_objects_are_written_read_listed_and_deleted(location: Location) -> None:
    objects = location.open().objects
    assert objects.read("journals/a") is None
    assert objects.write("journals/a", b"1")
    assert objects.write("journals/a", b"2")
    assert objects.write("journals/b", b"3", only_new=True)
    assert objects.write("journals/b", b"3", only_new=True)  # it is there, as was asked for
    assert not objects.write("journals/b", b"4", only_new=True)
    assert (objects.read("journals/a"), objects.read("journals/b")) == (b"2", b"3")

    found = {each.name: each.size_bytes for each in objects.names("journals/")}
    assert found == {"journals/a": 1, "journals/b": 1}
    assert [each.name for each in objects.names("journals/b")] == ["journals/b"]
    objects.delete("journals/a")
    objects.delete("journals/a")
    assert [each.name for each in objects.names("jour")] == ["journals/b"]
    assert list(location.open().names()) == []


def test_claims_of_one_key_exclude_each_other_and_are_given_back(location: Location) -> None:
    store, other, begin = location.open(), location.open(), time.monotonic()
    with (
        store.claim("key", timeout_s=1),
        other.claim("another", timeout_s=60),
        other.claim("key", timeout_s=1),
    ):
        assert time.monotonic() - begin >= 1
    begin = time.monotonic()
    for each in (other, store, store, other):
        with each.claim("key", timeout_s=60):
            pass
    assert time.monotonic() - begin < 15
