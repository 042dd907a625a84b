"""Trained stages that a study's journal tells of, and its store has lost: they are trained again.

The same problem gives the same stage, so whatever was learned from a lost one fits what takes its
place. Nothing of it is written into the journal: the study has decided with its scores before.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from pipeline.errors import AffectuneError
from pipeline.spec import StageName
from pipeline.storage.stage_store import StageStore
from tuning.fitting.held_out_predictions import held_out_name, read_trained
from tuning.fitting.lost_stage import StageLost
from tuning.journal.history import History, Trial

log = logging.getLogger(__name__)

ORDER: tuple[StageName, ...] = ("auto_encoder", "unimodal", "fusion")
"""What reads from what: a lost stage is trained again after those that it may read."""
NUM_READERS = 8
MAX_TIMES = 3
"""A stage is trained again so many times; a store that loses it once more keeps nothing."""


class LostStages:
    """The lost stages of a study that are still to be trained again.

    Args:
        store: of the study.
        history: of the study, kept up to date by its owner.

    Attributes:
        trials: those that trained them, by name.
    """

    def __init__(self, store: StageStore, history: History) -> None:
        self.trials: dict[str, Trial] = {}
        self._store, self._history = store, history
        self._times: Counter[str] = Counter()

    def find(self, cause: StageLost | None = None) -> None:
        """Look for all lost stages that the study still needs.

        Args:
            cause: tells of one that is lost; None: the store is only looked through.

        Raises:
            StageLost: that one was trained by no trial of the study.
            AffectuneError: a stage is lost again and again.
        """
        # Of a task that has no winner yet, once one of all is known to be lost.
        complete = needed_trials(self._history, with_open_tasks=cause is not None)
        needed = [trial for trial in complete if trial.name not in self.trials]
        with ThreadPoolExecutor(NUM_READERS) as readers:  # an object store takes its time
            are_there = list(readers.map(self._is_there, needed))
        lost = [
            trial
            for trial, is_there in zip(needed, are_there, strict=True)
            if not is_there or (cause is not None and trial.proposed.key == cause.key)
        ]
        if cause and cause.key not in {
            each.proposed.key for each in (*lost, *self.trials.values())
        }:
            raise cause

        for trial in lost:
            self._times[trial.name] += 1
            if self._times[trial.name] > MAX_TIMES:
                raise AffectuneError(
                    f"The store has lost the stage {trial.proposed.key[:12]} again and again. Is "
                    "something removing its files? Run the study with --resume once that is over."
                )
            # Whatever is left of what it outputs is not whole.
            self._store.remove(held_out_name(trial.proposed.key))
            self.trials[trial.name] = trial
        if lost:
            log.warning(
                "The store lacks %d trained stages that the study needs, or they are damaged: "
                "they are trained again. No result changes by that.",
                len(lost),
            )

    def next(self, running: Collection[str]) -> Trial | None:
        """Return a trial whose stage is to be trained now; None where others come first."""
        for stage in ORDER:
            trials = [trial for trial in self.trials.values() if trial.task.stage == stage]
            if trials:
                return next((trial for trial in trials if trial.name not in running), None)
        return None

    def _is_there(self, trial: Trial) -> bool:
        return read_trained(self._store, trial.proposed.key) is not None


def needed_trials(history: History, *, with_open_tasks: bool) -> list[Trial]:
    """Return the complete trials whose stages something may still read, one for each key.

    They are those of finalists, comparisons and defaults.

    Args:
        history: of the study.
        with_open_tasks: also those of the tasks that have no winner yet: any may become one.
    """
    finalists = {
        key
        for finalists in history.completed.values()
        for finalist in finalists
        for keys in finalist.keys
        for key in keys
    }
    by_key: dict[str, Trial] = {}
    for trial in history.trials.values():
        is_open = with_open_tasks and trial.task not in history.completed
        is_compared = trial.proposed.purpose in ("comparison", "default")
        is_needed = is_open or is_compared or trial.proposed.key in finalists
        if trial.is_complete and is_needed:
            by_key.setdefault(trial.proposed.key, trial)
    return list(by_key.values())
