"""Tiny corpora on disk in a MuSe layout, for tests to spoil."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NUM_FRAMES = 10
SETS = {"voice": 3, "face": 2}
TARGETS = ("arousal", "valence")
PARTITIONS = {"1": "train", "2": "train", "a-3": "devel", "4": "test"}


def write_corpus(
    root: Path,
    *,
    partitions: Mapping[str, str] = PARTITIONS,
    sets: Mapping[str, int] = SETS,
    targets: Sequence[str] = TARGETS,
    segment: str = "segment_id",
) -> Path:
    """A clean corpus: ten frames per session, no test labels."""
    write_text(
        root / "metadata/partition.csv",
        "Id,Proposal",
        *(f"{name},{home}" for name, home in partitions.items()),
    )
    for session, home in partitions.items():
        for name, width in sets.items():
            write_features(root, name, session, feature_values(session, width), segment=segment)
        for target in targets:
            if home != "test":
                write_labels(root, target, session, label_values(session, target), segment=segment)
    return root


def feature_values(session: str, width: int, num_frames: int = NUM_FRAMES) -> NDArray[np.float64]:
    """Never zero, different in every cell, exact in a few digits: shape (frames, width)."""
    base = 1 + 100 * sum(session.encode())
    return base + np.arange(num_frames)[:, None] + np.arange(width) / 8


def label_values(session: str, target: str, num_frames: int = NUM_FRAMES) -> NDArray[np.float64]:
    """Shape (frames,), in -1..1."""
    values: NDArray[np.float64] = np.sin(
        np.arange(num_frames, dtype=np.float64) + len(session) + len(target)
    )
    return np.round(values, 4)


def write_features(
    root: Path,
    name: str,
    session: str,
    values: NDArray[np.float64],
    *,
    start_ms: int = 0,
    step_ms: int = 500,
    header: Sequence[str] = (),
    segment: str = "segment_id",
) -> Path:
    columns = ["timestamp", segment, *(header or map(str, range(values.shape[1])))]
    rows = (
        f"{start_ms + step_ms * index},1,{','.join(_cell(value) for value in row)}"
        for index, row in enumerate(values)
    )
    return write_text(root / "feature_segments" / name / f"{session}.csv", ",".join(columns), *rows)


def write_labels(
    root: Path,
    target: str,
    session: str,
    values: NDArray[np.float64],
    *,
    start_ms: int = 0,
    step_ms: int = 500,
    segment: str = "segment_id",
    order: Sequence[str] = ("timestamp", "segment", "value"),
) -> Path:
    names = {"timestamp": "timestamp", "segment": segment, "value": "value"}
    rows = [
        {"timestamp": str(start_ms + step_ms * index), "segment": "1", "value": _cell(value)}
        for index, value in enumerate(values)
    ]
    lines = [",".join(row[column] for column in order) for row in [names, *rows]]
    return write_text(root / "label_segments" / target / f"{session}.csv", *lines)


def write_text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _cell(value: float) -> str:
    return "NaN" if np.isnan(value) else f"{value:.9g}"
