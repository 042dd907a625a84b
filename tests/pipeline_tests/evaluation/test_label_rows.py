"""Scores are of label rows: of a target that is faster than the frames, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import audmetric
import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, LabelRows, Session
from pipeline.data.timeline.frames import labels_on_frames
from pipeline.evaluation.evaluate import evaluate
from pipeline.model.fused_model import FusedModel, Prediction
from tests.pipeline_tests.corpora import band_calibration, corpus_of


def with_rows(session: Session, frames: list[int], seed: int) -> Session:
    """Return a session whose arousal has rows of its own."""
    values = np.random.default_rng(seed).normal(size=len(frames))
    texts = np.array([f"{row}.5" for row in range(len(frames))], np.str_)
    rows = LabelRows(texts, np.full(len(frames), "1"), np.array(frames), values)
    labels = {**session.labels, "arousal": labels_on_frames(rows, session.num_frames)}
    return replace(session, labels=labels, label_rows={"arousal": rows})


def test_a_frame_with_several_rows_counts_once_for_each(model: FusedModel, corpus: Corpus) -> None:
    model = replace(model, bands={"arousal": band_calibration()})
    sessions = [
        with_rows(session, [0, 0, 0, 3, 4, 4, 9, 10, 12, 12], seed)
        for seed, session in enumerate(corpus.partition("devel"))
    ]
    evaluation = evaluate(model, corpus_of(sessions))
    rows = [session.rows_of("arousal") for session in sessions]
    truth = np.concatenate([each.values for each in rows])
    scores = evaluation.targets["arousal"]

    assert scores.frames == len(truth)
    named: dict[str, Callable[[Prediction], NDArray[np.float64]]] = {
        "fusion": lambda p: p.values["arousal"],
        "voice": lambda p: p.unimodal["arousal"]["voice"],
        "mean": lambda p: p.floors["arousal"]["mean"],
    }
    for name, series in named.items():
        predicted = np.concatenate(
            [
                series(prediction)[each.frames]
                for prediction, each in zip(evaluation.predictions, rows, strict=True)
            ]
        )
        expected = float(audmetric.concordance_cc(truth, predicted))
        np.testing.assert_allclose(scores.scores[name].ccc, expected, atol=1e-9)


def test_targets_that_share_their_rows_are_scored_by_frame(
    model: FusedModel, corpus: Corpus
) -> None:
    before = evaluate(model, corpus).targets["arousal"]
    sessions = []
    for session in corpus.sessions:
        frames = np.flatnonzero(np.isfinite(session.labels["arousal"]))
        texts = np.array([str(time) for time in session.timestamps_ms[frames]], np.str_)
        rows = LabelRows(texts, texts, frames, session.labels["arousal"][frames])
        sessions.append(replace(session, label_rows={"arousal": rows}))

    after = evaluate(model, replace(corpus, sessions=tuple(sessions))).targets["arousal"]

    assert after.to_json() == before.to_json()
