"""The worker pool trains what the store lacks, and leaves nothing behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError
from pipeline.fitting.worker_pool import FitProgress, WorkerPool
from pipeline.spec import FitSpec
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import SupervisedProblem
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec
from tests.pipeline_tests.problems import pose


def _problems() -> list[SupervisedProblem]:
    """Return an auto-encoder's problem on each of three folds."""
    corpus, spec = tiny_corpus(), tiny_spec()
    folds = CrossFitPlan.from_spec(corpus, spec).folds
    return [pose(AutoEncoderTask("face"), corpus, spec, fold) for fold in folds]


def _endless(problem: SupervisedProblem, max_epochs: int) -> SupervisedProblem:
    """Return the problem with a fit that takes much longer than a test."""
    return replace(problem, fit=FitSpec(loss="mse", max_epochs=max_epochs, patience=max_epochs))


def test_nothing_is_trained_twice(tmp_path: Path) -> None:
    corpus, problems = tiny_corpus(), [*_problems(), *_problems()]
    progress: list[FitProgress] = []
    first_pool = WorkerPool(corpus, StageStore(tmp_path), on_progress=progress.append)
    trained = first_pool.fit(problems)
    assert len(first_pool.trained) == 3
    assert [stage.name for stage in trained] == [problem.name for problem in problems]

    second_pool = WorkerPool(corpus, StageStore(tmp_path))
    stored = second_pool.fit(_problems())
    assert (len(second_pool.trained), second_pool.store_hits) == (0, 3)
    assert [stage.to_files() for stage in stored] == [stage.to_files() for stage in trained[:3]]
    assert sum(event.epoch is not None for event in progress) == 9


@pytest.mark.slow
def test_workers_give_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    corpus = tiny_corpus()
    in_one_process = WorkerPool(corpus, StageStore(tmp_path / "a")).fit(_problems())

    progress: list[FitProgress] = []
    store = StageStore(tmp_path / "b")
    with WorkerPool(corpus, store, workers=2, on_progress=progress.append) as pool:
        in_workers = pool.fit(_problems())

    for one, other in zip(in_one_process, in_workers, strict=True):
        assert one.to_files()["weights.safetensors"] == other.to_files()["weights.safetensors"]
    assert sum(event.stage is not None for event in progress) == 3
    assert sum(event.epoch is not None for event in progress) == 9


@pytest.mark.slow
def test_a_killed_worker_is_an_error_that_tells_how_to_go_on(tmp_path: Path) -> None:
    problems = [_endless(problem, 100_000) for problem in _problems()]

    def kill(progress: FitProgress) -> None:
        for child in multiprocessing.active_children():
            if child.pid:
                os.kill(child.pid, signal.SIGKILL)

    with (
        WorkerPool(tiny_corpus(), StageStore(tmp_path), workers=2, on_progress=kill) as pool,
        pytest.raises(AffectuneError, match="run the same command again"),
    ):
        pool.fit(problems)


@pytest.mark.slow
def test_a_failed_fit_ends_those_that_are_running(tmp_path: Path) -> None:
    first, second, third = _problems()
    failing = replace(second, train_ids=("no such session",))
    running = _endless(third, 3000)

    with (
        WorkerPool(tiny_corpus(), StageStore(tmp_path), workers=2) as pool,
        pytest.raises(AffectuneError, match="no session 'no such session'"),
    ):
        pool.fit([first, failing, running])
    assert StageStore(tmp_path).get(running.key) is None


@pytest.mark.slow
def test_what_a_killed_train_left_in_the_temporary_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    print_id = [sys.executable, "-c", "import os; print(os.getpid())"]
    ended = subprocess.run(print_id, capture_output=True, text=True, check=True).stdout.strip()

    abandoned, recent = f"affectune-{ended}-old", f"affectune-{ended}-new"
    of_this_process = f"affectune-{os.getpid()}-mine"
    kept = {recent, of_this_process, "affectune-other", "unrelated"}
    for name in (abandoned, *kept):
        (tmp_path / name).mkdir()
        if name != recent:
            os.utime(tmp_path / name, (0, 0))

    with WorkerPool(tiny_corpus(), StageStore(tmp_path / "store"), workers=2) as pool:
        pool.fit(_problems()[:1])
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "store"}


def test_a_full_disk_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_room(file: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", take_room)
    with (
        WorkerPool(tiny_corpus(), StageStore(tmp_path), workers=2) as pool,
        pytest.raises(AffectuneError, match=r"No space left on device\. Set TMPDIR"),
    ):
        pool.fit(_problems())
