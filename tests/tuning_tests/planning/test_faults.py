"""A study whose surroundings fail goes on after the mend as if nothing had been.

Faults are put below everything: a disk that is full for a moment, at any write, or for long.
"""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from pipeline.errors import SurroundingsError
from pipeline.stages.unimodal import UnimodalTask
from pipeline.storage.atomic_folder import MANIFEST
from tests.tuning_tests.studies import Worker, events_by_task, tiny_study
from tuning.fitting.trial_fit import FitReport
from tuning.journal.file import JOURNAL
from tuning.journal.history import read_history
from tuning.planning import faults
from tuning.planning.faults import Faults, pause_s
from tuning.spec.study_spec import StudySpec

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE)


def small_study() -> StudySpec:
    """Return a study of a second."""
    few = {"trials": 2, "finalists": 1, "seeds": 1}
    space = {"fit.learning_rate": {"loguniform": [0.001, 0.1]}}
    study = tiny_study(
        auto_encoder={"space": {"network.bottleneck_size": {"choice": [1]}}, "finalists": 1},
        unimodal={**few, "space": space},
        fusion={**few, "space": space},
    )
    return StudySpec.model_validate({**study.model_dump(mode="json"), "folds": 2})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study that met no fault."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert Worker(folder, small_study()).run().is_done
    return folder


class Disk:
    """Lets writes fail; put in the place of `os.fsync`, which every file of a study comes to.

    Args:
        fails: returns the number of the error of the next write; 0: it does not fail.
    """

    def __init__(self, fails: Callable[[], int]) -> None:
        self.fails = fails
        self.num_failed = 0
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        if number := self.fails():
            self.num_failed += 1
            raise OSError(number, os.strerror(number))
        self._fsync(descriptor)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of a store, but for measured times and the hashes over them."""
    return {
        str(path.relative_to(folder)): re.sub(rb'"cpu_s": [0-9.e-]+', b"", path.read_bytes())
        for path in sorted((folder / "store").rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def assert_as_undisturbed(folder: Path, undisturbed: Path) -> None:
    assert events_by_task(folder) == events_by_task(undisturbed)
    assert files_of(folder) == files_of(undisturbed)
    assert '"reason":"error"' not in (folder / JOURNAL).read_text()


def test_a_disk_that_fails_at_any_write_changes_nothing(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(0)
    disk = Disk(lambda: random.choice(NUMBERS) if random.random() < 0.15 else 0)
    monkeypatch.setattr(os, "fsync", disk.fsync)

    for _ in range(500):
        with contextlib.suppress(SurroundingsError):  # the driver's own writes end the study
            if Worker(tmp_path, small_study()).run().is_done:
                break
    assert disk.num_failed > 20
    assert_as_undisturbed(tmp_path, undisturbed)


def test_a_disk_that_stays_full_ends_the_study_and_condemns_nothing(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "MIN_FAULTS_S", 0.0)
    store = str(tmp_path / "store")
    num_ended = 0

    def ended(job: object, report: FitReport) -> FitReport:
        nonlocal num_ended
        num_ended += report.end_reason is not None
        return report

    def is_full() -> int:
        # The store's disk, and not the journal's.
        return errno.ENOSPC if num_ended >= 4 and not is_journal_open(tmp_path) else 0

    disk = Disk(is_full)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", disk.fsync)
        planner = Worker(tmp_path, small_study(), store=store, before_report=ended).run()
    assert planner.fault is not None
    assert "No space left on device" in planner.fault
    assert planner.fault.endswith("Make room there, or raise the quota.")
    assert not planner.is_done
    history = read_history(tmp_path)
    assert not any(trial.has_failed for trial in history.trials.values())
    assert sum(trial.ended is None for trial in history.trials.values()) == 1

    assert Worker(tmp_path, small_study(), store=store).run().is_done
    assert_as_undisturbed(tmp_path, undisturbed)


def is_journal_open(folder: Path) -> bool:
    """Return whether this process is writing the journal."""
    journal = (folder / JOURNAL).stat()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.path.samestat(descriptor.stat(), journal):
                return True
    return False


def test_memory_that_stays_short_is_the_configurations_and_one_moment_of_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "MIN_FAULTS_S", 0.0)
    num_short = {"0001": 2, "0002": 99}

    def short(job: object, report: FitReport) -> FitReport:
        name = getattr(job, "trial", "")
        if num_short.get(name, 0) == 0:
            return report
        num_short[name] -= 1
        return FitReport.from_error(MemoryError("Unable to allocate 7 TiB"))

    planner = Worker(tmp_path, small_study(), before_report=short).run()
    errors = [(trial.name, trial.ended.error) for trial in planner.history.ended if trial.ended]
    failed = [(name, error) for name, error in errors if error is not None]
    assert failed == [("0002", "Memory is short (Unable to allocate 7 TiB).")]


def test_a_trial_is_given_up_after_enough_faults_and_enough_time() -> None:
    now = [0.0]
    task = UnimodalTask("voice", "arousal")
    trials = Faults(lambda: now[0])

    assert all(trials.add("1", task, "Full.") for _ in range(20))  # many workers, at once
    now[0] = faults.MIN_FAULTS_S
    assert not trials.add("1", task, "Full.")
    trials.clear("1")
    assert trials.add("1", task, "Full.")
    assert trials.add("2", task, "Full.")
    now[0] *= 10
    assert trials.add("1", task, "Full.")  # but two faults, however long ago the first
    assert set(trials.trials) == {"1", "2"}


def test_a_worker_waits_the_longer_the_more_faults_it_met_in_a_row() -> None:
    assert [pause_s(number) for number in (1, 2, 3, 4, 5, 6, 1000)] == [1, 2, 4, 8, 15, 15, 15]


def test_a_process_that_is_killed_at_any_write_leaves_nothing_in_the_way(
    tmp_path: Path, undisturbed: Path
) -> None:
    random = Random(1)

    def run_until_killed() -> None:
        num_left = random.randrange(1, 120)

        def fails() -> int:
            nonlocal num_left
            num_left -= 1
            if not num_left:
                os.kill(os.getpid(), signal.SIGKILL)
            return 0

        cast(Any, os).fsync = Disk(fails).fsync
        Worker(tmp_path, small_study()).run()

    context = multiprocessing.get_context("fork")
    for _ in range(5):
        random.random()
        process = context.Process(target=run_until_killed)
        process.start()
        process.join(120)
        assert process.exitcode in (-signal.SIGKILL, 0)

    # What a process killed long ago left under a key of this study.
    history = read_history(tmp_path)
    key = next(iter(history.trials.values())).proposed.key
    left = tmp_path / "store" / f".{key}-checkpoint.{'ab' * 16}.tmp"
    left.mkdir()
    others = tmp_path / "store" / f".{'0' * 64}.{'ab' * 16}.tmp"
    others.mkdir()
    assert Worker(tmp_path, small_study()).run().is_done
    assert_as_undisturbed(tmp_path, undisturbed)
    hidden = [path.name for path in (tmp_path / "store").glob(".*")]
    assert sorted(hidden) == sorted([others.name, ".claims"])
