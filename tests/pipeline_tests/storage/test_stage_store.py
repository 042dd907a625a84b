"""The store: whole entries or none, on disk and behind a URI; and the crew that trains what it lacks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow import fs

from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.trainer import fit
from pipeline.fitting.worker_pool import Progress, WorkerPool
from pipeline.spec import FitSpec
from pipeline.stages.auto_encoder import auto_encoder_task
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.stage import StageTask, TrainedStage
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec


@pytest.fixture(scope="module")
def stage() -> TrainedStage:
    corpus, spec = tiny_corpus(), tiny_spec()
    return fit(
        auto_encoder_task(corpus, spec, CrossFitPlan.of(corpus, spec).folds[0], "voice"), corpus
    )


def _tasks() -> list[StageTask]:
    corpus, spec = tiny_corpus(), tiny_spec()
    return [
        auto_encoder_task(corpus, spec, fold, "face")
        for fold in CrossFitPlan.of(corpus, spec).folds
    ]


def test_what_is_put_comes_back_the_same(tmp_path: Path, stage: TrainedStage) -> None:
    store = StageStore(tmp_path / "store")
    assert store.get(stage.key) is None
    store.put(stage)
    store.put(stage)
    found = store.get(stage.key)
    assert found is not None
    assert found.to_files() == stage.to_files()
    assert [path.name for path in (tmp_path / "store").iterdir()] == [stage.key]


@pytest.mark.parametrize("name", ["stage.json", "weights.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["torn", "empty", "gone"])
def test_a_damaged_entry_counts_as_none_and_can_be_written_again(
    tmp_path: Path, stage: TrainedStage, name: str, damage: str
) -> None:
    store = StageStore(tmp_path)
    store.put(stage)
    path = tmp_path / stage.key / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20] if damage == "torn" else b"")
    assert store.get(stage.key) is None
    store.put(stage)
    assert store.get(stage.key) is not None


def test_an_object_store_is_reached_by_its_uri(tmp_path: Path, stage: TrainedStage) -> None:
    assert StageStore(f"file://{tmp_path}/by-uri").get(stage.key) is None
    # The path of object stores, on a file system that is at hand.
    store = StageStore(tmp_path / "remote")
    store._remote, store._root = (
        fs.SubTreeFileSystem(str(tmp_path / "remote"), fs.LocalFileSystem()),
        "",
    )
    assert store.get(stage.key) is None
    store.put(stage)
    found = store.get(stage.key)
    assert found is not None
    assert found.to_files() == stage.to_files()
    weights = tmp_path / "remote" / stage.key / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert store.get(stage.key) is None


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_files_are_kept_by_name_and_forgotten(tmp_path: Path, scheme: str) -> None:
    store = StageStore(f"{scheme}{tmp_path / 'store'}")
    store.write("key-checkpoint", {"a": b"1", "b": b"2"})
    assert store.read("key-checkpoint", dict) == {"a": b"1", "b": b"2"}
    store.write("key-checkpoint", {"a": b"3"})
    assert store.read("key-checkpoint", dict) == {"a": b"3"}
    store.remove("key-checkpoint")
    store.remove("key-checkpoint")
    assert store.read("key-checkpoint", dict) is None
    store.check()
    assert list((tmp_path / "store").iterdir()) == []


def test_a_store_that_cannot_be_written_fails_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StageStore(tmp_path / "store")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        store.check()


def _train_once(folder: str, trained: str) -> None:
    with StageStore(folder).claim("key", timeout_s=30):
        if StageStore(folder).read("key", dict) is None:
            with open(trained, "a") as file:
                file.write("trained\n")
            StageStore(folder).write("key", {"a": b"1"})


def test_of_processes_that_want_the_same_stage_one_trains_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (str(tmp_path / "store"), str(tmp_path / "trained"))
    processes = [context.Process(target=_train_once, args=arguments) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 6
    assert (tmp_path / "trained").read_text() == "trained\n"


def test_a_claim_is_waited_for_only_so_long(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "store")
    with (
        store.claim("key", timeout_s=1),
        store.claim("key", timeout_s=0),
        store.claim("other", timeout_s=1),
    ):
        pass
    with store.claim("key", timeout_s=1):
        assert [path.name for path in (tmp_path / "store" / ".claims").iterdir()] == ["key"]


def test_a_store_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="Cannot use the store"):
        StageStore(tmp_path / "file" / "store")
    with pytest.raises(InputError, match="Cannot use the store"):
        StageStore("gopher://somewhere/store")


def _put_often(folder: str, stage: TrainedStage) -> None:
    for _ in range(20):
        StageStore(folder).put(stage)


def test_writers_at_once_leave_a_whole_entry(tmp_path: Path, stage: TrainedStage) -> None:
    threads = [
        threading.Thread(target=_put_often, args=(str(tmp_path), replace(stage, cpu_s=float(i))))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert StageStore(tmp_path).get(stage.key) is not None
    assert [path.name for path in tmp_path.iterdir()] == [stage.key]


def test_nothing_is_trained_twice(tmp_path: Path) -> None:
    corpus, heard = tiny_corpus(), list[Progress]()
    first = WorkerPool(corpus, StageStore(tmp_path), on_progress=heard.append)
    solved = first.solve([*_tasks(), *_tasks()])
    assert len(first.trained) == 3
    assert [stage.name for stage in solved] == [task.name for task in [*_tasks(), *_tasks()]]
    second = WorkerPool(corpus, StageStore(tmp_path))
    again = second.solve(_tasks())
    assert (len(second.trained), second.hits) == (0, 3)
    assert [stage.to_files() for stage in again] == [stage.to_files() for stage in solved[:3]]
    assert sum(report.epoch is not None for report in heard) == 9


def test_workers_give_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    corpus, heard = tiny_corpus(), list[Progress]()
    alone = WorkerPool(corpus, StageStore(tmp_path / "a")).solve(_tasks())
    with WorkerPool(
        corpus, StageStore(tmp_path / "b"), workers=2, on_progress=heard.append
    ) as pool:
        together = pool.solve(_tasks())
    for one, other in zip(alone, together, strict=True):
        assert one.to_files()["weights.safetensors"] == other.to_files()["weights.safetensors"]
    assert sum(report.stage is not None for report in heard) == 3
    assert sum(report.epoch is not None for report in heard) == 9


def test_a_killed_worker_is_an_error_that_says_how_to_go_on(tmp_path: Path) -> None:
    long = [
        replace(task, fit=FitSpec(loss="mse", max_epochs=100_000, patience=100_000))
        for task in _tasks()
    ]

    def kill(report: Progress) -> None:
        for child in multiprocessing.active_children():
            if child.pid:
                os.kill(child.pid, signal.SIGKILL)

    with (
        WorkerPool(tiny_corpus(), StageStore(tmp_path), workers=2, on_progress=kill) as pool,
        pytest.raises(AffectuneError, match="run the same command again"),
    ):
        pool.solve(long)


def test_a_failed_fit_ends_the_others_and_what_was_solved_is_kept(tmp_path: Path) -> None:
    first, second, third = _tasks()
    failing = replace(second, train_ids=("no such session",))
    long = replace(third, fit=FitSpec(loss="mse", max_epochs=3000, patience=3000))
    with (
        WorkerPool(tiny_corpus(), StageStore(tmp_path), workers=2) as pool,
        pytest.raises(AffectuneError, match="no session 'no such session'"),
    ):
        pool.solve([first, failing, long])
    assert StageStore(tmp_path).get(long.key) is None


def test_what_a_killed_train_left_in_the_temporary_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    old, recent = f"affectune-{ended.stdout.strip()}-old", f"affectune-{ended.stdout.strip()}-new"
    mine = f"affectune-{os.getpid()}-mine"
    for name in (old, recent, mine, "affectune-other", "unrelated"):
        (tmp_path / name).mkdir()
        if name != recent:
            os.utime(tmp_path / name, (0, 0))
    with WorkerPool(tiny_corpus(), StageStore(tmp_path / "store"), workers=2) as pool:
        pool.solve(_tasks()[:1])
    assert {path.name for path in tmp_path.iterdir()} == {
        recent,
        mine,
        "affectune-other",
        "unrelated",
        "store",
    }


def test_the_corpus_in_a_worker_is_the_same_and_read_only(tmp_path: Path) -> None:
    from pipeline.fitting.worker_pool import _share, _shared

    corpus = tiny_corpus()
    _share(corpus, tmp_path / "corpus")
    copy = _shared(tmp_path / "corpus")
    for one, other in zip(corpus.sessions, copy.sessions, strict=True):
        np.testing.assert_array_equal(one.features["voice"], other.features["voice"])
        assert not other.features["voice"].flags.writeable
