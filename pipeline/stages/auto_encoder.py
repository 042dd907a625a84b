"""Stage 1: rebuild a feature set. The reconstruction error says how difficult a frame is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.spec import StageName
from pipeline.stages.difficulty import reconstruction_errors
from pipeline.stages.task import Task, UpstreamOutputs
from pipeline.stages.trained_stage import TrainedStage


class AutoEncoderTask(Task):
    """Rebuild the feature set of a modality from itself."""

    stage: ClassVar[StageName] = "auto_encoder"

    @property
    def title(self) -> str:
        """Return such as "auto-encoder head"."""
        return f"auto-encoder {self.modality}"

    def upstream_tasks(self, modalities: Sequence[str]) -> tuple[Task, ...]:
        """Return nothing: it reads features alone."""
        return ()

    def predict(
        self,
        models: Sequence[TrainedStage],
        sessions: Sequence[Session],
        upstream: UpstreamOutputs,
        device: str = "cpu",
    ) -> list[NDArray[np.float32]]:
        """Return the reconstruction error of every frame: see `reconstruction_errors`."""
        return reconstruction_errors(models, sessions, self.modality, device)
