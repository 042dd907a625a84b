"""What an audit trains, what it notes, and why it may refuse to start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.trainer import Trainer, fit
from pipeline.stages.trained_stage import Epoch, TrainedStage
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import Killed, Worker, opened, tiny_study
from tuning.audit.audit import audit
from tuning.audit.sample import draw_sample, split_search_trials
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitContext, FitReport
from tuning.journal.file import JOURNAL, Journal
from tuning.journal.history import History, Trial, read_history
from tuning.planning.configurations import Configurations
from tuning.spec.tasks import parse_task

EVERY_TRIAL = 1000

AUDIT_WITH_TWO_WORKERS = """
import json, sys
from dataclasses import replace
from pathlib import Path
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus
from tuning.audit.audit import audit
from tuning.journal.history import read_history

folder, corpus = Path(sys.argv[1]), replace(tiny_corpus(), digest="0")
result = audit(read_history(folder), corpus, StageStore(folder / "store"), sample=4, workers=2)
print(json.dumps(result.to_json()))
"""


def stopped_trials(history: History) -> list[Trial]:
    """Return all trials that early stopping ended for good."""
    stopped: list[Trial] = []
    for trials in split_search_trials(history):
        stopped += trials.stopped
    return stopped


def store_of(folder: Path) -> StageStore:
    """Return the store in a study's folder."""
    return StageStore(folder / "store")


def stored_stage(store: StageStore, trial: Trial) -> TrainedStage:
    """Return a trial's stage, which must be in the store."""
    stage = store.get(trial.proposed.key)
    assert stage is not None
    return stage


# What is trained


def test_a_retrained_trial_is_what_a_plain_fit_of_it_is(folder: Path, corpus: Corpus) -> None:
    history, store = read_history(folder), store_of(folder)
    result = audit(history, corpus, store, sample=EVERY_TRIAL)

    context = FitContext.create(corpus, history.study.base, store)
    configurations = Configurations(history.study, corpus, context.plan, history)
    stopped = stopped_trials(history)
    assert len(stopped) >= 4
    assert result.num_fits == result.num_reproduced == len(stopped)

    for trial in stopped:
        job = configurations.job_of(trial.proposed)
        plain = fit(context.problem(job), corpus)
        retrained = stored_stage(store, trial)

        assert retrained.history == plain.history
        assert len(plain.history) > len(trial.epochs)
        for name, weights in plain.weights.items():
            assert np.array_equal(retrained.weights[name], weights)


def test_a_second_audit_trains_nothing_and_has_the_same_result(
    folder: Path, corpus: Corpus
) -> None:
    history, store = read_history(folder), store_of(folder)
    first, second = (audit(history, corpus, store, sample=3) for _ in range(2))
    assert (first.num_fits, second.num_fits) == (3, 0)
    assert second == replace(first, num_fits=0)


def test_an_audit_leaves_the_journal_unchanged_and_no_checkpoint(
    folder: Path, corpus: Corpus
) -> None:
    journal = (folder / JOURNAL).read_bytes()
    audit(read_history(folder), corpus, store_of(folder), sample=EVERY_TRIAL)
    assert (folder / JOURNAL).read_bytes() == journal
    assert list((folder / "store").glob("*checkpoint*")) == []


@pytest.mark.slow
def test_several_workers_train_what_one_does(
    finished_study: Path, tmp_path: Path, corpus: Corpus
) -> None:
    one = Path(shutil.copytree(finished_study, tmp_path / "one"))
    several = Path(shutil.copytree(finished_study, tmp_path / "several"))

    # Ray leaves threads and files behind, so it gets a process of its own.
    root = Path(__file__).parents[3]
    process = subprocess.run(
        [sys.executable, "-c", AUDIT_WITH_TWO_WORKERS, str(several)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr

    expected = audit(read_history(one), corpus, store_of(one), sample=4).to_json()
    assert json.loads(process.stdout) == json.loads(json.dumps(expected))


def test_a_running_study_can_be_audited(tmp_path: Path, corpus: Corpus) -> None:
    def kill(job: Job, report: FitReport) -> FitReport:
        if (tmp_path / JOURNAL).read_text().count('"reason":"asha"') >= 2:
            raise Killed
        return report

    worker = Worker(tmp_path, tiny_study(), corpus=corpus, before_report=kill)
    with pytest.raises(Killed):
        worker.run()

    # A running study has its journal open, and locked.
    with Journal(tmp_path / JOURNAL):
        result = audit(read_history(tmp_path), corpus, worker.store, sample=EVERY_TRIAL)

    num_stopped = sum(cost.num_stopped for cost in result.tasks.values())
    assert result.num_reproduced == num_stopped >= 1
    assert any("not finished: 1 of its trials" in note for note in result.notes)


def test_a_trial_that_fails_is_noted_and_the_others_are_trained(
    folder: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = read_history(folder)
    stopped = {trials.task: trials.stopped for trials in split_search_trials(history)}
    failing = draw_sample(stopped, 1, 0)[0]
    train_epoch = Trainer.train_epoch

    def fail(trainer: Trainer) -> Epoch:
        if trainer.problem.key == failing.proposed.key and trainer.epoch == 2:
            raise AffectuneError("the loss is not finite")
        return train_epoch(trainer)

    monkeypatch.setattr(Trainer, "train_epoch", fail)
    result = audit(history, corpus, store_of(folder), sample=3)

    assert (result.num_fits, result.num_failed, result.num_reproduced) == (3, 1, 3)
    assert any("the loss is not finite" in note and failing.name in note for note in result.notes)
    json.dumps(result.to_json(), allow_nan=False)


# What cannot be audited


def test_other_data_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="other data"):
        audit(read_history(folder), tiny_corpus(train_subjects=5), store_of(folder))


def test_a_store_without_the_upstream_stages_is_refused(
    folder: Path, tmp_path: Path, corpus: Corpus
) -> None:
    store = StageStore(tmp_path / "empty")
    with pytest.raises(InputError, match=r"does not have the stages .* --store"):
        audit(read_history(folder), corpus, store, sample=EVERY_TRIAL)


def test_another_version_of_the_training_code_is_refused(
    folder: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.task.TRAINING_CODE", -1)
    with pytest.raises(InputError, match="another version"):
        audit(read_history(folder), corpus, store_of(folder))


def test_a_study_without_stopped_trials_has_nothing_to_audit(
    tmp_path: Path, corpus: Corpus
) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(opened(tiny_study()))
    with pytest.raises(InputError, match="nothing to audit"):
        audit(read_history(tmp_path), corpus, StageStore(tmp_path / "store"))


# What is estimated


def test_with_every_stopped_trial_retrained_the_regret_is_exact(
    folder: Path, corpus: Corpus
) -> None:
    history, store = read_history(folder), store_of(folder)
    result = audit(history, corpus, store, sample=EVERY_TRIAL)
    stopped_names = {trial.name for trial in stopped_trials(history)}

    for name, cost in result.tasks.items():
        searched = history.trials_of(parse_task(name), "search")
        scores = {trial.name: stored_stage(store, trial).score for trial in searched}
        best = max(scores.values())
        best_kept = max(score for trial, score in scores.items() if trial not in stopped_names)

        assert cost.regret is not None
        assert cost.regret.value == cost.regret.low == cost.regret.high == best - best_kept
        assert cost.best_stopped is not None
        assert cost.best_stopped.value == cost.best_stopped.low == float(best > best_kept)
