"""The fused model: raw features of a session to predictions and difficulties. Knows no files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.corpus import RESAMPLINGS, Resampling, Session, Times
from pipeline.display.short_repr import short_repr
from pipeline.errors import InputError
from pipeline.model.bands import Band, BandCalibration, sigma_inputs
from pipeline.model.correction import Correction
from pipeline.model.raw_session import raw_session
from pipeline.preprocessing.align import original_columns
from pipeline.preprocessing.stuck import mark_stuck
from pipeline.spec import Spec
from pipeline.stages.difficulty import difficulty_columns, percentile, reconstruction_errors
from pipeline.stages.fusion import (
    FLOORS,
    FUSION,
    WITHOUT_DIFFICULTY,
    FusionTask,
    floors,
    join_columns,
)
from pipeline.stages.label_floors import LabelFloors
from pipeline.stages.task import UpstreamOutputs
from pipeline.stages.trained_stage import Columns, TrainedStage, mean_of
from pipeline.stages.unimodal import unimodal_predictions
from pipeline.stages.upstream import presence_columns

if TYPE_CHECKING:
    from pipeline.display.picture import Picture

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, repr=False)
class Difficulty:
    """How difficult each frame of one modality is; NaN where the modality is missing.

    Attributes:
        error: the reconstruction error, mean square of z-scores, shape (frames,).
        percentile: its place among out-of-fold training frames, 0 to 100, shape (frames,).
    """

    error: NDArray[np.float64]
    percentile: NDArray[np.float64]

    def __repr__(self) -> str:
        return short_repr(self, frames=len(self.error))


@dataclass(frozen=True, repr=False)
class Prediction:
    """A model's prediction of one session; every series has shape (frames,), in the label's unit.

    Example:
        >>> prediction = model.predict({"voice": voice, "face": face})  # doctest: +SKIP
        >>> prediction.values["arousal"]  # doctest: +SKIP
        >>> prediction.to_frame()  # doctest: +SKIP
        >>> prediction.plot()  # doctest: +SKIP

    Attributes:
        timestamps_ms: the frames.
        values: target -> the fused prediction.
        difficulty: modality -> how difficult its frames are, by the auto-encoder of its name.
        unimodal: target -> modality that its fusion reads -> what that modality alone predicts; NaN
            where it is missing from the session.
        floors: target -> "mean" and "weighted_mean" of the unimodal predictions.
        without_difficulty: target -> the prediction of the variant of the fusion that does not read
            the difficulties; a target without such a variant is absent.
        weights: target -> modality -> how much its prediction is trusted, from 0 to 1; they sum to
            1 where any modality has a prediction. A target whose fusion has no gate is absent.
        bands: target -> the band around the fused prediction; a target whose model has no
            calibration is absent.
    """

    timestamps_ms: Times
    values: Mapping[str, NDArray[np.float64]]
    difficulty: Mapping[str, Difficulty]
    unimodal: Mapping[str, Mapping[str, NDArray[np.float64]]]
    floors: Mapping[str, Mapping[str, NDArray[np.float64]]]
    without_difficulty: Mapping[str, NDArray[np.float64]]
    weights: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    bands: Mapping[str, Band] = field(default_factory=dict)

    def __repr__(self) -> str:
        return short_repr(
            self,
            frames=len(self.timestamps_ms),
            targets=tuple(self.values),
            modalities=tuple(self.difficulty),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return all series as a table with a row for each frame.

        Returns:
            Its index is "timestamp_ms". Its columns have two levels, "target" and "series": below
            each target "prediction", "low" and "high" (of the band), what each modality alone
            predicts, and where a gate decides, its weight; below "difficulty" each modality's
            percentile, 0 to 100. Such as `frame["arousal", "prediction"]`, `frame["arousal",
            "voice alone"]`, `frame["arousal", "weight of voice"]`, `frame["difficulty", "voice"]`.
        """
        columns = {}
        for target, values in self.values.items():
            columns[target, "prediction"] = values
            if target in self.bands:
                columns[target, "low"] = self.bands[target].low
                columns[target, "high"] = self.bands[target].high
            for modality, series in self.unimodal[target].items():
                columns[target, f"{modality} alone"] = series
            for modality, weight in self.weights.get(target, {}).items():
                columns[target, f"weight of {modality}"] = weight
        for modality, difficulty in self.difficulty.items():
            columns["difficulty", modality] = difficulty.percentile

        names = pd.MultiIndex.from_tuples(columns, names=["target", "series"])
        index = pd.Index(self.timestamps_ms, name="timestamp_ms")
        return pd.DataFrame(dict(zip(names, columns.values(), strict=True)), index=index)

    def plot(self, labels: Mapping[str, ArrayLike] | None = None) -> Picture:
        """Draw the session: predictions and bands, weights, and below them the difficulties.

        Args:
            labels: target -> the annotated values, shape (frames,), to be drawn with them.

        Returns:
            A matplotlib figure. A notebook shows it; `savefig` writes it to a file.

        Raises:
            InputError: labels of a target that is not predicted, or of another length.
        """
        from pipeline.display.session_picture import SessionTraces, draw_session

        known = {target: np.asarray(each, np.float64) for target, each in (labels or {}).items()}
        for target, series in known.items():
            if target not in self.values or series.shape != self.timestamps_ms.shape:
                raise InputError(
                    f"labels[{target!r}] has shape {series.shape}: labels are of a target among "
                    f"{', '.join(self.values)}, of shape {self.timestamps_ms.shape}."
                )
        traces = {
            target: SessionTraces(
                fused=values,
                unimodal=self.unimodal[target],
                label=known.get(target),
                band=(self.bands[target].low, self.bands[target].high)
                if target in self.bands
                else None,
                weights=self.weights.get(target),
            )
            for target, values in self.values.items()
        }
        difficulty = {name: each.percentile for name, each in self.difficulty.items()}
        return draw_session(self.timestamps_ms, traces, difficulty)


@dataclass(frozen=True, repr=False)
class FusedModel:
    """All stages for all targets: each has its modalities, encoders, regressors and fusion.

    Example:
        >>> model = affectune.load("model")  # doctest: +SKIP
        >>> prediction = model.predict({"voice": voice, "face": face})  # doctest: +SKIP

    Wherever there are several models (folds, seeds, members of an ensemble), their mean is taken; a
    model that is there twice counts twice, and predicts once.

    Attributes:
        columns: feature set that any target reads -> its column names, in the order the stages read
            them.
        targets: what is predicted.
        frame_period_ms: distance of two frames.
        spec: what was asked for.
        auto_encoders: encoder's name -> models. A modality's first is named like it; see
            `encoder_names`.
        encoder_of: (target, modality) -> name of the encoder whose error is the difficulty that the
            fusion reads, and the regressors that `regressor_encoders` does not list.
        regressors: (target, modality) -> models.
        fusion_modalities: target -> modalities that its fusion reads, in order.
        fusions: target -> models that read predictions, and those of difficulties that do; () where
            a floor stands in for a fusion.
        fusions_without_difficulty: target -> the variant without difficulties, for comparison; a
            target may be absent.
        floor_weights: target -> modality -> weight in the weighted mean.
        difficulty_references: encoder's name -> percentiles 0 to 100 of the out-of-fold errors in
            training.
        data: the corpus it learned from: name, digest, sessions and subjects by partition, and of
            each target's label in train the share of its variance between sessions.
        out_of_fold: target -> prediction -> its CCC on training sessions that its models held out,
            also between and within sessions (see `SessionParts.to_json`); {} in sample.
        difficulty_spearman: target -> modality -> rank correlation of a training frame's error with
            the absolute error of its unimodal prediction, out of fold (in sample: of the sample).
        label_floors: the mean labels of its training sessions over time and by stimulus, for an
            evaluation; None in a bundle of an earlier version.
        study: the search it won, for its card: "name", "trials" and other figures, as JSON; under
            "seeds" target -> "scores", one per seed; {} where nothing was searched.
        max_held_frames: feature set -> for how many frames it may hold its values, by what was
            usual in training: a row that stays the same for longer is of a stuck sensor, and
            missing (see `preprocessing.stuck`). A set that may hold them for any time is absent;
            {} in a bundle that was written before there was the rule.
        bands: target -> how its band is made; a target without a band is absent.
        corrections: target -> variant (`FUSION`, `WITHOUT_DIFFICULTY`) -> the correction of its
            prediction; {} without the spec's `calibration`.
        distillation: how it was distilled, or why it was not, as JSON: see
            `pipeline.distillation.distil`; {} where that was not asked for.
        regressor_encoders: (target, modality) -> for each of its regressors the name of the encoder
            whose error it reads, if it reads difficulty; absent where all read that of
            `encoder_of`.
        floor_of: target -> the floor that is its prediction where it has no fusion: "mean" (also
            where the target is absent) or "weighted_mean". With one modality both are that
            modality's own prediction.
        set_aside: feature set -> columns of the corpus that are no features (see
            `preprocessing.bookkeeping`): whoever sends them as well is not refused for it.
        pool: threads on which networks predict that need nothing of each other; None: one after
            the other. The predictions are the same to the last bit, and come sooner on idle cores.
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
    max_held_frames: Mapping[str, int] = field(default_factory=dict)
    label_floors: LabelFloors | None = None
    bands: Mapping[str, BandCalibration] = field(default_factory=dict)
    corrections: Mapping[str, Mapping[str, Correction]] = field(default_factory=dict)
    distillation: Mapping[str, Any] = field(default_factory=dict)
    regressor_encoders: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    floor_of: Mapping[str, str] = field(default_factory=dict)
    set_aside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    resampling: Mapping[str, Resampling] = field(default_factory=dict)
    pool: Executor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        paths = {
            (target, modality)
            for target in self.targets
            for modality in self.fusion_modalities[target]
        }
        in_use = {(modality, encoder) for encoder, modality in self._modality_of.items()}
        modalities = {modality for modality, _ in in_use}
        named_like_modality = {modality for modality, encoder in in_use if encoder == modality}

        is_consistent = (
            set(self.encoder_of) == set(self.regressors) == paths
            and set(self.fusions) == set(self.targets) >= set(self.fusions_without_difficulty)
            # Each encoder is of one modality.
            and sorted(encoder for _, encoder in in_use) == sorted(self.auto_encoders)
            and modalities == named_like_modality == set(self.columns)
            and set(self.difficulty_references) == set(self.auto_encoders)
            and all(
                len(encoders) == len(self.regressors.get(path, ()))
                for path, encoders in self.regressor_encoders.items()
            )
            and not {t for t in self.floor_of if t not in self.fusions or self.fusions[t]}
            and set(self.floor_of.values()) <= set(FLOORS)
            and set(self.resampling) <= set(self.columns)
            and set(self.resampling.values()) <= set(RESAMPLINGS)
        )
        if not is_consistent:
            raise ValueError("the stages are not those that the targets read")

    def __repr__(self) -> str:
        return short_repr(
            self,
            targets=self.targets,
            modalities=self.modalities,
            networks=self.composition,
            frame_period_ms=self.frame_period_ms,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return all that any target reads."""
        return tuple(self.columns)

    @property
    def resampling_of_sets(self) -> dict[str, Resampling]:
        """Return for each feature set what its frames are of its rows, for `read_corpus`."""
        return {modality: self.resampling.get(modality, "nearest") for modality in self.columns}

    @property
    def columns_in_files(self) -> dict[str, tuple[str, ...]]:
        """Return for each feature set the columns that its files have, for `read_corpus`."""
        return {
            modality: original_columns(names, self.resampling.get(modality, "nearest"))
            for modality, names in self.columns.items()
        }

    @property
    def composition(self) -> str:
        """Return which networks predict.

        It is such as "ensemble of 5 folds x 2 seeds", "one network per task", or "distilled from
        ensemble of 5 folds x 2 seeds".
        """
        if self.distillation.get("is_kept"):
            return f"distilled from {self.distillation['teacher']}"

        tasks = (self.auto_encoders, self.regressors, self.fusions)
        counts = {len(models) for task in tasks for models in task.values() if models}
        fewest, most = min(counts), max(counts)
        if most == 1:
            return "one network per task"
        if fewest < most:
            return f"ensemble of {fewest} to {most} networks per task"

        is_fold_mean = self.spec.protocol == "cross_fit" and self.spec.fit_inference == "fold_mean"
        if is_fold_mean and most % self.spec.folds == 0:
            num_seeds = most // self.spec.folds
            seeds = "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"
            return f"ensemble of {self.spec.folds} folds x {seeds}"
        return f"ensemble of {most} networks per task"

    @property
    def num_networks(self) -> int:
        """Return how many networks predict a session, without those for comparison."""
        tasks = (self.auto_encoders, self.regressors, self.fusions)
        return sum(len(models) for task in tasks for models in task.values())

    @property
    def _modality_of(self) -> dict[str, str]:
        """Return encoder's name -> the modality that it rebuilds."""
        names = {encoder: modality for (_, modality), encoder in self.encoder_of.items()}
        for (_, modality), encoders in self.regressor_encoders.items():
            names |= dict.fromkeys(encoders, modality)
        return names

    def predict(
        self,
        features: Mapping[str, ArrayLike | pd.DataFrame],
        *,
        timestamps_ms: ArrayLike | None = None,
        device: str = "cpu",
    ) -> Prediction:
        """Predict one session.

        Args:
            features: modality -> shape (frames, columns), raw; cleaned as a corpus is (`clean`):
                rows of zeros or NaN are missing, and so are those of a stuck sensor. An array has
                its columns in the order of `columns`; a DataFrame in any order, by name, or
                by their numbers where both are only numbered. What is no feature, such as a row
                number, may be among them. A modality that is left out is missing throughout.
                The rows of a DataFrame with a column "timestamp" (in ms) may be faster than the
                frames: they are put on them as in training, by the modality's `resampling`.
            timestamps_ms: shape (frames,), ascending; default: of the rows with timestamps, at the
                frame period; else from 0, a frame period apart.
            device: "cpu" or "cuda".

        Raises:
            InputError: an unknown modality, no modality at all, shapes or columns that do not fit,
                no frames.
        """
        session = raw_session(
            features,
            timestamps_ms,
            self.columns,
            self.frame_period_ms,
            self.set_aside,
            self.resampling,
        )
        return self.predict_sessions([session], device=device)[0]

    def predict_sessions(
        self, sessions: Sequence[Session], *, device: str = "cpu"
    ) -> list[Prediction]:
        """Predict several sessions that are read already; each as if it were alone.

        Rows of stuck sensors are missing to the model, by its own limits.
        """
        sessions = [mark_stuck(session, self.max_held_frames) for session in sessions]
        # Named by place: two sessions may have the same id.
        sessions = [replace(s, session_id=str(place)) for place, s in enumerate(sessions)]

        errors = self._reconstruction_errors(sessions, device)
        unimodal = self._predict_unimodal(sessions, errors, device)
        fused = self._each(
            lambda target: self._fuse_target(target, sessions, errors, unimodal, device),
            self.targets,
        )
        outputs = dict(zip(self.targets, fused, strict=True))
        return [self._prediction(session, errors, outputs) for session in sessions]

    def _reconstruction_errors(
        self, sessions: Sequence[Session], device: str
    ) -> dict[str, Columns]:
        """Return encoder's name -> session id -> shape (frames, 1)."""
        modality_of = self._modality_of

        def rebuild(encoder: str) -> Columns:
            models = self.auto_encoders[encoder]
            arrays = reconstruction_errors(models, sessions, modality_of[encoder], device)
            return _by_session(sessions, arrays)

        names = tuple(self.auto_encoders)
        return dict(zip(names, self._each(rebuild, names), strict=True))

    def _predict_unimodal(
        self, sessions: Sequence[Session], errors: Mapping[str, Columns], device: str
    ) -> dict[str, Columns]:
        """Return target -> what each modality alone predicts of it, in the order of its fusion."""
        paths = [(target, m) for target in self.targets for m in self.fusion_modalities[target]]
        columns = self._each(
            lambda path: self._predict_modality(*path, sessions, errors, device), paths
        )
        of_paths = dict(zip(paths, columns, strict=True))
        return {
            target: join_columns([of_paths[target, m] for m in self.fusion_modalities[target]])
            for target in self.targets
        }

    def _each(self, predict: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the outputs of networks that need nothing of each other, in order."""
        return list(map(predict, items) if self.pool is None else self.pool.map(predict, items))

    def _fuse_target(
        self,
        target: str,
        sessions: Sequence[Session],
        errors: Mapping[str, Columns],
        unimodal: Mapping[str, Columns],
        device: str,
    ) -> _TargetOutputs:
        modalities, scale = self.fusion_modalities[target], self.spec.difficulty_scale
        difficulty = [
            difficulty_columns(errors[self.encoder_of[target, modality]], scale)
            for modality in modalities
        ]
        others = [unimodal[other] for other in self.targets if other != target]
        upstream = UpstreamOutputs(
            predictions=unimodal[target],
            difficulty=join_columns(difficulty),
            presence=presence_columns(sessions, modalities),
            other_predictions=join_columns(others) if others else None,
        )

        task, models = FusionTask(target=target), self.fusions[target]
        if models:
            fused = task.predict_with_weights(models, sessions, upstream, device)
        else:
            fused = [(values, None) for values in self._floor(target, sessions, unimodal[target])]
        models = self.fusions_without_difficulty.get(target, ())
        without = task.predict(models, sessions, upstream, device) if models else None
        errors_read = [errors[self.encoder_of[target, modality]] for modality in modalities]
        return _TargetOutputs(
            unimodal=unimodal[target],
            errors=join_columns(errors_read),
            fused=_by_session(sessions, [prediction for prediction, _ in fused]),
            weights={
                session.session_id: weights
                for session, (_, weights) in zip(sessions, fused, strict=True)
                if weights is not None
            },
            without_difficulty=None if without is None else _by_session(sessions, without),
        )

    def _predict_modality(
        self,
        target: str,
        modality: str,
        sessions: Sequence[Session],
        errors: Mapping[str, Columns],
        device: str,
    ) -> Columns:
        """Return the mean prediction of a modality's regressors, each with its own difficulty."""
        path, scale = (target, modality), self.spec.difficulty_scale
        models = self.regressors[path]
        encoders = self.regressor_encoders.get(path, (self.encoder_of[path],) * len(models))

        def predict(place: int) -> list[NDArray[np.float32]]:
            model, columns = models[place], None
            if model.reads_difficulty:
                columns = difficulty_columns(errors[encoders[place]], scale)
            return unimodal_predictions([model], sessions, modality, columns, device)

        return _by_session(sessions, _mean_over(models, predict))

    def _floor(
        self, target: str, sessions: Sequence[Session], predictions: Columns
    ) -> list[NDArray[np.float32]]:
        """Return the floor that is the prediction of a target without a fusion."""
        weights = [self.floor_weights[target][m] for m in self.fusion_modalities[target]]
        name = self.floor_of.get(target, "mean")
        return [
            floors(predictions[session.session_id], weights)[name].astype(np.float32)[:, None]
            for session in sessions
        ]

    def _prediction(
        self,
        session: Session,
        errors: Mapping[str, Columns],
        outputs: Mapping[str, _TargetOutputs],
    ) -> Prediction:
        """Gather what all stages output for one session."""
        name = session.session_id

        difficulty = {}
        for modality in self.modalities:
            error = errors[modality][name]
            references = self.difficulty_references[modality]
            difficulty[modality] = Difficulty(_series(error), percentile(error[:, 0], references))

        unimodal, target_floors = {}, {}
        for target in self.targets:
            modalities = self.fusion_modalities[target]
            predictions = outputs[target].unimodal[name]
            unimodal[target] = {
                modality: _series(predictions[:, [column]])
                for column, modality in enumerate(modalities)
            }
            devel_weights = [self.floor_weights[target][modality] for modality in modalities]
            target_floors[target] = floors(predictions, devel_weights)

        without_difficulty = {}
        for target in self.targets:
            columns = outputs[target].without_difficulty
            if columns is not None:
                correction = self._correction(target, WITHOUT_DIFFICULTY)
                without_difficulty[target] = correction.apply(_series(columns[name]))

        values = {
            target: self._correction(target, FUSION).apply(_series(outputs[target].fused[name]))
            for target in self.targets
        }
        bands = {}
        for target, calibration in self.bands.items():
            inputs = sigma_inputs(outputs[target].errors[name], outputs[target].unimodal[name])
            bands[target] = calibration.band(values[target], inputs)

        weights: dict[str, dict[str, NDArray[np.float64]]] = {}
        for target in self.targets:
            if name in outputs[target].weights:
                by_modality = outputs[target].weights[name]
                weights[target] = {
                    modality: _series(by_modality[:, [column]])
                    for column, modality in enumerate(self.fusion_modalities[target])
                }

        return Prediction(
            timestamps_ms=session.timestamps_ms,
            values=values,
            difficulty=difficulty,
            unimodal=unimodal,
            floors=target_floors,
            without_difficulty=without_difficulty,
            weights=weights,
            bands=bands,
        )

    def _correction(self, target: str, variant: str) -> Correction:
        return self.corrections.get(target, {}).get(variant, Correction())


@dataclass(frozen=True)
class _TargetOutputs:
    """What the stages of one target output, by session id.

    Attributes:
        unimodal: shape (frames, modalities), in the order that the fusion reads.
        errors: reconstruction errors, likewise.
        fused, without_difficulty: shape (frames, 1).
        weights: shape (frames, modalities); empty without a gate.
    """

    unimodal: Columns
    errors: Columns
    fused: Columns
    weights: Columns
    without_difficulty: Columns | None


def _mean_over(
    models: Sequence[TrainedStage], predict: Callable[[int], list[NDArray[np.float32]]]
) -> list[NDArray[np.float32]]:
    """Return the mean prediction of several models, for each session.

    Args:
        models: at least one; one that is there several times is asked once.
        predict: takes the place of a model among them.
    """
    by_model: dict[int, list[NDArray[np.float32]]] = {}
    for place, model in enumerate(models):
        if id(model) not in by_model:
            by_model[id(model)] = predict(place)
    return [mean_of(arrays) for arrays in zip(*(by_model[id(m)] for m in models), strict=True)]


def _by_session(
    sessions: Sequence[Session], arrays: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    session_ids = [session.session_id for session in sessions]
    return dict(zip(session_ids, arrays, strict=True))


def _series(column: NDArray[np.float32]) -> NDArray[np.float64]:
    return column[:, 0].astype(np.float64)
