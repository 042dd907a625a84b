"""Which trial Ray Tune starts next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from ray.tune.experiment import Trial

from tuning.ray_backend.tune_adapters import PlannerScheduler


def chosen(trials: dict[int, str], workers: int) -> int | None:
    """The number of the trial that a scheduler chooses; trials: number -> status."""
    live = [
        SimpleNamespace(config={"trial": f"{number:04d}"}, status=status)
        for number, status in trials.items()
    ]
    scheduler = PlannerScheduler(cast(Any, None), lambda: workers, cast(Any, None), alike=True)
    trial = scheduler.choose_trial_to_run(cast(Any, SimpleNamespace(get_live_trials=lambda: live)))
    return None if trial is None else int(trial.config["trial"])


def test_a_free_worker_takes_the_trial_that_waits_longest() -> None:
    trials = {9_998: Trial.RUNNING, 9_999: Trial.PENDING, 10_000: Trial.PENDING}
    assert chosen(trials, workers=2) == 9_999


def test_a_free_worker_leaves_a_trial_for_which_another_worker_is_being_started() -> None:
    trials = {
        2: Trial.PENDING,
        3: Trial.PENDING,
    }  # the first worker has just ended trial 1; another one starts for 2
    assert chosen(trials, workers=2) == 3


def test_where_nothing_waits_nothing_is_chosen() -> None:
    assert chosen({1: Trial.RUNNING}, workers=2) is None
