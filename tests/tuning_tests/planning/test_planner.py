"""What a study decides: the order of its fits, which trial continues, and which finalist wins.

A crash changes none of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.distillation.distil import distil
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import load_model, save_model
from pipeline.spec import Spec
from pipeline.stages.fusion import FusionTask
from pipeline.stages.trained_stage import Epoch
from pipeline.stages.unimodal import UnimodalTask
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import (
    Killed,
    Lost,
    Worker,
    as_if_chosen,
    events_by_task,
    opened,
    tiny_study,
)
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitReport
from tuning.journal.file import JOURNAL, Journal
from tuning.journal.history import History, Trial, history_of, read_history
from tuning.planning.asha import Rung, RungScore, rungs, score_at
from tuning.planning.planner import MAX_NODE_LOSSES, MAX_WORKER_LOSSES, StudyPlanner
from tuning.spec.study_spec import StudySpec
from tuning.study.assemble_model import winning_model

FAILING_TRIAL = "0007"
SEEDS = {"auto_encoder": 1, "unimodal": 2, "fusion": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """Return the worker of a study that is done."""
    worker = Worker(tmp_path_factory.mktemp("finished"), tiny_study())
    assert worker.run().is_done
    return worker


@pytest.fixture(scope="module")
def history(finished: Worker) -> History:
    """Return the history of the study that is done."""
    return read_history(finished.folder)


def planner_of(worker: Worker) -> StudyPlanner:
    """Return the planner of a study that is done."""
    resumed = Worker(worker.folder, worker.study, store=str(worker.folder / "store"))
    planner = resumed.run()
    assert resumed.jobs == []
    return planner


def complete_trials(history: History) -> list[Trial]:
    """Return the trials that left a trained stage."""
    return [trial for trial in history.trials.values() if trial.is_complete]


def test_every_task_is_completed_after_those_upstream(history: History) -> None:
    completed = list(history.completed)
    assert len(completed) == 2 + 4 + 2
    for index, task in enumerate(completed):
        assert set(task.upstream_tasks(("voice", "face"))) <= set(completed[:index])


def test_a_fit_starts_only_when_its_upstream_stages_are_trained(
    finished: Worker, history: History
) -> None:
    trained: set[str] = set()
    for job in finished.jobs:
        assert set(job.upstream_keys.flat()) <= trained
        trained.add(history.trials[job.trial].proposed.key)


def test_no_configuration_is_tried_twice_and_no_fit_is_made_twice(history: History) -> None:
    for task in history.completed:
        tried = [
            tuple(sorted(trial.proposed.configuration.items()))
            for trial in history.trials_of(task, "search")
        ]
        assert len(set(tried)) == len(tried)

    keys = [trial.proposed.key for trial in complete_trials(history)]
    assert len(set(keys)) == len(keys)


def test_finalists_are_trained_on_every_fold_and_seed_and_ranked_by_their_mean(
    finished: Worker, history: History
) -> None:
    for task, finalists in history.completed.items():
        seeds = SEEDS[task.stage]
        for finalist in finalists:
            assert [len(keys) for keys in finalist.keys] == [seeds] * 3
            keys = [key for fold_keys in finalist.keys for key in fold_keys]
            assert len(set(keys)) == 3 * seeds
            assert all(finished.store.get(key) is not None for key in keys)

        means = [np.mean(f.deciding) for f in finalists if not f.members]
        assert means == sorted(means, reverse=True)


def test_a_search_begins_with_the_settings_of_the_study_which_are_always_a_finalist(
    finished: Worker, history: History
) -> None:
    for task in history.completed:
        if task.stage == "auto_encoder":
            continue  # a grid
        first = history.trials_of(task, "search")[0].proposed.configuration
        learning_rate = getattr(finished.study, task.stage).fit.learning_rate
        assert first["fit.learning_rate"] == max(learning_rate, 0.001)  # the space begins there
        assert first["difficulty"] is True
        assert first in history.chosen[task].configurations


def test_the_search_goes_by_people_that_the_fit_never_saw(history: History) -> None:
    for task, chosen in history.chosen.items():
        configurations = {
            trial.ended.deciding: trial.proposed.configuration
            for trial in history.trials_of(task, "search")
            if trial.is_complete and trial.ended
        }
        assert None not in configurations
        highest = max(score for score in configurations if score is not None)
        if task in history.races:
            # It is ahead when the race begins, and may be behind when it ends.
            leader = history.races[task][0].standings[0]
            assert leader.configuration == configurations[highest]
            assert leader.score == pytest.approx(highest)
        else:
            assert configurations[highest] in chosen.configurations


def test_early_stopping_decides_at_rungs_and_ends_trials_that_are_behind(
    history: History,
) -> None:
    stopped = [
        trial
        for trial in history.trials.values()
        if trial.ended is not None and trial.ended.reason == "asha"
    ]
    assert stopped
    for trial in stopped:
        assert trial.proposed.purpose == "search"
        assert not trial.rung_decisions[-1].continues
        assert trial.epochs[-1].epoch == trial.rung_decisions[-1].rung

    for trial in complete_trials(history):
        assert all(decision.continues for decision in trial.rung_decisions)


def test_the_store_keeps_no_checkpoint_of_a_fit_that_ended(finished: Worker) -> None:
    assert [path.name for path in (finished.folder / "store").glob("*-checkpoint")] == []


def test_with_the_same_store_nothing_is_trained_twice(
    finished: Worker, history: History, tmp_path: Path
) -> None:
    worker = Worker(tmp_path, tiny_study(), store=str(finished.folder / "store"))
    planner = worker.run()
    assert planner.is_done

    # Trials that early stopping ended are not in the store.
    trained = [planner.history.trials[job.trial] for job in worker.jobs]
    keys = {trial.proposed.key for trial in complete_trials(history)}
    assert not keys & {trial.proposed.key for trial in trained}

    ends = [trial.ended for trial in planner.history.trials.values()]
    num_from_store = sum(ended is not None and ended.reason == "store" for ended in ends)
    assert num_from_store > len(trained)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.slow
def test_the_journal_of_a_study_that_was_killed_many_times_is_that_of_one_that_was_not(
    finished: Worker, tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)

    def kill_sometimes(job: Job, report: FitReport) -> FitReport:
        if random.random() < 0.12:
            raise Killed
        return report

    num_kills = 0
    for _ in range(200):
        worker = Worker(tmp_path, tiny_study(), before_report=kill_sometimes, report_s=0.0)
        try:
            assert worker.run().is_done
            break
        except Killed:
            num_kills += 1

    assert num_kills >= 10
    assert events_by_task(tmp_path) == events_by_task(finished.folder)


def test_a_killed_fit_goes_on_from_its_last_report(tmp_path: Path) -> None:
    reports: list[FitReport] = []

    def kill_at_third_epoch(job: Job, report: FitReport) -> FitReport:
        if report.epochs and report.epochs[-1].epoch == 3:
            raise Killed
        return report

    def kill_at_first_report(job: Job, report: FitReport) -> FitReport:
        reports.append(report)
        raise Killed

    for before_report in (kill_at_third_epoch, kill_at_first_report):
        worker = Worker(tmp_path, tiny_study(), before_report=before_report, report_s=0.0)
        with pytest.raises(Killed):
            worker.run()

    # The first three come from the checkpoint.
    assert [epoch.epoch for epoch in reports[0].epochs] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_failing_configuration_is_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    def fail_one(job: Job, report: FitReport) -> FitReport:
        if job.trial == FAILING_TRIAL:
            return replace(report, end_reason="error", error="the loss is not finite")
        return report

    planner = Worker(tmp_path, tiny_study(), before_report=fail_one).run()
    assert planner.is_done
    ended = planner.history.trials[FAILING_TRIAL].ended
    assert ended is not None
    assert (ended.reason, ended.error) == ("error", "the loss is not finite")


@pytest.mark.slow
def test_a_trial_whose_worker_is_lost_goes_on_in_another_one(
    finished: Worker, tmp_path: Path
) -> None:
    num_reports: Counter[str] = Counter()

    def lose_some(job: Job, report: FitReport) -> FitReport:
        num_reports[job.trial] += 1
        if num_reports[job.trial] <= MAX_WORKER_LOSSES:
            raise Lost
        return report

    assert Worker(tmp_path, tiny_study(), before_report=lose_some).run().is_done
    assert events_by_task(tmp_path) == events_by_task(finished.folder)


@pytest.mark.slow
def test_a_trial_that_loses_worker_after_worker_fails(tmp_path: Path) -> None:
    def lose_one(job: Job, report: FitReport) -> FitReport:
        if job.trial == FAILING_TRIAL:
            raise Lost
        return report

    planner = Worker(tmp_path, tiny_study(), before_report=lose_one).run()
    assert planner.is_done
    ended = planner.history.trials[FAILING_TRIAL].ended
    assert ended is not None
    assert ended.reason == "error"
    assert ended.error == "Its worker was lost again and again (out of memory?): killed"


def test_losses_count_in_a_row_and_those_of_nodes_hardly(tmp_path: Path) -> None:
    study, corpus = tiny_study(), tiny_corpus()
    store = StageStore(tmp_path / "store")
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(opened(study))
        planner = StudyPlanner(study, corpus, store, journal, history_of(journal.events))
        job = planner.next_job()
        assert job is not None
        trial = planner.history.trials[job.trial]

        for _ in range(MAX_NODE_LOSSES):
            planner.worker_lost(job.trial, "gone", with_node=True)
        for epoch in range(1, 4):
            for _ in range(MAX_WORKER_LOSSES):
                planner.worker_lost(job.trial, "killed")
            assert trial.ended is None
            planner.receive(job.trial, FitReport(epochs=(Epoch(epoch, 1.0, -1.0),)))

        for _ in range(MAX_NODE_LOSSES + 1):
            planner.worker_lost(job.trial, "gone", with_node=True)
        assert trial.ended is not None
        assert trial.ended.reason == "error"


@pytest.mark.slow
def test_a_trial_that_began_on_another_device_does_not_go_on(tmp_path: Path) -> None:
    study, corpus = tiny_study(auto_encoder={"gpus": 1}), tiny_corpus()
    store = StageStore(tmp_path / "store")

    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(opened(study))
        planner = StudyPlanner(
            study, corpus, store, journal, history_of(journal.events), device="cuda"
        )
        assert planner.next_job() is not None

    with Journal(tmp_path / JOURNAL) as journal:
        history = history_of(journal.events)
        assert StudyPlanner(study, corpus, store, journal, history, device="cuda").next_job()
        with pytest.raises(InputError, match=r"Trial 0001 .* --device"):
            StudyPlanner(study, corpus, store, journal, history, device="cpu")


@pytest.mark.slow
def test_a_finalist_whose_refit_fails_is_left_out(tmp_path: Path) -> None:
    task = UnimodalTask("voice", "arousal")
    refits: list[str] = []

    def fail_first_refit(job: Job, report: FitReport) -> FitReport:
        is_refit = job.task == task and job.fold == 1 and not job.rungs
        if is_refit:
            refits.append(job.trial)
        if is_refit and len(set(refits)) == 1:
            return replace(report, end_reason="error", error="exploded")
        return report

    planner = Worker(tmp_path, tiny_study(), before_report=fail_first_refit).run()
    assert planner.is_done
    assert len(planner.history.completed[task]) == 1
    assert len(planner.history.completed[UnimodalTask("face", "arousal")]) == 2


def test_too_many_failures_end_a_study_with_the_first_cause(tmp_path: Path) -> None:
    numbers = iter(range(1000))

    def fail_all(job: Job, report: FitReport) -> FitReport:
        return replace(report, end_reason="error", error=f"cause {next(numbers)}")

    planner = Worker(tmp_path, tiny_study(), before_report=fail_all).run()
    assert not planner.is_done
    assert planner.failure is not None
    assert "cause 0" in planner.failure
    assert planner.next_job() is None


def test_without_time_there_is_one_finalist_with_one_seed(tmp_path: Path) -> None:
    planner = Worker(tmp_path, tiny_study(), budget_s=1e-3).run()
    assert planner.is_done
    for task, finalists in planner.history.completed.items():
        assert len(finalists) == 1, task
        assert [len(keys) for keys in finalists[0].keys] == [1, 1, 1]


def _study_of_one_configuration() -> StudySpec:
    """Return a study whose unimodal search has one configuration, and which searches no other."""
    study = tiny_study()
    assert study.search.unimodal is not None
    dimension = study.search.unimodal.space["fit.learning_rate"]
    one_choice = dimension.model_copy(update={"loguniform": None, "choice": (0.01,)})
    one_configuration = {
        "space": {"fit.learning_rate": one_choice},
        "sampler": "grid",
        "trials": None,
        "finalists": 1,
        "seeds": 1,
    }
    unimodal = study.search.unimodal.model_copy(update=one_configuration)
    search = {"auto_encoder": None, "fusion": None, "unimodal": unimodal}
    return study.model_copy(update={"search": study.search.model_copy(update=search)})


def _spec_of_one_configuration(study: StudySpec) -> Spec:
    """Return the settings with which `train` does what that study does."""
    fit = study.unimodal.fit.model_copy(update={"learning_rate": 0.01})
    unimodal = study.unimodal.model_copy(update={"fit": fit})
    return study.base.model_copy(update={"unimodal": unimodal})


def _scores(evaluation: Evaluation) -> dict[tuple[str, str], float]:
    """Return the CCC of every prediction of every target."""
    return {
        (target, name): score.ccc
        for target, scores in evaluation.targets.items()
        for name, score in scores.scores.items()
    }


@pytest.mark.slow
def test_a_study_of_one_configuration_gives_the_predictions_of_train(tmp_path: Path) -> None:
    study = _study_of_one_configuration()
    worker = Worker(tmp_path, study)
    planner = worker.run()
    assert planner.is_done
    as_if_chosen(planner, "winner")
    winner = winning_model(planner, worker.corpus, worker.store)

    with WorkerPool(worker.corpus, StageStore(tmp_path / "other")) as pool:
        trained = train(worker.corpus, _spec_of_one_configuration(study), pool)

    expected = _scores(evaluate(trained, worker.corpus, "devel"))
    assert _scores(evaluate(winner, worker.corpus, "devel")) == pytest.approx(expected, abs=1e-6)


def test_the_winner_is_a_model_that_can_be_saved_and_predicts_the_same(
    finished: Worker, tmp_path: Path
) -> None:
    model = winning_model(planner_of(finished), finished.corpus, finished.store)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")

    devel = finished.corpus.partition("devel")
    expected, predictions = model.predict_sessions(devel), loaded.predict_sessions(devel)
    for one, other in zip(expected, predictions, strict=True):
        for target in model.targets:
            np.testing.assert_array_equal(one.values[target], other.values[target])


@pytest.mark.slow
def test_a_winner_of_several_folds_and_seeds_is_distilled_to_one_network_per_task(
    finished: Worker,
) -> None:
    planner = planner_of(finished)
    as_if_chosen(planner, "winner")
    teacher = winning_model(planner, finished.corpus, finished.store)
    pool = WorkerPool(finished.corpus, finished.store)
    student = distil(teacher, finished.corpus, pool, tolerance=2)  # 2: however bad it is

    counts = [*student.auto_encoders.values(), *student.regressors.values()]
    assert {len(models) for models in [*counts, *student.fusions.values()]} == {1}
    assert student.encoder_of == teacher.encoder_of
    assert student.composition == f"distilled from {teacher.composition}"
    assert student.study == teacher.study


def test_what_fusion_read_in_training_is_what_the_model_predicts_on_devel(
    finished: Worker,
) -> None:
    """The averages of the stored outputs are the model's own unimodal predictions."""
    planner = planner_of(finished)
    as_if_chosen(planner, "winner")
    completed = planner.history.completed
    model = winning_model(planner, finished.corpus, finished.store)
    devel = finished.corpus.partition("devel")
    predictions = model.predict_sessions(devel)

    for target in model.targets:
        winner = completed[FusionTask(target=target)][0]
        for modality, rank in winner.upstream_ranks.items():
            keys = completed[UnimodalTask(modality, target)][rank - 1].keys
            outputs = planner.upstream_predictions.stage_outputs(keys)
            for session, prediction in zip(devel, predictions, strict=True):
                expected = outputs[session.session_id][:, 0]
                unimodal = prediction.unimodal[target][modality]
                np.testing.assert_allclose(unimodal, expected, atol=1e-5)


def test_rungs_are_multiples_before_the_end() -> None:
    assert rungs(10, 3, 100) == (10, 30, 90)
    assert rungs(10, 3, 90) == (10, 30)
    assert rungs(10, 3, 10) == ()


def test_of_the_trials_that_reach_a_rung_the_best_share_continues(history: History) -> None:
    trials = history.trials_of(UnimodalTask("voice", "arousal"), "search")
    scores = [score for trial in trials if (score := score_at(trial, 1)) is not None]
    assert len(scores) == 4

    highest = max(score.devel for score in scores)
    better, second = RungScore(highest + 1), RungScore(highest - 1e-9)
    assert Rung(1, trials).may_continue(better, 5)
    assert not Rung(1, trials).may_continue(second, 5)
    assert Rung(1, trials).may_continue(second, 4)  # the second of five, of which two continue
    assert Rung(1, []).may_continue(RungScore(-1.0), 3)


@pytest.mark.slow
def test_fold_seeds_and_joint_learning_give_the_fits_of_train(tmp_path: Path) -> None:
    """Every key is one of `train`'s; the seed that is recorded is the study's."""
    study = _study_of_one_configuration()
    unimodal = study.unimodal.model_copy(update={"learns": "all"})
    settings = {"seed": 5, "fold_seeds": True, "unimodal": unimodal}
    study = study.model_copy(update=settings)
    worker = Worker(tmp_path, study)
    assert worker.run().is_done

    with WorkerPool(worker.corpus, worker.store) as pool:
        train(worker.corpus, _spec_of_one_configuration(study), pool)
    assert pool.trained == []

    trials = complete_trials(read_history(tmp_path))
    assert {trial.proposed.seed for trial in trials} == {5}
    by_fold: dict[int, set[int]] = {}
    for trial in trials:
        stage = worker.store.get(trial.proposed.key)
        assert stage is not None
        by_fold.setdefault(trial.proposed.fold, set()).add(stage.seed)
    assert [len(seeds) for seeds in by_fold.values()] == [1, 1, 1]
    assert len(set.union(*by_fold.values())) == 3
