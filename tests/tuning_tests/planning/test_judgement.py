"""What a study registers: the best of what it found and what it has to beat, and how it says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import model_card
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import load_model, save_model
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.tuning_tests.planning.equal_finalists import (
    ensembles_of_two_and_one,
    study_of_equals,
)
from tests.tuning_tests.studies import Worker, as_if_chosen, tiny_study
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitReport
from tuning.journal.events import Candidate, CandidateKind, Difference, Judgement
from tuning.journal.history import read_history
from tuning.planning.judgement import verdict
from tuning.planning.planner import StudyPlanner
from tuning.study.assemble_model import winning_model

KINDS: tuple[CandidateKind, ...] = (
    "winner",
    "single",
    "default",
    "modality",
    "mean",
    "weighted_mean",
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """Return the worker of a study that finds ensembles."""
    return Worker(tmp_path_factory.mktemp("equals"), study_of_equals())


@pytest.fixture(scope="module")
def finished(worker: Worker) -> Iterator[StudyPlanner]:
    """Return the planner of that study, which is done."""
    with ensembles_of_two_and_one():
        planner = worker.run()
        assert planner.is_done
        yield planner


@pytest.fixture
def planner(worker: Worker, finished: StudyPlanner) -> StudyPlanner:
    """Return that planner, its judgement as it was."""
    finished.history.judged = read_history(worker.folder).judged
    return finished


def candidates(planner: StudyPlanner, target: str) -> dict[CandidateKind, Candidate]:
    """Return the candidates of a target, by kind."""
    assert planner.history.judged is not None
    return {each.kind: each for each in planner.history.judged.targets[target].candidates}


@pytest.mark.slow
def test_every_candidate_is_judged_and_the_best_is_registered(planner: StudyPlanner) -> None:
    judged = planner.history.judged
    assert judged is not None
    for judgement in judged.targets.values():
        assert tuple(each.kind for each in judgement.candidates) == KINDS
        best = max(judgement.candidates, key=lambda each: each.deciding)
        assert judgement.chosen == best
        for each in judgement.candidates:
            if each is not best:
                assert each.chosen_minus_it is not None
                gap = best.deciding - each.deciding
                assert each.chosen_minus_it.ccc == pytest.approx(gap, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_the_model_of_a_candidate_has_the_scores_that_were_judged(
    planner: StudyPlanner, worker: Worker, tmp_path: Path, kind: CandidateKind
) -> None:
    judged = {target: candidates(planner, target)[kind] for target in ("arousal", "valence")}
    as_if_chosen(planner, kind)
    save_model(winning_model(planner, worker.corpus, worker.store), tmp_path / "model")
    model = load_model(tmp_path / "model")

    evaluation = evaluate(model, worker.corpus, "devel")
    for target, candidate in judged.items():
        devel = evaluation.targets[target].scores["fusion"].ccc
        assert devel == pytest.approx(candidate.devel, abs=1e-5)
        out_of_fold = model.out_of_fold[target]["fusion"]["ccc"]
        assert out_of_fold == pytest.approx(candidate.out_of_fold, abs=1e-5)
        if kind == "modality":
            assert model.fusion_modalities[target] == (candidate.modality,)
    assert model_card(model, evaluation, [])


@pytest.mark.slow
def test_the_default_is_what_train_makes_of_the_study_s_own_settings(
    planner: StudyPlanner, worker: Worker, tmp_path: Path
) -> None:
    as_if_chosen(planner, "default")
    default = winning_model(planner, worker.corpus, worker.store)
    with WorkerPool(worker.corpus, StageStore(tmp_path)) as pool:
        trained = train(worker.corpus, worker.study.base, pool)

    expected = evaluate(trained, worker.corpus, "devel").targets
    for target, evaluated in evaluate(default, worker.corpus, "devel").targets.items():
        for name, score in evaluated.scores.items():
            assert score.ccc == pytest.approx(expected[target].scores[name].ccc, abs=1e-6)


@pytest.mark.slow
def test_a_study_whose_default_fails_is_judged_without_it(tmp_path: Path) -> None:
    def fail_defaults(job: Job, report: FitReport) -> FitReport:
        history = read_history(tmp_path)
        if history.trials[job.trial].proposed.purpose == "default":
            return replace(report, end_reason="error", error="the loss is not finite")
        return report

    planner = Worker(tmp_path, tiny_study(), before_report=fail_defaults).run()
    assert planner.is_done
    assert "default" not in candidates(planner, "arousal")
    assert "winner" in candidates(planner, "arousal")


def judgement(**differences: tuple[float, float | None, float | None] | None) -> Judgement:
    """Return a judgement; kind of candidate -> the chosen one minus it; None for the chosen one."""
    return Judgement.model_validate(
        {
            "candidates": [
                {
                    "kind": kind,
                    "modality": "voice" if kind == "modality" else "",
                    "deciding": 0.5,
                    "devel": 0.5,
                    "out_of_fold": None,
                    "chosen_minus_it": None
                    if difference is None
                    else Difference(
                        ccc=difference[0], ccc_low=difference[1], ccc_high=difference[2]
                    ),
                }
                for kind, difference in differences.items()
            ]
        }
    )


def test_a_verdict_says_what_the_winner_is_not_clearly_better_than() -> None:
    clear = judgement(winner=None, default=(0.1, 0.05, 0.2), mean=(0.2, 0.1, 0.3))
    assert verdict("arousal", clear) == (
        "arousal: the winner of the search is registered; better than the untuned default and "
        "the mean of the modalities."
    )

    doubtful = judgement(
        winner=None, default=(0.01, -0.02, 0.04), modality=(0.0, 0.0, 0.0), mean=(0.2, 0.1, 0.3)
    )
    assert verdict("arousal", doubtful) == (
        "arousal: the winner of the search is registered; not clearly better than the untuned "
        "default (+0.010 [-0.020, +0.040]) and voice alone (+0.000 [+0.000, +0.000]); better than "
        "the mean of the modalities."
    )


def test_a_verdict_says_what_is_registered_in_place_of_the_winner() -> None:
    beaten = judgement(winner=(0.1, 0.02, 0.2), modality=None)
    assert verdict("arousal", beaten) == (
        "arousal: voice alone is registered; better than the winner of the search."
    )
    beaten = judgement(winner=(0.01, -0.1, 0.2), default=None)
    assert verdict("arousal", beaten) == (
        "arousal: the untuned default is registered; not clearly better than the winner of the "
        "search (+0.010 [-0.100, +0.200])."
    )


def test_a_verdict_without_an_interval_claims_no_difference() -> None:
    one_person = judgement(winner=None, default=(0.1, None, None))
    assert verdict("arousal", one_person) == (
        "arousal: the winner of the search is registered; without an interval, so not shown to "
        "differ from the untuned default (+0.100)."
    )


def test_a_verdict_says_that_nothing_stands_in_for_one_of_several_modalities() -> None:
    alone = judgement(winner=(0.1, 0.02, 0.2), modality=None, mean=(0.2, 0.1, 0.3))
    assert verdict("arousal", alone).endswith(" Nothing stands in for voice when its sensor fails.")
