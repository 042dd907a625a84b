"""Writes the files of sessions: a feature set's, or a target's, fused where it has raters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.corpus_folder import CorpusFolder
from pipeline.data.importing.formats.recording import Track
from pipeline.data.importing.import_options import ImportOptions
from pipeline.data.importing.items import Item
from pipeline.data.importing.label_fusion import fuse_session
from pipeline.data.importing.origins import CLOCK_TITLES
from pipeline.data.importing.report import FileReport, RaterReport
from pipeline.data.importing.resampling import TOO_SLOW, resample
from pipeline.data.importing.text_tables.text import normalised
from pipeline.data.input_errors import quoted_list
from pipeline.data.layout import FEATURES, LABELS
from pipeline.data.tables.parse import SEGMENT_NAMES
from pipeline.errors import InputError

LABEL_NAMES = frozenset({
    "arousal", "valence", "dominance", "activation", "label", "labels", "goldstandard",
    "groundtruth", "target", "annotation", "rating", "rpe",
})  # fmt: skip
"""Names of columns that are labels in most corpora, letters only."""
RESERVED = ("timestamp", *SEGMENT_NAMES)
"""Names of columns that are no features in a corpus."""
TIME_COLUMN, SEGMENT_COLUMN, VALUE_COLUMN = "timestamp", "segment_id", "value"


class SessionFiles:
    """Writes to the staging folder of a corpus, and reports what it wrote.

    Attributes:
        files: what was written, in order.
        raters: the raters that were fused.
        warnings: sentences about what may be wrong.
    """

    def __init__(self, folder: CorpusFolder, options: ImportOptions) -> None:
        self._folder = folder
        self._options = options
        self.files: list[FileReport] = []
        self.raters: list[RaterReport] = []
        self.warnings: list[str] = []

    def write_features(self, item: Item) -> None:
        """Write one session of a feature set."""
        name = f"{FEATURES}/{item.name}/{item.session}.csv"
        self._folder.raise_if_there(name)
        values, times_ms = item.track.values, item.times_ms
        period_ms = self._options.resample_ms
        if period_ms and not self._is_too_slow(item, period_ms):
            times_ms, values = resample(times_ms, values, period_ms, holds=False)

        rows_ms = _to_whole_ms(times_ms, item.source)
        header = (TIME_COLUMN, SEGMENT_COLUMN, *item.track.columns)
        clashing = [name for name in item.track.columns if name.lower() in RESERVED]
        if clashing:
            raise InputError(f"{item.source}: a feature cannot be named {clashing[0]!r}.")
        known = self._raise_if_other_columns(item, header)
        if known:
            # The order of the set's first file, since people read a set by position.
            header = known
            values = values[:, [item.track.columns.index(column) for column in known[2:]]]
        self._warn_of_labels(item)

        segments = np.ones(len(rows_ms), np.int64)
        self._folder.stage_table(name, header, [rows_ms, segments, *values.T])
        self._report(item, rows_ms, values)

    def _is_too_slow(self, item: Item, period_ms: float) -> bool:
        """Return whether a track has fewer rows than periods: values would have to be made up."""
        rate_hz = item.track.rate_hz
        is_too_slow = bool(np.isfinite(rate_hz) and 1000 / rate_hz > TOO_SLOW * period_ms)
        if is_too_slow:
            self.warnings.append(
                f"{item.source}: its rows are {1000 / rate_hz:g} ms apart, more than --resample "
                f"{period_ms:g}: left as they are."
            )
        return is_too_slow

    def _warn_of_labels(self, item: Item) -> None:
        """Warn where a feature may be what a model is to predict.

        Raises:
            InputError: it is nothing else, and nobody said that these are features.
        """
        if not self._options.set_name and LABEL_NAMES.issuperset(
            normalised(name) for name in item.track.columns
        ):
            raise InputError(
                f"{item.source} seems to hold labels: {quoted_list(item.track.columns)}. Name what "
                "they are: --target arousal. If they are features: --set NAME."
            )
        targets = {normalised(name) for name in self._folder.names_in(LABELS)} | LABEL_NAMES
        labels = [name for name in item.track.columns if normalised(name) in targets]
        if labels:
            warning = (
                f"Feature set {item.name!r} has columns that are called as labels are: "
                f"{quoted_list(labels)}. A model that reads its label learns nothing: name the "
                "columns to read, --column."
            )
            if warning not in self.warnings:
                self.warnings.append(warning)

    def _warn_of_features(self, column: str, target: str) -> None:
        """Warn where a feature set that is there has the column that the labels were."""
        for name in self._folder.names_in(FEATURES):
            header = self._folder.header_of(name) or ()
            if column in header and normalised(column) not in ("data", "value"):
                warning = (
                    f"Feature set {name!r} has a column {column!r}, as the labels of {target!r}: a "
                    "model that reads its label learns nothing. Import the set again without it: "
                    "--column for each that counts, --overwrite."
                )
                if warning not in self.warnings:
                    self.warnings.append(warning)

    def _raise_if_other_columns(self, item: Item, header: Sequence[str]) -> tuple[str, ...]:
        """Return the header of the set's first file; () where this is the first."""
        known = self._folder.header_of(item.name) or ()
        is_alone = self._folder.names_of_sessions(item.name) == [item.session]
        if not known or is_alone:
            return ()
        if set(known) == set(header) and known[:2] == tuple(header[:2]):
            return known

        other = sorted(set(header) ^ set(known))
        raise InputError(
            f"{item.source}: feature set {item.name!r} would have other columns in session "
            f"{item.session!r} than in its first one: {quoted_list(other)}. If these files are "
            "different sets, name them apart: --set, or --pattern '{set}.csv' with --session."
        )

    def write_label(self, session: str, items: Sequence[Item]) -> None:
        """Write the labels of one session, fused where there are several raters."""
        options = self._options
        name = f"{LABELS}/{options.target}/{session}.csv"
        self._folder.raise_if_there(name)
        if options.raters is not None:
            fused = fuse_session(
                session, options.target, items, options.raters, options.resample_ms,
                options.max_lag_ms,
            )  # fmt: skip
            self.raters += fused.raters
            self.warnings += fused.notes
            times_ms, values = fused.times_ms, fused.values
        else:
            item = _only_label(items, options.target)
            self._warn_of_features(item.track.columns[0], options.target)
            times_ms, values = item.times_ms, item.track.values[:, 0]
            if options.resample_ms:
                times_ms, columns = resample(
                    times_ms, values[:, None], options.resample_ms, holds=True
                )
                values = columns[:, 0]

        rows_ms = _to_whole_ms(times_ms, items[0].source)
        header = (TIME_COLUMN, VALUE_COLUMN, SEGMENT_COLUMN)
        segments = np.ones(len(rows_ms), np.int64)
        self._folder.stage_table(name, header, [rows_ms, values, segments])

        sources = quoted_list([item.source for item in items]).replace("'", "")
        first = replace(items[0], source=sources)
        self._report(first, rows_ms, values[:, None], columns=(VALUE_COLUMN,))

    def _report(
        self,
        item: Item,
        rows_ms: NDArray[np.int64],
        values: NDArray[np.float64],
        columns: tuple[str, ...] | None = None,
    ) -> None:
        self.files.append(
            FileReport(
                session=item.session,
                name=item.name,
                source=item.source,
                rows_read=item.track.num_rows,
                rows_written=len(rows_ms),
                columns=columns or item.track.columns,
                units=dict(item.track.units),
                rate_hz=_rate_hz(item.track, rows_ms),
                first_ms=int(rows_ms[0]),
                last_ms=int(rows_ms[-1]),
                times=item.track.time_note,
                clock=CLOCK_TITLES[item.track.clock],
                start=item.start,
                missing_rows=item.track.num_missing_rows,
                empty_cells=int((~np.isfinite(values)).sum()),
            )
        )


def _rate_hz(track: Track, rows_ms: NDArray[np.int64]) -> float:
    """Return rows per second: those of the source, which are exact, unless it was resampled."""
    if track.num_rows == len(rows_ms) and np.isfinite(track.rate_hz):
        return float(f"{track.rate_hz:.6g}")
    return float(f"{1000 / float(np.median(np.diff(rows_ms))):.6g}")


def _only_label(items: Sequence[Item], target: str) -> Item:
    """Return the one track of one column that a session's labels are."""
    if len(items) > 1:
        sources = quoted_list([item.source for item in items])
        raise InputError(
            f"Session {items[0].session!r} has {len(items)} tables for target {target!r}: "
            f"{sources}. If they are raters, fuse them: --raters ewe or mean."
        )
    columns = items[0].track.columns
    if len(columns) > 1:
        raise InputError(
            f"{items[0].source} has {len(columns)} columns that may be the labels: "
            f"{quoted_list(columns)}. Name one: --column {columns[0]!r}. If they are raters, fuse "
            "them: --raters ewe or mean."
        )
    return items[0]


def _to_whole_ms(times_ms: NDArray[np.float64], where: str) -> NDArray[np.int64]:
    """Round to whole milliseconds, which must differ.

    Raises:
        InputError: two rows are in one millisecond, or there are fewer than two.
    """
    rows_ms: NDArray[np.int64] = np.rint(times_ms).astype(np.int64)
    if len(rows_ms) < 2:
        raise InputError(f"{where} has a single row: a recording over time has two or more.")

    same = np.flatnonzero(np.diff(rows_ms) <= 0)
    if len(same):
        row = int(same[0])
        raise InputError(
            f"{where}: {len(same)} rows are in the millisecond of the row before, first rows "
            f"{row + 1} and {row + 2} at {times_ms[row]:.6g} and {times_ms[row + 1]:.6g} ms. Pass "
            "--resample 100 to average over periods of so many ms, or correct --time-unit."
        )
    return rows_ms
