"""Reads a corpus in the layout of MuSe 2021, 2022 or 2023 into arrays on common frames.

The module `layout` knows where the files are, `tables` what is in one of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Finding, Session
from pipeline.data.build_session import BuiltSession, Timing, build_session
from pipeline.data.column_findings import column_findings, columns_record, columns_set_aside
from pipeline.data.findings import (
    corpus_findings,
    limit_findings,
    stuck_findings,
)
from pipeline.data.input_errors import raise_if_any
from pipeline.data.layout import Layout, find_layout
from pipeline.data.leaks import raise_if_leaked
from pipeline.data.metadata import PARTITION_FILE
from pipeline.data.sentinel_findings import (
    feature_sentinel_findings,
    label_sentinel_findings,
    without_explained,
)
from pipeline.data.tables.arrange import ArrangedFile, arrange
from pipeline.data.tables.cache import FeatureFile, default_folder, read_features
from pipeline.data.tables.csv_columns import read_content
from pipeline.data.tables.parse import LabelTable, parse_labels
from pipeline.errors import InputError
from pipeline.preprocessing.stuck import learn_limits, mark_stuck

READING = 2
"""Part of the digest: raised when the same files are read to another corpus."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelFile:
    """The table in a label file, and the sha256 of the file's content."""

    sha256: str
    table: LabelTable


Features = Mapping[str, Mapping[str, FeatureFile]]
"""Feature set -> session -> file."""
Labels = Mapping[str, Mapping[str, LabelFile]]
"""Target -> session -> file."""


def read_corpus(
    path: Path,
    *,
    modalities: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    tolerance_ms: float | None = None,
    max_imputed_share: float = 0.2,
    mark_stuck_rows: bool = True,
    model_columns: Mapping[str, Sequence[str]] | None = None,
    model_set_aside: Mapping[str, Sequence[str]] | None = None,
    cache_folder: Path | None = None,
) -> Corpus:
    """Read a corpus: one frame per label row of any target, with the nearest row of each set.

    A session without labels has frames where its feature sets have rows, about one label period
    apart.

    Args:
        path: the corpus, or a folder that holds exactly one.
        modalities: the feature sets to read, in this order; None for all, sorted.
        targets: the targets to read, likewise; an empty list where nothing is learned.
        tolerance_ms: the farthest that a feature row may be from its frame; None for half the
            median distance of two label rows, so that neighbouring frames do not compete for a row.
        max_imputed_share: the largest share of NaN or infinite cells in the present rows of a
            session's feature set, 0 to 1.
        mark_stuck_rows: whether rows of stuck sensors become missing, by what is usual in this
            corpus (see `preprocessing.stuck`). False where a model reads the sessions: it marks
            them by what was usual in its training.
        model_columns: feature set -> the columns that a model reads, in its order, where one reads
            the sessions: the files must have them. None for those that most files have.
        model_set_aside: feature set -> further columns, which were no features in the training of
            that model.
        cache_folder: where parsed files are kept; None for `$AFFECTUNE_CACHE`, else
            `$XDG_CACHE_HOME/affectune`, else `~/.cache/affectune`. Never in the corpus.

    Returns:
        The corpus, with read-only arrays and the findings about what was dropped, imputed or odd.

    Raises:
        InputError: the corpus cannot be used. The message tells where, why, and how to mend it.
    """
    if tolerance_ms is not None and not 0 <= tolerance_ms < float("inf"):
        raise InputError(f"The tolerance is {tolerance_ms:g} ms. It must be 0 or more.")

    layout = find_layout(Path(path), modalities, targets)
    expected, known = model_columns or {}, model_set_aside or {}
    features_read = _read_features(layout, cache_folder or default_folder(), expected, known)
    labels = _read_labels(layout)
    _check_imputed_shares(features_read, max_imputed_share)

    period_ms = _period_ms(features_read, labels)
    timing = Timing(period_ms, period_ms / 2 if tolerance_ms is None else float(tolerance_ms))
    if model_columns is None:
        # Before columns are compared: it is the better reason why a file has one more.
        raise_if_leaked(features_read, labels, timing.tolerance_ms)
    features = _arrange(layout, features_read, expected)
    columns = {name: next(iter(files.values())).table.columns for name, files in features.items()}
    built = _build_sessions(layout, features, labels, columns, timing)
    as_read = [result.session for result in built]
    frame_period_ms = _median_step_ms(session.timestamps_ms for session in as_read)

    max_held_frames: dict[str, int] = {}
    if mark_stuck_rows:
        # A corpus that nothing can be learned from is checked by what is usual in all of it.
        usual = [session for session in as_read if session.partition == "train"] or as_read
        max_held_frames = learn_limits(usual, frame_period_ms)
    sessions = tuple(mark_stuck(session, max_held_frames) for session in as_read)

    findings = list(layout.findings)
    for feature_set, files in features.items():
        findings += column_findings(feature_set, files)
    findings += _sentinel_findings(layout, features, labels, columns)
    findings += corpus_findings(sessions, columns, period_ms)
    if mark_stuck_rows:
        findings += limit_findings(columns, max_held_frames, frame_period_ms)
    for result, session in zip(built, sessions, strict=True):
        findings += result.findings
        findings += stuck_findings(result.session, session, max_held_frames, frame_period_ms)

    return Corpus(
        name=layout.root.resolve().name,
        columns=columns,
        targets=tuple(layout.labels),
        sessions=sessions,
        frame_period_ms=frame_period_ms,
        digest=_digest(layout, features, labels, timing, mark_stuck_rows),
        findings=tuple(without_explained(findings)),
        max_held_frames=max_held_frames,
        set_aside={
            feature_set: tuple(set_aside)
            for feature_set, files in features.items()
            if (set_aside := columns_set_aside(files))
        },
    )


def _read_features(
    layout: Layout,
    cache_folder: Path,
    expected: Mapping[str, Sequence[str]],
    known: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, FeatureFile]]:
    folder: Path | None = cache_folder
    if cache_folder.resolve().is_relative_to(layout.root.resolve()):
        logger.warning(
            "The cache folder %s is in the corpus, where nothing is written: "
            "reading without a cache.",
            cache_folder,
        )
        folder = None

    features = {}
    for feature_set, files in layout.features.items():
        names = {session: layout.name(file) for session, file in files.items()}
        features[feature_set] = read_features(
            files, names, folder, expected.get(feature_set, ()), known.get(feature_set, ())
        )
    return features


def _arrange(
    layout: Layout, features: Features, expected: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, ArrangedFile]]:
    arranged = {}
    for feature_set, files in features.items():
        paths = layout.features[feature_set]
        names = {session: layout.name(paths[session]) for session in files}
        arranged[feature_set] = arrange(files, names, expected.get(feature_set, ()))
    return arranged


def _read_labels(layout: Layout) -> dict[str, dict[str, LabelFile]]:
    labels: dict[str, dict[str, LabelFile]] = {}
    mistakes = []

    for target, files in layout.labels.items():
        labels[target] = {}
        for session, file in files.items():
            try:
                labels[target][session] = _read_label_file(file, layout.name(file))
            except InputError as error:
                mistakes.append(str(error))

    raise_if_any(mistakes)
    return labels


def _read_label_file(path: Path, where: str) -> LabelFile:
    content = read_content(path, where)
    return LabelFile(hashlib.sha256(content).hexdigest(), parse_labels(content, where))


def _check_imputed_shares(features: Features, limit: float) -> None:
    mistakes = []
    for feature_set, files in features.items():
        for session, file in files.items():
            share = file.table.num_imputed_cells / max(1, file.table.num_present_cells)
            if share > limit:
                mistakes.append(
                    f"session {session!r}: {share:.0%} of the cells of {feature_set!r} are NaN or "
                    f"infinite, at most {limit:.0%} may be"
                )

    raise_if_any(mistakes, "Extract these features again, or leave out the set or the session.")


def _period_ms(features: Features, labels: Labels) -> float:
    """Return the median distance of two label rows.

    In a corpus without labels it is that of two rows of the slowest feature set.
    """
    label_timelines = [
        file.table.timestamps_ms for files in labels.values() for file in files.values()
    ]
    if any(len(timeline) > 1 for timeline in label_timelines):
        return _median_step_ms(label_timelines)

    periods_ms = []
    for files in features.values():
        timelines = [file.table.timestamps_ms for file in files.values()]
        if any(len(timeline) > 1 for timeline in timelines):
            periods_ms.append(_median_step_ms(timelines))
    return max(periods_ms, default=1.0)


def _median_step_ms(timelines: Iterable[NDArray[np.int64]]) -> float:
    return float(np.median(np.concatenate([np.diff(timeline) for timeline in timelines])))


def _sentinel_findings(
    layout: Layout, features: Features, labels: Labels, columns: Mapping[str, Sequence[str]]
) -> list[Finding]:
    findings = []
    for feature_set, files in features.items():
        names = {session: layout.name(layout.features[feature_set][session]) for session in files}
        tables = {session: file.table for session, file in files.items()}
        findings += feature_sentinel_findings(feature_set, tables, names, columns[feature_set])

    for target, label_files in labels.items():
        names = {session: layout.name(layout.labels[target][session]) for session in label_files}
        label_tables = {session: file.table for session, file in label_files.items()}
        findings += label_sentinel_findings(target, label_tables, names)
    return findings


def _build_sessions(
    layout: Layout,
    features: Features,
    labels: Labels,
    columns: Mapping[str, Sequence[str]],
    timing: Timing,
) -> list[BuiltSession]:
    widths = {feature_set: len(names) for feature_set, names in columns.items()}
    built = []
    for entry in layout.metadata.entries:
        feature_tables = {
            feature_set: files[entry.session_id].table if entry.session_id in files else None
            for feature_set, files in features.items()
        }
        label_tables = {
            target: files[entry.session_id].table if entry.session_id in files else None
            for target, files in labels.items()
        }
        built.append(build_session(entry, feature_tables, label_tables, widths, timing))

    raise_if_any(
        [mistake for result in built for mistake in result.mistakes],
        "Write both in ms from the same start, or allow more with --tolerance-ms.",
    )
    _check_lengths([result.session for result in built])
    return built


def _check_lengths(sessions: Sequence[Session]) -> None:
    raise_if_any(
        [
            f"session {session.session_id!r} has a single frame"
            for session in sessions
            if session.num_frames < 2
        ],
        f"A sequence needs two or more: remove the session from {PARTITION_FILE}.",
    )


def _digest(
    layout: Layout,
    features: Mapping[str, Mapping[str, ArrangedFile]],
    labels: Labels,
    timing: Timing,
    mark_stuck_rows: bool,
) -> str:
    """Hash contents and settings in the order in which they were named, but no path and no time."""
    document: dict[str, object] = {
        "reading": READING,
        "tolerance_ms": timing.tolerance_ms,
        "mark_stuck_rows": mark_stuck_rows,
        "metadata": {
            name: hashlib.sha256(content).hexdigest()
            for name, content in sorted(layout.metadata.contents.items())
        },
        "features": [[feature_set, _hashes(files)] for feature_set, files in features.items()],
        "labels": [[target, _hashes(files)] for target, files in labels.items()],
    }
    if layout.metadata.reading:
        document["metadata_reading"] = dict(layout.metadata.reading)
    # Only where columns are read otherwise than the files have them: other digests stay.
    if columns := columns_record(features):
        document["columns"] = columns
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _hashes(files: Mapping[str, FeatureFile] | Mapping[str, LabelFile]) -> list[tuple[str, str]]:
    return sorted((session, file.sha256) for session, file in files.items())
