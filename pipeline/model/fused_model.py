"""FusedModel: raw features to predictions and difficulties for all targets; the bundle on disk."""

from __future__ import annotations

import json
import platform
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pandas as pd
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray

from pipeline.corpus import Session
from pipeline.errors import InputError
from pipeline.preprocessing.cleaning import clean
from pipeline.spec import Spec
from pipeline.stages.difficulty import difficulty_columns, percentile, reconstruction_errors
from pipeline.stages.fusion import floors, fused_predictions, side_by_side
from pipeline.stages.stage import Columns, TrainedStage
from pipeline.stages.unimodal import unimodal_predictions
from pipeline.storage.atomic_folder import MODEL, read_folder, write_folder

FORMAT = 2
WEIGHTS, CARD = "weights.safetensors", "README.md"


@dataclass(frozen=True)
class Difficulty:
    """How hard each frame of one modality is; NaN where the modality is missing.

    Attributes:
        error: the reconstruction error, mean square of z-scores, shape (frames,).
        percentile: its place among out-of-fold training frames, 0 (easiest) to 100, shape (frames,).
    """

    error: NDArray[np.float64]
    percentile: NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one session; every series has shape (frames,), in the label's unit.

    Attributes:
        timestamps_ms: the frames.
        values: target -> the fused prediction.
        difficulty: modality -> how hard its frames are, by the auto-encoder of its name.
        unimodal: target -> modality that its fusion reads -> what that modality alone predicts; NaN where it is absent
            from the session.
        floors: target -> "mean" and "weighted_mean" of the unimodal predictions.
        without_difficulty: target -> the prediction of the fusion that does not read the difficulties; a target without
            such a fusion is absent.
    """

    timestamps_ms: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]
    difficulty: Mapping[str, Difficulty]
    unimodal: Mapping[str, Mapping[str, NDArray[np.float64]]]
    floors: Mapping[str, Mapping[str, NDArray[np.float64]]]
    without_difficulty: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class FusedModel:
    """All stages for all targets. Each target has its own path: modalities, auto-encoders, regressors and a fusion.

    Wherever there are several models (folds, seeds), their mean counts.

    Attributes:
        columns: feature set that any path reads -> its column names, in the order the stages read them.
        frame_period_ms: distance of two frames.
        spec: what was asked for.
        auto_encoders: encoder's name -> models. A modality's first is named like it; see `encoder_names`.
        encoder_of: (target, modality) -> name of the encoder whose error the regressor and the fusion read.
        regressors: (target, modality) -> models.
        fusion_modalities: target -> modalities that its fusion reads, in order.
        fusions: target -> models that read predictions and difficulties.
        fusions_without_difficulty: target -> the same without difficulties, for comparison; a target may be absent.
        floor_weights: target -> modality -> weight in the weighted mean.
        difficulty_references: encoder's name -> percentiles 0 to 100 of the out-of-fold errors in training.
        data: the corpus it learned from: name, digest, sessions and subjects by partition.
        out_of_fold: target -> prediction -> its CCC on training subjects that its models held out; {} in_sample.
        difficulty_spearman: target -> modality -> rank correlation of a training frame's error with the absolute
            error of its unimodal prediction, out of fold (in_sample: of the sample).
        study: the search it won, for its card: "name", "trials" and other figures, as JSON; under "seeds" target ->
            "scores", one per seed; {} where nothing was searched.
    """

    columns: Mapping[str, tuple[str, ...]]
    targets: tuple[str, ...]
    frame_period_ms: float
    spec: Spec
    auto_encoders: Mapping[str, tuple[TrainedStage, ...]]
    encoder_of: Mapping[tuple[str, str], str]
    regressors: Mapping[tuple[str, str], tuple[TrainedStage, ...]]
    fusion_modalities: Mapping[str, tuple[str, ...]]
    fusions: Mapping[str, tuple[TrainedStage, ...]]
    fusions_without_difficulty: Mapping[str, tuple[TrainedStage, ...]]
    floor_weights: Mapping[str, Mapping[str, float]]
    difficulty_references: Mapping[str, list[float]]
    data: Mapping[str, Any]
    out_of_fold: Mapping[str, Mapping[str, Mapping[str, float | None]]]
    difficulty_spearman: Mapping[str, Mapping[str, float | None]]
    study: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        paths = {
            (target, modality)
            for target in self.targets
            for modality in self.fusion_modalities[target]
        }
        read = {(modality, encoder) for (_, modality), encoder in self.encoder_of.items()}
        whole = (
            set(self.encoder_of) == set(self.regressors) == paths
            and set(self.fusions) == set(self.targets) >= set(self.fusions_without_difficulty)
            and sorted(encoder for _, encoder in read)
            == sorted(self.auto_encoders)  # each of one modality
            and {modality for modality, _ in read}
            == {modality for modality, encoder in read if encoder == modality}
            and set(self.columns) == {modality for modality, _ in read}
            and set(self.difficulty_references) == set(self.auto_encoders)
        )
        if not whole:
            raise ValueError("the stages are not those that the targets read")

    @property
    def modalities(self) -> tuple[str, ...]:
        """All that any target reads."""
        return tuple(self.columns)

    def predict(
        self,
        features: Mapping[str, ArrayLike | pd.DataFrame],
        *,
        timestamps_ms: ArrayLike | None = None,
        device: str = "cpu",
    ) -> Prediction:
        """Predict one session.

        Args:
            features: modality -> shape (frames, columns), raw, cleaned as a corpus is (`clean`): rows of zeros or NaN
                are missing. An array has its columns in the order of `columns`; a DataFrame in any order, by name, and
                further ones are ignored. A modality that is left out is missing throughout.
            timestamps_ms: shape (frames,), ascending; default: from 0, a frame period apart.
            device: "cpu" or "cuda".

        Raises:
            InputError: an unknown modality, no modality at all, shapes or columns that do not fit, no frames.
        """
        session = self._session(features, timestamps_ms)
        return self.predict_sessions([session], device=device)[0]

    def predict_sessions(
        self, sessions: Sequence[Session], *, device: str = "cpu"
    ) -> list[Prediction]:
        """Predict several sessions that are read already; each as if it were alone."""
        # By place: two sessions may have the same id.
        sessions = [
            replace(session, session_id=str(place)) for place, session in enumerate(sessions)
        ]
        ids = [session.session_id for session in sessions]
        modality_of = {encoder: modality for (_, modality), encoder in self.encoder_of.items()}
        errors = {
            encoder: dict(
                zip(
                    ids,
                    reconstruction_errors(models, sessions, modality_of[encoder], device),
                    strict=True,
                )
            )
            for encoder, models in self.auto_encoders.items()
        }
        columns = {
            name: difficulty_columns(error, self.spec.difficulty_scale)
            for name, error in errors.items()
        }
        said = {target: self._say(target, sessions, columns, device) for target in self.targets}
        return [
            Prediction(
                timestamps_ms=session.timestamps_ms,
                values={target: _series(said[target].fused[row]) for target in self.targets},
                difficulty={
                    modality: Difficulty(
                        _series(errors[modality][session.session_id]),
                        percentile(
                            errors[modality][session.session_id][:, 0],
                            self.difficulty_references[modality],
                        ),
                    )
                    for modality in self.modalities
                },
                unimodal={
                    target: {
                        modality: _series(said[target].opinions[session.session_id][:, [column]])
                        for column, modality in enumerate(self.fusion_modalities[target])
                    }
                    for target in self.targets
                },
                floors={
                    target: floors(
                        said[target].opinions[session.session_id],
                        [
                            self.floor_weights[target][modality]
                            for modality in self.fusion_modalities[target]
                        ],
                    )
                    for target in self.targets
                },
                without_difficulty={
                    target: _series(said[target].without[row])
                    for target in self.fusions_without_difficulty
                },
            )
            for row, session in enumerate(sessions)
        ]

    def files(self, card: str) -> dict[str, bytes]:
        """The bundle's files but for its manifest; `card` is the text of its README.md."""
        stages = dict(self._stages())
        arrays = {
            f"{place}/{name}": array
            for place, model in stages.items()
            for name, array in model.arrays().items()
        }
        record = {
            "format": FORMAT,
            "targets": list(self.targets),
            "modalities": {modality: list(columns) for modality, columns in self.columns.items()},
            "frame_period_ms": self.frame_period_ms,
            "frame_rate_hz": 1000 / self.frame_period_ms,
            "spec": self.spec.model_dump(),
            "fusion_modalities": {
                target: list(self.fusion_modalities[target]) for target in self.targets
            },
            "encoder_of": {
                target: {
                    modality: self.encoder_of[target, modality]
                    for modality in self.fusion_modalities[target]
                }
                for target in self.targets
            },
            "floor_weights": self.floor_weights,
            "difficulty_references": self.difficulty_references,
            "data": self.data,
            "out_of_fold": self.out_of_fold,
            "difficulty_spearman": self.difficulty_spearman,
            "study": self.study,
            "versions": versions(),
            # Seconds differ from run to run; the same seed must give the same bytes.
            "stages": {place: {**model.record(), "cpu_s": 0.0} for place, model in stages.items()},
        }
        return {
            MODEL: json.dumps(record, indent=1).encode(),
            WEIGHTS: safetensors.numpy.save(dict(sorted(arrays.items()))),
            CARD: card.encode(),
        }

    def save(
        self, folder: Path | str, *, card: str = "", others: Mapping[str, bytes] | None = None
    ) -> None:
        """Write the bundle: a folder that is whole or not there; a bundle that was there is replaced.

        Args:
            folder: where.
            card: the model card.
            others: further files to keep in it, by name.
        """
        write_folder(Path(folder), {**self.files(card), **(others or {})})

    @classmethod
    def load(cls, folder: Path | str) -> FusedModel:
        """Read a bundle whose every file still has the hash that its manifest says.

        Raises:
            InputError: not a bundle, of another format, or a file was changed.
        """
        files = read_folder(Path(folder))
        try:
            record = json.loads(files[MODEL])
            arrays = safetensors.numpy.load(files[WEIGHTS])
            found = record["format"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"'{folder}' is not a model bundle: {error}.") from error
        if found != FORMAT:
            raise InputError(
                f"'{folder}' has bundle format {found}; this version reads {FORMAT}. Use the version that wrote it."
            )
        try:
            return cls._restore(record, arrays)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"'{folder}' is not a model bundle that this version can read: {error!r}."
            ) from error

    @classmethod
    def _restore(cls, record: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FusedModel:
        """The inverse of `files`, of what they say."""
        arrays_of: dict[str, dict[str, NDArray[Any]]] = {}
        for path, array in arrays.items():
            place, _, name = path.rpartition("/")
            arrays_of.setdefault(place, {})[name] = array
        found: dict[tuple[str, ...], list[TrainedStage]] = {}
        for place, stage in record["stages"].items():
            names = tuple(unquote(part) for part in place.split("/")[:-1])
            found.setdefault(names, []).append(TrainedStage.restore(stage, arrays_of[place]))

        def of(stage: str) -> dict[tuple[str, ...], tuple[TrainedStage, ...]]:
            return {
                tuple(names): tuple(models)
                for (kind, *names), models in found.items()
                if kind == stage
            }

        return cls(
            columns={
                modality: tuple(columns) for modality, columns in record["modalities"].items()
            },
            targets=tuple(record["targets"]),
            frame_period_ms=record["frame_period_ms"],
            spec=Spec.model_validate(record["spec"]),
            auto_encoders={encoder: models for (encoder,), models in of("auto_encoder").items()},
            encoder_of={
                (target, modality): encoder
                for target, encoders in record["encoder_of"].items()
                for modality, encoder in encoders.items()
            },
            regressors={
                (target, modality): models for (target, modality), models in of("unimodal").items()
            },
            fusion_modalities={
                target: tuple(read) for target, read in record["fusion_modalities"].items()
            },
            fusions={target: models for (target,), models in of("fusion").items()},
            fusions_without_difficulty={
                target: models for (target,), models in of("fusion_without_difficulty").items()
            },
            floor_weights=record["floor_weights"],
            difficulty_references=record["difficulty_references"],
            data=record["data"],
            out_of_fold=record["out_of_fold"],
            difficulty_spearman=record["difficulty_spearman"],
            study=record["study"],
        )

    def _stages(self) -> Iterator[tuple[str, TrainedStage]]:
        """Every stage with its place in the bundle; a name keeps to one part of it, whatever it has in it."""
        named: dict[tuple[str, ...], Sequence[TrainedStage]] = {
            **{("auto_encoder", encoder): models for encoder, models in self.auto_encoders.items()},
            **{("unimodal", *path): models for path, models in self.regressors.items()},
            **{("fusion", target): models for target, models in self.fusions.items()},
            **{
                ("fusion_without_difficulty", target): models
                for target, models in self.fusions_without_difficulty.items()
            },
        }
        for names, models in named.items():
            for number, model in enumerate(models):
                yield "/".join([*(quote(name, safe=" ()") for name in names), str(number)]), model

    def _say(
        self, target: str, sessions: Sequence[Session], columns: Mapping[str, Columns], device: str
    ) -> _Said:
        """Predict one target; `columns`: encoder's name -> difficulty columns."""
        read = self.fusion_modalities[target]
        own = {modality: columns[self.encoder_of[target, modality]] for modality in read}
        ids = [session.session_id for session in sessions]
        opinions = side_by_side(
            [
                dict(
                    zip(
                        ids,
                        self._unimodal(target, modality, sessions, own[modality], device),
                        strict=True,
                    )
                )
                for modality in read
            ]
        )
        difficulty = side_by_side(list(own.values()))

        def fuse(models: Sequence[TrainedStage]) -> Sequence[NDArray[np.float32]]:
            reads = models[0].scale.difficulty_size > 0
            return fused_predictions(
                models, sessions, opinions, difficulty if reads else None, device
            )

        without = self.fusions_without_difficulty.get(target)
        return _Said(opinions, fuse(self.fusions[target]), fuse(without) if without else [])

    def _unimodal(
        self,
        target: str,
        modality: str,
        sessions: Sequence[Session],
        difficulty: Columns,
        device: str,
    ) -> list[NDArray[np.float32]]:
        models = self.regressors[target, modality]
        reads = models[0].scale.difficulty_size > 0
        return unimodal_predictions(
            models, sessions, modality, difficulty if reads else None, device
        )

    def _array(self, modality: str, values: ArrayLike | pd.DataFrame) -> NDArray[np.float32]:
        if isinstance(values, pd.DataFrame):
            values = values.rename(columns=str)
            lacking = [column for column in self.columns[modality] if column not in values.columns]
            if lacking:
                raise InputError(
                    f"{modality!r} has no column {lacking[0]!r}; {len(lacking)} of the model's are lacking."
                )
            values = values.loc[:, list(self.columns[modality])]
        try:
            return np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError(f"{modality!r} is not an array of numbers: {error}.") from error

    def _session(
        self, features: Mapping[str, ArrayLike | pd.DataFrame], timestamps_ms: ArrayLike | None
    ) -> Session:
        """Raw arrays as a session, checked against what the model reads."""
        unknown = sorted(set(features) - set(self.columns))
        if unknown:
            raise InputError(
                f"The model has no feature set {unknown[0]!r}; it reads {', '.join(self.columns)}."
            )
        arrays = {modality: self._array(modality, values) for modality, values in features.items()}
        if not arrays:
            raise InputError(f"No features were given; the model reads {', '.join(self.columns)}.")
        frames = len(next(iter(arrays.values())))
        for modality, values in arrays.items():
            if values.ndim != 2 or values.shape != (frames, len(self.columns[modality])):
                raise InputError(
                    f"{modality!r} has shape {values.shape}; it must be ({frames} frames, "
                    f"{len(self.columns[modality])} columns)."
                )
        if timestamps_ms is None:
            timestamps_ms = np.round(np.arange(frames) * self.frame_period_ms)
        timestamps = np.asarray(timestamps_ms, dtype=np.int64)
        if timestamps.shape != (frames,) or not frames or np.any(np.diff(timestamps) <= 0):
            raise InputError(
                f"timestamps_ms must be {frames} ascending numbers, one per frame, and at least one."
            )
        for modality, columns in self.columns.items():
            arrays.setdefault(modality, np.full((frames, len(columns)), np.nan, dtype=np.float32))
        cleaned = {
            modality: clean(timestamps, arrays[modality].copy()) for modality in self.columns
        }
        return Session(
            session_id="",
            subject="",
            partition="test",
            timestamps_ms=timestamps,
            segment_ids=np.full(frames, "1"),
            features={modality: values for modality, (values, _, _, _) in cleaned.items()},
            present={modality: present for modality, (_, present, _, _) in cleaned.items()},
            labels={},
        )


@dataclass(frozen=True)
class _Said:
    """What one target's path says: by session id the unimodal predictions side by side, and by place the fusions'."""

    opinions: Columns
    fused: Sequence[NDArray[np.float32]]
    without: Sequence[NDArray[np.float32]]


def encoder_names(chosen: Mapping[tuple[str, str], Hashable]) -> dict[tuple[str, str], str]:
    """Name the auto-encoders in use: a modality's first like the modality, further ones "voice (2)" and so on.

    Args:
        chosen: (target, modality) -> whatever tells one auto-encoder of that modality from another.

    Returns:
        (target, modality) -> its name: `FusedModel.encoder_of`. No two auto-encoders share one, even where another
        modality is really called "voice (2)".
    """
    modalities = {modality for _, modality in chosen}
    names: dict[tuple[str, Hashable], str] = {}
    for (_, modality), which in chosen.items():
        if (modality, which) not in names:
            taken = set(names.values())
            further = (
                name
                for number in count(2)
                if (name := f"{modality} ({number})") not in taken | modalities
            )
            names[modality, which] = modality if modality not in taken else next(further)
    return {path: names[path[1], which] for path, which in chosen.items()}


def versions() -> dict[str, str]:
    """What computed this: Python and the libraries that decide the numbers."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in ("affectune", "torch", "numpy", "numba")
    }


def _series(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values[:, 0].astype(np.float64)
