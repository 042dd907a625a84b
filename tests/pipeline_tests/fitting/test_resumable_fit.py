"""A fit that is interrupted and run again ends as if nothing had happened."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path

import pytest

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, SurroundingsError
from pipeline.fitting.resumable_fit import ResumableFit, checkpoint_name, remove_checkpoint
from pipeline.fitting.trainer import fit
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import Epoch, TrainedStage
from pipeline.stages.unimodal import UnimodalTask
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec
from tests.pipeline_tests.full_disk import FailingWrites
from tests.pipeline_tests.problems import pose

MAX_EPOCHS = 5
EPOCH_S = 10.0
"""Seconds that an epoch takes by the clock of these tests."""


class Interrupted(Exception):
    """Something ended the fit."""


class Clock:
    """Shows the seconds that a test lets pass, and no others."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Return a small corpus."""
    return tiny_corpus()


@pytest.fixture(scope="module")
def problem(corpus: Corpus) -> SupervisedProblem:
    """Return a problem whose fit draws random numbers in every epoch, and never stops early."""
    network = {"num_layers": 2, "hidden_size": 6, "dropout": 0.3, "input_dropout": 0.2}
    settings = {
        "max_epochs": MAX_EPOCHS,
        "patience": MAX_EPOCHS,
        "batch_size": 4,
        "input_noise": 0.1,
    }
    spec = tiny_spec(unimodal={"network": network, "fit": settings})
    return pose(UnimodalTask("voice", "arousal"), corpus, spec)


@pytest.fixture(scope="module")
def uninterrupted(problem: SupervisedProblem, corpus: Corpus) -> TrainedStage:
    """Return what the problem's fit learns in one go, without a store."""
    return fit(problem, corpus)


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    """Return an empty store."""
    return StageStore(tmp_path)


def timeless_files(stage: TrainedStage) -> dict[str, bytes]:
    """Return a stage's bytes without the processor time that it took."""
    return dict(replace(stage, cpu_s=0.0).to_files())


def interrupt_in(epoch: int) -> Callable[[Epoch], None]:
    """Return a callback that ends the fit in an epoch."""

    def on_epoch(passed: Epoch) -> None:
        if passed.epoch == epoch:
            raise Interrupted

    return on_epoch


def train_until_interrupted(fit: ResumableFit, epoch: int) -> None:
    """Train with a checkpoint after every epoch, until an exception in one of them."""
    for _ in range(epoch - 1):
        fit.advance(max_s=-1.0, on_epoch=interrupt_in(epoch))
    with pytest.raises(Interrupted):
        fit.advance(max_s=-1.0, on_epoch=interrupt_in(epoch))


def has_checkpoint(store: StageStore, problem: SupervisedProblem) -> bool:
    """Return whether the store keeps the state of the problem's fit."""
    return store.read(checkpoint_name(problem.key), dict) is not None


@pytest.mark.parametrize("epoch", range(1, MAX_EPOCHS + 1))
def test_a_fit_that_is_interrupted_in_any_epoch_gives_the_same_bytes(
    problem: SupervisedProblem,
    corpus: Corpus,
    store: StageStore,
    uninterrupted: TrainedStage,
    epoch: int,
) -> None:
    train_until_interrupted(ResumableFit(problem, corpus, store), epoch)
    assert has_checkpoint(store, problem) == (epoch > 1)
    assert store.get(problem.key) is None

    epochs: list[int] = []
    resumed = ResumableFit(problem, corpus, store)
    stage = resumed.run(lambda passed: epochs.append(passed.epoch))

    assert epochs == list(range(epoch, MAX_EPOCHS + 1))
    assert timeless_files(stage) == timeless_files(uninterrupted)
    stored = store.get(problem.key)
    assert stored is not None
    assert stored.to_files() == stage.to_files()


def test_a_fit_that_is_interrupted_in_every_epoch_gives_the_same_bytes(
    problem: SupervisedProblem, corpus: Corpus, store: StageStore, uninterrupted: TrainedStage
) -> None:
    for epoch in range(2, MAX_EPOCHS + 1):
        fit = ResumableFit(problem, corpus, store)
        fit.advance(max_s=-1.0)
        with pytest.raises(Interrupted):
            fit.advance(max_s=-1.0, on_epoch=interrupt_in(epoch))

    stage = ResumableFit(problem, corpus, store).run()
    assert timeless_files(stage) == timeless_files(uninterrupted)


def test_a_fit_whose_disk_fails_at_any_write_says_so_and_gives_the_same_bytes(
    problem: SupervisedProblem,
    corpus: Corpus,
    tmp_path: Path,
    uninterrupted: TrainedStage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = cycle((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES))
    num_failed = 0
    for fails_at in count(1):
        store = StageStore(tmp_path / str(fails_at))
        disk = FailingWrites(fails_at, next(numbers))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", disk.fsync)
            said = _advance_to_the_end(ResumableFit(problem, corpus, store))
            assert [path.name for path in Path(store.uri).glob(".*")] == []
            if said:
                num_failed += 1
                assert os.strerror(disk.number) in said
                assert not _advance_to_the_end(ResumableFit(problem, corpus, store))
        stage = store.get(problem.key)
        assert stage is not None
        assert timeless_files(stage) == timeless_files(uninterrupted)
        if disk.num_writes < fails_at:
            break
    assert num_failed > MAX_EPOCHS


def _advance_to_the_end(fit: ResumableFit) -> str:
    """Train with a checkpoint after every epoch; return the surroundings' fault, or ""."""
    try:
        while fit.stage is None:
            fit.advance(max_s=-1.0)
    except SurroundingsError as error:
        return str(error)
    return ""


def test_a_fit_that_stops_at_rungs_gives_the_same_bytes(
    problem: SupervisedProblem, corpus: Corpus, store: StageStore, uninterrupted: TrainedStage
) -> None:
    fit = ResumableFit(problem, corpus, store)
    for rung in (2, 4):
        fit.advance(rungs=(2, 4))
        assert fit.trainer.epoch == rung
        assert has_checkpoint(store, problem)

    fit.advance(rungs=(2, 4))
    assert fit.stage is not None
    assert timeless_files(fit.stage) == timeless_files(uninterrupted)


def test_the_checkpoint_is_removed_at_the_end(
    problem: SupervisedProblem, corpus: Corpus, store: StageStore
) -> None:
    train_until_interrupted(ResumableFit(problem, corpus, store), 3)
    assert has_checkpoint(store, problem)

    ResumableFit(problem, corpus, store).run()
    assert not has_checkpoint(store, problem)


def test_a_damaged_checkpoint_costs_its_epochs_and_nothing_else(
    problem: SupervisedProblem, corpus: Corpus, store: StageStore, uninterrupted: TrainedStage
) -> None:
    store.write(checkpoint_name(problem.key), {"time.json": b"{}"})

    stage = ResumableFit(problem, corpus, store).run()
    assert timeless_files(stage) == timeless_files(uninterrupted)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that fits go by, and that only the test moves."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_seconds_of_all_processes_add_up(
    problem: SupervisedProblem,
    corpus: Corpus,
    store: StageStore,
    clock: Clock,
) -> None:
    def pass_time(epoch: Epoch) -> None:
        clock.now_s += EPOCH_S

    first = ResumableFit(problem, corpus, store)
    first.advance(max_s=1.5 * EPOCH_S, on_epoch=pass_time)
    assert first.wall_s == 2 * EPOCH_S

    clock.now_s += 1000.0  # between two processes no time counts
    second = ResumableFit(problem, corpus, store)
    assert second.wall_s == 2 * EPOCH_S
    second.run(pass_time)
    assert second.wall_s == MAX_EPOCHS * EPOCH_S


def test_seconds_of_a_piece_that_fails_count(
    problem: SupervisedProblem,
    corpus: Corpus,
    store: StageStore,
    clock: Clock,
) -> None:
    def fail(epoch: Epoch) -> None:
        clock.now_s += EPOCH_S
        raise AffectuneError("The loss is not finite.")

    fit = ResumableFit(problem, corpus, store)
    with pytest.raises(AffectuneError):
        fit.advance(on_epoch=fail)
    assert fit.wall_s == EPOCH_S


def test_a_fit_knows_that_another_process_has_gone_on_with_it_or_ended_it(
    problem: SupervisedProblem, corpus: Corpus, store: StageStore
) -> None:
    first = ResumableFit(problem, corpus, store)
    first.advance(max_s=0.0)
    assert not first.is_overtaken()

    second = ResumableFit(problem, corpus, store)
    assert not second.is_overtaken()  # it has what the first one wrote, and nothing newer is there
    second.advance(max_s=0.0)
    assert first.is_overtaken()
    assert not second.is_overtaken()
    remove_checkpoint(store, problem.key)  # by a study that has stopped the fit: this one goes on
    assert not first.is_overtaken()

    second.run()
    assert first.is_overtaken()
