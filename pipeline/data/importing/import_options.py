"""What a person says about an import, and whether it makes sense together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.importing.corpus_folder import raise_unless_name
from pipeline.data.importing.formats.recording import ReadOptions
from pipeline.data.importing.raters import Fusion
from pipeline.errors import InputError


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


def check_options(options: ImportOptions) -> None:
    """Check that options do not contradict each other, and have possible values.

    Raises:
        InputError: they do, or have not.
    """
    if options.target and options.set_name:
        raise InputError(
            "--set names features and --target labels: import them one after the other."
        )
    if options.raters and not options.target:
        raise InputError("--raters fuses labels: name their target, such as --target arousal.")
    if options.max_lag_ms and not options.raters:
        raise InputError("--align-raters moves raters: pass --raters ewe or mean, too.")
    if options.set_name:
        raise_unless_name(options.set_name, "feature set")
    if options.target:
        raise_unless_name(options.target, "target")
    if options.session:
        raise_unless_name(options.session, "session")
    if options.resample_ms is not None and not 1 <= options.resample_ms < 1e6:
        raise InputError(f"--resample {options.resample_ms:g}: a period in ms, 1 or more.")
    if options.read.rate_hz is not None and not 0 < options.read.rate_hz <= 1e5:
        raise InputError(f"--rate-hz {options.read.rate_hz:g}: rows per second, above 0.")
