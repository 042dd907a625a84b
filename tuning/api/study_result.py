"""A study for Python programs: its winner, its scores, its trials as a table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.api.python_errors import in_python
from pipeline.api.scoring import Scores
from pipeline.corpus import Corpus
from pipeline.display.picture import Picture
from pipeline.display.short_repr import short_repr
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.plots import PlotKind
from pipeline.model.bundle import load_model
from pipeline.model.fused_model import FusedModel
from pipeline.shell_command import near_path
from tuning.journal.history import History, Trial, read_history
from tuning.planning.judgement import verdict
from tuning.report.page import REPORT
from tuning.spec.space import Value
from tuning.study.run import read_corpus_of
from tuning.study.study_folder import MODEL_FOLDER

STATES = {"asha": "stopped", "budget": "cut", "error": "failed"}
"""Reason of an end -> what a trial is then; with any other reason it is complete."""


class StudyResult:
    """A study in its folder, as `run_study` and `load_study` return it.

    Example:
        >>> result = affectune.load_study("studies/demo")  # doctest: +SKIP
        >>> result.scores["arousal"].fusion.ccc  # doctest: +SKIP
        >>> result.model.predict({"voice": voice, "face": face})  # doctest: +SKIP
        >>> result.to_frame().sort_values("deciding")  # doctest: +SKIP
        >>> affectune.load(result.registered)  # doctest: +SKIP

    Attributes:
        folder: of the study.
        name: of the study.
        is_finished: whether there is a winner.
    """

    def __init__(self, folder: Path, history: History, corpus: Corpus | None = None) -> None:
        self.folder = folder
        self.name: str = history.study.name
        self.is_finished = history.finished is not None
        self._history, self._corpus = history, corpus

    def __repr__(self) -> str:
        return short_repr(
            self,
            name=self.name,
            trials=len(self._history.trials),
            is_finished=self.is_finished,
            registered=self.registered,
            folder=near_path(self.folder),
        )

    @cached_property
    def model(self) -> FusedModel:
        """The winner: the fused model that was registered.

        Raises:
            InputError: the study is not finished.
        """
        self._raise_if_unfinished()
        return load_model(self.folder / MODEL_FOLDER)

    @cached_property
    def scores(self) -> Scores:
        """How good the winner is on devel, with intervals and floors.

        Raises:
            InputError: the study is not finished, or the corpus is not where it was.
        """
        if self._corpus is None:
            self._raise_if_unfinished()
            self._corpus = read_corpus_of(self._history, self.model)
        return Scores(evaluate(self.model, self._corpus, "devel"))

    @property
    def settings(self) -> dict[str, dict[str, Value]]:
        """The settings that won: task, such as "unimodal/voice/arousal" -> path -> value.

        They are what the search chose; all else is as in the study. Of an ensemble they are those
        of its first member. A task that is not completed is absent.
        """
        return {
            str(task): dict(finalists[0].configuration)
            for task, finalists in self._history.completed.items()
        }

    @property
    def verdicts(self) -> dict[str, str]:
        """Target -> what is registered for it, and what that is no better than, in a sentence."""
        judged = self._history.judged
        if judged is None:
            return {}
        return {target: verdict(target, judgement) for target, judgement in judged.targets.items()}

    @property
    def summary(self) -> Mapping[str, Any]:
        """What summary.json holds: scores, and what the search took; {} before the end."""
        return {} if self._history.finished is None else self._history.finished.summary

    @property
    def report(self) -> Path | None:
        """The HTML report; None where there is none yet."""
        path = self.folder / REPORT
        return path if path.is_file() else None

    @property
    def registered(self) -> str | None:
        """The registered version, such as "models:/affectune/3", for `load`; None before it."""
        version = self._history.registered
        return None if version is None else f"models:/{version.model}/{version.version}"

    def to_frame(self) -> pd.DataFrame:
        """Return the trials as a table: each is one fit.

        Returns:
            Its index is "trial". Columns: "task", "stage", "modality", "target", "purpose", "fold",
            "seed", "state" ("complete", "stopped" by early stopping, "cut" by the time budget,
            "failed" or "running"), "epochs", "devel", "held_out" and "deciding" (CCCs, or minus
            the reconstruction error), "seconds", and one column for each setting that was searched,
            such as "fit.learning_rate".
        """
        rows = {name: _row(trial) for name, trial in self._history.trials.items()}
        frame = pd.DataFrame.from_dict(rows, orient="index")
        frame.index.name = "trial"
        return frame

    def plot(self, kind: PlotKind = "ccc") -> Picture:
        """Draw the winner's scores on devel: see `Scores.plot`."""
        return self.scores.plot(kind)

    def _raise_if_unfinished(self) -> None:
        if not self.is_finished:
            raise InputError(
                f"The study in '{self.folder}' is not finished: it has no winner yet. "
                "run_study with resume=True goes on with it."
            )


@in_python
def load_study(folder: Path | str) -> StudyResult:
    """Open a study in its folder, in any state; nothing is run.

    Args:
        folder: what `run_study` or `affectune study run` wrote.

    Raises:
        InputError: it holds no study.

    Example:
        >>> affectune.load_study("studies/demo").to_frame()  # doctest: +SKIP
    """
    path = Path(folder).absolute()
    return StudyResult(path, read_history(path))


def _row(trial: Trial) -> dict[str, object]:
    ended, proposed, task = trial.ended, trial.proposed, trial.task
    state = "running" if ended is None else STATES.get(ended.reason, "complete")
    return {
        "task": proposed.task,
        "stage": task.stage,
        "modality": task.modality,
        "target": task.target,
        "purpose": proposed.purpose,
        "fold": proposed.fold,
        "seed": proposed.seed,
        "state": state,
        "epochs": len(trial.epochs) if ended is None else ended.epochs,
        "devel": trial.best_devel,
        "held_out": None if ended is None else ended.held_out,
        "deciding": None if ended is None else ended.deciding,
        "seconds": trial.wall_s,
        **proposed.configuration,
    }
