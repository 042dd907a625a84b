"""Every plot of an evaluation is a PNG file."""

from __future__ import annotations

import struct
from dataclasses import replace

from pipeline.corpus import Corpus
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.plots import draw_plots
from pipeline.model.fused_model import FusedModel


def test_plots_are_pictures(model: FusedModel, corpus: Corpus) -> None:
    """A picture with something on it takes some kilobytes."""
    plots = draw_plots(evaluate(model, corpus))

    assert set(plots) == {"traces.png", "difficulty.png", "ccc.png"}
    for png in plots.values():
        assert png.startswith(b"\x89PNG")
        assert len(png) > 5000


def test_the_traces_of_a_target_with_a_gate_have_its_weights_below_them(
    model: FusedModel, corpus: Corpus
) -> None:
    """The picture is higher by a row for each target that has weights."""
    evaluation = evaluate(model, corpus)

    def height(gated_targets: list[str]) -> int:
        predictions = [
            replace(each, weights={target: each.weights[target] for target in gated_targets})
            for each in evaluation.predictions
        ]
        png = draw_plots(replace(evaluation, predictions=tuple(predictions)))["traces.png"]
        # Eight bytes of signature, then the header: length, "IHDR", width, height (RFC 2083).
        return int(struct.unpack(">I", png[20:24])[0])

    none, one, both = height([]), height(["valence"]), height(["arousal", "valence"])
    assert one > none
    assert both - one == one - none
