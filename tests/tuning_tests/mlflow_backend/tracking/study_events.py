"""Events of a small study, written to its journal."""

from __future__ import annotations

from pathlib import Path

from tuning.journal.events import (
    Event,
    Finalist,
    Member,
    Reason,
    StudyOpened,
    TrialEnded,
    TrialProgressed,
    TrialProposed,
)
from tuning.journal.file import JOURNAL, Journal

TASK = "unimodal/head/arousal"


def study_opened(name: str = "tracked", at: float = 1000.0) -> StudyOpened:
    """Return the opening of a study."""
    unimodal = {"trials": 4, "space": {"x": {"choice": [1]}}}
    return StudyOpened(
        at=at,
        study={"name": name, "folds": 3, "search": {"unimodal": unimodal}},
        digest="d" * 64,
        corpus={
            "name": "tiny",
            "path": "/corpus",
            "digest": "c" * 64,
            "sessions": {},
            "subjects": {},
        },
        folds=("fold 1", "fold 2", "fold 3"),
        versions={"torch": "2.13.0"},
        git_commit="abc123",
    )


def trial_proposed(number: int, task: str = TASK) -> TrialProposed:
    """Return the proposal of a trial."""
    return TrialProposed(
        at=1001.0 + number,
        trial=f"{number:04d}",
        task=task,
        purpose="search",
        configuration={
            "fit.learning_rate": 0.1 + number,
            "network.cell": "gru",
            "unimodal.the (odd) one": 2,
        },
        fold=0,
        seed=7,
        key=f"key {number}",
    )


def trial_progressed(number: int, *epochs: int) -> TrialProgressed:
    """Return the progress of a trial; the devel score of an epoch is a hundredth of its number."""
    return TrialProgressed(
        at=1100.0 + epochs[-1],
        trial=f"{number:04d}",
        epochs=tuple((epoch, 1 / epoch, epoch / 100) for epoch in epochs),
        cpu_s=epochs[-1],
        wall_s=epochs[-1],
    )


def trial_ended(number: int, reason: Reason) -> TrialEnded:
    """Return the end of a trial after four epochs."""
    has_failed = reason == "error"
    return TrialEnded(
        at=1200.0 + number,
        trial=f"{number:04d}",
        reason=reason,
        devel=None if has_failed else 0.5,
        best_epoch=2,
        epochs=4,
        cpu_s=4,
        wall_s=4,
        held_out=None if has_failed else 0.25,
        deciding=None if has_failed else 0.375,
        error="loss is not finite" if has_failed else None,
    )


def whole_trial(number: int, reason: Reason, task: str = TASK) -> list[Event]:
    """Return all events of a trial of four epochs."""
    return [
        trial_proposed(number, task),
        trial_progressed(number, 1, 2),
        trial_progressed(number, 3, 4),
        trial_ended(number, reason),
    ]


def finalist() -> Finalist:
    """Return a finalist of two seeds: an ensemble of one member and another twice."""
    counts = {1: 1, 2: 2}
    return Finalist(
        configuration={"a": 1},
        keys=(("k", "l"),),
        deciding=(0.4, 0.6),
        devel=(0.5, 0.7),
        out_of_fold=(0.3, None),
        upstream_ranks={},
        members=tuple(
            Member(configuration={"a": value}, upstream_ranks={}, count=count)
            for value, count in counts.items()
        ),
    )


def append(folder: Path, *events: Event) -> None:
    """Append events to the journal of the study in a folder."""
    with Journal(folder / JOURNAL) as journal:
        journal.append(*events)
