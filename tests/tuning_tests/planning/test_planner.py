"""What a study decides: the order of its fits, who goes on, what wins; and that a crash changes none of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.evaluate import evaluate
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.tuning_tests.studies import Killed, Lost, Worker, tiny_study, told
from tuning.fitting.job import Job
from tuning.journal.history import read_history
from tuning.planning.asha import goes_on, rungs, score_at
from tuning.planning.planner import WORKER_LOSSES, StudyPlanner
from tuning.spec.tasks import Task, feeding
from tuning.study.assemble_model import fused_model


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    worker = Worker(tmp_path_factory.mktemp("finished"), tiny_study())
    assert worker.run().over
    return worker


def test_every_task_is_settled_after_those_that_feed_it(finished: Worker) -> None:
    found = read_history(finished.folder)
    settled = list(found.settled)
    assert len(settled) == 2 + 4 + 2
    for place, task in enumerate(settled):
        assert set(feeding(task, ("voice", "face"))) <= set(settled[:place])


def test_a_stage_starts_only_when_what_it_reads_is_there(finished: Worker) -> None:
    trained: set[str] = set()
    found = read_history(finished.folder)
    for job in finished.jobs:
        assert set(job.sources.keys()) <= trained
        trained.add(found.trials[job.trial].proposed.key)


def test_no_configuration_is_tried_twice_and_no_fit_is_made_twice(finished: Worker) -> None:
    found = read_history(finished.folder)
    for task in found.settled:
        tried = [tuple(sorted(trial.proposed.values.items())) for trial in found.searched(task)]
        assert len(set(tried)) == len(tried)
    complete = [trial.proposed.key for trial in found.trials.values() if trial.complete]
    assert len(set(complete)) == len(complete)


def test_finalists_are_trained_on_every_fold_and_seed_and_ranked_by_their_mean(
    finished: Worker,
) -> None:
    found = read_history(finished.folder)
    for task, finalists in found.settled.items():
        seeds = {"auto_encoder": 1, "unimodal": 2, "fusion": 1}[task.stage]
        for finalist in finalists:
            assert [len(keys) for keys in finalist.keys] == [seeds] * 3
            assert len({key for keys in finalist.keys for key in keys}) == 3 * seeds
            assert all(
                finished.store.get(key) is not None for keys in finalist.keys for key in keys
            )
        means = [np.mean(finalist.scores) for finalist in finalists]
        assert means == sorted(means, reverse=True)


def test_a_search_begins_with_the_studys_own_settings_which_are_always_a_finalist(
    finished: Worker,
) -> None:
    found = read_history(finished.folder)
    for task in found.settled:
        if task.stage == "auto_encoder":
            continue  # a grid
        first = found.searched(task)[0].proposed.values
        own = getattr(finished.study, task.stage).fit.learning_rate
        assert first["fit.learning_rate"] == max(own, 0.001)  # the space begins there
        assert first["difficulty"] is True
        assert first in found.chosen[task].finalists


def test_the_search_goes_by_people_that_the_fit_never_saw(finished: Worker) -> None:
    found = read_history(finished.folder)
    for task, chosen in found.chosen.items():
        complete = {
            t.ended.deciding: t.proposed.values
            for t in found.searched(task)
            if t.complete and t.ended
        }
        assert None not in complete
        best = complete[max(score for score in complete if score is not None)]
        assert best in chosen.finalists


def test_early_stopping_judges_at_rungs_and_stops_what_is_behind(finished: Worker) -> None:
    found = read_history(finished.folder)
    stopped = [
        trial for trial in found.trials.values() if trial.ended and trial.ended.reason == "asha"
    ]
    assert stopped
    for trial in stopped:
        assert trial.proposed.purpose == "search"
        assert not trial.judged[-1].goes_on
        assert trial.epochs[-1].epoch == trial.judged[-1].rung
    assert all(judged.goes_on for t in found.trials.values() if t.complete for judged in t.judged)


def test_the_store_keeps_no_checkpoint_of_a_fit_that_ended(finished: Worker) -> None:
    assert [path.name for path in (finished.folder / "store").glob("*-checkpoint")] == []


def test_with_the_same_store_nothing_is_trained_twice(finished: Worker, tmp_path: Path) -> None:
    again = Worker(tmp_path, tiny_study(), store=str(finished.folder / "store"))
    complete = {
        trial.proposed.key
        for trial in read_history(finished.folder).trials.values()
        if trial.complete
    }
    planner = again.run()
    assert planner.over
    started = [
        planner.history.trials[job.trial] for job in again.jobs
    ]  # what early stopping had given up
    assert not complete & {trial.proposed.key for trial in started}
    assert sum(
        bool(t.ended and t.ended.reason == "store") for t in planner.history.trials.values()
    ) > len(started)


@pytest.mark.parametrize("seed", range(2))
def test_a_study_that_was_killed_again_and_again_tells_the_same_story(
    finished: Worker, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tuning.ray_backend.trainable.REPORT_S", 0.0
    )  # every epoch is reported, and kept
    random = np.random.default_rng(seed)

    def sometimes(job: Job, report: dict[str, Any]) -> None:
        if random.random() < 0.12:
            raise Killed

    killed = 0
    for _ in range(200):
        worker = Worker(tmp_path, tiny_study(), before_report=sometimes)
        try:
            assert worker.run().over
            break
        except Killed:
            killed += 1
    assert killed >= 10
    assert told(tmp_path) == told(finished.folder)


def test_a_killed_fit_goes_on_from_its_last_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.ray_backend.trainable.REPORT_S", 0.0)

    def at_the_third_epoch(job: Job, report: dict[str, Any]) -> None:
        if report["epochs"] and report["epochs"][-1][0] == 3:
            raise Killed

    with pytest.raises(Killed):
        Worker(tmp_path, tiny_study(), before_report=at_the_third_epoch).run()
    reports: list[dict[str, Any]] = []

    def look(job: Job, report: dict[str, Any]) -> None:
        reports.append(report)
        raise Killed

    with pytest.raises(Killed):
        Worker(tmp_path, tiny_study(), before_report=look).run()
    assert [epoch[0] for epoch in reports[0]["epochs"]] == [
        1,
        2,
        3,
        4,
    ]  # the first three from the checkpoint


def test_a_failing_configuration_is_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    def fail(job: Job, report: dict[str, Any]) -> None:
        if job.trial == "0007":
            report.update(ended="error", error="the loss is not finite")

    planner = Worker(tmp_path, tiny_study(), before_report=fail).run()
    assert planner.over
    ended = planner.history.trials["0007"].ended
    assert ended is not None
    assert (ended.reason, ended.error) == ("error", "the loss is not finite")


def test_a_trial_goes_on_in_another_worker_when_its_own_is_lost(
    finished: Worker, tmp_path: Path
) -> None:
    losses: Counter[str] = Counter()

    def lose(job: Job, report: dict[str, Any]) -> None:
        losses[job.trial] += 1
        if losses[job.trial] <= WORKER_LOSSES:
            raise Lost

    assert Worker(tmp_path, tiny_study(), before_report=lose).run().over
    assert told(tmp_path) == told(finished.folder)


def test_a_trial_that_loses_worker_after_worker_is_given_up(tmp_path: Path) -> None:
    def lose(job: Job, report: dict[str, Any]) -> None:
        if job.trial == "0007":
            raise Lost

    planner = Worker(tmp_path, tiny_study(), before_report=lose).run()
    assert planner.over
    ended = planner.history.trials["0007"].ended
    assert ended is not None
    assert ended.reason == "error"
    assert ended.error == "Its worker was lost again and again (out of memory?): killed"


def test_a_finalist_that_fails_in_its_refit_is_left_out(tmp_path: Path) -> None:
    task = Task("unimodal", "voice", "arousal")

    def fail(job: Job, report: dict[str, Any]) -> None:
        if job.task == task and job.fold == 1 and not job.rungs:
            failed.append(job.trial)
            if len(set(failed)) == 1:
                report.update(ended="error", error="exploded")

    failed: list[str] = []
    planner = Worker(tmp_path, tiny_study(), before_report=fail).run()
    assert planner.over
    assert len(planner.history.settled[task]) == 1
    assert len(planner.history.settled[Task("unimodal", "face", "arousal")]) == 2


def test_too_many_failures_end_a_study_with_the_first_cause(tmp_path: Path) -> None:
    count = iter(range(1000))

    def fail(job: Job, report: dict[str, Any]) -> None:
        report.update(ended="error", error=f"cause {next(count)}")

    planner = Worker(tmp_path, tiny_study(), before_report=fail).run()
    assert not planner.over
    assert planner.failure is not None
    assert "cause 0" in planner.failure
    assert planner.next() is None


def test_without_time_the_plan_shrinks_to_one_finalist_with_one_seed(tmp_path: Path) -> None:
    planner = Worker(tmp_path, tiny_study(), budget_s=1e-3).run()
    assert planner.over
    for task, finalists in planner.history.settled.items():
        assert len(finalists) == 1, task
        assert [len(keys) for keys in finalists[0].keys] == [1, 1, 1]


def test_a_stage_that_is_not_searched_is_trained_as_the_study_says(tmp_path: Path) -> None:
    """With one configuration everywhere a study is `train`: the same stages, the same predictions."""
    study = tiny_study()
    assert study.search.unimodal is not None
    learning_rate = study.search.unimodal.space["fit.learning_rate"]
    one_choice = learning_rate.model_copy(update={"loguniform": None, "choice": (0.01,)})
    unimodal = study.search.unimodal.model_copy(
        update={
            "space": {"fit.learning_rate": one_choice},
            "sampler": "grid",
            "trials": None,
            "finalists": 1,
            "seeds": 1,
        }
    )
    search = study.search.model_copy(
        update={"auto_encoder": None, "fusion": None, "unimodal": unimodal}
    )
    worker = Worker(tmp_path, study.model_copy(update={"search": search}))
    planner = worker.run()
    assert planner.over
    won = fused_model(planner, worker.corpus, worker.store)
    spec = study.base.model_copy(
        update={
            "unimodal": study.unimodal.model_copy(
                update={"fit": study.unimodal.fit.model_copy(update={"learning_rate": 0.01})}
            )
        }
    )
    with WorkerPool(worker.corpus, StageStore(tmp_path / "other")) as pool:
        trained = train(worker.corpus, spec, pool)
    one, other = (evaluate(model, worker.corpus, "devel") for model in (won, trained))
    for target in one.targets:
        for name, score in one.targets[target].scores.items():
            assert score.ccc == pytest.approx(other.targets[target].scores[name].ccc, abs=1e-6), (
                name
            )


def test_the_winner_is_a_model_that_can_be_saved_and_predicts_the_same(
    finished: Worker, tmp_path: Path
) -> None:
    planner = _agenda(finished)
    model = fused_model(planner, finished.corpus, finished.store)
    model.save(tmp_path / "model")
    loaded = FusedModel.load(tmp_path / "model")
    one, other = (m.predict_sessions(finished.corpus.partition("devel")) for m in (model, loaded))
    for mine, theirs in zip(one, other, strict=True):
        for target in model.targets:
            np.testing.assert_array_equal(mine.values[target], theirs.values[target])


def test_what_fusion_read_in_training_is_what_the_model_says_of_devel(finished: Worker) -> None:
    """The stored words of the stages, put together, are the model's own unimodal predictions."""
    planner = _agenda(finished)
    model = fused_model(planner, finished.corpus, finished.store)
    devel = finished.corpus.partition("devel")
    predictions = model.predict_sessions(devel)
    for target in model.targets:
        winner = planner.history.settled[Task("fusion", "", target)][0]
        for modality, rank in winner.reads.items():
            keys = planner.history.settled[Task("unimodal", modality, target)][rank - 1].keys
            words = planner.words(keys)
            for session, prediction in zip(devel, predictions, strict=True):
                expected = words[session.session_id][:, 0]
                np.testing.assert_allclose(
                    prediction.unimodal[target][modality], expected, atol=1e-5
                )


def test_rungs_are_multiples_before_the_end() -> None:
    assert rungs(10, 3, 100) == (10, 30, 90)
    assert rungs(10, 3, 90) == (10, 30)
    assert rungs(10, 3, 10) == ()


def test_of_three_that_reach_a_rung_the_best_goes_on(finished: Worker) -> None:
    found = read_history(finished.folder)
    task = Task("unimodal", "voice", "arousal")
    trials = found.searched(task)
    scores = sorted(score for trial in trials if (score := score_at(trial, 1)) is not None)
    assert len(scores) == 4
    assert goes_on(trials, 1, scores[-1] + 1, 5)
    assert not goes_on(trials, 1, scores[-1] - 1e-9, 5)
    assert goes_on(trials, 1, scores[-1] - 1e-9, 4)  # the second of five, of which two go on
    assert goes_on([], 1, -1.0, 3)


def _agenda(worker: Worker) -> StudyPlanner:
    """The agenda of a study that is over."""
    again = Worker(worker.folder, worker.study, store=str(worker.folder / "store"))
    planner = again.run()
    assert again.jobs == []
    return planner
