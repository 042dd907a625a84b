"""Results in a Python program: short in a console, tables in pandas, pictures in matplotlib."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import affectune
from pipeline.corpus import Corpus
from pipeline.display.short_repr import short_repr
from pipeline.errors import InputError
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FUSION
from tests.pipeline_tests.corpora import band_calibration

MAX_REPR = 500
SHOW = "_repr_png_"
"""The method that notebooks ask for a picture."""


@pytest.fixture(scope="module")
def banded(model: FusedModel) -> FusedModel:
    """Return the model with a band of arousal alone."""
    return replace(model, bands={"arousal": band_calibration(num_inputs=3)})


def test_every_result_is_short_in_a_console(banded: FusedModel, corpus: Corpus) -> None:
    scores = affectune.evaluate(banded, corpus)
    predictions = affectune.predict(banded, corpus, "devel")
    prediction = predictions["d0"]
    results = [
        banded,
        corpus,
        corpus.sessions[0],
        scores,
        scores.evaluation,
        scores["arousal"],
        scores["arousal"].fusion,
        predictions,
        prediction,
        prediction.bands["arousal"],
        prediction.difficulty["voice"],
        banded.fusions["arousal"][0],
        corpus.sessions[0].rows_of("arousal"),
    ]
    for result in results:
        assert type(result).__name__ in repr(result)
        assert len(repr(result)) < MAX_REPR, result


def test_a_repr_is_short_however_much_there_is() -> None:
    names = tuple(f"a modality with a long name, number {number}" for number in range(1000))
    line = short_repr(object(), names=names, table=dict.fromkeys(names, names), text="x" * 10_000)
    assert len(line) < MAX_REPR
    assert line.startswith("object(names=(")


def test_scores_are_a_table_of_what_the_command_line_has(model: FusedModel, corpus: Corpus) -> None:
    scores = affectune.evaluate(model, corpus)
    assert list(scores) == ["arousal", "valence"]
    record = scores.evaluation.to_json("model")["targets"]["arousal"]
    assert scores["arousal"].fusion.ccc == record["ccc"]
    assert scores["arousal"].floors["mean"].ccc == record["floors"]["mean"]
    assert {name: each.ccc for name, each in scores["arousal"].unimodal.items()} == record[
        "unimodal"
    ]

    frame = scores.to_frame()
    assert frame.index.names == ["target", "prediction"]
    for name, parts in record["predictions"].items():
        for key, value in parts.items():
            expected = np.nan if value is None else value
            assert frame[key]["arousal", name] == pytest.approx(expected, abs=0, nan_ok=True)
    difference = scores["arousal"].differences["voice"]
    assert frame["fusion_minus_it"]["arousal", "voice"] == difference.ccc
    assert frame["fusion_minus_it_low"]["arousal", "voice"] == difference.low
    assert np.isnan(frame["fusion_minus_it"]["arousal", FUSION])


def test_a_prediction_is_a_table_of_its_series(banded: FusedModel, corpus: Corpus) -> None:
    session = corpus.session("d0")
    prediction = banded.predict(session.features, timestamps_ms=session.timestamps_ms)
    frame = prediction.to_frame()
    assert frame.index.name == "timestamp_ms"
    assert frame.index.tolist() == session.timestamps_ms.tolist()
    expected = {
        ("arousal", "prediction"): prediction.values["arousal"],
        ("arousal", "low"): prediction.bands["arousal"].low,
        ("arousal", "high"): prediction.bands["arousal"].high,
        ("arousal", "face alone"): prediction.unimodal["arousal"]["face"],
        ("arousal", "weight of voice"): prediction.weights["arousal"]["voice"],
        ("difficulty", "voice"): prediction.difficulty["voice"].percentile,
    }
    for column, series in expected.items():
        np.testing.assert_array_equal(frame[column], series)
    assert ("valence", "low") not in frame


def test_predictions_of_a_partition_are_those_of_its_sessions(
    banded: FusedModel, corpus: Corpus
) -> None:
    predictions = affectune.predict(banded, corpus)
    assert list(predictions) == ["x0", "x1"]
    frame = predictions.to_frame()
    assert frame.index.names == ["session_id", "timestamp_ms"]
    alone = banded.predict_sessions([corpus.session("x1")])[0]
    of_one = frame.loc[["x1"]].droplevel("session_id")
    pd.testing.assert_frame_equal(of_one, alone.to_frame())


def test_columns_in_another_order_are_predicted_the_same(model: FusedModel, corpus: Corpus) -> None:
    order = [2, 0, 3, 1]
    sessions = [
        replace(each, features={**each.features, "voice": each.features["voice"][:, order]})
        for each in corpus.sessions
    ]
    names = tuple(corpus.columns["voice"][place] for place in order)
    moved = replace(corpus, columns={**corpus.columns, "voice": names}, sessions=tuple(sessions))
    expected = affectune.predict(model, corpus).to_frame()
    pd.testing.assert_frame_equal(affectune.predict(model, moved).to_frame(), expected)


def test_results_are_drawn_and_notebooks_show_the_pictures(
    banded: FusedModel, corpus: Corpus
) -> None:
    scores = affectune.evaluate(banded, corpus)
    for kind in ("traces", "difficulty", "ccc"):
        assert scores.plot(kind).to_png().startswith(b"\x89PNG")

    picture = scores.predictions.plot("d1")
    rows = [axes.get_ylabel() for axes in picture.axes]
    assert rows[:6] == ["arousal", "trusted", "valence", "trusted", "voice", "face"]
    lines = [line.get_label() for line in picture.axes[0].lines]
    assert {"annotated", "predicted"} <= set(lines)
    assert getattr(picture, SHOW)().startswith(b"\x89PNG")

    session = corpus.session("x0")
    unlabelled = banded.predict({"voice": session.features["voice"]}).plot()
    assert "annotated" not in [line.get_label() for line in unlabelled.axes[0].lines]


def test_mistakes_are_input_errors(model: FusedModel, corpus: Corpus) -> None:
    scores = affectune.evaluate(model, corpus)
    with pytest.raises(InputError, match="no plot 'bars'"):
        scores.plot("bars")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'nobody'"):
        scores.predictions.plot("nobody")
    with pytest.raises(InputError, match=r"labels\['arousal'\] has shape"):
        scores.predictions["d0"].plot({"arousal": [0.0]})
    with pytest.raises(InputError, match="`partition` is 'dev'"):
        affectune.predict(model, corpus, "dev")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`device` is 'gpu'"):
        affectune.evaluate(model, corpus, device="gpu")
    with pytest.raises(InputError, match=r"affectune\.load\('model'\)"):
        affectune.predict("model", corpus)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="read without its labels"):
        affectune.evaluate(model, replace(corpus, targets=("arousal",)))
    with pytest.raises(InputError, match="Cannot corrupt 'gaze'"):
        affectune.evaluate(model, corpus, corrupt="gaze=drop")
    with pytest.raises(InputError, match="is the text 'voice'"):
        affectune.read_corpus("corpus", modalities="voice")
