"""Every fold has a seed of its own where the spec asks for it, and otherwise none has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.spec import Spec
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.unimodal import UnimodalTask
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec
from tests.pipeline_tests.problems import pose


def problems(spec: Spec) -> Sequence[SupervisedProblem]:
    """Return an auto-encoder's problem on every fold."""
    corpus = tiny_corpus()
    folds = CrossFitPlan.from_spec(corpus, spec).folds
    return [pose(AutoEncoderTask("voice"), corpus, spec, fold) for fold in folds]


def test_without_fold_seeds_every_fold_has_the_seed_of_the_spec() -> None:
    assert [problem.seed for problem in problems(tiny_spec(seed=4))] == [4, 4, 4]


def test_every_fold_has_a_seed_of_its_own() -> None:
    """No seed of one spec is one of another, either: several seeds of a finalist are others."""
    seeds = [
        problem.seed
        for seed in range(20)
        for problem in problems(tiny_spec(seed=seed, fold_seeds=True))
    ]

    assert len(set(seeds)) == 60
    assert seeds[::3] == list(range(20))
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_seeds_of_folds_are_the_same_in_every_process() -> None:
    """Figures of numpy 1.17 and later, which promises them: SeedSequence([7, fold])."""
    seeds = [problem.seed for problem in problems(tiny_spec(seed=7, fold_seeds=True))]
    assert seeds == [7, 369571992, 1009178997]


def test_only_the_keys_of_folds_with_another_seed_change() -> None:
    before = [problem.key for problem in problems(tiny_spec())]
    after = [problem.key for problem in problems(tiny_spec(fold_seeds=True))]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, False]


@pytest.mark.parametrize("settings", [{"protocol": "in_sample"}, {"inference": "refit"}])
def test_what_learns_from_all_sessions_has_the_seed_of_the_spec(
    settings: dict[str, object],
) -> None:
    """It is no fold: no mean is taken over it."""
    assert problems(tiny_spec(seed=4, fold_seeds=True, **settings))[-1].seed == 4


def test_a_regressor_has_the_seed_of_its_fold_too() -> None:
    corpus, spec = tiny_corpus(), tiny_spec(fold_seeds=True)
    fold = CrossFitPlan.from_spec(corpus, spec).folds[1]
    regressor = pose(UnimodalTask("voice", "arousal"), corpus, spec, fold)
    assert regressor.seed == pose(AutoEncoderTask("voice"), corpus, spec, fold).seed != spec.seed
