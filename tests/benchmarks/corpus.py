"""How long a wide corpus takes to read: 69 sessions of 600 frames and 4096 columns, first and from the cache."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pipeline.data.muse import read_corpus

NUM_SESSIONS, NUM_FRAMES, NUM_COLUMNS = 69, 600, 4096
FIRST_BAR_S, CACHED_BAR_S = 60.0, 3.0


def corpus_rows() -> list[dict[str, str | float]]:
    """Times of reading, against the bars that were set for two cores: ratio above 1 is within the bar."""
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "corpus", Path(folder) / "cache"
        _write_corpus(root)
        first_s = _read_s(root, cache)
        cached_s = min(_read_s(root, cache) for _ in range(3))
    return [_row("load_first", first_s, FIRST_BAR_S), _row("load_cached", cached_s, CACHED_BAR_S)]


def _row(name: str, seconds: float, bar_s: float) -> dict[str, str | float]:
    return {
        "name": name,
        "ours": round(seconds, 3),
        "other": bar_s,
        "unit": "s",
        "ratio": round(bar_s / seconds, 2),
    }


def _read_s(root: Path, cache: Path) -> float:
    begin = time.perf_counter()
    corpus = read_corpus(root, cache_folder=cache)
    seconds = time.perf_counter() - begin
    assert len(corpus.sessions) == NUM_SESSIONS
    return seconds


def _write_corpus(root: Path) -> None:
    """One set in full float32 precision and one target; about 1.8 GB."""
    random = np.random.default_rng(0)
    sessions = [f"{number:02}" for number in range(NUM_SESSIONS)]
    for folder in ("metadata", "feature_segments/wide", "label_segments/arousal"):
        (root / folder).mkdir(parents=True)
    lines = [
        f"{session},{'devel' if number % 5 == 0 else 'train'}"
        for number, session in enumerate(sessions)
    ]
    (root / "metadata/partition.csv").write_text("\n".join(["Id,Proposal", *lines]) + "\n")
    times, ones = np.arange(NUM_FRAMES) * 500, np.ones(NUM_FRAMES, np.int64)
    names = ["timestamp", "segment_id", *map(str, range(NUM_COLUMNS))]
    for session in sessions:
        columns = random.normal(size=(NUM_COLUMNS, NUM_FRAMES)).astype(np.float32)
        table = pa.table([pa.array(column) for column in (times, ones, *columns)], names=names)
        pyarrow.csv.write_csv(table, root / "feature_segments/wide" / f"{session}.csv")
        labels = {"timestamp": times, "segment_id": ones, "value": np.sin(times / 9000)}
        pyarrow.csv.write_csv(pa.table(labels), root / "label_segments/arousal" / f"{session}.csv")
