"""The frames of a request: its timestamps checked, and rows of another rate put on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Resampling, Times
from pipeline.errors import InputError
from pipeline.model.timed_rows import (
    RATE_TOLERANCE,
    TimedRows,
    frame_unit,
    make_frames,
    put_on_frames,
    row_unit,
)
from pipeline.preprocessing.align import whole_if_possible
from serving.requests.request_error import RequestError
from serving.requests.schema import FeatureSet, Notice, SessionFeatures
from serving.settings import Limits

MAX_TIMESTAMP_MS = 2.0**53  # beyond it a float no longer counts single milliseconds
MAX_FRAMES: int = Limits().max_frames
GAP_PERIODS = 1.5
STATISTICS: Mapping[Resampling, str] = {
    "nearest": "the nearest row",
    "mean": "the mean of the rows nearest to it",
    "mean+std": "mean and standard deviation of the rows nearest to it",
}


def with_common_timestamps(session: SessionFeatures, period_ms: float) -> SessionFeatures:
    """Return a session whose rows are frames, if all its feature sets have the same timestamps.

    Args:
        session: as it was sent; one that has timestamps of its own is returned as it is.
        period_ms: of the model. Rows at another rate are no frames.
    """
    timed = [each for each in session.feature_sets.values() if each.timestamps_ms is not None]
    if session.timestamps_ms is not None or not timed:
        return session

    common_ms = timed[0].timestamps_ms
    assert common_ms is not None
    is_common = all(
        len(each.values) == len(common_ms)
        if each.timestamps_ms is None
        else np.array_equal(each.timestamps_ms, common_ms)
        for each in session.feature_sets.values()
    )
    if not is_common or _has_other_rate(common_ms, period_ms):
        return session
    return replace(
        session,
        timestamps_ms=common_ms,
        feature_sets={
            name: replace(each, timestamps_ms=None) for name, each in session.feature_sets.items()
        },
    )


def frame_timestamps(
    session: SessionFeatures, period_ms: float, max_frames: int
) -> tuple[Times, list[Notice]]:
    """Return the frames of a session, and a warning of gaps between them.

    They are the timestamps that it has; or else, where all feature sets have timestamps of their
    own, made of these as for files; or else they are counted from 0.

    Args:
        session: its feature sets are those of the model.
        period_ms: distance of the model's frames.
        max_frames: that are answered.

    Raises:
        RequestError: 422, feature sets of unequal length, or timestamps that do not fit.
    """
    untimed = {n: each for n, each in session.feature_sets.items() if each.timestamps_ms is None}
    timed = {n: each for n, each in session.feature_sets.items() if n not in untimed}
    sent_ms = session.timestamps_ms

    if sent_ms is None and not untimed:
        frames_ms = _made_frames(timed, period_ms, max_frames)
        _raise_if_wrong_steps(np.diff(frames_ms), period_ms, "features")
        return frames_ms, _gap_notices(frames_ms, period_ms)

    num_frames = 0 if sent_ms is None else len(sent_ms)
    if untimed:
        num_frames = _common_num_frames(untimed)
    if num_frames > max_frames:
        message = f"{num_frames} frames; at most {max_frames} are answered. Cut the session."
        raise RequestError.unprocessable("too_many_frames", message, "features")
    frames_ms, notices = _timestamps(sent_ms, num_frames, period_ms)
    length_ms = float(frames_ms[-1] - frames_ms[0])
    for name, each in timed.items():
        _raise_if_no_timestamps(name, each, period_ms, length_ms)
    return frames_ms, notices


def own_rows(
    name: str, timestamps_ms: NDArray[np.float64], values: NDArray[np.float32]
) -> TimedRows:
    """Return the rows of a feature set with timestamps of its own, which are checked already."""
    return TimedRows(whole_if_possible(timestamps_ms), values)


def rows_on_frames(
    name: str, rows: TimedRows, frames_ms: Times, period_ms: float, resampling: Resampling
) -> tuple[NDArray[np.float32], list[Notice]]:
    """Put rows on frames as in training, NaN where a frame has none, and say so of faster rows.

    Raises:
        RequestError: 422, no row is near a frame.
    """
    where = f"features.{name}"
    try:
        on_frames = put_on_frames(name, rows, frames_ms, period_ms, resampling)
    except InputError as error:
        raise RequestError.unprocessable("wrong_timestamps", str(error), where) from None

    values = np.where(on_frames.present[:, None], on_frames.values, np.float32("nan"))
    if len(rows.values) <= len(frames_ms) and resampling == "nearest":
        return values, []
    message = (
        f"{len(rows.values)} rows on {len(frames_ms)} frames: a frame is {STATISTICS[resampling]}, "
        "as in training."
    )
    return values, [Notice(code="resampled", message=message, where=where)]


def _has_other_rate(timestamps_ms: NDArray[np.float64], period_ms: float) -> bool:
    """Whether rows come faster or slower than frames, and are not merely in another unit."""
    if len(timestamps_ms) < 2 or frame_unit(timestamps_ms, period_ms):
        return False
    step_ms = float(np.median(np.diff(timestamps_ms)))
    return step_ms > 0 and abs(step_ms / period_ms - 1) > RATE_TOLERANCE


def _made_frames(timed: Mapping[str, FeatureSet], period_ms: float, max_frames: int) -> Times:
    """Return frames made of the rows of feature sets with timestamps of their own."""
    for name, each in timed.items():
        _raise_if_no_timestamps(name, each, period_ms, None)

    rows = {}
    for name, each in timed.items():
        assert each.timestamps_ms is not None
        rows[name] = TimedRows(whole_if_possible(each.timestamps_ms), each.values.astype("f4"))
    first_ms = min(float(each.timestamps_ms[0]) for each in rows.values())
    last_ms = max(float(each.timestamps_ms[-1]) for each in rows.values())
    if (last_ms - first_ms) / period_ms > max_frames:
        message = (
            f"The timestamps go from {first_ms:.15g} to {last_ms:.15g} ms: more than {max_frames} "
            "frames. Cut the session, or let all feature sets count from the same start."
        )
        raise RequestError.unprocessable("too_many_frames", message, "features")

    frames_ms = make_frames(rows, period_ms)
    if len(frames_ms) < 2:
        message = (
            f"The timestamps go from {first_ms:.15g} to {last_ms:.15g} ms: {len(frames_ms)} "
            f"frames of {period_ms:g} ms, and a session has at least 2."
        )
        raise RequestError.unprocessable("too_few_frames", message, "features")
    return frames_ms


def _raise_if_no_timestamps(
    name: str, sent: FeatureSet, period_ms: float, length_ms: float | None
) -> None:
    """Refuse timestamps of a feature set that are not one per row, in ms, ascending."""
    where, times_ms = f"features.{name}.timestamps_ms", sent.timestamps_ms
    assert times_ms is not None
    if len(times_ms) != len(sent.values):
        message = f"{len(times_ms)} timestamps for {len(sent.values)} rows."
        raise RequestError.unprocessable("wrong_timestamps", message, where)
    if not len(times_ms):
        raise RequestError.unprocessable("too_few_frames", "There is no row.", where)
    _raise_if_no_numbers(times_ms, where)

    descending = np.flatnonzero(~(np.diff(times_ms) > 0))
    if len(descending):
        place = f"{where}[{descending[0] + 1}]"
        raise RequestError.unprocessable("timestamps_descend", "Timestamps must ascend.", place)
    _raise_if_other_unit(row_unit(times_ms, period_ms, length_ms), times_ms, where)


def _common_num_frames(feature_sets: Mapping[str, FeatureSet]) -> int:
    """Return how many frames every feature set has."""
    first = next(iter(feature_sets))
    num_frames = len(feature_sets[first].values)

    for name, feature_set in feature_sets.items():
        if len(feature_set.values) != num_frames:
            message = (
                f"{len(feature_set.values)} frames here, {num_frames} in {first!r}; every feature "
                "set must have the same, or timestamps_ms of its own."
            )
            raise RequestError.unprocessable("unequal_frames", message, f"features.{name}")

    if num_frames < 2:
        message = f"A session has at least 2 frames, not {num_frames}."
        raise RequestError.unprocessable("too_few_frames", message, "features")
    return num_frames


def _timestamps(
    sent_ms: NDArray[np.float64] | None, num_frames: int, period_ms: float
) -> tuple[Times, list[Notice]]:
    """Return a session's timestamps, which begin at 0 where none were sent, and warnings."""
    if sent_ms is None:
        return np.round(np.arange(num_frames) * period_ms).astype(np.int64), []

    where = "timestamps_ms"
    if len(sent_ms) != num_frames:
        message = f"{len(sent_ms)} timestamps for {num_frames} frames."
        raise RequestError.unprocessable("wrong_timestamps", message, where)
    if num_frames < 2:
        message = f"A session has at least 2 frames, not {num_frames}."
        raise RequestError.unprocessable("too_few_frames", message, where)
    _raise_if_no_numbers(sent_ms, where)

    _raise_if_other_unit(frame_unit(sent_ms, period_ms), sent_ms, where)
    timestamps_ms = whole_if_possible(sent_ms)
    _raise_if_wrong_steps(np.diff(timestamps_ms), period_ms, where)
    return timestamps_ms, _gap_notices(timestamps_ms, period_ms)


def _gap_notices(timestamps_ms: Times, period_ms: float) -> list[Notice]:
    gaps = int((np.diff(timestamps_ms) > GAP_PERIODS * period_ms).sum())
    if not gaps:
        return []
    noun = "gap" if gaps == 1 else "gaps"
    message = f"{gaps} {noun} between frames; the model takes frames as {period_ms:g} ms apart."
    return [Notice(code="gaps", message=message, where="timestamps_ms")]


def _raise_if_no_numbers(times_ms: NDArray[np.float64], where: str) -> None:
    if not np.all(np.abs(times_ms) <= MAX_TIMESTAMP_MS):
        message = "A timestamp is not a number of milliseconds."
        raise RequestError.unprocessable("wrong_timestamps", message, where)


def _raise_if_other_unit(unit: str, times: NDArray[np.float64], where: str) -> None:
    if unit:
        start = ", ".join(f"{time:g}" for time in times[:3])
        message = f"The timestamps look like {unit} ({start}, ...): send milliseconds."
        raise RequestError.unprocessable("wrong_unit", message, where)


def _raise_if_wrong_steps(steps_ms: Times, period_ms: float, where: str) -> None:
    """Refuse timestamps that do not ascend, or at another rate than the model's."""
    if steps_ms.min() <= 0:
        index = int(np.argmax(steps_ms <= 0)) + 1
        raise RequestError.unprocessable(
            "timestamps_descend", "Timestamps must ascend.", f"{where}[{index}]"
        )

    step_ms = float(np.median(steps_ms))
    if abs(step_ms / period_ms - 1) > RATE_TOLERANCE:
        message = (
            f"A frame every {step_ms:g} ms; the model learned from one every {period_ms:g} ms. "
            "Rows at another rate need timestamps_ms of their own, in their feature set."
        )
        raise RequestError.unprocessable("wrong_rate", message, where)
