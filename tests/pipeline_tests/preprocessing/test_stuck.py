"""A row that stays the same for too long is missing; a signal that varies never is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.preprocessing.stuck import learn_limits, mark_stuck, stuck_rows
from tests.pipeline_tests.corpora import tiny_session

PERIOD_MS = 500.0
LIMIT = 10
"""The frames of 5 s."""

Rows = NDArray[np.float32]
Present = NDArray[np.bool_]

STRETCHES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 14)), min_size=1, max_size=6)
"""Values of a sensor, and for how many frames it holds each."""


def held(stretches: list[tuple[int, int]]) -> Rows:
    """Return rows of three columns, of which only the last tells one value from another."""
    last = np.repeat([value for value, _ in stretches], [length for _, length in stretches])
    return np.stack([np.ones(len(last)), np.full(len(last), -2), last], axis=1).astype(np.float32)


def drawn_present(data: st.DataObject, num_rows: int) -> Present:
    """Draw which rows are present."""
    bits = data.draw(st.integers(0, 2**num_rows - 1))
    return np.array([bool(bits >> row & 1) for row in range(num_rows)])


def walked(values: Rows, present: Present, limit: int) -> list[int]:
    """Return the stuck rows as a person would find them, one row after the other."""
    stretches: list[list[int]] = []
    for row in np.flatnonzero(present):
        if stretches and values[row].tolist() == values[stretches[-1][-1]].tolist():
            stretches[-1].append(int(row))
        else:
            stretches.append([int(row)])

    stuck = []
    for number, stretch in enumerate(stretches):
        if len(stretch) > limit:
            stuck += stretch if number == 0 else stretch[1:]
    return stuck


@given(st.data(), STRETCHES, st.integers(1, 12))
def test_exactly_the_repeated_rows_of_long_stretches_are_stuck(
    data: st.DataObject, stretches: list[tuple[int, int]], limit: int
) -> None:
    values = held(stretches)
    present = drawn_present(data, len(values))

    stuck = stuck_rows(values, present, limit)
    assert np.flatnonzero(stuck).tolist() == walked(values, present, limit)


@given(st.data(), st.integers(1, 60), st.integers(1, 3))
def test_a_signal_that_varies_in_any_column_is_never_stuck(
    data: st.DataObject, num_rows: int, limit: int
) -> None:
    values = np.full((num_rows, 20), 7, np.float32)
    column = data.draw(st.integers(0, 19))
    values[:, column] += np.arange(num_rows) % 2

    assert not stuck_rows(values, np.ones(num_rows, bool), limit).any()


@given(st.data(), STRETCHES, st.permutations(range(3)))
def test_the_order_of_the_columns_and_what_missing_rows_hold_do_not_matter(
    data: st.DataObject, stretches: list[tuple[int, int]], order: list[int]
) -> None:
    values = held(stretches)
    present = drawn_present(data, len(values))
    expected = stuck_rows(values, present, LIMIT)

    np.testing.assert_array_equal(stuck_rows(values[:, order], present, LIMIT), expected)
    for nothing in (0, np.nan):
        without = np.where(present[:, None], values, np.float32(nothing))
        np.testing.assert_array_equal(stuck_rows(without, present, LIMIT), expected)
    assert not (expected & ~present).any()


@given(st.data(), STRETCHES)
def test_what_is_marked_once_leaves_nothing_to_mark(
    data: st.DataObject, stretches: list[tuple[int, int]]
) -> None:
    values = held(stretches)
    present = drawn_present(data, len(values))
    left = present & ~stuck_rows(values, present, LIMIT)

    assert not stuck_rows(values, left, LIMIT).any()


def test_a_sensor_that_freezes_in_mid_session_is_missing_from_the_first_repeated_row_on() -> None:
    values = held([(row % 2, 1) for row in range(20)] + [(2, LIMIT + 1), (1, 1), (2, LIMIT)])

    stuck = stuck_rows(values, np.ones(len(values), bool), LIMIT)
    assert np.flatnonzero(stuck).tolist() == list(range(21, 31))


def test_a_sensor_that_is_frozen_throughout_is_missing_throughout() -> None:
    assert stuck_rows(held([(1, 60)]), np.ones(60, bool), LIMIT).all()


@pytest.mark.parametrize("num_rows", [0, 1])
def test_a_session_of_no_row_or_one_has_no_stuck_row(num_rows: int) -> None:
    values = np.ones((num_rows, 3), np.float32)
    assert stuck_rows(values, np.ones(num_rows, bool), LIMIT).tolist() == [False] * num_rows


def with_voice(voice: Rows, *, subject: str = "a", present: Present | None = None) -> Session:
    """Return a session with this voice, of which no frame is missing unless it is said."""
    session = tiny_session("s", subject, "train", frames=len(voice))
    is_present = np.ones(len(voice), bool) if present is None else present
    return replace(
        session,
        features={**session.features, "voice": voice},
        present={**session.present, "voice": is_present},
    )


def voice_that_holds(*lengths: int, frames: int = 120) -> Rows:
    """Return a voice that holds its first values for so many frames each, and then varies."""
    varying = frames - sum(lengths)
    return held(list(enumerate([*lengths, *[1] * varying])))


def test_marked_rows_are_missing_and_zero_and_other_sets_are_as_they_were() -> None:
    session = with_voice(voice_that_holds(20))
    marked = mark_stuck(session, {"voice": LIMIT, "a set of another model": LIMIT})

    assert marked.present["voice"].tolist() == [False] * 20 + [True] * 100
    assert not marked.features["voice"][:20].any()
    np.testing.assert_array_equal(marked.features["voice"][20:], session.features["voice"][20:])
    assert marked.features["voice"].dtype == np.float32
    assert marked.features["face"] is session.features["face"]
    assert session.present["voice"].all()

    unlimited = mark_stuck(session, {"face": LIMIT})
    assert unlimited.present["voice"].all()


def limit_of_voice(sessions: list[Session], period_ms: float = PERIOD_MS) -> int | None:
    """Return the limit that is learned for the voice."""
    return learn_limits(sessions, period_ms).get("voice")


@pytest.mark.parametrize(
    ("period_ms", "frames"), [(500, 10), (250, 20), (40, 125), (400, 12), (4000, 1), (9000, 1)]
)
def test_a_set_that_never_repeats_a_row_may_do_so_for_five_seconds(
    period_ms: float, frames: int
) -> None:
    assert limit_of_voice([with_voice(voice_that_holds())], period_ms) == frames


def test_a_set_that_holds_its_values_may_do_so_for_twice_the_usual_time() -> None:
    usual = [with_voice(voice_that_holds(12, 3), subject=name) for name in "abcd"]
    assert limit_of_voice(usual) == 24

    short = [with_voice(voice_that_holds(4, 3), subject=name) for name in "abcd"]
    assert limit_of_voice(short) == LIMIT


@pytest.mark.parametrize("num_subjects", [2, 3, 4, 5, 20])
def test_one_subject_with_a_stuck_sensor_does_not_raise_the_limit(num_subjects: int) -> None:
    stuck = [with_voice(voice_that_holds(100), subject="0")] * 8
    others = [
        with_voice(voice_that_holds(7), subject=str(number)) for number in range(1, num_subjects)
    ]
    assert limit_of_voice(stuck + others) == 14


def test_a_stimulus_that_stands_still_once_does_so_for_everyone() -> None:
    sessions = [with_voice(voice_that_holds(), subject=name) for name in "abcd" for _ in range(7)]
    sessions += [with_voice(voice_that_holds(40), subject=name) for name in "abcd"]
    assert limit_of_voice(sessions) == 80


def test_a_set_that_is_constant_by_nature_has_no_limit() -> None:
    constant = [with_voice(voice_that_holds(120), subject=name) for name in "abcd"]
    assert limit_of_voice(constant) is None
    assert limit_of_voice(constant[:1]) is None

    half = [with_voice(voice_that_holds(60), subject=name) for name in "abcd"]
    assert limit_of_voice(half) is None


def test_missing_rows_do_not_count_and_a_set_that_is_always_missing_has_the_shortest_limit() -> (
    None
):
    voice = voice_that_holds(40)
    every_second = np.arange(120) % 2 == 0
    assert limit_of_voice([with_voice(voice, present=every_second)]) == 40
    assert limit_of_voice([with_voice(voice, present=np.zeros(120, bool))]) == LIMIT


def test_nothing_is_stuck_in_a_single_session_that_taught_the_limits() -> None:
    session = with_voice(voice_that_holds(15, 6))
    marked = mark_stuck(session, learn_limits([session], PERIOD_MS))
    assert all(present.all() for present in marked.present.values())
