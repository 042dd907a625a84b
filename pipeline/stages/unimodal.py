"""Stage 2: a target from the features and the difficulty of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.errors import InputError
from pipeline.preprocessing.timing import Timing
from pipeline.spec import Spec, StageName
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.task import Task, UpstreamOutputs, raw_inputs
from pipeline.stages.trained_stage import Columns, TrainedStage, mean_prediction


class UnimodalTask(Task):
    """Predict a target from one modality."""

    stage: ClassVar[StageName] = "unimodal"

    @property
    def title(self) -> str:
        """Return such as "head to arousal"."""
        return f"{self.modality} to {self.target}"

    def upstream_tasks(self, modalities: Sequence[str]) -> tuple[Task, ...]:
        """Return the auto-encoder of its modality."""
        return (AutoEncoderTask(self.modality),)

    def predict(
        self,
        models: Sequence[TrainedStage],
        sessions: Sequence[Session],
        upstream: UpstreamOutputs,
        device: str = "cpu",
    ) -> list[NDArray[np.float32]]:
        """Return the mean prediction for every frame: see `unimodal_predictions`."""
        return unimodal_predictions(models, sessions, self.modality, upstream.difficulty, device)

    def timing(self, spec: Spec, frame_period_ms: float) -> Timing:
        """Return delay, context and resampling in frames, each rounded to whole ones.

        Raises:
            InputError: a context window of fewer than two frames, or frames of the regressor that
                are shorter than the corpus's.
        """
        settings = spec.unimodal
        context = [frames_in(window, frame_period_ms) for window in settings.context_windows_s]
        resample = frames_in(settings.resample_s, frame_period_ms)

        period = f"the corpus has a frame every {frame_period_ms:g} ms"
        if context and min(context) < 2:
            raise InputError(
                f"unimodal.context_s has a window of {settings.context_windows_s[0]:g} s, and "
                f"{period}: a slope needs two frames. Take a longer window."
            )
        if settings.resample_s and not resample:
            raise InputError(
                f"unimodal.resample_s is {settings.resample_s:g} s, and {period}: a regressor "
                "cannot work at shorter ones. Take a longer period, or 0 for the corpus's."
            )

        return Timing(
            delay_frames=frames_in(settings.target_delay_s(self.target), frame_period_ms),
            context_frames=tuple(sorted(set(context))),
            is_context_centred=bool(context) and settings.network.bidirectional,
            resample_frames=max(resample, 1),
        )


def frames_in(seconds: float, frame_period_ms: float) -> int:
    """Return how many frames are nearest to a time."""
    return round(1000 * seconds / frame_period_ms)


def unimodal_predictions(
    models: Sequence[TrainedStage],
    sessions: Sequence[Session],
    modality: str,
    difficulty: Columns | None,
    device: str = "cpu",
) -> list[NDArray[np.float32]]:
    """Return the mean of the models' predictions, in the label's unit.

    Args:
        models: of one modality and target.
        sessions: to predict.
        modality: whose features are read.
        difficulty: of the modality; None where the models read none.
        device: "cpu" or "cuda".

    Returns:
        For each session shape (frames, 1); NaN throughout where the modality is missing from the
        whole session, so that a constant guess does not count in the floors.
    """
    upstream = UpstreamOutputs(difficulty=difficulty)
    inputs = [raw_inputs(session, modality, upstream) for session in sessions]

    predictions = mean_prediction(models, inputs, device)
    return [
        prediction if session.present[modality].any() else np.full_like(prediction, np.nan)
        for session, prediction in zip(sessions, predictions, strict=True)
    ]
