"""Reads a corpus in the layout of MuSe 2021, 2022 or 2023 (see `layout`) into arrays on common frames."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.corpus import Corpus, Finding
from pipeline.data.build_session import Built, Timing, build_session
from pipeline.data.findings import about_corpus
from pipeline.data.input_errors import refuse
from pipeline.data.layout import Layout, find_layout
from pipeline.data.metadata import PARTITION_FILE
from pipeline.data.tables.cache import Source, default_folder, read_features
from pipeline.data.tables.csv_columns import read_content
from pipeline.data.tables.parse import LabelTable, parse_labels
from pipeline.errors import InputError

READING = 1  # Raised when the same files give another corpus: part of the digest.

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelSource:
    """What a label file holds, and its content's sha256."""

    content: str
    table: LabelTable


Features = Mapping[str, Mapping[str, Source]]  # set -> session -> file
Labels = Mapping[str, Mapping[str, LabelSource]]  # target -> session -> file


def read_corpus(
    path: Path,
    *,
    modalities: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    tolerance_ms: float | None = None,
    max_imputed_share: float = 0.2,
    cache_folder: Path | None = None,
) -> Corpus:
    """Reads a corpus: one frame per label row of any target, and for every frame the nearest row of each feature set.

    A session without labels has frames where its feature sets have rows, about one label period apart.

    Args:
        path: the corpus, or a folder that holds exactly one.
        modalities: the feature sets to read, in this order; None for all, sorted.
        targets: the targets to read, likewise; none at all is fine where nothing is learned.
        tolerance_ms: the farthest that a feature row may be from its frame; None for half the median distance
            of two label rows, so that neighbouring frames do not compete for a row.
        max_imputed_share: the largest share of NaN or infinite cells in the present rows of a session's set,
            0 to 1.
        cache_folder: where parsed files are kept; None for `$AFFECTUNE_CACHE`, else `$XDG_CACHE_HOME/affectune`,
            else `~/.cache/affectune`. Never in the corpus.

    Returns:
        The corpus. Its arrays are read-only; `findings` says what was dropped, imputed or odd.

    Raises:
        InputError: the corpus cannot be used; says where, what, and how to mend it.
    """
    if tolerance_ms is not None and not 0 <= tolerance_ms < float("inf"):
        raise InputError(f"The tolerance is {tolerance_ms:g} ms. It must be 0 or more.")
    layout = find_layout(Path(path), modalities, targets)
    folder = _outside(layout.root, cache_folder or default_folder())
    features = {
        name: read_features(
            files, {session: layout.name(file) for session, file in files.items()}, folder
        )
        for name, files in layout.features.items()
    }
    labels = _read_labels(layout)
    _check_imputed(features, max_imputed_share)
    period_ms = _period_ms(features, labels)
    timing = Timing(period_ms, period_ms / 2 if tolerance_ms is None else float(tolerance_ms))
    columns, findings = _columns(features)
    built = _build(layout, features, labels, columns, timing)
    sessions = tuple(one.session for one in built)
    findings = [*layout.findings, *findings, *about_corpus(sessions, columns, period_ms)]
    return Corpus(
        name=layout.root.resolve().name,
        columns=columns,
        targets=tuple(layout.labels),
        sessions=sessions,
        frame_period_ms=float(
            np.median(np.concatenate([np.diff(session.timestamps_ms) for session in sessions]))
        ),
        digest=_digest(layout, features, labels, timing),
        findings=(*findings, *(finding for one in built for finding in one.findings)),
    )


def _outside(root: Path, folder: Path) -> Path | None:
    if folder.resolve().is_relative_to(root.resolve()):
        logger.warning(
            "The cache folder %s is in the corpus, where nothing is written: reading without a cache.",
            folder,
        )
        return None
    return folder


def _read_labels(layout: Layout) -> dict[str, dict[str, LabelSource]]:
    labels: dict[str, dict[str, LabelSource]] = {target: {} for target in layout.labels}
    problems = []
    for target, files in layout.labels.items():
        for session, file in files.items():
            try:
                content = read_content(file, layout.name(file))
                table = parse_labels(content, layout.name(file))
                labels[target][session] = LabelSource(hashlib.sha256(content).hexdigest(), table)
            except InputError as error:
                problems.append(str(error))
    refuse(problems)
    return labels


def _check_imputed(features: Features, limit: float) -> None:
    shares = {
        (session, name): source.table.num_imputed_cells / max(1, source.table.num_present_cells)
        for name, sources in features.items()
        for session, source in sources.items()
    }
    refuse(
        [
            f"session {session!r}: {share:.0%} of the cells of {name!r} are NaN or infinite, at most {limit:.0%} may be"
            for (session, name), share in shares.items()
            if share > limit
        ],
        "Extract these features again, or leave out the set or the session.",
    )


def _period_ms(features: Features, labels: Labels) -> float:
    """Median distance of two label rows; in a corpus without labels, of two rows of its slowest set."""
    label_steps = [
        np.diff(source.table.timestamps_ms)
        for sources in labels.values()
        for source in sources.values()
    ]
    steps_by_set = [
        np.concatenate([np.diff(source.table.timestamps_ms) for source in sources.values()])
        for sources in features.values()
    ]
    if any(map(len, label_steps)):
        steps_by_set = [np.concatenate(label_steps)]
    return max((float(np.median(steps)) for steps in steps_by_set if len(steps)), default=1.0)


def _columns(features: Features) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
    """Names by the header that most files of a set have."""
    columns, findings = {}, []
    for name, sources in features.items():
        headers = Counter(source.table.columns for source in sources.values())
        columns[name], num_usual = headers.most_common(1)[0]
        if num_usual < len(sources):
            message = "Their header differs from most files': read by position."
            findings.append(
                Finding(
                    "note",
                    "other headers",
                    name,
                    "",
                    len(sources) - num_usual,
                    len(sources),
                    message,
                )
            )
    return columns, findings


def _build(
    layout: Layout,
    features: Features,
    labels: Labels,
    columns: Mapping[str, Sequence[str]],
    timing: Timing,
) -> list[Built]:
    built = []
    for entry in layout.metadata.entries:
        rows = {name: sources.get(entry.session_id) for name, sources in features.items()}
        truth = {target: sources.get(entry.session_id) for target, sources in labels.items()}
        one = build_session(
            entry,
            {name: source.table if source else None for name, source in rows.items()},
            {target: source.table if source else None for target, source in truth.items()},
            {name: len(names) for name, names in columns.items()},
            timing,
        )
        built.append(one)
    refuse(
        [stranger for one in built for stranger in one.strangers],
        "Write both in ms from the same start, or allow more with --tolerance-ms.",
    )
    single = [one.session.session_id for one in built if one.session.num_frames < 2]
    refuse(
        [f"session {session!r} has a single frame" for session in single],
        f"A sequence needs two or more: remove the session from {PARTITION_FILE}.",
    )
    return built


def _digest(layout: Layout, features: Features, labels: Labels, timing: Timing) -> str:
    """Over contents and settings in the order asked for; over no path and no time."""
    read = {
        "reading": READING,
        "tolerance_ms": timing.tolerance_ms,
        "metadata": {
            name: hashlib.sha256(data).hexdigest()
            for name, data in sorted(layout.metadata.contents.items())
        },
        "features": [
            [name, sorted((s, one.content) for s, one in files.items())]
            for name, files in features.items()
        ],
        "labels": [
            [name, sorted((s, one.content) for s, one in files.items())]
            for name, files in labels.items()
        ],
    }
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()
