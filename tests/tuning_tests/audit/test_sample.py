"""Which stopped trials are drawn."""

from __future__ import annotations

from pathlib import Path

from tuning.audit.sample import draw_sample, split_search_trials
from tuning.journal.history import read_history


def test_a_sample_is_spread_over_tasks_and_a_larger_one_contains_it(finished_study: Path) -> None:
    tasks = split_search_trials(read_history(finished_study))
    stopped = {trials.task: trials.stopped for trials in tasks}
    num_stopped = sum(len(trials) for trials in stopped.values())

    every_trial = draw_sample(stopped, 1000, seed=0)
    assert len(every_trial) == num_stopped
    assert len({trial.name for trial in every_trial}) == num_stopped

    first_of_each_task = every_trial[: len(stopped)]
    assert {trial.task for trial in first_of_each_task} == set(stopped)
    assert draw_sample(stopped, 3, seed=0) == every_trial[:3]
    assert draw_sample(stopped, 1000, seed=1) != every_trial
