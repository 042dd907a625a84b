"""The race for finalists: who is tried on further folds, who is dropped, and that it pays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Session
from pipeline.stages.fusion import FusionTask
from tests.tuning_tests.planning.test_greedy_selection import sessions_of
from tests.tuning_tests.studies import Killed, Worker, events_by_task, tiny_study
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitReport
from tuning.planning.planner import StudyPlanner
from tuning.planning.race import rank_contenders

TASK = FusionTask(target="arousal")
NUM_FINALISTS, NUM_CANDIDATES = 3, 16
LEARNING_RATES = {"loguniform": [0.005, 0.08]}
RACE = {"trials": 6, "finalists": 2, "grace_epochs": 4, "race_folds": 3, "seeds": 1, "ensemble": 1}


def predictions(sessions: Sequence[Session], noise: float, seed: int) -> dict[str, np.ndarray]:
    """Return what a candidate predicts: the label, an error per person, and one per frame."""
    random = np.random.default_rng(seed)
    columns = {}
    for session in sessions:
        errors = random.normal(0, noise) + random.normal(0, noise, session.num_frames)
        columns[session.session_id] = (session.labels["arousal"] + errors)[:, None]
    return columns


def test_one_that_is_clearly_behind_is_dropped_and_one_that_may_be_as_good_stays() -> None:
    sessions = sessions_of(12)
    outputs = [predictions(sessions, noise, seed) for seed, noise in enumerate([1.0, 1.0, 4.0])]
    ranked = rank_contenders(TASK, sessions, outputs, 3, [False] * 3)
    assert [number for number, _, _, continues in ranked if not continues] == [2]
    assert ranked[0][2] is None
    assert ranked[2][2] is not None
    assert ranked[2][2].high < 0


def test_no_more_continue_than_there_are_places_and_the_kept_one_has_the_last() -> None:
    sessions = sessions_of(12)
    outputs = [predictions(sessions, 0.3, seed) for seed in range(5)]
    ranked = rank_contenders(TASK, sessions, outputs, 2, [False] * 5)
    assert [continues for *_, continues in ranked] == [True, True, False, False, False]

    last = ranked[-1][0]
    ranked = rank_contenders(TASK, sessions, outputs, 2, [number == last for number in range(5)])
    assert [continues for *_, continues in ranked] == [True, False, False, False, True]


def finalists_of(seed: int, race_folds: int) -> list[int]:
    """Return the finalists of a search that is simulated; candidate 0 is the best, then 1, ...

    Each fold holds out three people, and devel has three.
    """
    people = sessions_of(12, num_frames=20, seed=seed)
    devel, folds = people[:3], [people[3 + 3 * fold : 6 + 3 * fold] for fold in range(3)]
    noises = np.linspace(0.7, 1.3, NUM_CANDIDATES)
    outputs = [
        predictions(people, noise, 1000 * seed + number) for number, noise in enumerate(noises)
    ]

    contenders = list(range(NUM_CANDIDATES))
    for num_folds in range(1, race_folds + 1):
        sessions = [*devel, *(person for fold in folds[:num_folds] for person in fold)]
        share = (race_folds - num_folds) / max(race_folds - 1, 1)
        places = int(np.ceil(NUM_FINALISTS * (1 + share)))
        candidates = [outputs[number] for number in contenders]
        ranked = rank_contenders(TASK, sessions, candidates, places, [False] * len(candidates))
        contenders = [contenders[number] for number, _, _, continues in ranked if continues]
    return contenders


@pytest.mark.slow
def test_under_noise_a_race_over_three_folds_finds_better_finalists_than_one_fold() -> None:
    finalists = {
        race_folds: [finalists_of(seed, race_folds) for seed in range(60)] for race_folds in (1, 3)
    }
    mean_ranks = {folds: np.mean([np.mean(f) for f in found]) for folds, found in finalists.items()}
    assert mean_ranks[3] < mean_ranks[1] - 0.25


def race_study() -> dict[str, dict[str, object]]:
    """Return searches of six trials for two finalists."""
    space = {"fit.learning_rate": LEARNING_RATES}
    return {
        "unimodal": {**RACE, "space": space},
        "fusion": {**RACE, "space": space},
    }


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """Return the worker of a study with races."""
    return Worker(tmp_path_factory.mktemp("race"), tiny_study(**race_study()))


@pytest.fixture(scope="module")
def planner(worker: Worker) -> StudyPlanner:
    """Return the planner of that study, which is done."""
    planner = worker.run()
    assert planner.is_done
    return planner


@pytest.mark.slow
def test_who_continues_is_tried_on_the_next_fold_and_then_becomes_a_finalist(
    planner: StudyPlanner,
) -> None:
    history = planner.history
    assert {task.stage for task in history.races} == {"unimodal", "fusion"}
    for task, decisions in history.races.items():
        assert [decision.folds for decision in decisions] == [1, 2, 3]
        complete = [trial for trial in history.trials_of(task, "search") if trial.is_complete]
        assert len(decisions[0].standings) == len(complete) > 2
        assert len(decisions[0].continuing) <= 4
        assert len(decisions[1].continuing) <= 3
        assert len(decisions[2].continuing) <= 2

        raced = history.trials_of(task, "race")
        for fold, decision in enumerate(decisions[:2], start=1):
            tried = [t.proposed.configuration for t in raced if t.proposed.fold == fold]
            assert tried == decision.continuing
            for earlier, later in pairwise(decisions):
                names = {str(each.configuration) for each in later.standings}
                assert names == {str(each) for each in earlier.continuing}

        chosen = list(history.chosen[task].configurations)
        base = history.trials_of(task, "search")[0].proposed.configuration
        assert base in chosen
        assert [each for each in chosen if each != base] == [
            each for each in decisions[-1].continuing if each != base
        ][: 2 - 1]


@pytest.mark.slow
def test_what_the_race_trained_is_not_trained_again(planner: StudyPlanner) -> None:
    for task in planner.history.races:
        trials = [t for t in planner.history.trials_of(task) if t.is_complete]
        keys = [t.proposed.key for t in trials if t.proposed.purpose in ("search", "race", "refit")]
        assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_a_race_that_is_killed_again_and_again_ends_like_one_that_is_not(
    worker: Worker, planner: StudyPlanner, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)

    def kill_sometimes(job: Job, report: FitReport) -> FitReport:
        if random.random() < 0.1:
            raise Killed
        return report

    for _ in range(200):
        again = Worker(tmp_path, worker.study, before_report=kill_sometimes, report_s=0.0)
        try:
            assert again.run().is_done
            break
        except Killed:
            pass
    assert events_by_task(tmp_path) == events_by_task(worker.folder)


@pytest.mark.slow
def test_the_fits_of_a_race_are_counted(planner: StudyPlanner, worker: Worker) -> None:
    plan, history = planner.fit_plan, planner.history
    for task in history.races:
        assert plan.outstanding(history, task).race == 0
        # Before the search: four on the second fold, three on the third.
        assert plan.race_places("unimodal", 2, 1) + plan.race_places("unimodal", 2, 2) == 4 + 3
        assert len(history.trials_of(task, "race")) <= 4 + 3
