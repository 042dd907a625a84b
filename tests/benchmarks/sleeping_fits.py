"""Makes the fits of a worker last by sleeping, so that one machine can have many workers."""

from __future__ import annotations

import os
import time

from pipeline.fitting.trainer import Trainer
from pipeline.stages.trained_stage import Epoch

EPOCH_S = "AFFECTUNE_BENCH_EPOCH_S"
"""Variable with the seconds that an epoch sleeps."""


def sleep_before_epochs() -> None:
    """Have every epoch of this process begin with a sleep; Ray calls it in every worker."""
    train_epoch = Trainer.train_epoch

    def sleep(trainer: Trainer) -> Epoch:
        time.sleep(float(os.environ[EPOCH_S]))
        return train_epoch(trainer)

    Trainer.train_epoch = sleep  # type: ignore[method-assign, assignment]
