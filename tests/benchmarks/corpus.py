"""How long a wide corpus takes to read: 69 sessions of 600 frames and 4096 columns.

It is read once from its CSV files, and then from the cache.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pipeline.data.muse import read_corpus
from tests.benchmarks.rows import Row, less_is_better

NUM_SESSIONS, NUM_FRAMES, NUM_COLUMNS = 69, 600, 4096
FRAME_PERIOD_MS = 500
FIRST_BAR_S, CACHED_BAR_S = 60.0, 3.0


def corpus_rows() -> list[Row]:
    """Return the times of reading beside the bars that were set for two cores."""
    with tempfile.TemporaryDirectory() as temporary:
        root, cache = Path(temporary) / "corpus", Path(temporary) / "cache"
        _write_corpus(root)

        first_s = _read_s(root, cache)
        cached_s = min(_read_s(root, cache) for _ in range(3))

    return [
        less_is_better("load_first", first_s, FIRST_BAR_S, "s"),
        less_is_better("load_cached", cached_s, CACHED_BAR_S, "s"),
    ]


def _read_s(root: Path, cache: Path) -> float:
    begin = time.perf_counter()
    corpus = read_corpus(root, cache_folder=cache)
    duration_s = time.perf_counter() - begin

    assert len(corpus.sessions) == NUM_SESSIONS
    return duration_s


def _write_corpus(root: Path) -> None:
    """Write one feature set in full float32 precision and one target; about 1.8 GB."""
    for folder in ("metadata", "feature_segments/wide", "label_segments/arousal"):
        (root / folder).mkdir(parents=True)

    session_ids = [f"{number:02}" for number in range(NUM_SESSIONS)]
    _write_partitions(root / "metadata/partition.csv", session_ids)

    random = np.random.default_rng(0)
    for session_id in session_ids:
        _write_features(root / f"feature_segments/wide/{session_id}.csv", random)
        _write_labels(root / f"label_segments/arousal/{session_id}.csv")


def _write_partitions(path: Path, session_ids: list[str]) -> None:
    lines = ["Id,Proposal"]
    for number, session_id in enumerate(session_ids):
        lines.append(f"{session_id},{'devel' if number % 5 == 0 else 'train'}")
    path.write_text("\n".join(lines) + "\n")


def _write_features(path: Path, random: np.random.Generator) -> None:
    values = random.normal(size=(NUM_COLUMNS, NUM_FRAMES)).astype(np.float32)
    columns = {str(number): column for number, column in enumerate(values)}
    pyarrow.csv.write_csv(pa.table({**_frame_columns(), **columns}), path)


def _write_labels(path: Path) -> None:
    columns = _frame_columns()
    columns["value"] = np.sin(columns["timestamp"] / 9000)
    pyarrow.csv.write_csv(pa.table(columns), path)


def _frame_columns() -> dict[str, np.ndarray]:
    timestamps_ms = np.arange(NUM_FRAMES) * FRAME_PERIOD_MS
    return {"timestamp": timestamps_ms, "segment_id": np.ones(NUM_FRAMES, np.int64)}
