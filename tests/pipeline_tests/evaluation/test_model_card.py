"""The model card has what a person must know, and a fusion never loses to a floor in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.corpus import Corpus
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import floor_warnings, model_card
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import FusedModel


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
        }
        targets = {"arousal": replace(arousal, scores=scores)}
        return floor_warnings(replace(evaluation, targets=targets))

    assert warnings(0.51) == []
    assert warnings(0.4) == ["arousal: fusion (0.400) is below the mean (0.500)."]
    assert len(warnings(0.1)) == 2
