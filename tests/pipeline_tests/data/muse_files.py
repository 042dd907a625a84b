"""Tiny corpora on disk in a MuSe layout, for tests to damage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    """Write a clean corpus: ten frames per session, no test labels.

    Args:
        root: its folder.
        partitions: session -> partition.
        sets: feature set -> number of columns.
        targets: their names.
        segment: name of the segment column.
    """
    lines = [f"{session},{partition}" for session, partition in partitions.items()]
    write_text(root / "metadata/partition.csv", "Id,Proposal", *lines)

    for session, partition in partitions.items():
        for feature_set, width in sets.items():
            values = feature_values(session, width)
            write_features(root, feature_set, session, values, segment=segment)

        for target in targets if partition != "test" else ():
            write_labels(root, target, session, label_values(session, target), segment=segment)

    return root


def write_participants(root: Path, sessions: Iterable[str] = PARTITIONS) -> Path:
    """Write that every session is of a person of its own."""
    lines = [f"{session},{session}" for session in sessions]
    return write_text(root / "metadata/participants.csv", "session,participant", *lines)


def feature_values(session: str, width: int, num_frames: int = NUM_FRAMES) -> NDArray[np.float64]:
    """Return values that differ in every cell, are exact in a few digits, and never zero.

    Returns:
        Shape (frames, width).
    """
    base = 1 + 100 * sum(session.encode())
    return base + np.arange(num_frames)[:, None] + np.arange(width) / 8


def label_values(session: str, target: str, num_frames: int = NUM_FRAMES) -> NDArray[np.float64]:
    """Return labels in -1..1, shape (frames,)."""
    frames = np.arange(num_frames, dtype=np.float64)
    values: NDArray[np.float64] = np.sin(frames + len(session) + len(target))
    return np.round(values, 4)


def write_features(
    root: Path,
    feature_set: str,
    session: str,
    values: NDArray[np.float64],
    *,
    start_ms: int = 0,
    step_ms: int = 500,
    header: Sequence[str] = (),
    segment: str = "segment_id",
) -> Path:
    """Write a feature file.

    Args:
        root: the corpus.
        feature_set: its name.
        session: the session's id.
        values: shape (rows, columns).
        start_ms: timestamp of the first row.
        step_ms: distance of two rows.
        header: names of the columns; empty for their numbers.
        segment: name of the segment column.
    """
    names = header or [str(column) for column in range(values.shape[1])]
    lines = [",".join(["timestamp", segment, *names])]
    for index, row in enumerate(values):
        cells = [str(start_ms + step_ms * index), "1", *map(_cell, row)]
        lines.append(",".join(cells))

    return write_text(root / "feature_segments" / feature_set / f"{session}.csv", *lines)


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
    """Write a label file.

    Args:
        root: the corpus.
        target: its name.
        session: the session's id.
        values: shape (rows,).
        start_ms: timestamp of the first row.
        step_ms: distance of two rows.
        segment: name of the segment column.
        order: of the columns.
    """
    rows = [{"timestamp": "timestamp", "segment": segment, "value": "value"}]
    for index, value in enumerate(values):
        timestamp = str(start_ms + step_ms * index)
        rows.append({"timestamp": timestamp, "segment": "1", "value": _cell(value)})

    lines = [",".join(row[column] for column in order) for row in rows]
    return write_text(root / "label_segments" / target / f"{session}.csv", *lines)


def write_text(path: Path, *lines: str) -> Path:
    """Write a text file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _cell(value: float) -> str:
    return "NaN" if np.isnan(value) else f"{value:.9g}"
