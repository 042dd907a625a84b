"""Imports files of another format into a corpus: read, put on the session's clock, fused, written.

What a source holds is found by `source`, read by `formats`, and written by `corpus_folder`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.corpus_folder import CorpusFolder, raise_unless_name
from pipeline.data.importing.corpus_metadata import MetadataUpdate
from pipeline.data.importing.formats.empatica import EMPATICA
from pipeline.data.importing.label_fusion import fuse_session
from pipeline.data.importing.origins import (
    CLOCK_TITLES,
    clocks_of,
    describe_start,
    find_origin,
    parse_start,
    to_session_ms,
)
from pipeline.data.importing.raters import Fusion
from pipeline.data.importing.recording import Clock, ReadOptions, Track
from pipeline.data.importing.report import FileReport, ImportReport, RaterReport
from pipeline.data.importing.resampling import TOO_SLOW, resample
from pipeline.data.importing.source import Part, Source, SourceOptions, find_source
from pipeline.data.importing.text import normalised
from pipeline.data.input_errors import quoted_list
from pipeline.data.layout import FEATURES, LABELS
from pipeline.errors import InputError

LABEL_NAMES = frozenset({
    "arousal", "valence", "dominance", "activation", "label", "labels", "goldstandard",
    "groundtruth", "target", "annotation", "rating", "rpe",
})  # fmt: skip
"""Names of columns that are labels in most corpora, letters only."""
TIME_COLUMN, SEGMENT_COLUMN, VALUE_COLUMN = "timestamp", "segment_id", "value"


@dataclass(frozen=True)
class ImportOptions:
    """What a person says about an import.

    Attributes:
        set_name: the feature set; "" where folders or the format name it.
        target: the target whose labels these are; "" where they are features.
        session: the session; "" where names of files or folders, or a column, say it.
        format_name: the format; "" to find it by the content.
        pattern: which part of a path is what, such as "{session}/{set}.csv"; or "".
        read: how the files are read.
        partition_file: a file session,partition; None to divide new people.
        participants_file: a file session,participant; None where each session is a person, or the
            corpus says it.
        resample_ms: the period that rows are averaged to; None to keep them as they are.
        raters: how several raters of a session are fused; None where there is one.
        max_lag_ms: the farthest that a rater is moved to fit the others; 0 for none.
        start: when the session began on the clock of the source, in seconds or as a date; or "".
        overwrite: whether files that are there are replaced.
    """

    set_name: str = ""
    target: str = ""
    session: str = ""
    format_name: str = ""
    pattern: str = ""
    read: ReadOptions = field(default_factory=ReadOptions)
    partition_file: Path | None = None
    participants_file: Path | None = None
    resample_ms: float | None = None
    raters: Fusion | None = None
    max_lag_ms: float = 0.0
    start: str = ""
    overwrite: bool = False


@dataclass(frozen=True)
class Item:
    """A track with all its names, and its times in ms from the session's start.

    Attributes:
        session: the session.
        name: the feature set or target.
        rater: the rater; "" where there is one.
        source: how messages name the file.
        track: the numbers.
        times_ms: shape (rows,), ascending, not rounded.
        start: when the session began, as a date; "" where unknown.
    """

    session: str
    name: str
    rater: str
    source: str
    track: Track
    times_ms: NDArray[np.float64]
    start: str = ""


def import_corpus(source: Path, out: Path, options: ImportOptions) -> ImportReport:
    """Import a file or folder into a corpus, which it makes or adds to.

    One import brings the feature sets or the labels of one kind; further ones add to the same
    folder. Nothing is written unless all of it is understood.

    Args:
        source: a file, a folder of files of one format, or a folder of folders.
        out: the corpus: a new folder, or one that an earlier import wrote.
        options: what a person says about it.

    Returns:
        What was understood and written.

    Raises:
        InputError: something is not understood, or is there already. The message says where and
            what to do.

    Example:
        >>> options = ImportOptions(set_name="egemaps")  # doctest: +SKIP
        >>> import_corpus(Path("opensmile"), Path("corpus"), options)  # doctest: +SKIP
    """
    _check(options)
    found = find_source(
        Path(source),
        SourceOptions(
            options.format_name,
            options.session,
            options.pattern,
            is_label=bool(options.target),
            has_raters=options.raters is not None,
            names_set=bool(options.set_name),
        ),
    )
    folder = CorpusFolder(Path(out), overwrite=options.overwrite)
    with folder.open():
        metadata = MetadataUpdate(folder, options.partition_file, options.participants_file)
        importer = _Import(folder, metadata, options, Path(source))
        for parts in _by_session(found):
            importer.add(parts)

        new_sessions = metadata.stage(importer.sessions, importer.raters)
        next_commands = _next_commands(folder, Path(out), options)
        folder.commit()
    return ImportReport(
        out=str(out),
        format=found.parts[0].format.name,
        format_title=found.parts[0].format.title,
        kind="target" if options.target else "feature set",
        files=tuple(importer.files),
        raters=tuple(importer.raters),
        set_aside=found.set_aside,
        notes=tuple(importer.notes),
        warnings=(*importer.warnings, *metadata.warnings),
        new_sessions=new_sessions,
        next_commands=next_commands,
    )


def _check(options: ImportOptions) -> None:
    """Raise where options contradict each other, or have impossible values."""
    if options.target and options.set_name:
        raise InputError(
            "--set names features and --target labels: import them one after the other."
        )
    if options.raters and not options.target:
        raise InputError("--raters fuses labels: name their target, such as --target arousal.")
    if options.max_lag_ms and not options.raters:
        raise InputError("--align-raters moves raters: pass --raters ewe or mean, too.")
    for name, kind in (
        (options.set_name, "feature set"), (options.target, "target"), (options.session, "session")
    ):  # fmt: skip
        if name:
            raise_unless_name(name, kind)
    if options.resample_ms is not None and not 1 <= options.resample_ms < 1e6:
        raise InputError(f"--resample {options.resample_ms:g}: a period in ms, 1 or more.")
    if options.read.rate_hz is not None and not 0 < options.read.rate_hz <= 1e5:
        raise InputError(f"--rate-hz {options.read.rate_hz:g}: rows per second, above 0.")


def _by_session(source: Source) -> Iterator[list[Part]]:
    """Yield the files of a session together, so that they share its start; then they may go."""

    def key(part: Part) -> tuple[str, str]:
        return (part.session, "" if part.session else part.file.where)

    for _, parts in groupby(sorted(source.parts, key=key), key=key):
        yield list(parts)


class _Import:
    """An import while it runs: session by session from the source to the staging folder."""

    def __init__(
        self, folder: CorpusFolder, metadata: MetadataUpdate, options: ImportOptions, source: Path
    ) -> None:
        self._folder = folder
        self._metadata = metadata
        self._options = options
        self._source = source
        self._start = parse_start(options.start, options.read.timezone) if options.start else None
        self.files: list[FileReport] = []
        self.raters: list[RaterReport] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.sessions: list[str] = []

    def add(self, parts: Sequence[Part]) -> None:
        """Read some files, and write what is in them."""
        items = [item for part in parts for item in self._read(part)]
        all_sessions = {*self.sessions, *(item.session for item in items)}
        if self._start is not None and len(all_sessions) > 1:
            raise InputError(
                f"--start is of one session, but there are {len(all_sessions)}: "
                f"{quoted_list(sorted(all_sessions))}. Import them one at a time: --session."
            )
        for session in dict.fromkeys(item.session for item in items):
            raise_unless_name(session, "session")
            of_session = [item for item in items if item.session == session]
            of_session = self._put_on_session_clock(session, of_session)

            if self._options.target:
                self._write_label(session, of_session)
            else:
                for item in of_session:
                    self._write_features(item)
            if session not in self.sessions:
                self.sessions.append(session)

    def _read(self, part: Part) -> list[Item]:
        """Read one file, and name what is in it."""
        where = part.file.where
        recording = part.format.read(part.file, self._options.read)
        if part.format.name in ("xdf", "edf", "e4"):
            recording = recording.select(self._options.read.columns, where)
        self.notes += [note if where in note else f"{where}: {note}" for note in recording.notes]

        stated = {track.session for track in recording.tracks if track.session}
        if self._options.session and len(stated) > 1:
            raise InputError(
                f"{where} is of {len(stated)} sessions, such as {sorted(stated)[0]!r}: leave "
                "--session out."
            )
        is_one_of_many = len(recording.tracks) > 1 or part.format is EMPATICA
        return [
            Item(
                session=self._options.session
                or part.session
                or track.session
                or part.file.path.stem,
                name=self._options.target
                or self._set_name(part, track, is_one_of_many and not stated),
                rater=part.rater,
                source=where,
                track=track,
                times_ms=track.times_s,
            )
            for track in recording.tracks
        ]

    def _set_name(self, part: Part, track: Track, is_one_of_many: bool) -> str:
        given = self._options.set_name or part.set_name
        if given and is_one_of_many and track.name:
            name = f"{given}_{track.name}"
        elif given or track.name:
            name = given or track.name
        elif self._source.is_dir():
            name = self._source.resolve().name
        else:
            raise InputError(
                f"{part.file.where}: name what it holds: --set NAME for features, such as --set "
                "head, or --target NAME for labels, such as --target arousal."
            )
        raise_unless_name(name, "feature set")
        return name

    def _put_on_session_clock(self, session: str, items: Sequence[Item]) -> list[Item]:
        """Count the times of all tracks of a session from its start."""
        origins = self._metadata.origins
        starts: dict[Clock, float] = {}
        clocks = clocks_of(item.track for item in items)
        if self._start is not None and not clocks:
            raise InputError(
                f"Session {session!r}: its times count from the session's start already. Leave "
                "--start out."
            )
        for clock in clocks:
            tracks = [item.track for item in items if item.track.clock == clock]
            has_files = self._folder.has_session(session)
            start_s, notes = find_origin(
                session, clock, tracks, origins, self._start, has_files=has_files
            )
            self.warnings += notes
            starts[clock] = start_s
        for clock, start_s in starts.items():
            origins[session, clock] = start_s

        return [
            replace(
                item,
                times_ms=to_session_ms(item.track, starts.get(item.track.clock, 0.0)),
                start=describe_start(item.track.clock, starts.get(item.track.clock, 0.0)),
            )
            for item in items
        ]

    def _write_features(self, item: Item) -> None:
        """Write one session of a feature set."""
        name = f"{FEATURES}/{item.name}/{item.session}.csv"
        self._folder.raise_if_there(name)
        values, times_ms = item.track.values, item.times_ms
        period_ms = self._options.resample_ms
        if period_ms and not self._is_too_slow(item, period_ms):
            times_ms, values = resample(times_ms, values, period_ms, holds=False)

        rows_ms = _to_whole_ms(times_ms, item.source)
        header = (TIME_COLUMN, SEGMENT_COLUMN, *item.track.columns)
        clashing = [name for name in item.track.columns if name in header[:2]]
        if clashing:
            raise InputError(f"{item.source}: a feature cannot be named {clashing[0]!r}.")
        self._raise_if_other_columns(item, header)
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
        """Warn where a feature may be what a model is to predict."""
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

    def _raise_if_other_columns(self, item: Item, header: Sequence[str]) -> None:
        known = self._folder.header_of(item.name)
        if known is None or set(known) == set(header):
            return

        other = sorted(set(header) ^ set(known))
        raise InputError(
            f"{item.source}: feature set {item.name!r} would have other columns in session "
            f"{item.session!r} than in its first one: {quoted_list(other)}. If these files are "
            "different sets, name them apart: --set, or --pattern '{set}.csv' with --session."
        )

    def _write_label(self, session: str, items: Sequence[Item]) -> None:
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
        return float(track.rate_hz)
    return 1000 / float(np.median(np.diff(rows_ms)))


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


def _next_commands(folder: CorpusFolder, out: Path, options: ImportOptions) -> tuple[str, ...]:
    """Return what is missing before the corpus can be checked, or the check."""
    if not folder.names_in(FEATURES):
        return (f"affectune corpus import FEATURES {out} --set NAME",)
    if not folder.names_in(LABELS):
        return (
            f"affectune corpus import LABELS {out} --target arousal",
            f"affectune corpus check {out}",
        )
    return (f"affectune corpus check {out}",)
