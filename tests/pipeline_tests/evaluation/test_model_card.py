"""The model card has what a person must know, and a fusion never loses to a floor in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.corpus import Corpus
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import floor_warnings, model_card
from pipeline.metrics.bootstrap import Score
from pipeline.model.correction import Correction
from pipeline.model.fused_model import FusedModel
from tests.pipeline_tests.corpora import band_calibration


@pytest.mark.parametrize(
    "content",
    [
        "95% intervals",
        "bootstrap of subjects",
        "licence",
        "cross_fit",
        "fusion is below the mean",
        "weighted mean",
        "stays the same for longer than: voice 5 s, face 5 s.",
    ],
)
def test_the_card_holds_what_matters(model: FusedModel, corpus: Corpus, content: str) -> None:
    """Data, protocol, scores and warnings are on the card."""
    card = model_card(model, evaluate(model, corpus), ["arousal: fusion is below the mean."])

    assert content in card


def test_the_card_says_whom_a_gate_trusts_on_average(
    model: FusedModel, gateless_model: FusedModel, corpus: Corpus
) -> None:
    """A column for every target; a model without a gate has no such section."""
    evaluation = evaluate(model, corpus)
    means = evaluation.to_json("m")["targets"]
    card = model_card(model, evaluation, [])

    assert "## Weights on devel" in card
    assert "| modality | arousal | valence |" in card
    for modality in ("voice", "face"):
        arousal, valence = (means[name]["mean_weights"][modality] for name in model.targets)
        assert f"| {modality} | {arousal:.2f} | {valence:.2f} |" in card

    assert "Weights on" not in model_card(gateless_model, evaluate(gateless_model, corpus), [])


def test_one_person_has_no_interval_and_the_card_says_so(model: FusedModel, corpus: Corpus) -> None:
    person = corpus.partition("devel")[0].subject
    sessions = tuple(
        session
        for session in corpus.sessions
        if session.partition != "devel" or session.subject == person
    )
    evaluation = evaluate(model, replace(corpus, sessions=sessions))
    card = model_card(model, evaluation, [])

    assert card.count("of one person, so there are no intervals") == len(model.targets)
    assert "nan" not in card.split("## CCC on devel")[1].split("## CCC on training")[0].lower()
    for evaluated in evaluation.targets.values():
        assert not any(score.has_interval for score in evaluated.differences.values())


def test_a_fusion_below_a_floor_has_a_warning(model: FusedModel, corpus: Corpus) -> None:
    """There is one sentence for every floor that is not reached."""
    evaluation = evaluate(model, corpus)
    arousal = evaluation.targets["arousal"]

    def warnings(fusion_ccc: float) -> list[str]:
        scores = {
            **arousal.scores,
            "fusion": Score(fusion_ccc, fusion_ccc, fusion_ccc),
            "mean": Score(0.5, 0.4, 0.6),
            "weighted mean": Score(0.2, 0.1, 0.3),
            "time alone": Score(0.05, 0.0, 0.1),
            "stimulus alone": Score(0.15, 0.1, 0.2),
        }
        targets = {"arousal": replace(arousal, scores=scores)}
        return floor_warnings(replace(evaluation, targets=targets))

    assert warnings(0.51) == []
    assert warnings(0.4) == ["arousal: fusion (0.400) is below the mean (0.500)."]
    assert warnings(0.1)[2] == (
        "arousal: fusion (0.100) is no better than stimulus alone (0.150): the mean label of other "
        "people on the same stimulus at each time, without any feature."
    )
    assert len(warnings(0.1)) == 3


def test_the_card_says_what_bands_cover_and_how_predictions_are_corrected(
    model: FusedModel, corpus: Corpus
) -> None:
    """A reader learns the level, the coverage, and what the width depends on."""
    changed = replace(
        model,
        bands={"arousal": band_calibration()},
        corrections={"valence": {"fusion": Correction(1.25, -0.5)}},
    )
    evaluation = evaluate(changed, corpus)
    card = model_card(changed, evaluation, [])
    bands = evaluation.targets["arousal"].bands

    assert bands is not None
    assert f"| arousal | {bands.coverage:.1%} |" in card
    assert "On average over new people, a band covers 90% of a person's frames" in card
    assert f"arousal: difficulty and disagreement {bands.verdict}" in card
    # exp(0.2), exp(0.1) and exp(0.3), the weights of `band_calibration`.
    assert "1.22 (difficulty of voice), 1.11 (difficulty of face), 1.35 (disagreement)" in card
    assert "valence * 1.250 -0.500" in card


def test_the_card_of_a_model_without_bands_says_why(model: FusedModel, corpus: Corpus) -> None:
    """Six training people are too few."""
    card = model_card(model, evaluate(model, corpus), [])

    assert "bands of 90% need at least 10 training people, and there are 6" in card


def test_the_card_says_which_feature_sets_are_averaged(model: FusedModel, corpus: Corpus) -> None:
    averaged = replace(model, resampling={"voice": "mean"})
    sentence = "Averaged onto frames: `voice` (mean)."

    assert sentence in model_card(averaged, evaluate(averaged, corpus), [])
    assert "Averaged onto frames" not in model_card(model, evaluate(model, corpus), [])
