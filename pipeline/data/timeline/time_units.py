"""Recognises the unit of a corpus's timestamps: per feature set and target, never per file.

The period and the length of the files tell most units. Where they leave two, what is known already
decides: the features and the labels of a session cover about the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.corpus import TIME_UNITS, Finding, Times, TimeUnit
from pipeline.data.checks.findings import corpus_finding
from pipeline.data.input_errors import raise_if_any
from pipeline.data.tables.timestamps import MS_PER_UNIT
from pipeline.errors import InputError

UNIT_NAMES: Mapping[TimeUnit, str] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}
HOUR_MS = 3_600_000.0
SINCE_1970_MS = (631_152_000_000.0, 4_102_444_800_000.0)
"""The years 1990 to 2100: timestamps that begin there count since 1970."""
UNIT_STEPS = 3
"""Two units differ by a power of 1000; periods by less than this factor are of one unit."""
CLEARLY = 3.0
"""A reading that covers the time of the others better by this factor is taken."""
MIN_COVERED = 0.5
"""Of the time that others cover, a reading other than ms has to cover this share."""


class _Table(Protocol):
    @property
    def timestamps(self) -> Times: ...

    @property
    def is_date_time(self) -> bool: ...


Tables = Mapping[str, Mapping[str, _Table]]
"""Feature set or target -> session -> table."""


@dataclass(frozen=True)
class TimeUnits:
    """What the timestamps are read as.

    Attributes:
        features: feature set -> unit.
        labels: target -> unit.
        findings: what differs from milliseconds of a recording.
    """

    features: Mapping[str, TimeUnit]
    labels: Mapping[str, TimeUnit]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Group:
    """The files of a feature set or target, which have one unit.

    Attributes:
        place: their folder, such as "feature_segments/ecg".
        is_labels: whether they are of a target.
        tables: session -> table.
    """

    place: str
    is_labels: bool
    tables: Mapping[str, _Table]

    @property
    def is_date_time(self) -> bool:
        """Whether they have dates and times."""
        return next(iter(self.tables.values())).is_date_time

    @property
    def period(self) -> float:
        """The median distance of two rows, as the files have it; NaN where none has two rows."""
        periods = [p for p in map(_period, self.tables.values()) if np.isfinite(p)]
        return float(np.median(periods)) if periods else float("nan")

    @property
    def length(self) -> float:
        """The median length of a file, as the files have it."""
        times = [table.timestamps for table in self.tables.values()]
        return float(np.median([each[-1] - each[0] for each in times]))

    def range_ms(self, session: str, unit: TimeUnit) -> tuple[float, float]:
        """Return the first and the last timestamp of a file, read in a unit."""
        times, factor = self.tables[session].timestamps, MS_PER_UNIT[unit]
        return float(times[0]) * factor, float(times[-1]) * factor


def recognise_units(features: Tables, labels: Tables, given: TimeUnit | None = None) -> TimeUnits:
    """Recognise the unit of every feature set and target.

    Args:
        features: feature set -> session -> table.
        labels: target -> session -> table.
        given: the unit of all numbers, where somebody said it.

    Raises:
        InputError: the files of a set differ in unit, or two readings are possible. The message has
            both, and how to settle it.
    """
    groups = [
        _Group(f"{folder}/{name}", folder == "label_segments", tables)
        for folder, by_name in (("label_segments", labels), ("feature_segments", features))
        for name, tables in by_name.items()
        if tables
    ]
    _raise_if_files_differ(groups)

    units: dict[str, TimeUnit] = {}
    open_groups: list[tuple[_Group, TimeUnit | None]] = []
    has_labels = any(group.is_labels for group in groups)
    for group in groups:
        unit = "ns" if group.is_date_time else given or _unit_by_rhythm(group)
        is_told_by_labels = has_labels and not group.is_labels and not given
        is_sure = unit == "ms" or group.is_date_time or not is_told_by_labels
        if unit is not None and is_sure:
            units[group.place] = unit
        else:
            open_groups.append((group, unit))
    for group, unit in open_groups:
        known = [other for other in groups if other.place in units]
        units[group.place] = _unit_by_coverage(group, known, units, unit)

    _raise_if_origins_differ(groups, units)
    return TimeUnits(
        features={name: units.get(f"feature_segments/{name}", "ms") for name in features},
        labels={name: units.get(f"label_segments/{name}", "ms") for name in labels},
        findings=tuple(_findings(groups, units, given)),
    )


def is_since_1970(time_ms: float) -> bool:
    """Return whether a first timestamp must count since 1970."""
    return SINCE_1970_MS[0] <= time_ms <= SINCE_1970_MS[1]


def _period(table: _Table) -> float:
    times = table.timestamps
    return float(np.median(np.diff(times))) if len(times) > 1 else float("nan")


def _raise_if_files_differ(groups: Sequence[_Group]) -> None:
    mistakes = []
    for group in groups:
        for session, table in group.tables.items():
            where, period = f"{group.place}/{session}.csv", _period(table)
            if table.is_date_time != group.is_date_time:
                mistakes.append(f"{where} has {_kind(table)}, other files {_other_kind(table)}")
            elif len(table.timestamps) > 2 and _is_other_unit(period, group.period):
                mistakes.append(
                    f"{where} has a row every {period:g}, most files of its set every "
                    f"{group.period:g}: they are not in one unit"
                )

    raise_if_any(mistakes, "Write the timestamps of all files in ms.")


def _kind(table: _Table) -> str:
    return "dates and times" if table.is_date_time else "numbers"


def _other_kind(table: _Table) -> str:
    return "numbers" if table.is_date_time else "dates and times"


def _is_other_unit(period: float, usual: float) -> bool:
    if not (period > 0 and usual > 0):
        return False
    steps = float(np.log(period / usual) / np.log(1000))
    near = float(np.log(UNIT_STEPS) / np.log(1000))
    return round(steps) != 0 and abs(steps - round(steps)) < near


def _unit_by_rhythm(group: _Group) -> TimeUnit | None:
    """Return the one unit that period and length allow; None where they leave a doubt."""
    period, length = group.period, group.length
    if not np.isfinite(period):
        return "ms"  # single rows have no rhythm, and are refused elsewhere

    starts = [float(table.timestamps[0]) for table in group.tables.values()]
    possible = [
        unit
        for unit in TIME_UNITS
        if _is_possible(unit, period * MS_PER_UNIT[unit], length * MS_PER_UNIT[unit], group)
    ]
    since_1970 = [
        unit for unit in possible if all(is_since_1970(s * MS_PER_UNIT[unit]) for s in starts)
    ]
    candidates = since_1970 or possible
    usual = [
        unit
        for unit in candidates
        if _is_usual(unit, period * MS_PER_UNIT[unit], length * MS_PER_UNIT[unit], group)
    ]
    if len(candidates) == 1:
        return candidates[0]
    return "ms" if usual == ["ms"] else None


def _is_possible(unit: TimeUnit, period_ms: float, length_ms: float, group: _Group) -> bool:
    """Whether a recording can be so: nobody annotates a thousand times a second for a second."""
    if unit == "ms":
        fastest_ms, slowest_ms, longest_ms = 0.9 if group.is_labels else 0.1, 120_000.0, 48.0
        shortest_ms = 1_000.0
        if period_ms < (10.0 if group.is_labels else 2.0):
            shortest_ms = 10_000.0 if group.is_labels else 2_000.0
    else:
        fastest_ms, slowest_ms, longest_ms = 2.0 if group.is_labels else 0.1, 10_000.0, 24.0
        shortest_ms = 1_000.0
    is_long_enough = shortest_ms <= length_ms <= longest_ms * HOUR_MS
    return fastest_ms <= period_ms <= slowest_ms and is_long_enough


def _is_usual(unit: TimeUnit, period_ms: float, length_ms: float, group: _Group) -> bool:
    fastest_ms = 10.0 if group.is_labels else 0.5
    slowest_ms = 5_000.0 if group.is_labels else 2_000.0
    if unit == "ms":
        slowest_ms = 10_000.0
    return fastest_ms <= period_ms <= slowest_ms and length_ms <= 12 * HOUR_MS


def _unit_by_coverage(
    group: _Group,
    known: Sequence[_Group],
    units: Mapping[str, TimeUnit],
    by_rhythm: TimeUnit | None,
) -> TimeUnit:
    """Return the unit in which files cover the time of the other files of their sessions.

    Args:
        group: the files.
        known: groups whose unit is known.
        units: place of a group -> unit.
        by_rhythm: what their period and length tell, if they do.

    Raises:
        InputError: two do, or nothing is known of the others.
    """
    scores = {unit: _score(group, unit, known, units) for unit in TIME_UNITS}
    best = max(TIME_UNITS, key=lambda unit: scores[unit])
    second = max(score for unit, score in scores.items() if unit != best)
    if scores[best] > CLEARLY * second:
        return best
    if by_rhythm is not None:
        return by_rhythm
    if known and scores["ms"] * CLEARLY > scores[best] > 0:
        return "ms"

    period, length = group.period, group.length
    readings = [
        unit
        for unit in TIME_UNITS
        if _is_possible(unit, period * MS_PER_UNIT[unit], length * MS_PER_UNIT[unit], group)
    ]
    is_usual = _is_usual("ms", period, length, group)
    if len(readings) < 2 or ("s" not in readings and is_usual):
        # Nothing else fits, or only what is rare.
        return "ms"
    texts = [_reading(unit, period, length) for unit in readings]
    raise InputError(
        f"{group.place}: a row every {period:g}, over {length:g}, may be "
        f"{', or '.join(texts)}, and nothing in the corpus tells. "
        f"Pass --time-unit {' or --time-unit '.join(readings)}, or write the timestamps in ms "
        "with labels of the same time."
    )


def _score(
    group: _Group, unit: TimeUnit, known: Sequence[_Group], units: Mapping[str, TimeUnit]
) -> float:
    """Return how well a reading covers the others: the median over sessions, 0 to 1.

    Labels are worth more than features, which may have been recorded for longer.
    """
    references = [other for other in known if other.is_labels] or known
    scores = []
    for session in group.tables:
        ranges = [
            other.range_ms(session, units[other.place])
            for other in references
            if session in other.tables
        ]
        if not ranges:
            continue

        first, last = min(start for start, _ in ranges), max(end for _, end in ranges)
        start, end = group.range_ms(session, unit)
        common_ms = min(last, end) - max(first, start)
        if common_ms <= 0 or last <= first or end <= start:
            scores.append(0.0)
            continue
        covered, used = common_ms / (last - first), common_ms / (end - start)
        if group.is_labels:
            covered, used = used, covered
        is_enough = unit == "ms" or covered >= MIN_COVERED
        scores.append(covered * np.sqrt(used) if is_enough else 0.0)

    return float(np.median(scores)) if scores else 0.0


def _reading(unit: TimeUnit, period: float, length: float) -> str:
    rate_hz = 1000 / (period * MS_PER_UNIT[unit])
    seconds = length * MS_PER_UNIT[unit] / 1000
    duration = f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 3600:.3g} h"
    return f"{UNIT_NAMES[unit]} ({rate_hz:.3g} rows per second for {duration})"


def _raise_if_origins_differ(groups: Sequence[_Group], units: Mapping[str, TimeUnit]) -> None:
    """Refuse sessions of which some files count since 1970, and others from somewhere else."""
    by_session: dict[str, list[_Group]] = {}
    for group in groups:
        for session in group.tables:
            by_session.setdefault(session, []).append(group)

    mistakes = []
    for session, files in by_session.items():
        since_1970 = [g for g in files if is_since_1970(g.range_ms(session, units[g.place])[0])]
        others = [group for group in files if group not in since_1970]
        if since_1970 and others:
            mistakes.append(
                f"session {session!r}: {_range(since_1970[0], session)} count since 1970, "
                f"{_range(others[0], session)} do not"
            )

    raise_if_any(mistakes, "Let all files of a session count from the same moment.")


def _range(group: _Group, session: str) -> str:
    times = group.tables[session].timestamps
    return f"{group.place} ({times[0]} to {times[-1]})"


def _findings(
    groups: Sequence[_Group], units: Mapping[str, TimeUnit], given: TimeUnit | None
) -> list[Finding]:
    """Say what is read as something else than ms, once where all agree."""
    messages = {group.place: _message(group, units[group.place]) for group in groups}
    by_place = {place: message for place, message in messages.items() if message}
    level = {
        group.place: "note" if given or units[group.place] == "ms" else "warning"
        for group in groups
    }
    is_common = len({units[group.place] for group in groups}) == 1 and len(by_place) == len(groups)
    if is_common and len({group.is_date_time for group in groups}) == 1:
        by_place = {"timestamps": by_place[groups[0].place]}
        level["timestamps"] = level[groups[0].place]

    return [
        corpus_finding(
            "warning" if level[place] == "warning" else "note", "time unit", place, 0, 0, message
        )
        for place, message in by_place.items()
    ]


def _message(group: _Group, unit: TimeUnit) -> str:
    session, table = next(iter(group.tables.items()))
    since = " since 1970" if is_since_1970(group.range_ms(session, unit)[0]) else ""
    if group.is_date_time:
        return "Timestamps are dates and times."
    if unit == "ms" and not since:
        return ""

    start = ", ".join(f"{time}" for time in table.timestamps[:3].tolist())
    period_ms = group.period * MS_PER_UNIT[unit]
    return (
        f"Timestamps such as {start} are read as {UNIT_NAMES[unit]}{since}: a row every "
        f"{period_ms:g} ms. If that is wrong, pass --time-unit."
    )
