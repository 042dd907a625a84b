"""One loaded model: a session in, its prediction and warnings out. Knows no HTTP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.model.bundle import CARD, load_bundle
from pipeline.model.fused_model import Difficulty, FusedModel, Prediction
from pipeline.storage.strict_json import parse_json
from serving.models.chunking import predict_in_chunks
from serving.models.model_input import ModelInput, to_model_input
from serving.requests.request_error import RequestError
from serving.requests.schema import Distillation, Notice, SessionFeatures, SessionResponse
from serving.settings import Limits


@dataclass(frozen=True)
class Predictor:
    """A model that predicts what clients send.

    Attributes:
        model: without what only an evaluation needs.
        name, version: under which every response names it.
        ccc: target -> CCC on devel, None where the bundle does not have it.
        between_ccc, within_ccc: target -> CCC on devel between and within sessions; likewise.
        band_coverage: target -> the share of devel that its bands cover, None where unknown.
        card: the model card, Markdown.
        limits: from when on a session is chunked, and a modality called difficult.
    """

    model: FusedModel
    name: str
    version: str
    ccc: dict[str, float | None]
    between_ccc: dict[str, float | None]
    within_ccc: dict[str, float | None]
    band_coverage: dict[str, float | None]
    card: str
    limits: Limits

    @classmethod
    def load(
        cls, folder: Path, name: str, version: str, limits: Limits, pool: Executor | None = None
    ) -> Predictor:
        """Load a bundle, every hash verified.

        Args:
            folder: of the bundle.
            name, version: under which every response names it.
            limits: of a request.
            pool: threads for its networks, as `FusedModel` has them.

        Raises:
            InputError: it is not a bundle, or it was changed.
        """
        # The fusion without difficulty is for comparison alone; predicting it as well would take a
        # sixth longer.
        loaded, files = load_bundle(folder)
        model = replace(loaded, fusions_without_difficulty={}, pool=pool)
        summary = _summary(files)
        ccc, between_ccc, within_ccc, band_coverage = (
            {target: _number(summary, "targets", target, *path) for target in model.targets}
            for path in (("ccc",), ("between_ccc",), ("within_ccc",), ("bands", "coverage"))
        )
        card = files.get(CARD, b"").decode(errors="replace")
        return cls(model, name, version, ccc, between_ccc, within_ccc, band_coverage, card, limits)

    def describe(self) -> dict[str, Any]:
        """Return the body of GET /v1/model, a `ModelResponse`."""
        features = {modality: list(columns) for modality, columns in self.model.columns.items()}
        limits = {name: getattr(self.limits, name) for name in Limits.model_fields}
        return {
            "name": self.name,
            "version": self.version,
            "targets": list(self.model.targets),
            "features": features,
            "frame_rate_hz": 1000 / self.model.frame_period_ms,
            "resampling": self.model.resampling_of_sets,
            "ccc": self.ccc,
            "between_ccc": self.between_ccc,
            "within_ccc": self.within_ccc,
            "bands": {target: self._describe_bands(target) for target in self.model.targets},
            "limits": limits,
            "inference": self.model.composition,
            "distillation": self._distillation(),
            "card": self.card,
        }

    def _distillation(self) -> dict[str, Any] | None:
        record = self.model.distillation
        return {name: record[name] for name in Distillation.model_fields} if record else None

    def predict(self, session: SessionFeatures) -> SessionResponse:
        """Predict one session.

        Raises:
            RequestError: it does not fit the model.
        """
        model_input = to_model_input(session, self.model, self.limits.max_frames)
        is_chunked = len(model_input.timestamps_ms) > self.limits.whole_frames
        prediction = self._predict(model_input, is_chunked=is_chunked)

        warnings = list(model_input.warnings)
        if is_chunked:
            warnings.append(_chunked(self.limits.whole_frames))
        for modality in model_input.features:
            warnings += self._difficulty_warnings(modality, prediction.difficulty[modality])

        return SessionResponse(
            session_id=session.session_id,
            name=self.name,
            version=self.version,
            timestamps_ms=model_input.timestamps_ms,
            predictions=prediction.values,
            difficulty={
                modality: {"error": difficulty.error, "percentile": difficulty.percentile}
                for modality, difficulty in prediction.difficulty.items()
            },
            weights=prediction.weights,
            warnings=tuple(warnings),
            bands={
                target: {"low": band.low, "high": band.high}
                for target, band in prediction.bands.items()
            },
        )

    def _describe_bands(self, target: str) -> dict[str, float | None] | None:
        calibration = self.model.bands.get(target)
        if calibration is None:
            return None
        return {"level": calibration.level, "coverage": self.band_coverage[target]}

    def _predict(self, model_input: ModelInput, *, is_chunked: bool) -> Prediction:
        features, timestamps_ms = model_input.features, model_input.timestamps_ms
        try:
            if not is_chunked:
                return self.model.predict(features, timestamps_ms=timestamps_ms)
            return predict_in_chunks(
                self.model,
                features,
                timestamps_ms,
                self.limits.whole_frames,
                self.limits.overlap_frames,
            )
        except InputError as error:  # a check of the pipeline that has no counterpart here
            raise RequestError.unprocessable("does_not_fit", str(error)) from error

    def _difficulty_warnings(self, modality: str, difficulty: Difficulty) -> list[Notice]:
        """Return a warning where too many frames are too difficult."""
        known = np.isfinite(difficulty.percentile)
        if not known.any():
            return []

        threshold = self.limits.difficult_percentile
        share = float((difficulty.percentile[known] >= threshold).mean())
        if share < self.limits.difficult_share:
            return []

        message = (
            f"{share:.0%} of its frames are harder than {threshold:g}% of those in training: "
            "the model may not know such recordings."
        )
        return [Notice(code="difficult", message=message, where=f"difficulty.{modality}")]


def _chunked(chunk_frames: int) -> Notice:
    message = (
        f"Longer than {chunk_frames} frames: predicted in overlapping chunks that "
        "cross-fade linearly."
    )
    return Notice(code="chunked", message=message, where="")


def _summary(files: Mapping[str, bytes]) -> Any:
    """Return the bundle's summary, which is optional; None where it is not there, or damaged."""
    try:
        return parse_json(files["summary.json"])
    except (KeyError, ValueError):
        return None


def _number(summary: Any, *path: str) -> float | None:
    """Return a number of the summary; None where it does not say."""
    for key in path:
        summary = summary.get(key) if isinstance(summary, dict) else None
    is_number = isinstance(summary, int | float) and abs(summary) < math.inf
    return float(summary) if is_number else None
