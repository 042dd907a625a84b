"""What an audit trains, what it tells, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import beta, spearmanr

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.trainer import Trainer, fit
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.stage import Epoch
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import Killed, Worker, opened, tiny_study
from tuning.audit.audit import audit
from tuning.audit.cli_output import audit_folder, print_audit
from tuning.audit.estimates import findings, rank_correlation
from tuning.audit.sample import Course, Search, draw_sample, searches_of
from tuning.fitting.job import stage_task
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.journal.events import RungDecision, TrialEnded, TrialProposed
from tuning.journal.file import JOURNAL, Journal
from tuning.journal.history import History, Trial, read_history
from tuning.planning.configurations import Configurations
from tuning.spec.tasks import Task, parse_task

ALL = 1000


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return replace(tiny_corpus(), digest="0")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """The folder of a finished study; its store is in it."""
    worker = Worker(tmp_path_factory.mktemp("finished"), tiny_study(), corpus=corpus)
    assert worker.run().over
    return worker.folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy to audit."""
    return Path(shutil.copytree(finished, tmp_path / "study"))


def stopped_in(found: History) -> list[Trial]:
    return [trial for search in searches_of(found) for trial in search.stopped]


def store_of(folder: Path) -> StageStore:
    return StageStore(folder / "store")


# To the end


def test_a_stopped_trial_becomes_what_a_plain_fit_of_it_is(folder: Path, corpus: Corpus) -> None:
    found, store = read_history(folder), store_of(folder)
    result = audit(found, corpus, store, sample=ALL)
    plan = CrossFitPlan.of(corpus, found.study.base)
    upstream = UpstreamPredictions(store, corpus, plan, found.study.base)
    configurations = Configurations(found.study, plan, found, "cpu")
    stopped = stopped_in(found)
    assert len(stopped) >= 4
    assert result.trained == result.reproduced == len(stopped)
    for trial in stopped:
        job = configurations.job(trial.proposed)
        task = stage_task(
            job, corpus, plan, upstream.difficulty(job.sources), upstream.predictions(job.sources)
        )
        plain, again = fit(task, corpus), store.get(trial.proposed.key)
        assert again is not None
        assert again.history == plain.history
        assert len(plain.history) > len(trial.epochs)
        assert all(
            np.array_equal(again.weights[name], plain.weights[name]) for name in plain.weights
        )


def test_a_second_audit_trains_nothing_and_tells_the_same(folder: Path, corpus: Corpus) -> None:
    found, store = read_history(folder), store_of(folder)
    first, second = (audit(found, corpus, store, sample=3) for _ in range(2))
    assert (first.trained, second.trained) == (3, 0)
    assert second == replace(first, trained=0)


def test_an_audit_leaves_the_journal_and_no_checkpoint(folder: Path, corpus: Corpus) -> None:
    before = (folder / JOURNAL).read_bytes()
    audit(read_history(folder), corpus, store_of(folder), sample=ALL)
    assert (folder / JOURNAL).read_bytes() == before
    assert list((folder / "store").glob("*checkpoint*")) == []


SEVERAL = """
import json, sys
from dataclasses import replace
from pathlib import Path
from pipeline.storage.stage_store import Store
from tests.pipeline_tests.corpora import tiny_corpus
from tuning.audit.audit import audit
from tuning.journal.history import read_history

folder, corpus = Path(sys.argv[1]), replace(tiny_corpus(), digest="0")
found = audit(read_history(folder), corpus, Store(folder / "store"), sample=4, workers=2)
print(json.dumps(found.to_json()))
"""


def test_several_workers_train_what_one_does(
    finished: Path, tmp_path: Path, corpus: Corpus
) -> None:
    one, several = (Path(shutil.copytree(finished, tmp_path / name)) for name in ("one", "several"))
    root = Path(__file__).parents[3]
    ran = subprocess.run(  # a process of its own, for Ray leaves things behind
        [sys.executable, "-c", SEVERAL, str(several)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    expected = audit(read_history(one), corpus, store_of(one), sample=4).to_json()
    assert json.loads(ran.stdout) == json.loads(json.dumps(expected))


def test_a_study_that_is_running_can_be_audited(tmp_path: Path, corpus: Corpus) -> None:
    def kill(*_: object) -> None:
        if (tmp_path / JOURNAL).read_text().count('"reason":"asha"') >= 2:
            raise Killed

    worker = Worker(tmp_path, tiny_study(), corpus=corpus, before_report=kill)
    with pytest.raises(Killed):
        worker.run()
    with Journal(tmp_path / JOURNAL):  # as the running study has it
        result = audit(read_history(tmp_path), corpus, worker.store, sample=ALL)
    assert result.reproduced == sum(each.stopped for each in result.tasks.values()) >= 1
    assert any("not finished: 1 of its trials" in note for note in result.notes)


def test_a_trial_that_breaks_on_the_way_is_told_and_the_others_go_on(
    folder: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read_history(folder)
    broken = draw_sample({s.task: s.stopped for s in searches_of(found)}, 1, 0)[0]
    step = Trainer.step

    def breaks(training: Trainer) -> Epoch:
        if training.task.key == broken.proposed.key and training.epoch == 2:
            raise AffectuneError("the loss is not finite")
        return step(training)

    monkeypatch.setattr(Trainer, "step", breaks)
    result = audit(found, corpus, store_of(folder), sample=3)
    assert (result.trained, result.failed, result.reproduced) == (3, 1, 3)
    assert any("the loss is not finite" in note and broken.name in note for note in result.notes)
    json.dumps(result.to_json(), allow_nan=False)


# What cannot be audited


def test_other_data_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="other data"):
        audit(read_history(folder), tiny_corpus(train_subjects=5), store_of(folder))


def test_a_store_without_the_stages_above_is_refused(
    folder: Path, tmp_path: Path, corpus: Corpus
) -> None:
    with pytest.raises(InputError, match=r"does not have the stages .* --store"):
        audit(read_history(folder), corpus, StageStore(tmp_path / "empty"), sample=ALL)


def test_another_version_of_the_training_code_is_refused(
    folder: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.stage.TRAINING_CODE", -1)
    with pytest.raises(InputError, match="another version"):
        audit(read_history(folder), corpus, store_of(folder))


def test_a_study_without_stopped_trials_has_nothing_to_audit(
    tmp_path: Path, corpus: Corpus
) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(opened(tiny_study()))
    with pytest.raises(InputError, match="nothing to audit"):
        audit(read_history(tmp_path), corpus, StageStore(tmp_path / "store"))


@pytest.fixture
def read(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpus in memory is what a folder holds."""
    monkeypatch.setattr("tuning.audit.cli_output.read_corpus", lambda *_, **__: corpus)


@pytest.mark.usefixtures("read")
def test_what_is_found_is_written_and_shown(folder: Path) -> None:
    console = Console(record=True, width=200, file=StringIO())
    result = audit_folder(
        folder,
        folder,
        str(folder / "store"),
        sample=4,
        workers=1,
        seed=0,
        console=Console(quiet=True),
    )
    assert json.loads((folder / "audit.json").read_text()) == json.loads(
        json.dumps(result.to_json())
    )
    assert list(folder.glob(".audit*")) == []
    print_audit(result, console)
    shown = console.export_text()
    assert all(name in shown for name in result.tasks)
    assert all(note in shown for note in result.notes)


@pytest.mark.usefixtures("read")
def test_an_interrupted_audit_goes_on_where_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = Trainer.step, iter(range(ALL))

    def interrupt(training: Trainer) -> Epoch:
        if next(steps) == 9:  # in the third fit: each has four epochs
            raise KeyboardInterrupt
        return step(training)

    def again() -> int:
        store = str(folder / "store")
        return audit_folder(
            folder, folder, store, sample=4, workers=1, seed=0, console=Console(quiet=True)
        ).trained

    monkeypatch.setattr(Trainer, "step", interrupt)
    with pytest.raises(AffectuneError, match="goes on"):
        again()
    assert not (folder / "audit.json").exists()
    assert again() == 2


def test_a_corpus_that_has_moved_is_asked_for(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--corpus"):
        audit_folder(
            folder, tmp_path / "gone", "", sample=1, workers=1, seed=0, console=Console(quiet=True)
        )


# What it tells


def test_with_every_stopped_trial_known_the_regret_is_a_fact(folder: Path, corpus: Corpus) -> None:
    found, store = read_history(folder), store_of(folder)
    result = audit(found, corpus, store, sample=ALL)
    for name, told in result.tasks.items():
        finals = {}
        for trial in found.searched(parse_task(name)):
            stage = store.get(trial.proposed.key)
            assert stage is not None
            finals[trial.name] = stage.score
        stopped = {t.name for t in stopped_in(found)}
        kept = max(score for trial, score in finals.items() if trial not in stopped)
        assert told.regret is not None
        assert told.best_killed is not None
        assert (
            told.regret.value == told.regret.low == told.regret.high == max(finals.values()) - kept
        )
        assert told.best_killed.value == told.best_killed.low == float(max(finals.values()) > kept)


def test_a_sample_is_spread_over_tasks_and_a_larger_one_holds_it(finished: Path) -> None:
    stopped = {search.task: search.stopped for search in searches_of(read_history(finished))}
    whole = draw_sample(stopped, ALL, 0)
    assert len(whole) == sum(map(len, stopped.values()))
    assert len({trial.name for trial in whole}) == len(whole)
    assert len({trial.task for trial in whole[: len(stopped)]}) == len(stopped)
    assert draw_sample(stopped, 3, 0) == whole[:3]
    assert draw_sample(stopped, ALL, 1) != whole


def test_the_rank_correlation_is_spearmans() -> None:
    random = np.random.default_rng(0)
    one = random.normal(size=12).round(1)  # with ties
    other = one + random.normal(size=12)
    found = rank_correlation([(one, other, np.ones(12))], 0)
    assert found is not None
    assert found.value == pytest.approx(spearmanr(one, other).statistic)
    assert found.low < found.value < found.high


def test_a_weight_counts_as_so_many_trials() -> None:
    random = np.random.default_rng(1)
    one, other, weights = (
        random.normal(size=14),
        random.normal(size=14),
        random.integers(1, 3, size=14),
    )
    found = rank_correlation([(one, other, weights.astype(np.float64))], 0)
    assert found is not None
    expected = spearmanr(np.repeat(one, weights), np.repeat(other, weights)).statistic
    assert found.value == pytest.approx(expected)


def test_ranks_are_taken_within_tasks() -> None:
    rising = np.arange(6.0)
    groups = [
        (rising, rising[::-1].copy(), np.ones(6)),
        (rising + 100, rising[::-1] + 100, np.ones(6)),
    ]
    found = rank_correlation(groups, 0)
    assert found is not None
    assert found.value == pytest.approx(-1)  # pooled without regard to tasks it would be positive


def test_of_too_few_trials_nothing_is_told() -> None:
    rising = np.arange(7.0)
    assert rank_correlation([], 0) is None
    assert rank_correlation([(rising, rising, np.ones(7))], 0) is None
    assert rank_correlation([(np.zeros(9), np.arange(9.0), np.ones(9))], 0) is None  # all alike
    lonely = Search(
        TASK,
        kept=(course(9, 0.5),),
        stopped=(trial(1), trial(2)),
        epochs=9,
        again=(course(1, 0.3),),
    )
    tasks, pooled = findings([lonely], 0)
    assert pooled == {}
    assert tasks[str(TASK)].best_killed is None
    assert tasks[str(TASK)].regret is None


TASK, PEER = Task("unimodal", "voice", "arousal"), Task("unimodal", "face", "arousal")


def trial(number: int, task: Task = TASK, score: float = 0.1) -> Trial:
    """One that was stopped after two epochs."""
    name = f"{number:04d}"
    proposed = TrialProposed(
        at=0, trial=name, task=str(task), purpose="search", values={}, fold=0, seed=0, key=name
    )
    judged = RungDecision(at=0, trial=name, rung=2, score=score, goes_on=False)
    ended = TrialEnded(
        at=0, trial=name, reason="asha", score=score, best_epoch=2, epochs=2, cpu_s=0, wall_s=0
    )
    return Trial(proposed, [Epoch(1, 0, score), Epoch(2, 0, score)], [judged], ended)


def course(number: int, final: float, task: Task = TASK) -> Course:
    """Ten epochs in all."""
    stopped = trial(number, task)
    rest = [Epoch(number, 0, final) for number in range(3, 11)]
    return Course(stopped, (*stopped.epochs, *rest), final)


def test_what_is_not_known_goes_the_way_that_others_went() -> None:
    # Of five others with 0.1 when stopped and 0.4 to go, one went 1.5 times that way, four went half of it. So the one
    # that is not known beats the best kept with a chance of 1 in 5, and then by 0.5 times its own way, 0.8.
    finals = [0.1 + 0.4 * part for part in (1.5, 0.5, 0.5, 0.5, 0.5)]
    again = tuple(course(number, final, PEER) for number, final in enumerate(finals, start=20))
    peer = Search(
        PEER, (replace(course(9, 0.5, PEER)),), tuple(one.trial for one in again), 60, again
    )
    searched = Search(TASK, (course(8, 0.9),), (trial(1),), 12)
    tasks, pooled = findings([searched, peer], 0)
    told, known = tasks[str(TASK)], tasks[str(PEER)]
    assert told.best_killed is not None
    assert told.regret is not None
    assert told.best_killed.value == pytest.approx(1 / 5)
    assert told.best_killed.low == pytest.approx(beta(1.5, 4.5).ppf(0.025), abs=0.02)
    assert told.best_killed.high == pytest.approx(beta(1.5, 4.5).ppf(0.975), abs=0.02)
    assert told.regret.value == pytest.approx(1 / 5 * 0.5 * 0.8, abs=0.01)
    assert known.best_killed is not None
    assert known.regret is not None
    assert (known.best_killed.value, known.best_killed.high) == (1, 1)
    assert known.regret.value == pytest.approx(0.2)
    both = pooled["unimodal"]
    assert both.regret is not None
    assert both.best_killed is not None
    assert both.regret.value == pytest.approx((told.regret.value + 0.2) / 2)
    assert both.best_killed.value == pytest.approx((told.best_killed.value + 1) / 2)
    assert both.best_killed.low < both.best_killed.value < both.best_killed.high


def test_epochs_saved_are_those_that_the_stopped_trials_had_before_them() -> None:
    # Four were stopped after 2 of 10 epochs, two of them are known: 4 x 8 spared. A finalist that had been stopped was
    # trained anew: its 2 epochs are lost. Trained were 4 x 2, and 10 of the one kept, and 2 + 10 of that finalist.
    again = (course(1, 0.3), course(2, 0.4))
    stopped = (*(one.trial for one in again), trial(3), trial(4))
    complete = course(5, 0.5)
    ended = complete.trial.ended
    assert ended is not None
    complete.trial.ended = ended.model_copy(update={"reason": "max_epochs"})
    searched = Search(TASK, (complete, course(6, 0.6)), stopped, 4 * 2 + 10 + 12, again)
    told = findings([searched], 0)[0][str(TASK)]
    assert told.epochs_saved == 4 * 8 - 2
    assert told.epochs_saved_share == pytest.approx((4 * 8 - 2) / (6 * 10))
