"""The parsed files of a corpus: of every feature set and target, by session."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.input_errors import raise_if_any
from pipeline.data.layout import Layout
from pipeline.data.tables.cache import FeatureFile, read_features
from pipeline.data.tables.csv_columns import read_content
from pipeline.data.tables.parse import FeatureTable, LabelTable, parse_labels
from pipeline.data.timeline.time_units import TimeUnits
from pipeline.errors import InputError

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


def read_feature_files(
    layout: Layout,
    cache_folder: Path,
    expected: Mapping[str, Sequence[str]],
    known: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, FeatureFile]]:
    """Read the files of all feature sets.

    Args:
        layout: says where they are.
        cache_folder: where parsed files are kept; never in the corpus.
        expected: feature set -> the columns that a model reads.
        known: feature set -> columns that were no features in that model's training.

    Raises:
        InputError: a file is no table of features.
    """
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


def read_label_files(layout: Layout) -> dict[str, dict[str, LabelFile]]:
    """Read the files of all targets.

    Raises:
        InputError: files are no tables of labels. The message names the first few.
    """
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


def raise_if_too_many_imputed(features: Features, limit: float) -> None:
    """Refuse a session with too many NaN or infinite cells in a feature set.

    Args:
        features: all files.
        limit: share of the cells of present rows that may be, 0 to 1.

    Raises:
        InputError: there are more.
    """
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


def tables_of(files: Features | Labels) -> dict[str, dict[str, FeatureTable | LabelTable]]:
    """Return the tables alone, by the same names."""
    return {
        name: {session: file.table for session, file in by_session.items()}
        for name, by_session in files.items()
    }


def in_units(
    features: Features, labels: Labels, units: TimeUnits
) -> tuple[dict[str, dict[str, FeatureFile]], dict[str, dict[str, LabelFile]]]:
    """Return the files with the unit of their timestamps."""
    with_units = {
        name: {
            session: replace(file, table=replace(file.table, unit=units.features[name]))
            for session, file in files.items()
        }
        for name, files in features.items()
    }
    labels_with_units = {
        target: {
            session: replace(file, table=replace(file.table, unit=units.labels[target]))
            for session, file in files.items()
        }
        for target, files in labels.items()
    }
    return with_units, labels_with_units
