"""Decides what the frames of a feature set are of its rows. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.corpus import Finding, Resampling, Times
from pipeline.data.checks.findings import corpus_finding
from pipeline.data.input_errors import raise_if_any
from pipeline.preprocessing.align import num_near_rows, resampled_columns

AVERAGED_SHARE = 0.5
"""Where more of the rows near a frame would be dropped than this, frames are means."""
MIN_ROWS_PER_FRAME = 1.5
"""With fewer rows per frame "mean+std" would mostly be deviations of single rows, which are 0."""


def choose_resampling(
    timelines_ms: Mapping[str, Sequence[tuple[Times, Times]]],
    tolerance_ms: float,
    given: Resampling | Mapping[str, Resampling] | None,
) -> tuple[dict[str, Resampling], dict[str, float]]:
    """Choose how every feature set is put on frames.

    Args:
        timelines_ms: feature set -> frames and rows of every session that has it.
        tolerance_ms: the farthest that a row may be from its frame.
        given: of all feature sets, or of those that it names, whatever their rate; None, or a set
            that it does not name: means where most rows would be dropped.

    Returns:
        Feature set -> resampling, and -> rows per frame.
    """
    chosen: dict[str, Resampling] = {}
    rates: dict[str, float] = {}
    for feature_set, sessions in timelines_ms.items():
        num_rows, num_frames = 0, 0
        for frames_ms, rows_ms in sessions:
            rows, frames = num_near_rows(frames_ms, rows_ms, tolerance_ms)
            num_rows, num_frames = num_rows + rows, num_frames + frames

        rates[feature_set] = rate = num_rows / max(1, num_frames)
        if isinstance(given, Mapping) and feature_set in given:
            chosen[feature_set] = given[feature_set]
        elif isinstance(given, str):
            is_useless = given == "mean+std" and rate < MIN_ROWS_PER_FRAME
            chosen[feature_set] = "nearest" if is_useless else given
        else:
            num_dropped = num_rows - num_frames
            is_mean = num_dropped > AVERAGED_SHARE * num_rows
            chosen[feature_set] = "mean" if is_mean else "nearest"
    return chosen, rates


def name_resampled_columns(
    columns: Mapping[str, Sequence[str]], resampling: Mapping[str, Resampling]
) -> dict[str, tuple[str, ...]]:
    """Return the names of every set's columns on frames.

    Raises:
        InputError: a set has a column already that would be named so.
    """
    names = {name: resampled_columns(columns[name], resampling[name]) for name in columns}
    mistakes = []
    for feature_set, resampled in names.items():
        repeated = sorted(name for name in set(resampled) if resampled.count(name) > 1)
        if repeated and len(resampled) > len(columns[feature_set]):
            mistakes.append(f"{feature_set!r} has a column {repeated[0]!r} already")
    raise_if_any(mistakes, "Rename the column, or pass --resample mean.")
    return names


def resampling_findings(
    resampling: Mapping[str, Resampling], rates: Mapping[str, float]
) -> list[Finding]:
    """Say which feature sets are averaged onto frames."""
    findings = []
    for feature_set, kind in resampling.items():
        if kind == "nearest":
            continue
        statistics = "the mean" if kind == "mean" else "mean and standard deviation"
        message = (
            f"It has about {rates[feature_set]:.3g} rows per frame: a frame is {statistics} of the "
            "rows nearest to it (--resample)."
        )
        findings.append(corpus_finding("note", "rows averaged", feature_set, 0, 0, message))
    return findings
