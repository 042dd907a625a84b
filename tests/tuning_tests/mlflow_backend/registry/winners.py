"""Studies that never ran, whose winner is registered, and comparisons that never were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import Score
from tests.pipeline_tests.corpora import tiny_session
from tuning.journal.events import StudyFinished, StudyOpened, TrialProposed
from tuning.journal.history import History, history_of
from tuning.mlflow_backend.registry.comparison import Comparison
from tuning.mlflow_backend.registry.registration import register

SEARCH = {"trials": 1, "finalists": 1, "space": {"difficulty": {"choice": [True]}}}
SCORES = {
    "arousal": {
        f"{part}ccc{limit}": value
        for part in ("", "between_", "within_")
        for limit, value in (("", 0.5), ("_low", 0.25), ("_high", None))
    }
}

DISTILLATION = {
    "targets": {
        "arousal": {
            "teacher": {"ccc": 0.502, "ccc_low": 0.3, "ccc_high": 0.7},
            "student": SCORES["arousal"],
            "difference": {"ccc": -0.002, "ccc_low": -0.01, "ccc_high": None},
        }
    }
}
SUMMARY = {
    "targets": SCORES,
    "inference": "distilled from ensemble of 5 folds x 2 seeds",
    "distillation": DISTILLATION,
}


def example_features() -> Mapping[str, NDArray[np.float32]]:
    """Return the features of one devel session."""
    return tiny_session("d0", "d0", "devel", seed=100).features


def study_opened(digest: str = "d" * 64) -> StudyOpened:
    """Return the opening of a study."""
    return StudyOpened(
        at=1000.0,
        study={"name": "registered", "search": {"fusion": SEARCH}},
        digest=digest,
        corpus={"name": "tiny", "path": "/corpora/tiny", "digest": "c" * 64},
        folds=("fold 1",),
        versions={},
        git_commit="abc123",
    )


def finished_study(digest: str = "d" * 64, *, key: str = "none") -> History:
    """Return a finished study whose one trial trained the stage with this key."""
    proposed = TrialProposed(
        at=1001.0,
        trial="0001",
        task="fusion/arousal",
        purpose="search",
        configuration={},
        fold=0,
        seed=0,
        key=key,
    )
    finished = StudyFinished(at=1002.0, summary=SUMMARY)
    return history_of([study_opened(digest), proposed, finished])


def register_winner(bundle: Path, uri: str, digest: str = "d", **options: Any) -> str:
    """Register a bundle as the winner of a study; return the version.

    Args:
        bundle: of the winner.
        uri: of the registry.
        digest: one character, from which the study's digest is made.
        options: of `register`.
    """
    study = finished_study(digest * 64)
    _, version = register(bundle, study, uri, example=example_features(), **options)
    return version


def comparison(mean: float, targets: Sequence[str] = ("arousal",)) -> Comparison:
    """Return a comparison of targets whose differences are the mean."""
    difference = Score(mean, mean - 0.1, mean + 0.1)
    differences = dict.fromkeys(targets, difference)
    return Comparison(differences, difference, num_subjects=3, missing_targets=())
