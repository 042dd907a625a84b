"""A challenger is compared with the champion on the same devel sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import FusedModel
from tuning.mlflow_backend.registry.comparison import Comparison, compare


def with_inverted_predictions(model: FusedModel, *targets: str) -> FusedModel:
    """Return the model with the fusions of these targets turned upside down."""
    fusions = dict(model.fusions)
    for target in targets:
        fusions[target] = tuple(
            replace(stage, label_std=-stage.label_std) for stage in fusions[target]
        )
    return replace(model, fusions=fusions)


def with_one_target(model: FusedModel, target: str) -> FusedModel:
    """Return the model without the other target."""
    return replace(
        model,
        targets=(target,),
        encoder_of={key: name for key, name in model.encoder_of.items() if key[0] == target},
        regressors={key: stages for key, stages in model.regressors.items() if key[0] == target},
        fusions={target: model.fusions[target]},
        fusions_without_difficulty={},
    )


def test_the_same_model_is_no_worse_than_itself(model: FusedModel, corpus: Corpus) -> None:
    comparison = compare(model, model, corpus)
    assert comparison.mean == comparison.targets["arousal"] == comparison.targets["valence"]
    assert comparison.mean == Score(0, 0, 0)
    assert comparison.num_subjects == 3
    assert comparison.is_acceptable


def test_a_model_with_inverted_predictions_is_refused(model: FusedModel, corpus: Corpus) -> None:
    inverted = with_inverted_predictions(model, "arousal", "valence")
    comparison = compare(inverted, model, corpus)
    assert comparison.mean.ccc < 0
    assert not comparison.is_acceptable


def test_a_gain_on_one_target_does_not_hide_a_certain_loss_on_another() -> None:
    gain, loss, noise = Score(0.3, 0.1, 0.5), Score(-0.1, -0.2, -0.05), Score(-0.1, -0.2, 0.05)
    mean = Score(0.1, 0.0, 0.2)

    with_loss = Comparison(
        {"arousal": gain, "valence": loss}, mean, num_subjects=3, missing_targets=()
    )
    assert with_loss.reasons == ["valence gets worse: -0.100 [-0.200, -0.050]"]

    with_noise = Comparison(
        {"arousal": gain, "valence": noise}, mean, num_subjects=3, missing_targets=()
    )
    assert with_noise.is_acceptable


@pytest.mark.parametrize("mean", [-0.001, float("nan")])
def test_a_lower_or_undefined_mean_is_refused_however_uncertain_it_is(mean: float) -> None:
    comparison = Comparison(
        {"arousal": Score(0.1, 0.0, 0.2)},
        mean=Score(mean, -0.5, 0.5),
        num_subjects=3,
        missing_targets=(),
    )
    assert not comparison.is_acceptable


def test_the_mean_difference_is_the_mean_of_the_differences(
    model: FusedModel, corpus: Corpus
) -> None:
    comparison = compare(model, with_inverted_predictions(model, "arousal"), corpus)
    differences = [score.ccc for score in comparison.targets.values()]
    assert comparison.mean.ccc == pytest.approx(sum(differences) / 2)

    # One of the two differs by nothing, so each draw's mean is half of the other's.
    assert comparison.mean.low == pytest.approx(comparison.targets["arousal"].low / 2)


def test_a_challenger_that_predicts_less_is_refused(model: FusedModel, corpus: Corpus) -> None:
    arousal, valence = with_one_target(model, "arousal"), with_one_target(model, "valence")
    assert compare(arousal, model, corpus).reasons == ["it does not predict valence"]
    with pytest.raises(InputError, match="no target in common"):
        compare(arousal, valence, corpus)
