"""The tracks of a source with all their names: session, feature set or target, rater."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.importing.corpus_folder import raise_unless_name
from pipeline.data.importing.formats.empatica import EMPATICA
from pipeline.data.importing.formats.recording import Track
from pipeline.data.importing.import_options import ImportOptions
from pipeline.data.importing.source import Part
from pipeline.errors import InputError


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


def read_items(part: Part, options: ImportOptions, source: Path) -> tuple[list[Item], list[str]]:
    """Read one file of a source, and name what is in it.

    Returns:
        The tracks, with their times as the file has them; and sentences about the file.

    Raises:
        InputError: the file is not understood, or it cannot be told what it holds.
    """
    where = part.file.where
    recording = part.format.read(part.file, replace(options.read, is_label=bool(options.target)))
    if part.format.name in ("xdf", "edf"):
        recording = recording.select(options.read.columns, where)
    elif part.format is EMPATICA and options.read.columns:
        # Each sensor has a file of its own: those without a column that is named are left out.
        chosen = [track.select(options.read.columns) for track in recording.tracks]
        recording = replace(recording, tracks=tuple(track for track in chosen if track.columns))
    notes = [note if where in note else f"{where}: {note}" for note in recording.notes]

    stated = {track.session for track in recording.tracks if track.session}
    if options.session and len(stated) > 1:
        raise InputError(
            f"{where} is of {len(stated)} sessions, such as {sorted(stated)[0]!r}: leave "
            "--session out."
        )
    is_one_of_many = len(recording.tracks) > 1 or part.format is EMPATICA
    items = [
        Item(
            session=options.session or part.session or track.session or part.file.path.stem,
            name=options.target
            or _set_name(
                part, track, options, source, is_one_of_many and not stated and not track.rater
            ),
            rater=part.rater or track.rater,
            source=where,
            track=track,
            times_ms=track.times_s,
        )
        for track in recording.tracks
    ]
    return items, notes


def _set_name(
    part: Part, track: Track, options: ImportOptions, source: Path, is_one_of_many: bool
) -> str:
    given = options.set_name or part.set_name
    if given and is_one_of_many and track.name:
        name = f"{given}_{track.name}"
    elif given or track.name:
        name = given or track.name
    elif source.is_dir():
        name = source.resolve().name
    else:
        raise InputError(
            f"{part.file.where}: name what it holds: --set NAME for features, such as --set "
            "head, or --target NAME for labels, such as --target arousal."
        )
    raise_unless_name(name, "feature set")
    return name
