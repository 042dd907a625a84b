"""The digest of a corpus: the same where the same arrays are read from the same files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pipeline.corpus import Resampling
from pipeline.data.checks.column_findings import columns_record
from pipeline.data.corpus_files import LabelFile, Labels
from pipeline.data.layout import Layout
from pipeline.data.tables.arrange import ArrangedFile
from pipeline.data.tables.cache import FeatureFile
from pipeline.data.timeline.frames import Frames, Timing
from pipeline.data.timeline.time_units import TimeUnits

READING = 2
"""Part of the digest: raised when the same files are read to another corpus."""


def unusual_timing(
    units: TimeUnits,
    resampling: Mapping[str, Resampling],
    frames: Mapping[str, Frames],
    timing: Timing,
) -> dict[str, object]:
    """Return what is not read in ms, a frame per row: only that is in the digest.

    Args:
        units: of all timestamps.
        resampling: feature set -> what a frame is of its rows.
        frames: session -> its frames.
        timing: of the corpus.
    """
    ways: dict[str, object] = {}
    unit_of = {"features": dict(units.features), "labels": dict(units.labels)}
    if any(unit != "ms" for by_name in unit_of.values() for unit in by_name.values()):
        ways["time_units"] = unit_of
    if any(kind != "nearest" for kind in resampling.values()):
        ways["resampling"] = dict(resampling)
    if any(each.num_moved_rows for each in frames.values()):
        ways["frames"] = list(timing.targets)
    if timing.is_model_period and any(not each.label_rows for each in frames.values()):
        ways["frame_period_ms"] = timing.period_ms
    return ways


def corpus_digest(
    layout: Layout,
    features: Mapping[str, Mapping[str, ArrangedFile]],
    labels: Labels,
    timing: Timing,
    mark_stuck_rows: bool,
    ways: Mapping[str, object],
) -> str:
    """Hash contents and settings in the order in which they were named, but no path and no time.

    Args:
        layout: names the metadata.
        features: feature set -> session -> file.
        labels: target -> session -> file.
        timing: the tolerance counts.
        mark_stuck_rows: whether rows of stuck sensors became missing.
        ways: see `unusual_timing`.
    """
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
        **ways,
    }
    if layout.metadata.reading:
        document["metadata_reading"] = dict(layout.metadata.reading)
    # Only where columns are read otherwise than the files have them: other digests stay.
    if columns := columns_record(features):
        document["columns"] = columns
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _hashes(files: Mapping[str, FeatureFile] | Mapping[str, LabelFile]) -> list[tuple[str, str]]:
    return sorted((session, file.sha256) for session, file in files.items())
