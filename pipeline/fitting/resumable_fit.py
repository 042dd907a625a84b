"""A fit that can be killed at any time: it goes on from its last checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping

from pipeline.corpus import Corpus
from pipeline.fitting.trainer import Trainer
from pipeline.stages.task import SupervisedProblem
from pipeline.stages.trained_stage import Epoch, TrainedStage
from pipeline.storage.stage_store import StageStore

CHECKPOINT_S = 5.0
"""A fit keeps its state after so many seconds at most (and the epoch that is running)."""
CLAIM_S = 3600.0
"""So long a fit waits for another process that trains the same stage."""
TIME_FILE = "time.json"


class ResumableFit:
    """Trains a problem piece by piece, through the store.

    Args:
        problem: what to learn.
        corpus: holds the problem's sessions.
        store: keeps the checkpoints and the trained stage.
        device: "cpu" or "cuda".

    Attributes:
        trainer: as far as it has come.
        stage: the trained stage, once the fit has ended.
        wall_s: seconds spent in this fit, in other processes, too.
    """

    def __init__(
        self, problem: SupervisedProblem, corpus: Corpus, store: StageStore, *, device: str = "cpu"
    ) -> None:
        begin = time.monotonic()
        self.stage: TrainedStage | None = None
        self._store = store
        # Before the checkpoint is read: one that is written meanwhile is another process's.
        self._version = store.version(checkpoint_name(problem.key))

        def resume(files: Mapping[str, bytes]) -> tuple[Trainer, float]:
            """Go on from a checkpoint; return the seconds that were spent until then, too."""
            trainer = Trainer(problem, corpus, device=device)
            trainer.resume(files)
            return trainer, float(json.loads(files[TIME_FILE])["wall_s"])

        resumed = store.read(checkpoint_name(problem.key), resume)
        # What a damaged checkpoint was read into is not used.
        if resumed is None:
            resumed = Trainer(problem, corpus, device=device), 0.0
        self.trainer, self.wall_s = resumed
        self.wall_s += time.monotonic() - begin

    def run(self, on_epoch: Callable[[Epoch], None] | None = None) -> TrainedStage:
        """Train to the end.

        Raises:
            AffectuneError: the loss is not finite, or the store cannot be written.
        """
        while self.stage is None:
            self.advance(on_epoch=on_epoch)
        remove_checkpoint(self._store, self.stage.key)
        return self.stage

    def advance(
        self,
        *,
        rungs: Collection[int] = (),
        max_s: float = CHECKPOINT_S,
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> None:
        """Train until the next rung, the end, or for some seconds; then write what was learned.

        Args:
            rungs: numbers of epochs after which to stop.
            max_s: seconds after which to stop, once the running epoch has ended.
            on_epoch: called after every epoch.

        Raises:
            AffectuneError: the loss is not finite, or the store cannot be written.
        """
        begin = time.monotonic()
        try:
            self._train_epochs(rungs, begin + max_s, on_epoch)
            if self.trainer.is_done:
                stage = self.trainer.trained_stage()
                self._store.put(stage)
                self.stage = stage
        finally:
            # A piece that fails has taken its time, too.
            self.wall_s += time.monotonic() - begin

        if not self.trainer.is_done:
            self._write_checkpoint()

    def _train_epochs(
        self, rungs: Collection[int], until: float, on_epoch: Callable[[Epoch], None] | None
    ) -> None:
        """Train until a rung, the end, or the first epoch that ends after a moment."""
        while not self.trainer.is_done:
            epoch = self.trainer.train_epoch()
            if on_epoch:
                on_epoch(epoch)
            if epoch.epoch in rungs or time.monotonic() > until:
                break

    def _write_checkpoint(self) -> None:
        files = self.trainer.checkpoint()
        files[TIME_FILE] = json.dumps({"wall_s": self.wall_s}).encode()
        name = checkpoint_name(self.trainer.problem.key)
        self._version = self._store.write(name, files)

    def is_overtaken(self) -> bool:
        """Return whether another process has gone on with the fit since this one did, or ended it.

        Raises:
            SurroundingsError: the store does not tell.
        """
        key = self.trainer.problem.key
        there = self._store.version(checkpoint_name(key))
        if there == self._version:
            return False
        return there is not None or self._store.get(key) is not None


def checkpoint_name(key: str) -> str:
    """Return the store's name for the state of a fit that has not ended."""
    return f"{key}-checkpoint"


def remove_checkpoint(store: StageStore, key: str) -> None:
    """Remove the state of a fit that nobody will go on with."""
    store.remove(checkpoint_name(key))
