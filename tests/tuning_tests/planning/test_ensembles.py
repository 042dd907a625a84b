"""Ensembles of finalists: what they consist of, what reads them, and the model that they become."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.model.bundle import load_model, save_model
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import Task
from pipeline.stages.unimodal import UnimodalTask
from tests.tuning_tests.planning.equal_finalists import (
    ensembles_of_two_and_one,
    study_of_equals,
)
from tests.tuning_tests.studies import Worker, as_if_chosen
from tuning.journal.events import Difference, Finalist
from tuning.planning.planner import StudyPlanner
from tuning.study.assemble_model import winning_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    """Return the worker of such a study."""
    return Worker(tmp_path_factory.mktemp("equals"), study_of_equals())


@pytest.fixture(scope="module")
def planner(worker: Worker) -> Iterator[StudyPlanner]:
    """Return the planner of that study, which is done, and chose two thirds of the best always."""
    with ensembles_of_two_and_one():
        planner = worker.run()
        assert planner.is_done
        yield planner


def ensembles_of(planner: StudyPlanner) -> dict[Task, tuple[Finalist, ...]]:
    """Return the finalists of the tasks that an ensemble has won."""
    completed = planner.history.completed
    return {task: finalists for task, finalists in completed.items() if finalists[0].members}


def test_an_ensemble_comes_first_and_is_the_mean_of_configurations_that_rank_behind_it(
    planner: StudyPlanner,
) -> None:
    won = ensembles_of(planner)
    assert {task.stage for task in won} == {"unimodal", "fusion"}
    outputs = planner.upstream_predictions.stage_outputs

    for task, (first, *others) in won.items():
        assert first.gain == Difference(ccc=0.01, ccc_low=-0.01, ccc_high=0.03)
        assert not any(other.members for other in others)
        assert [member.count for member in first.members] == [2, 1]
        assert [len(keys) for keys in first.keys] == [3 * 2] * 3
        assert len(first.deciding) == 2  # seeds

        keys_of = {str(other.configuration): other.keys for other in others}
        members = [outputs(keys_of[str(part.configuration)]) for part in first.parts]
        for session_id, output in outputs(first.keys).items():
            expected = np.mean([columns[session_id] for columns in members], axis=0)
            np.testing.assert_allclose(output, expected, atol=1e-6, err_msg=str(task))


def test_fusions_of_an_ensemble_read_the_same_regressors(planner: StudyPlanner) -> None:
    for task, finalists in ensembles_of(planner).items():
        if task.stage == "fusion":
            ranks = [member.upstream_ranks for member in finalists[0].members]
            assert all(rank == ranks[0] for rank in ranks)


def test_the_model_of_a_study_predicts_what_its_ensembles_output(
    worker: Worker, planner: StudyPlanner, tmp_path: Path
) -> None:
    as_if_chosen(planner, "winner")
    model = winning_model(planner, worker.corpus, worker.store)
    assert model.regressor_encoders
    save_model(model, tmp_path / "model")
    devel = worker.corpus.partition("devel")
    predictions = load_model(tmp_path / "model").predict_sessions(devel)
    completed, outputs = planner.history.completed, planner.upstream_predictions.stage_outputs

    for target in model.targets:
        fusion = completed[FusionTask(target=target)][0]
        for session, prediction in zip(devel, predictions, strict=True):
            expected = outputs(fusion.keys)[session.session_id][:, 0]
            np.testing.assert_allclose(prediction.values[target], expected, atol=1e-5)

            for modality, rank in fusion.upstream_ranks.items():
                regressor = completed[UnimodalTask(modality, target)][rank - 1]
                expected = outputs(regressor.keys)[session.session_id][:, 0]
                unimodal = prediction.unimodal[target][modality]
                np.testing.assert_allclose(unimodal, expected, atol=1e-5)


def test_an_ensemble_is_compared_with_itself_without_difficulty(planner: StudyPlanner) -> None:
    for task, finalists in ensembles_of(planner).items():
        if task.stage != "fusion":
            continue
        fits = planner.fit_plan.comparison_fits(planner.history, task)
        readers = [
            part
            for part in finalists[0].members
            if planner.fit_plan.reads_difficulty(part.configuration)
        ]
        assert len(fits) == len(readers) * 2 * 3  # seeds, folds
        assert all(fit.configuration["difficulty"] is False for fit in fits)


def test_a_study_that_resumes_at_its_end_finds_the_same_ensembles(
    worker: Worker, planner: StudyPlanner
) -> None:
    again = Worker(worker.folder, worker.study, store=str(worker.folder / "store")).run()
    assert again.history.completed == planner.history.completed


def test_there_is_none_where_the_study_wants_none(worker: Worker, tmp_path: Path) -> None:
    alone = Worker(tmp_path, study_of_equals(ensemble=1), store=str(worker.folder / "store")).run()
    assert alone.is_done
    assert not ensembles_of(alone)
