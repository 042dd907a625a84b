"""Which trials of a study left stages that something may still read: no others are needed."""

from __future__ import annotations

from tuning.journal.history import History, Trial


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
