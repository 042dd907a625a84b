"""What only a store in a folder does: its claims, a full disk, and several writers at once.

What every kind of store does is in `test_stage_store_contract.py`.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError, SurroundingsError
from pipeline.fitting.trainer import fit
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.trained_stage import TrainedStage
from pipeline.storage import atomic_folder
from pipeline.storage.atomic_folder import MANIFEST
from pipeline.storage.folder_store import CLAIMS
from pipeline.storage.stage_store import FORMAT_ENTRY, StageStore
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec
from tests.pipeline_tests.problems import pose


@pytest.fixture(scope="module")
def stage() -> TrainedStage:
    """Return a trained stage."""
    corpus = tiny_corpus()
    return fit(pose(AutoEncoderTask("voice"), corpus, tiny_spec()), corpus)


def test_a_full_disk_fails_the_check_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StageStore(tmp_path / "store")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        store.raise_if_unusable()


def _train_once(folder: str, log: str) -> None:
    """Add a line to a log and write an entry, unless another process has written it."""
    with StageStore(folder).claim("key", timeout_s=30):
        if StageStore(folder).read("key", dict) is None:
            with open(log, "a") as file:
                file.write("trained\n")
            StageStore(folder).write("key", {"a": b"1"})


def test_of_processes_that_need_the_same_stage_one_trains_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (str(tmp_path / "store"), str(tmp_path / "log"))
    processes = [context.Process(target=_train_once, args=arguments) for _ in range(6)]

    for process in processes:
        process.start()
    for process in processes:
        process.join(30)

    assert [process.exitcode for process in processes] == [0] * 6
    assert (tmp_path / "log").read_text() == "trained\n"


def test_a_claim_is_waited_for_only_so_long(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "store")
    with (
        store.claim("key", timeout_s=1),
        store.claim("key", timeout_s=0),
        store.claim("other", timeout_s=1),
    ):
        pass

    with store.claim("key", timeout_s=1):
        assert [path.name for path in (tmp_path / "store" / CLAIMS).iterdir()] == ["key"]


@pytest.mark.parametrize("in_the_way", ["claims", "a claim"])
def test_without_claims_stages_are_trained_all_the_same(tmp_path: Path, in_the_way: str) -> None:
    store, claims = StageStore(tmp_path), tmp_path / CLAIMS
    if in_the_way == "claims":
        claims.write_text("a file")
    else:
        (claims / "key").mkdir(parents=True)

    with store.claim("key", timeout_s=1):
        store.write("key", {"a": b"1"})
    assert store.read("key", dict) == {"a": b"1"}


@pytest.mark.parametrize("kind", ["file", "link to a folder", "link to nothing", "pipe"])
def test_what_is_in_an_entrys_place_gives_way_to_the_entry(tmp_path: Path, kind: str) -> None:
    store, place = StageStore(tmp_path / "store"), tmp_path / "store" / "key"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("kept")
    match kind:
        case "file":
            place.write_text("in the way")
        case "link to a folder":
            place.symlink_to(tmp_path / "elsewhere")
        case "link to nothing":
            place.symlink_to(tmp_path / "nowhere")
        case "pipe":
            os.mkfifo(place)

    assert store.read("key", dict) is None
    store.write("key", {"a": b"1"})
    assert store.read("key", dict) == {"a": b"1"}
    assert (tmp_path / "elsewhere" / "mine").read_text() == "kept"
    assert {path.name for path in place.parent.iterdir()} == {"key", FORMAT_ENTRY}
    store.remove("key")
    assert not place.exists()


def test_a_pipe_for_a_manifest_does_not_hang(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    store.write("key", {"a": b"1"})
    (tmp_path / "key" / MANIFEST).unlink()
    os.mkfifo(tmp_path / "key" / MANIFEST)
    assert store.read("key", dict) is None
    store.write("key", {"a": b"2"})
    assert store.read("key", dict) == {"a": b"2"}


def test_a_location_that_cannot_hold_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(InputError, match="Cannot use the store"):
        StageStore(tmp_path / "file" / "store")
    with pytest.raises(InputError, match="Cannot use the store"):
        StageStore("gopher://somewhere/store")


def test_a_store_whose_first_entry_is_being_written_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / ".key.0123.tmp").mkdir()
    (tmp_path / ".format.0123.tmp").mkdir()

    StageStore(tmp_path).write("key", {"a": b"1"})
    assert StageStore(tmp_path).read("key", dict) == {"a": b"1"}


def test_the_format_that_another_process_wrote_is_never_missing(tmp_path: Path) -> None:
    stores = [StageStore(tmp_path) for _ in range(2)]
    stores[0].write("first", {"a": b"1"})
    written = (tmp_path / FORMAT_ENTRY).stat()

    stores[1].write("second", {"a": b"2"})
    assert (tmp_path / FORMAT_ENTRY).stat().st_ino == written.st_ino
    assert stores[1].read("second", dict) == {"a": b"2"}


def _put_repeatedly(folder: str, stage: TrainedStage) -> None:
    for _ in range(20):
        StageStore(folder).put(stage)


def test_several_writers_at_once_leave_one_complete_entry(
    tmp_path: Path, stage: TrainedStage
) -> None:
    stages = [replace(stage, cpu_s=float(number)) for number in range(4)]
    threads = [
        threading.Thread(target=_put_repeatedly, args=(str(tmp_path), written))
        for written in stages
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert StageStore(tmp_path).get(stage.key) is not None
    assert {path.name for path in tmp_path.iterdir()} == {stage.key, FORMAT_ENTRY}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ESTALE])
def test_an_entry_that_cannot_be_read_now_is_not_called_damaged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    store = StageStore(tmp_path / "store")
    store.write("a", {"x": b"1"})

    def fail(path: Path, max_bytes: int) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(atomic_folder, "read_plain_file", fail)
        with pytest.raises(SurroundingsError, match=os.strerror(number)):
            store.read("a", dict)
    assert caplog.text == ""
    assert store.read("a", dict) == {"x": b"1"}
