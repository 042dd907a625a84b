"""What a study counts is running time, wherever the wall clock stands or jumps to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random

import pytest

from tests.tuning_tests.studies import opened, tiny_study
from tuning.journal import clock
from tuning.journal.clock import now
from tuning.journal.events import (
    Event,
    StudyOpened,
    StudyResumed,
    StudyStopped,
    TrialEnded,
    TrialProposed,
)
from tuning.journal.history import History, history_of
from tuning.monitoring.status import study_status
from tuning.planning.outstanding_fits import FitPlan
from tuning.planning.time_budget import TimeBudget

DAY_S = 86_400.0
JUMPS_S = (0.0, 3 * DAY_S, -3 * DAY_S, 400 * DAY_S, -400 * DAY_S, 3600.0, -3600.0)


class Clocks:
    """A wall clock that jumps, and a monotonic one that does not; both are set in `time`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall_s, self.monotonic_s = 1.8e9, 5_000.0
        patch.setattr(time, "time", lambda: self.wall_s)
        patch.setattr(time, "monotonic", lambda: self.monotonic_s)

    def run(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds

    def begin_process(self) -> None:
        """Forget what a process knows of the clocks; the machine may have started anew."""
        clock.wall_clock_at_zero.cache_clear()
        self.monotonic_s = 10.0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    """Return clocks that stand where the test sets them."""
    clocks = Clocks(monkeypatch)
    clocks.begin_process()
    yield clocks
    monkeypatch.undo()
    clock.wall_clock_at_zero.cache_clear()


def test_times_of_events_follow_the_running_time_alone(clocks: Clocks) -> None:
    random = Random(0)
    begin = now()
    assert begin == pytest.approx(clocks.wall_s)
    total_s = 0.0
    for _ in range(100):
        seconds = random.uniform(0, 100)
        clocks.run(seconds)
        total_s += seconds
        clocks.wall_s += random.choice(JUMPS_S)
        assert now() - begin == pytest.approx(total_s)


@pytest.mark.parametrize("seed", range(5))
def test_a_budget_is_the_sum_of_what_ran_over_all_sessions(clocks: Clocks, seed: int) -> None:
    random = Random(seed)
    study = tiny_study()
    history = History()
    budget = TimeBudget(FitPlan(study, 3), history, 10_000.0)
    ran_s = 0.0

    for session in range(6):
        clocks.begin_process()
        clocks.wall_s += random.choice(JUMPS_S)  # between two processes
        event: Event = StudyResumed(at=now())
        history.apply(event if session else opened(study).model_copy(update={"at": now()}))
        for number in range(5):
            clocks.wall_s += random.choice(JUMPS_S)  # within one
            seconds = random.uniform(1, 50)
            clocks.run(seconds)
            ran_s += seconds
            assert budget.left_s == pytest.approx(10_000.0 - ran_s)
            history.apply(_proposed(f"{session}{number}", now()))
        assert history.active_s == pytest.approx(ran_s)
        assert 0.0 <= study_status(history).used_s == pytest.approx(ran_s)
        if session % 2:
            history.apply(StudyStopped(at=now(), reason="interrupted"))


def test_a_journal_whose_clock_went_back_counts_nothing_twice_and_nothing_negative() -> None:
    first = opened(tiny_study()).model_copy(update={"at": 1_000.0})
    events: list[Event] = [
        first,
        *(_proposed(str(at), at) for at in (1_100.0, 400.0, 1_050.0, 1_200.0)),
    ]
    history = history_of(events)
    assert history.active_s == pytest.approx(200.0)
    history.apply(StudyResumed(at=100.0))
    history.apply(_proposed("x", 130.0))
    assert history.active_s == pytest.approx(230.0)
    assert history.last_at == 130.0


def test_trials_ended_in_the_order_of_the_journal_whatever_the_clock_said() -> None:
    events: list[Event] = [StudyOpened(**opened(tiny_study()).model_dump())]
    events += [_proposed(name, 10.0) for name in "abc"]
    events += [_ended("b", 50.0), _ended("a", 40.0), StudyResumed(at=1.0), _ended("c", 2.0)]
    assert [trial.name for trial in history_of(events).ended] == ["b", "a", "c"]


def _proposed(name: str, at: float) -> TrialProposed:
    return TrialProposed(
        at=at,
        trial=name,
        task="auto_encoder/voice",
        purpose="search",
        configuration={},
        fold=0,
        seed=0,
        key="0" * 64,
    )


def _ended(name: str, at: float) -> TrialEnded:
    return TrialEnded(
        at=at,
        trial=name,
        reason="max_epochs",
        devel=0.0,
        best_epoch=1,
        epochs=1,
        cpu_s=1.0,
        wall_s=1.0,
    )
