"""Imports files of another format into a corpus: read, put on the session's clock, fused, written.

What a source holds is found by `source`, read by `formats`, and written by `session_files`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from pipeline.data.importing.corpus_folder import CorpusFolder, raise_unless_name
from pipeline.data.importing.corpus_metadata import MetadataUpdate
from pipeline.data.importing.formats.recording import Clock
from pipeline.data.importing.import_options import ImportOptions, check_options
from pipeline.data.importing.items import Item, read_items
from pipeline.data.importing.origins import (
    ORIGINS_FILE,
    clocks_of,
    describe_start,
    find_origin,
    parse_start,
    to_session_ms,
)
from pipeline.data.importing.report import ImportReport
from pipeline.data.importing.session_files import SessionFiles
from pipeline.data.importing.source import Part, Source, SourceOptions, find_source
from pipeline.data.input_errors import quoted_list
from pipeline.data.layout import FEATURES, LABELS
from pipeline.errors import InputError
from pipeline.shell_command import shell_command


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
    check_options(options)
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

        if not importer.sessions:
            raise InputError(f"{source} has nothing to import. {' '.join(importer.notes)}".strip())
        importer.warn_of_starts()
        importer.warn_of_lonely_sessions()
        new_sessions = metadata.stage(importer.sessions, importer.written.raters)
        next_commands = _next_commands(folder, Path(out), options)
        folder.commit()
    return ImportReport(
        out=str(out),
        format=found.parts[0].format.name,
        format_title=found.parts[0].format.title,
        kind="target" if options.target else "feature set",
        files=tuple(importer.written.files),
        raters=tuple(importer.written.raters),
        set_aside=found.set_aside,
        notes=tuple(importer.notes),
        warnings=(*importer.warnings, *importer.written.warnings, *metadata.warnings),
        new_sessions=new_sessions,
        next_commands=next_commands,
    )


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
        self.written = SessionFiles(folder, options)
        self._start = parse_start(options.start, options.read.timezone) if options.start else None
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.sessions: list[str] = []
        self.counted_from_start: list[str] = []

    def add(self, parts: Sequence[Part]) -> None:
        """Read some files, and write what is in them."""
        items = []
        for part in parts:
            found, notes = read_items(part, self._options, self._source)
            items += found
            self.notes += notes

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
                self.written.write_label(session, of_session)
            else:
                for item in of_session:
                    self.written.write_features(item)
            if session not in self.sessions:
                self.sessions.append(session)

    def _put_on_session_clock(self, session: str, items: Sequence[Item]) -> list[Item]:
        """Count the times of all tracks of a session from its start."""
        origins = self._metadata.origins
        starts: dict[Clock, float] = {}
        clocks = clocks_of(item.track for item in items)
        if any(item.track.clock == "session" for item in items):
            starts["session"] = self._start_of_relative_times(session, has_clock=bool(clocks))
        if self._start is not None and len(starts) + len(clocks) > 1:
            raise InputError(
                f"Session {session!r}: its files count from different moments. Import those of one "
                "clock at a time, each with its --start."
            )

        for clock in clocks:
            tracks = [item.track for item in items if item.track.clock == clock]
            has_files = session in self._folder.sessions_in(FEATURES) | self._folder.sessions_in(
                LABELS
            )
            start_s, notes = find_origin(
                session, clock, tracks, origins, self._start, has_files=has_files
            )
            self.warnings += notes
            # At once: what counts from another clock must not begin at a first row of its own.
            starts[clock] = origins[session, clock] = start_s

        return [
            replace(
                item,
                times_ms=to_session_ms(item.track, starts.get(item.track.clock, 0.0)),
                start=describe_start(item.track.clock, starts.get(item.track.clock, 0.0)),
            )
            for item in items
        ]

    def warn_of_starts(self) -> None:
        """Warn where times without a clock meet files with one."""
        sessions = list(dict.fromkeys(self.counted_from_start))
        if sessions:
            self.warnings.append(
                "Their times are taken to count from the starts that "
                f"{ORIGINS_FILE} states: {quoted_list(sessions)}. If their 0 is another moment, "
                "say at which of their seconds the session begins: --start."
            )

    def warn_of_lonely_sessions(self) -> None:
        """Warn where a session has labels and no features, or the reverse, and others have both."""
        kind, other = (LABELS, FEATURES) if self._options.target else (FEATURES, LABELS)
        known = self._folder.sessions_in(other)
        lonely = [session for session in self.sessions if session not in known]
        if not known or not lonely:
            return

        nearest = difflib.get_close_matches(lonely[0], sorted(known), n=1, cutoff=0.0)
        what = "features" if other == FEATURES else "labels"
        self.warnings.append(
            f"{len(lonely)} sessions have {kind.split('_')[0]}s but no {what}: "
            f"{quoted_list(lonely)}. The nearest name that has is {nearest[0]!r}: if it is the "
            "same session, import with --session or --pattern."
        )

    def _start_of_relative_times(self, session: str, *, has_clock: bool) -> float:
        """Return where the session begins in times that count from the start of a recording."""
        if self._start is None:
            if has_clock or any(name == session for name, _ in self._metadata.origins):
                self.counted_from_start.append(session)
            return 0.0

        start_s, clock = self._start
        if clock is not None:
            raise InputError(
                f"Session {session!r}: its times are no dates. Give --start in seconds: the time "
                "of these files at which the session begins."
            )
        return start_s


def _next_commands(folder: CorpusFolder, out: Path, options: ImportOptions) -> tuple[str, ...]:
    """Return what is missing before the corpus can be checked, or the check."""
    check = shell_command("corpus", "check", out)
    if not folder.names_in(FEATURES):
        return (shell_command("corpus", "import", "FEATURES", out, "--set", "NAME"),)
    if not folder.names_in(LABELS):
        labels = shell_command("corpus", "import", "LABELS", out, "--target", "arousal")
        return (labels, check)
    return (check,)
