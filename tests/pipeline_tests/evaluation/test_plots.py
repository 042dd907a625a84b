"""Every plot of an evaluation is a PNG file."""

from __future__ import annotations

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
