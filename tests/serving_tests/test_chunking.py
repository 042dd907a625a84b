"""Long sessions: chunks cover every frame, overlap as stated, and cross-fade linearly."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus import Times
from pipeline.model.bands import Band
from pipeline.model.fused_model import Difficulty, Prediction
from pipeline.preprocessing.timing import Timing
from serving.models.chunking import Arrays, chunk_starts, predict_in_chunks


class _DelayedModel:
    """Predicts what its only column was some frames before, as a regressor with a delay does."""

    timing = Timing(delay_frames=6)

    def predict(self, features: Arrays, *, timestamps_ms: Times) -> Prediction:
        """Predict one chunk."""
        values = self.timing.session_outputs(features["voice"], len(timestamps_ms))
        return Prediction(
            timestamps_ms, {"arousal": values[:, 0].astype(np.float64)}, {}, {}, {}, {}
        )


class _CountingModel:
    """Predicts how far a frame is into its chunk; a chunk is as difficult as it is late."""

    def __init__(self, *, has_gate: bool = True) -> None:
        self.has_gate = has_gate
        self.chunk_lengths: list[int] = []

    def predict(self, features: Arrays, *, timestamps_ms: Times) -> Prediction:
        """Predict one chunk."""
        num_frames = len(timestamps_ms)
        self.chunk_lengths.append(num_frames)

        start = np.full(num_frames, float(timestamps_ms[0]))
        values = {"arousal": np.arange(num_frames, dtype=np.float64)}
        band = Band(values["arousal"] - 1, values["arousal"] + start)
        # The first chunk trusts the voice alone, the others the face.
        voice = (start == 0).astype(np.float64)
        weights = {"arousal": {"voice": voice, "face": 1 - voice}} if self.has_gate else {}
        difficulty = {"voice": Difficulty(start, start)}
        return Prediction(
            timestamps_ms,
            values,
            difficulty,
            {},
            {},
            {},
            bands={"arousal": band},
            weights=weights,
        )


@given(st.integers(2, 500), st.integers(4, 60), st.data())
def test_chunks_cover_every_frame_and_overlap_enough(
    num_frames: int, chunk_frames: int, data: st.DataObject
) -> None:
    overlap_frames = data.draw(st.integers(1, chunk_frames // 2))

    starts = chunk_starts(num_frames, chunk_frames, overlap_frames)

    if num_frames <= chunk_frames:
        assert starts == [0]
        return
    assert starts[0] == 0
    assert starts[-1] + chunk_frames == num_frames
    step = chunk_frames - overlap_frames
    assert all(before < after <= before + step for before, after in itertools.pairwise(starts))


def test_a_session_of_one_chunk_is_predicted_whole() -> None:
    model = _CountingModel()
    prediction = predict_in_chunks(model, {}, np.arange(30), 30, 5)

    assert model.chunk_lengths == [30]
    np.testing.assert_allclose(prediction.values["arousal"], np.arange(30))


def test_where_chunks_overlap_they_cross_fade_linearly() -> None:
    model = _CountingModel()
    features = {"voice": np.zeros((16, 1), np.float32)}
    prediction = predict_in_chunks(model, features, np.arange(16), 10, 4)

    # Chunks at 0 and 6 overlap in frames 6 to 9. The first one fades out as 4, 3, 2, 1, the second
    # one in as 1, 2, 3, 4.
    overlap = [((4 - i) * (6 + i) + (1 + i) * i) / 5 for i in range(4)]
    expected = [0, 1, 2, 3, 4, 5, *overlap, 4, 5, 6, 7, 8, 9]
    assert model.chunk_lengths == [10, 10]
    np.testing.assert_allclose(prediction.values["arousal"], expected)
    np.testing.assert_allclose(
        prediction.difficulty["voice"].error, [0] * 6 + [1.2, 2.4, 3.6, 4.8] + [6] * 6
    )
    np.testing.assert_allclose(prediction.bands["arousal"].low, np.array(expected) - 1)
    # The upper end is above the value by the chunk's first frame: by 0, then by 6.
    np.testing.assert_allclose(
        prediction.bands["arousal"].high - expected, [0] * 6 + [1.2, 2.4, 3.6, 4.8] + [6] * 6
    )


def test_weights_cross_fade_as_predictions_do_and_still_sum_to_one() -> None:
    features = {"voice": np.zeros((16, 1), np.float32)}
    prediction = predict_in_chunks(_CountingModel(), features, np.arange(16), 10, 4)

    weights = prediction.weights["arousal"]
    np.testing.assert_allclose(weights["voice"], [1] * 6 + [0.8, 0.6, 0.4, 0.2] + [0] * 6)
    np.testing.assert_allclose(weights["voice"] + weights["face"], np.ones(16))

    without = predict_in_chunks(_CountingModel(has_gate=False), features, np.arange(16), 10, 4)
    assert without.weights == {}


def test_the_cross_fade_hides_the_frames_at_the_start_of_a_chunk_that_a_delay_lacks() -> None:
    """They count by less than the delay's share of the overlap, the nearer to the start the less.

    The first frames of a chunk repeat its first prediction, since what came before is not in it.
    """
    walk = np.random.default_rng(0).normal(size=(2000, 1)).cumsum(axis=0).astype(np.float32)
    features, timestamps_ms, model = {"voice": walk}, np.arange(2000), _DelayedModel()

    whole = model.predict(features, timestamps_ms=timestamps_ms).values["arousal"]
    chunked = predict_in_chunks(model, features, timestamps_ms, 500, 120).values["arousal"]

    delay_frames = model.timing.delay_frames
    change = max(np.ptp(walk[frame : frame + delay_frames]) for frame in range(2000))
    difference = np.abs(chunked - whole)
    assert 0 < difference.max() <= delay_frames / 120 * change

    starts = chunk_starts(2000, 500, 120)[1:]
    is_early = np.zeros(2000, dtype=bool)
    for start in starts:
        is_early[start : start + delay_frames] = True
    np.testing.assert_allclose(difference[~is_early], 0, atol=1e-5)
