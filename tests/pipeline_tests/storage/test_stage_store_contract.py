"""Every kind of store keeps the same promises: a folder, a `file://` URI, and an object store."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.fitting.trainer import fit
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.trained_stage import STAGE_FILE, WEIGHTS_FILE, TrainedStage
from pipeline.storage.atomic_folder import MANIFEST
from pipeline.storage.stage_store import FORMAT, FORMAT_ENTRY, FORMAT_FILE, StageStore
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec
from tests.pipeline_tests.problems import pose

URIS = {
    "folder": "{folder}",
    "file URI": "file://{folder}",
    # For pyarrow a file system like that of any object store: nothing is renamed or locked.
    "object store": "fsspec+file://{folder}",
}
NAME = "key-checkpoint"


@dataclass(frozen=True)
class Location:
    """Where a store is.

    Attributes:
        folder: holds its entries, whatever the kind of store.
        uri: names it.
    """

    folder: Path
    uri: str

    def open(self) -> StageStore:
        """Open the store, as another process would."""
        return StageStore(self.uri)

    def entries(self) -> set[str]:
        """Return the names of its entries."""
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture(params=URIS)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Return the location of a store that does not exist yet."""
    folder = tmp_path / "store"
    return Location(folder, URIS[request.param].format(folder=folder))


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
    assert location.entries() == {stage.key, FORMAT_ENTRY}


def test_putting_a_stage_twice_is_harmless(location: Location, stage: TrainedStage) -> None:
    store = location.open()
    store.put(stage)
    store.put(stage)

    assert store.get(stage.key) is not None
    assert location.entries() == {stage.key, FORMAT_ENTRY}


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
    path = location.folder / stage.key / file

    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] if damage == "cut short" else b"")
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
    assert location.entries() == {stage.key, FORMAT_ENTRY}
    assert store.get(stage.key) is not None


def test_removing_what_is_not_there_is_harmless(location: Location) -> None:
    store = location.open()
    store.remove(NAME)
    assert store.read(NAME, dict) is None


def test_a_store_of_a_later_format_is_refused_in_a_sentence(location: Location) -> None:
    location.open().write(FORMAT_ENTRY, {FORMAT_FILE: str(FORMAT + 1).encode()})

    with pytest.raises(InputError, match=r"by a later version of Affectune.*another store"):
        location.open()


def test_a_store_of_an_earlier_format_is_refused_in_a_sentence(
    location: Location, stage: TrainedStage
) -> None:
    store = location.open()
    store.write(stage.key, {STAGE_FILE: b"{}", "weights": b"as they were written once"})
    store.remove(FORMAT_ENTRY)

    with pytest.raises(InputError, match=r"by an earlier version of Affectune.*another store"):
        location.open()
    assert location.entries() == {stage.key}


@pytest.mark.parametrize("damage", ["empty", "flipped", "no manifest", "removed", "a file"])
def test_where_the_format_is_damaged_the_stages_say_which_it_is(
    location: Location, stage: TrainedStage, damage: str
) -> None:
    location.open().put(stage)
    entry = location.folder / FORMAT_ENTRY
    match damage:
        case "empty":
            (entry / FORMAT_FILE).write_bytes(b"")
        case "flipped":
            (entry / FORMAT_FILE).write_bytes(str(FORMAT + 1).encode())
        case "no manifest":
            (entry / MANIFEST).unlink()
        case _:
            shutil.rmtree(entry)
            if damage == "a file" and "fsspec" not in location.uri:  # objects are in nobody's way
                entry.write_bytes(b"in the way")

    store = location.open()
    assert store.get(stage.key) is not None
    store.write(NAME, {"a": b"1"})
    assert location.open().read(NAME, dict) == {"a": b"1"}
    assert json.loads((entry / FORMAT_FILE).read_bytes()) == FORMAT


def test_a_damaged_format_without_a_stage_that_tells_is_called_damaged(location: Location) -> None:
    location.open().write("0" * 64, {"a": b"no stage"})
    (location.folder / FORMAT_ENTRY / FORMAT_FILE).write_bytes(b"")

    with pytest.raises(InputError, match="Cannot read which format the store"):
        location.open()


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


def test_what_is_no_entry_may_lie_in_the_folder(location: Location, stage: TrainedStage) -> None:
    (location.folder / "lost+found").mkdir(parents=True)
    location.open().put(stage)
    assert location.open().get(stage.key) is not None


def test_the_check_of_a_usable_store_leaves_no_entry(location: Location) -> None:
    location.open().raise_if_unusable()
    assert location.entries() == {FORMAT_ENTRY}


def test_the_check_of_a_store_that_cannot_be_written_names_it(location: Location) -> None:
    store = location.open()
    shutil.rmtree(location.folder, ignore_errors=True)
    location.folder.write_text("in the way")

    with pytest.raises(InputError, match="Cannot use the store") as caught:
        store.raise_if_unusable()
    assert location.uri in str(caught.value)


def test_who_claims_a_key_can_write_and_read_it(location: Location) -> None:
    store = location.open()
    with store.claim("key", timeout_s=1):
        store.write("key", {"a": b"1"})
        assert store.read("key", dict) == {"a": b"1"}
    assert location.open().read("key", dict) == {"a": b"1"}
