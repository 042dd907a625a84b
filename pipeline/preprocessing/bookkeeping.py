"""Columns that are no features: row and frame numbers, ids, times, and what marks missing rows.

They are known by their names, whose case, blanks, underscores and hyphens do not count, or by
values that count the rows or repeat the timestamps. Knows no files and no model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal[
    "row number",
    "frame number",
    "id",
    "time",
    "marks missing rows",
    "confidence that is not from 0 to 1",
    "no feature in training",
]
Trait = Literal[
    "text", "constant", "binary", "share", "ascends", "counts the rows", "repeats the time"
]
TIMED: frozenset[Trait] = frozenset({"counts the rows", "repeats the time"})
"""What betrays a column that is no feature whatever its name is."""

LOWEST_CONFIDENCE = 0.5
"""A row whose `confidence` is lower is missing: OpenFace's convention.

OpenFace writes the confidence of its face tracker as a share, and `success` 0 where it has lost the
face; the numbers in such a row are no measurement.
"""
MIN_TIMED_ROWS = 20
"""Fewer rows of a set that rise in step with the time may do so by chance."""
TIME_TOLERANCE = 0.1
"""How far a time may be from the timestamp, as a share of the rows' distance: it may be rounded."""

_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y"), 1.0),
    **dict.fromkeys(("false", "f", "no", "n"), 0.0),
}
_ROW_NUMBER = re.compile(
    r"|unnamed:\d+(level\d+)?|(level0)?index|level0|rows?(id|no|nr|num|number|index|idx)?"
)
_FRAME_NUMBER = re.compile(r"frames?(id|no|nr|num|number|index|idx|count|counter)?")
_ID = re.compile(
    r"id|uid|uuid|session|participant|subject|filename|filepath|"
    r"(face|subject|participant|person|session|segment|speaker|user|patient|clip|video|trial|"
    r"recording|sample|utterance|rater|annotator|stimulus|track|file|record)"
    r"(id|ids|no|nr|num|number|idx|index)"
)
_POSSIBLE_ID = re.compile(
    r"pid|sid|name|file|person|speaker|user|patient|clip|video|trial|recording|stimulus|group|"
    r"condition|dataset|partition|split"
)
_TIME = re.compile(
    r"(frame|unix|local|system|utc|device|start|end|lsl|epoch|video|recording|elapsed)?"
    r"time(stamp)?s?(in)?(ms|us|µs|ns|s|sec|secs|seconds|msec|millis|milliseconds|microseconds)?|"
    r"datetime|date|seconds|milliseconds"
)
_SUCCESS, _CONFIDENCE = re.compile("success"), re.compile("confidence")
_PANDAS_SUFFIX = re.compile(r"\.\d+$")

_UNITS = tuple(
    10.0**exponent * part for exponent in range(-9, 10, 3) for part in (1, 1 / 60, 1 / 3600)
)
"""Ratios of two units of time, from ns to hours."""


class FileColumns(NamedTuple):
    """The columns of one file or request, but the timestamp and the segment.

    Attributes:
        names: all of them.
        traits: of those that may be no features -> what their values are like.
        num_rows: how many rows were looked at.
    """

    names: Sequence[str]
    traits: Mapping[str, Set[str]]
    num_rows: int


def may_be_bookkeeping(name: str) -> bool:
    """Return whether a column may be no feature, by its name alone."""
    return any(pattern.fullmatch(_plain(name)) for pattern in _patterns())


def may_mark_rows(name: str) -> bool:
    """Return whether a column may mark rows as missing, by its name alone."""
    plain = _plain(name)
    return bool(_SUCCESS.fullmatch(plain) or _CONFIDENCE.fullmatch(plain))


def is_timestamp(name: str) -> bool:
    """Return whether a name is "timestamp", or how pandas names a second column "timestamp"."""
    return _PANDAS_SUFFIX.sub("", name).casefold() == "timestamp"


def word_number(cell: object) -> float:
    """Return 1 or 0 for a word such as "True" or "no", with which a column marks rows; else NaN."""
    return _WORDS.get(str(cell).strip().casefold(), np.nan)


def column_traits(
    values: NDArray[np.float64], timestamps_ms: NDArray[np.float64]
) -> frozenset[Trait]:
    """Return what the values of one column are like in one file.

    Args:
        values: shape (rows,), NaN where a cell is no number.
        timestamps_ms: shape (rows,), in any unit.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return frozenset({"text"})

    traits: set[Trait] = set()
    if np.ptp(finite) == 0:
        traits.add("constant")
    if np.isin(finite, (0, 1)).all():
        traits.add("binary")
    if finite.min() >= 0 and finite.max() <= 1:
        traits.add("share")
    if len(finite) == len(values):
        traits |= set(_ascent_traits(values, timestamps_ms))
    return frozenset(traits)


def named_columns(
    files: Sequence[FileColumns], expected: Set[str] = frozenset(), known: Collection[str] = ()
) -> dict[str, Kind]:
    """Return the columns of a feature set that are no features by their names, and what they are.

    Some names are also those of features; there the values have to agree in every file. A `success`
    is a feature unless it is 0 or 1, and a `confidence` unless it is a share or beside a `success`.

    Args:
        files: the columns of every file of the set.
        expected: the columns that a model reads: they are features to it.
        known: columns that were no features when the model was trained.
    """
    found: dict[str, Kind] = {}
    for name in _names(files):
        if name in expected:
            continue
        kind = _kind_by_name(name, _common_traits(name, files))
        if kind is not None:
            found[name] = kind
        elif name in known:
            found[name] = "no feature in training"

    has_success = any(_SUCCESS.fullmatch(_plain(name)) for name in found)
    for name in _names(files):
        if not _CONFIDENCE.fullmatch(_plain(name)) or name in expected:
            continue
        if "share" in _common_traits(name, files):
            found[name] = "marks missing rows"
        elif has_success:
            found[name] = "confidence that is not from 0 to 1"

    return found if all(set(file.names) - set(found) for file in files) else _certain(found)


def timed_columns(
    files: Sequence[FileColumns], expected: Set[str] = frozenset()
) -> dict[str, Kind]:
    """Return the columns that count the rows or repeat the timestamps in every file.

    Args:
        files: the columns of every file of the set.
        expected: the columns that a model reads: they are features to it.
    """
    if sum(file.num_rows for file in files) < MIN_TIMED_ROWS:
        return {}

    found: dict[str, Kind] = {}
    for name in _names(files):
        traits = _common_traits(name, files)
        if name in expected:
            continue
        if "counts the rows" in traits:
            found[name] = "row number"
        elif "repeats the time" in traits:
            found[name] = "time"
    return found


def failed_rows(
    columns: Mapping[str, NDArray[np.float64]], kinds: Mapping[str, Kind]
) -> NDArray[np.bool_]:
    """Return the rows that `success` or `confidence` marks as missing, shape (rows,).

    Args:
        columns: columns that are no features, at least one, each of shape (rows,).
        kinds: what they are.
    """
    is_failed = np.zeros(len(next(iter(columns.values()))), np.bool_)
    for name, values in columns.items():
        if kinds[name] == "marks missing rows":
            limit = LOWEST_CONFIDENCE if _CONFIDENCE.fullmatch(_plain(name)) else 1
            is_failed |= values < limit
    return is_failed


def _plain(name: str) -> str:
    """Return a name without case, blanks, underscores, hyphens, brackets and pandas' suffix."""
    return re.sub(r"[\s_\-()\[\]]+", "", _PANDAS_SUFFIX.sub("", name.strip().casefold()))


def _patterns() -> tuple[re.Pattern[str], ...]:
    return (_ROW_NUMBER, _FRAME_NUMBER, _ID, _POSSIBLE_ID, _TIME, _SUCCESS, _CONFIDENCE)


def _kind_by_name(name: str, traits: Set[str]) -> Kind | None:
    plain = _plain(name)
    if _ROW_NUMBER.fullmatch(plain):
        return "row number"
    if _FRAME_NUMBER.fullmatch(plain):
        return "frame number"
    if _ID.fullmatch(plain) or (_POSSIBLE_ID.fullmatch(plain) and traits & {"constant", "text"}):
        return "id"
    if _TIME.fullmatch(plain):
        return "time"
    if _SUCCESS.fullmatch(plain) and traits & {"binary", "text"}:
        return "marks missing rows"
    return None


def _certain(found: Mapping[str, Kind]) -> dict[str, Kind]:
    """Return only what no feature is ever named like."""
    return {name: kind for name, kind in found.items() if _kind_by_name(name, set()) is not None}


def _names(files: Sequence[FileColumns]) -> Iterator[str]:
    yield from dict.fromkeys(name for file in files for name in file.names)


def _common_traits(name: str, files: Sequence[FileColumns]) -> Set[str]:
    """Return what a column's values are like in all files that have it."""
    common: Set[str] | None = None
    for file in files:
        if name in file.traits or name in file.names:
            traits = file.traits.get(name, frozenset())
            common = traits if common is None else common & traits
    return common or frozenset()


def _ascent_traits(
    values: NDArray[np.float64], timestamps_ms: NDArray[np.float64]
) -> Iterator[Trait]:
    steps = np.diff(values)
    if not len(steps) or values[-1] == values[0]:
        return
    if (steps <= 0).all():  # what is left of a time
        values, steps = -values, -steps
    elif (steps < 0).any():
        return
    else:
        yield "ascends"

    if values[0] in (0, 1) and (steps == 1).all():
        yield "counts the rows"
    if _repeats_time(values, timestamps_ms):
        yield "repeats the time"


def _repeats_time(values: NDArray[np.float64], timestamps_ms: NDArray[np.float64]) -> bool:
    """Return whether values are the timestamps in some unit, from some start."""
    elapsed, elapsed_ms = values - values[0], timestamps_ms - timestamps_ms[0]
    if not elapsed_ms[-1] > 0:
        return False

    ratio = elapsed[-1] / elapsed_ms[-1]
    unit = min(_UNITS, key=lambda unit: abs(np.log(ratio / unit)))
    limit = TIME_TOLERANCE * unit * float(np.median(np.diff(timestamps_ms)))
    return bool((np.abs(elapsed - unit * elapsed_ms) <= limit).all())
