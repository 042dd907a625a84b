"""Which trial Ray Tune starts next, and what it makes of a report."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict

from pipeline.stages.trained_stage import Epoch
from tuning.fitting.scoring import FitScores
from tuning.fitting.trial_fit import FitReport
from tuning.ray_backend.tune_adapters import PlannerScheduler
from tuning.ray_backend.tune_run import object_store_keys


def next_trial(statuses: Mapping[int, str], workers: int) -> int | None:
    """Return the number of the trial that the scheduler starts.

    Args:
        statuses: number of a live trial -> its status.
        workers: fits at a time.
    """
    trials = [
        SimpleNamespace(config={"trial": f"{number:04d}"}, status=status)
        for number, status in statuses.items()
    ]
    controller = SimpleNamespace(get_live_trials=lambda: trials)
    scheduler = PlannerScheduler(
        cast(Any, None), lambda: workers, cast(Any, None), has_equal_resources=True
    )
    trial = scheduler.choose_trial_to_run(cast(Any, controller))
    return None if trial is None else int(trial.config["trial"])


def test_a_free_worker_takes_the_trial_that_waits_longest() -> None:
    statuses = {9_998: Trial.RUNNING, 9_999: Trial.PENDING, 10_000: Trial.PENDING}
    assert next_trial(statuses, workers=2) == 9_999


def test_a_free_worker_leaves_a_trial_for_which_another_worker_is_being_started() -> None:
    # The first worker has just ended trial 1; another one starts for trial 2.
    statuses = {2: Trial.PENDING, 3: Trial.PENDING}
    assert next_trial(statuses, workers=2) == 3


def test_where_nothing_waits_no_trial_is_started() -> None:
    assert next_trial({1: Trial.RUNNING}, workers=2) is None


def test_a_report_that_tune_has_flattened_is_the_same() -> None:
    report = FitReport(
        epochs=(Epoch(1, 0.9, 0.1), Epoch(2, 0.8, 0.2)),
        cpu_s=2.0,
        wall_s=3.0,
        end_reason="patience",
        devel=0.2,
        best_epoch=2,
        scores=FitScores(held_out=0.1, deciding=0.15),
    )
    for sent in (report, FitReport(), FitReport(end_reason="error", error="out of memory")):
        assert FitReport.from_result(flatten_dict(sent.to_result())) == sent


def test_tune_hands_no_keys_to_workers_by_their_logged_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "pear7grape")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "plum8fig")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    keys = object_store_keys()
    assert keys == {"AWS_SECRET_ACCESS_KEY": "pear7grape", "AWS_SESSION_TOKEN": "plum8fig"}
    assert [name for name in class_cache.ENV_VARS_TO_PROPAGATE if "AWS" in name] == []
