"""One loaded model and its answers: validates a session against it, predicts, and says what to doubt. Knows no HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.model.fused_model import CARD, Difficulty, FusedModel
from pipeline.preprocessing.normalisation import CLIP, Normalisation
from pipeline.storage.atomic_folder import read_folder
from serving.chunking import predict_long
from serving.request_error import unfit
from serving.schema import Answer, FeatureSet, Notice, SessionFeatures, check_size, shown
from serving.settings import Limits

FARTHEST_MS = 2.0**53  # beyond it a float no longer counts single milliseconds
RATE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Predictor:
    """A model that answers.

    Attributes:
        model: without what only an evaluation needs.
        name, version: what every response says of it.
        ccc: target -> CCC on devel, where the bundle says it.
        card: the model card, Markdown.
    """

    model: FusedModel
    name: str
    version: str
    ccc: dict[str, float | None]
    card: str
    limits: Limits

    @classmethod
    def load(cls, folder: Path, name: str, version: str, limits: Limits) -> Predictor:
        """Load a bundle, every hash verified.

        Raises:
            InputError: it is not a bundle, or it was changed.
        """
        # The fusion without difficulties is for comparison alone: predicting it, too, would take a sixth longer.
        model = replace(FusedModel.load(folder), fusions_without_difficulty={})
        files = read_folder(folder)
        return cls(
            model,
            name,
            version,
            _devel_ccc(files, model.targets),
            files.get(CARD, b"").decode(),
            limits,
        )

    def describe(self) -> dict[str, Any]:
        """What `GET /v1/model` says."""
        return {
            "name": self.name,
            "version": self.version,
            "targets": list(self.model.targets),
            "features": {
                modality: list(columns) for modality, columns in self.model.columns.items()
            },
            "frame_rate_hz": 1000 / self.model.frame_period_ms,
            "ccc": self.ccc,
            "limits": {name: getattr(self.limits, name) for name in Limits.model_fields},
            "card": self.card,
        }

    def answer(self, sent: SessionFeatures) -> Answer:
        """Predict one session.

        Raises:
            Refusal: it does not fit the model.
        """
        frames = self._frames(sent)
        timestamps, warnings = self._timestamps(sent, frames)
        features = {}
        for modality in self.model.modalities:
            if modality in sent.sets:
                features[modality], found = self._values(modality, sent.sets[modality])
                warnings += found
            else:
                warnings.append(_absent(modality, "The feature set is missing"))
        if not any(np.isfinite(values).any() for values in features.values()):
            raise unfit("no_features", "No feature set has a number.", "features")
        if frames > self.limits.whole_frames:
            warnings.append(
                Notice(
                    code="chunked",
                    message=f"Longer than {self.limits.whole_frames} frames: predicted in overlapping chunks that "
                    "cross-fade linearly.",
                    where="",
                )
            )
        try:
            said = predict_long(
                self.model,
                features,
                timestamps,
                self.limits.whole_frames,
                self.limits.overlap_frames,
            )
        except InputError as error:  # a check of the pipeline's that has no twin here
            raise unfit("does_not_fit", str(error)) from error
        for modality in features:
            warnings += self._doubts(modality, said.difficulty[modality])
        return Answer(
            session_id=sent.session_id,
            name=self.name,
            version=self.version,
            timestamps_ms=timestamps,
            predictions=said.values,
            difficulty={
                modality: {"error": hard.error, "percentile": hard.percentile}
                for modality, hard in said.difficulty.items()
            },
            warnings=tuple(warnings),
        )

    def _frames(self, sent: SessionFeatures) -> int:
        """How many frames all feature sets have."""
        unknown = [name for name in sent.sets if name not in self.model.columns]
        known = ", ".join(self.model.columns)
        if unknown:
            raise unfit(
                "unknown_feature_set", f"The model reads {known}.", f"features.{shown(unknown[0])}"
            )
        if not sent.sets:
            raise unfit(
                "no_features", f"No feature set was sent; the model reads {known}.", "features"
            )
        lengths = {name: len(feature_set.values) for name, feature_set in sent.sets.items()}
        frames = next(iter(lengths.values()))
        for name, length in lengths.items():
            check_size(length, len(sent.sets[name].columns), f"features.{name}", self.limits)
            if length != frames:
                raise unfit(
                    "unequal_frames",
                    f"{length} frames here, {frames} in {next(iter(lengths))!r}; every feature set must have the same.",
                    f"features.{name}",
                )
        if frames < 2:
            raise unfit("too_few_frames", f"{frames} frames; a session has at least 2.", "features")
        return frames

    def _timestamps(
        self, sent: SessionFeatures, frames: int
    ) -> tuple[NDArray[np.int64], list[Notice]]:
        period_ms = self.model.frame_period_ms
        if sent.timestamps_ms is None:
            return np.round(np.arange(frames) * period_ms).astype(np.int64), []
        where = "timestamps_ms"
        if len(sent.timestamps_ms) != frames:
            raise unfit(
                "wrong_timestamps",
                f"{len(sent.timestamps_ms)} timestamps for {frames} frames.",
                where,
            )
        if not np.all(np.abs(sent.timestamps_ms) <= FARTHEST_MS):
            raise unfit("wrong_timestamps", "A timestamp is not a number of milliseconds.", where)
        timestamps = np.round(sent.timestamps_ms).astype(np.int64)
        steps = np.diff(timestamps)
        if steps.min() <= 0:
            place = int(np.argmax(steps <= 0)) + 1
            raise unfit("timestamps_descend", "Timestamps must ascend.", f"{where}[{place}]")
        step_ms = float(np.median(steps))
        if abs(step_ms / period_ms - 1) > RATE_TOLERANCE:
            raise unfit(
                "wrong_rate",
                f"A frame every {step_ms:g} ms; the model learned from one every {period_ms:g} ms.",
                where,
            )
        gaps = int((steps > 1.5 * period_ms).sum())
        message = f"{gaps} gaps between frames; the model takes frames as {period_ms:g} ms apart."
        return timestamps, [Notice(code="gaps", message=message, where=where)] if gaps else []

    def _values(self, modality: str, sent: FeatureSet) -> tuple[NDArray[np.float32], list[Notice]]:
        """The model's columns in the model's order, and what is odd about them."""
        where = f"features.{modality}"
        place = {name: index for index, name in enumerate(sent.columns)}
        if len(place) != len(sent.columns):
            raise unfit("repeated_columns", "A column name occurs twice.", f"{where}.columns")
        columns = self.model.columns[modality]
        lacking = [name for name in columns if name not in place]
        if lacking:
            raise unfit(
                "missing_columns",
                f"{len(lacking)} of the model's {len(columns)} columns are missing, first {lacking[0]!r}.",
                f"{where}.columns",
            )
        with np.errstate(over="ignore"):
            values = sent.values[:, [place[name] for name in columns]].astype(np.float32)
        if np.isinf(values).any():
            raise unfit("not_finite", "A number is too large for 32 bits.", where)
        warnings = []
        if extra := len(place) - len(columns):
            message = f"{extra} columns that the model does not read were ignored."
            warnings.append(Notice(code="extra_columns", message=message, where=f"{where}.columns"))
        return values, warnings + self._oddities(modality, values, where)

    def _oddities(self, modality: str, values: NDArray[np.float32], where: str) -> list[Notice]:
        """Missing frames and cells, and values that training never saw."""
        known = np.isfinite(values)
        signal = (known & (values != 0)).any(axis=1) if values.shape[1] > 1 else known.any(axis=1)
        if not signal.any():
            return [_absent(modality, "Every frame is missing")]
        warnings = []
        if missing := int((~signal).sum()):
            warnings.append(_absent(modality, f"{missing} of {len(values)} frames are missing"))
        if cells := int((~known[signal]).sum()):
            message = f"{cells} missing values were interpolated in time."
            warnings.append(Notice(code="imputed_values", message=message, where=where))
        scale = self._scale(modality)
        if scale is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                far = int((np.abs((values[signal] - scale.mean) / scale.std) > CLIP).sum())
            if far:
                message = f"{far} values are more than {CLIP:g} standard deviations from the training mean, and are cut."
                warnings.append(Notice(code="outside_training_range", message=message, where=where))
        return warnings

    def _scale(self, modality: str) -> Normalisation | None:
        """How training scaled this feature set's columns."""
        stages = self.model.auto_encoders.get(modality, ())
        return (
            stages[0].scale
            if stages and len(stages[0].scale.mean) == len(self.model.columns[modality])
            else None
        )

    def _doubts(self, modality: str, hard: Difficulty) -> list[Notice]:
        known = np.isfinite(hard.percentile)
        if not known.any():
            return []
        share = float((hard.percentile[known] >= self.limits.difficult_percentile).mean())
        if share < self.limits.difficult_share:
            return []
        message = (
            f"{share:.0%} of its frames are harder than {self.limits.difficult_percentile:g}% of those in training: "
            "the model may not know such recordings."
        )
        return [Notice(code="difficult", message=message, where=f"difficulty.{modality}")]


def _absent(modality: str, what: str) -> Notice:
    message = f"{what}: imputed by the training mean and counted as hardest, as the model's card says. Expect less."
    return Notice(code="missing_modality", message=message, where=f"features.{modality}")


def _devel_ccc(files: dict[str, bytes], targets: tuple[str, ...]) -> dict[str, float | None]:
    """What the summary in the bundle says; it is optional, and no reason to refuse a model."""
    try:
        found = json.loads(files["summary.json"])["targets"]
        return {
            target: None if found[target]["ccc"] is None else float(found[target]["ccc"])
            for target in targets
        }
    except (KeyError, TypeError, ValueError):
        return dict.fromkeys(targets)
