"""What an import understood and wrote: for a person to read, or as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class FileReport:
    """One file that was written.

    Attributes:
        session: the session.
        name: the feature set or target.
        source: the file or files that it was read from.
        rows_read: rows of the source, of one session.
        rows_written: rows of the file.
        columns: names of the columns.
        units: column -> unit, as the source states it.
        rate_hz: rows per second, by the median distance of two; 0 where undefined.
        first_ms: time of the first row, from the session's start.
        last_ms: time of the last row.
        times: how the times were understood.
        clock: what the times of the source count from.
        start: when the session began, as a date; "" where the clock knows none.
        missing_rows: rows that the source marks as unusable.
        empty_cells: cells without a number.
    """

    session: str
    name: str
    source: str
    rows_read: int
    rows_written: int
    columns: tuple[str, ...]
    units: Mapping[str, str]
    rate_hz: float
    first_ms: int
    last_ms: int
    times: str
    clock: str
    start: str
    missing_rows: int
    empty_cells: int


@dataclass(frozen=True)
class RaterReport:
    """One rater of a session: the weight, the lag taken back, and the CCC with the others."""

    target: str
    session: str
    rater: str
    fusion: str
    weight: float
    lag_ms: float
    ccc_with_others: float | None
    mean_pairwise_ccc: float | None


@dataclass(frozen=True)
class ImportReport:
    """What an import understood.

    Attributes:
        out: the corpus.
        format: name of the format.
        format_title: what people call it.
        kind: "feature set" or "target".
        files: what was written, in order.
        raters: the raters that were fused.
        set_aside: sentences about what was not read.
        notes: sentences about how files were read, each with the files' names.
        warnings: sentences about what may be wrong.
        new_sessions: session -> partition, of those that the corpus did not have.
        next_commands: what to do next.
    """

    out: str
    format: str
    format_title: str
    kind: str
    files: tuple[FileReport, ...]
    raters: tuple[RaterReport, ...] = ()
    set_aside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    new_sessions: Mapping[str, str] = field(default_factory=dict)
    next_commands: tuple[str, ...] = ()

    def to_document(self) -> dict[str, object]:
        """Return the report as one JSON object."""
        return asdict(self)
