"""Long sessions: chunks cover every frame, overlap as stated, and cross-fade linearly."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.model.fused_model import Difficulty, Prediction
from serving.chunking import Arrays, chunk_starts, predict_long


class _Counting:
    """Predicts how far a frame is into its chunk, and that every frame of a chunk is as hard as the chunk is late."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def predict(self, features: Arrays, *, timestamps_ms: NDArray[np.int64]) -> Prediction:
        frames = len(timestamps_ms)
        self.lengths.append(frames)
        late = np.full(frames, float(timestamps_ms[0]))
        values = {"arousal": np.arange(frames, dtype=np.float64)}
        return Prediction(timestamps_ms, values, {"voice": Difficulty(late, late)}, {}, {}, {})


@given(st.integers(2, 500), st.integers(4, 60), st.data())
def test_chunks_cover_every_frame_and_overlap_enough(
    frames: int, chunk: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(1, chunk // 2))
    starts = chunk_starts(frames, chunk, overlap)
    if frames <= chunk:
        assert starts == [0]
        return
    assert starts[0] == 0
    assert starts[-1] + chunk == frames
    assert all(a < b <= a + chunk - overlap for a, b in itertools.pairwise(starts))


def test_a_session_that_fits_is_predicted_whole() -> None:
    model = _Counting()
    predict_long(model, {}, np.arange(30), 30, 5)
    assert model.lengths == [30]


def test_where_chunks_overlap_they_cross_fade_linearly() -> None:
    model = _Counting()
    said = predict_long(model, {"voice": np.zeros((16, 1), np.float32)}, np.arange(16), 10, 4)
    assert model.lengths == [10, 10]
    # Chunks at 0 and 6 overlap in frames 6 to 9; the first fades out as 4, 3, 2, 1, the second in as 1, 2, 3, 4.
    expected = [
        0,
        1,
        2,
        3,
        4,
        5,
        *[((4 - i) * (6 + i) + (1 + i) * i) / 5 for i in range(4)],
        4,
        5,
        6,
        7,
        8,
        9,
    ]
    np.testing.assert_allclose(said.values["arousal"], expected)
    np.testing.assert_allclose(
        said.difficulty["voice"].error, [0] * 6 + [1.2, 2.4, 3.6, 4.8] + [6] * 6
    )
