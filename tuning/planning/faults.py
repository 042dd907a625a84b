"""Faults of the surroundings that trials ran into: who tries again, and when a study gives up.

Such a fault is no trial's: nothing of it is written into the journal. The trial is handed out
again, to another worker if one is free, because the worker that met the fault waits. The study ends
once a trial has met faults again and again for some time.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from pipeline.stages.task import Task

log = logging.getLogger(__name__)

MAX_FAULTS, MIN_FAULTS_S = 6, 30.0
"""A trial is given up after so many faults, once so many seconds have passed since its first one.

A worker waits between its own: see `pause_s`."""
SAID_S = 60.0
"""A disk with room for some files only lets faults come and go: one is told in so many seconds."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0


def pause_s(num_faults: int) -> float:
    """Return for how long a worker waits after so many faults in a row: 1, 2, 4, 8, 15 s."""
    return float(min(FIRST_PAUSE_S * 2.0 ** min(num_faults - 1, 10), LONGEST_PAUSE_S))


class Faults:
    """The faults of a study's trials, since this process began with it.

    Args:
        seconds: tells the time; not that of the wall clock.

    Attributes:
        trials: names of those that have met a fault and not reported anything better since.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self.trials: dict[str, float] = {}
        self._seconds = seconds
        self._num_faults: Counter[str] = Counter()
        self._said_at = float("-inf")

    def add(self, trial: str, task: Task, cause: str) -> bool:
        """Take a fault into account.

        Args:
            trial: its name.
            task: what it is a fit of.
            cause: in whole sentences.

        Returns:
            Whether the trial is to be tried again.
        """
        if not self.trials and self._seconds() - self._said_at >= SAID_S:
            log.warning("%s The study waits, and tries trial %s of %s again.", cause, trial, task)
            self._said_at = self._seconds()
        first_at = self.trials.setdefault(trial, self._seconds())
        self._num_faults[trial] += 1
        is_long = self._seconds() - first_at >= MIN_FAULTS_S
        return self._num_faults[trial] < MAX_FAULTS or not is_long

    def clear(self, trial: str) -> None:
        """Forget the faults of a trial that has reported something better."""
        if self.trials.pop(trial, None) is not None:
            del self._num_faults[trial]
