"""What a training or a study tells while it runs: one `Progress` per epoch and per fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from pipeline.fitting.worker_pool import FitProgress


@dataclass(frozen=True)
class Progress:
    """A step of a training or a study. Printed, it is a line: `on_progress=print` shows them all.

    Attributes:
        done: fits that have ended.
        total: fits that there will be, as far as is known now.
        fit: the one that has come further, such as "voice to arousal, fold 2".
        epoch: the one that it has passed; None where it has ended.
        score: on devel, of this epoch, or of the fit's best one: a CCC, or minus the
            reconstruction error; None where there is none.
    """

    done: int
    total: int
    fit: str
    epoch: int | None = None
    score: float | None = None

    def __str__(self) -> str:
        """Return such as "12 of 30 fits: voice to arousal, fold 2, epoch 7, 0.512"."""
        step = "done" if self.epoch is None else f"epoch {self.epoch}"
        score = "" if self.score is None else f", {self.score:.3f}"
        return f"{self.done} of {self.total} fits: {self.fit}, {step}{score}"


OnProgress = Callable[[Progress], object]


class FitCounter:
    """Counts what a worker pool tells, and passes it on; the pool's `on_progress`.

    Args:
        total: fits that there will be.
        on_progress: gets each step, one at a time, from several threads.
    """

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self._total, self._on_progress = total, on_progress
        self._done = 0
        self._lock = Lock()

    def __call__(self, step: FitProgress) -> None:
        """Take a step into account, and tell of it."""
        with self._lock:
            epoch = score = None
            if step.epoch is not None:
                epoch, score = step.epoch.epoch, step.epoch.score
            elif step.stage is not None:
                self._done, score = self._done + 1, step.stage.score
            self._on_progress(Progress(self._done, self._total, step.problem.name, epoch, score))
