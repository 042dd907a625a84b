"""A task: one stage of one modality and target, which poses a problem on each fold.

`AutoEncoderTask`, `UnimodalTask` and `FusionTask` are the three kinds. A task does not know who
solves its problems.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.preprocessing.normalisation import DifficultyScale, NormalisationMode
from pipeline.preprocessing.timing import Timing
from pipeline.spec import (
    AutoEncoderSpec,
    CorruptionKind,
    CorruptionSpec,
    FitSpec,
    FusionSpec,
    NetworkSpec,
    Spec,
    StageName,
    UnimodalSpec,
)
from pipeline.stages.cross_fit import Fold
from pipeline.stages.trained_stage import Columns, TrainedStage

TRAINING_CODE = 2
"""Raise it when the same problem would give other weights: stages are then trained anew."""

TIMING_SETTINGS = ("delay_s", "context_s", "resample_s")
"""Settings of a stage that become its `Timing`."""
StageKeys = tuple[tuple[str, ...], ...]
"""For each fold the keys of its trained stages, one per seed."""


@dataclass(frozen=True)
class UpstreamKeys:
    """Which trained stages a task reads.

    Attributes:
        auto_encoders: modality -> the auto-encoders whose error is its difficulty; empty where no
            difficulty is read.
        regressors: modality -> the regressors whose predictions are fused; empty but for fusion.
        other_regressors: other target -> modality -> the regressors whose predictions a fusion
            reads beside its own; empty but for a fusion that reads all.
    """

    auto_encoders: Mapping[str, StageKeys] = field(default_factory=dict)
    regressors: Mapping[str, StageKeys] = field(default_factory=dict)
    other_regressors: Mapping[str, Mapping[str, StageKeys]] = field(default_factory=dict)

    def flat(self) -> list[str]:
        """Return every key, in a fixed order."""
        others = [
            keys for by_modality in self.other_regressors.values() for keys in by_modality.values()
        ]
        stages = [*self.auto_encoders.values(), *self.regressors.values(), *others]
        return [key for folds in stages for seeds in folds for key in seeds]


@dataclass(frozen=True)
class UpstreamOutputs:
    """What a task reads of every session from the stages before it.

    Attributes:
        predictions: of the regressors, shape (frames, modalities) per session; None but for fusion.
        difficulty: of the auto-encoders, shape (frames, modalities read); None where none is read.
        presence: of the modalities, shape (frames, modalities), see `presence_columns`; None but
            for fusion.
        other_predictions: of the regressors of other targets, shape (frames, other targets x
            modalities); None but for a fusion that reads all.
        copies: kind of corruption -> the same for copies of the sessions; the columns of each
            modality are those of the copy in which that modality is spoilt. Empty but for a fusion
            that learns from corrupted copies.
    """

    predictions: Columns | None = None
    difficulty: Columns | None = None
    presence: Columns | None = None
    other_predictions: Columns | None = None
    copies: Mapping[CorruptionKind, UpstreamOutputs] = field(default_factory=dict)


@dataclass(frozen=True)
class Task(ABC):
    """One stage of one modality and target.

    Attributes:
        modality: the feature set that the stage reads; "" for fusion.
        target: what it predicts; "" for an auto-encoder, which rebuilds its feature set.
    """

    stage: ClassVar[StageName]

    modality: str = ""
    target: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.stage, self.modality, self.target) if part)

    @property
    @abstractmethod
    def title(self) -> str:
        """Return what people call the task."""

    @abstractmethod
    def upstream_tasks(self, modalities: Sequence[str]) -> tuple[Task, ...]:
        """Return the tasks that this one reads.

        Args:
            modalities: all that a fusion may read.
        """

    @abstractmethod
    def predict(
        self,
        models: Sequence[TrainedStage],
        sessions: Sequence[Session],
        upstream: UpstreamOutputs,
        device: str = "cpu",
    ) -> list[NDArray[np.float32]]:
        """Return the mean output of several models.

        Returns:
            For each session shape (frames, 1): an auto-encoder's reconstruction error, or a
            prediction in the label's unit; NaN where the modality is missing.
        """

    def key(
        self,
        corpus: Corpus,
        spec: Spec,
        fold: Fold,
        upstream: UpstreamKeys | None = None,
        device: str = "cpu",
    ) -> str:
        """Return the sha256 over everything that decides the result of a fit.

        Only the fold's training sessions and devel count, and of these only what the task reads.
        A setting that changes nothing is left out: `learns` where there is one target.

        Args:
            corpus: holds the sessions.
            spec: settings, protocol and seed.
            fold: which sessions are learned from.
            upstream: the trained stages that are read.
            device: a GPU rounds otherwise, so what it trained has another key.
        """
        upstream = upstream or UpstreamKeys()
        upstream_keys = upstream.flat()
        devel_ids = [session.session_id for session in corpus.partition("devel")]
        inference = spec.fit_inference
        parts = {
            "training_code": TRAINING_CODE,
            "stage": self.stage,
            # Whether difficulty is read shows in what is upstream, what is learned in the labels.
            "spec": self.settings(spec).model_dump(
                exclude={"difficulty", "learns", *TIMING_SETTINGS}
            ),
            "seed": fold.seed(spec),
            "train": corpus.digest_of(fold.train_ids, modality=self.modality, target=self.target),
            "devel": corpus.digest_of(devel_ids, modality=self.modality, target=self.target),
            "difficulty_scale": spec.difficulty_scale if upstream.auto_encoders else None,
            "upstream": [spec.protocol, inference, *upstream_keys] if upstream_keys else None,
            "device": device,
        }
        # Frames, not seconds: only they decide. By default nothing, as before there were timings.
        timing = self.timing(spec, corpus.frame_period_ms)
        if timing != Timing():
            parts["timing"] = timing.to_json()
        if other_targets := self.other_targets(corpus, spec):
            parts["other_labels"] = [
                corpus.digest_of(fold.train_ids, target=target) for target in other_targets
            ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def problem(
        self,
        corpus: Corpus,
        spec: Spec,
        fold: Fold,
        key: str,
        upstream: UpstreamOutputs | None = None,
    ) -> SupervisedProblem:
        """Pose the problem of one fold.

        Args:
            corpus: holds the sessions.
            spec: settings, protocol and seed.
            fold: which sessions are learned from.
            key: see `key`.
            upstream: for a training session from models of a fold that held it out.
        """
        upstream = upstream or UpstreamOutputs()
        settings = self.settings(spec)
        has_difficulty = upstream.difficulty is not None
        variant = ", without difficulty" if self.stage == "fusion" and not has_difficulty else ""
        mode = settings.normalisation if isinstance(settings, UnimodalSpec) else "train"

        return SupervisedProblem(
            task=self,
            name=f"{self.title}, {fold.name}{variant}",
            network=settings.network,
            fit=settings.fit,
            normalisation_mode=mode,
            difficulty_scale=spec.difficulty_scale,
            timing=self.timing(spec, corpus.frame_period_ms),
            seed=fold.seed(spec),
            train_ids=fold.train_ids,
            devel_ids=tuple(session.session_id for session in corpus.partition("devel")),
            key=key,
            upstream_outputs=upstream,
            corruption=settings.corruption if isinstance(settings, FusionSpec) else None,
            other_targets=self.other_targets(corpus, spec),
        )

    def other_targets(self, corpus: Corpus, spec: Spec) -> tuple[str, ...]:
        """Return the targets that are learned beside the task's own, in the corpus's order."""
        settings = self.settings(spec)
        if not isinstance(settings, UnimodalSpec) or settings.learns == "own":
            return ()

        return tuple(target for target in corpus.targets if target != self.target)

    def settings(self, spec: Spec) -> AutoEncoderSpec | UnimodalSpec | FusionSpec:
        """Return the settings of the task's stage."""
        settings: AutoEncoderSpec | UnimodalSpec | FusionSpec = getattr(spec, self.stage)
        return settings

    def timing(self, spec: Spec, frame_period_ms: float) -> Timing:
        """Return how the stage sees time: as the session is, but for a regressor.

        Args:
            spec: settings, in seconds.
            frame_period_ms: distance of two frames of the corpus.

        Raises:
            InputError: settings that are possible in seconds and not in these frames.
        """
        return Timing()


@dataclass(frozen=True)
class SupervisedProblem:
    """A task on one fold: small enough to send to a worker that already has the corpus.

    Attributes:
        name: for people, such as "head to arousal, fold 2".
        normalisation_mode: how feature columns are z-scored: see `Normalisation`.
        timing: how the stage sees time.
        train_ids: sessions learned from.
        devel_ids: sessions that decide when to stop.
        key: sha256 over everything that decides the result.
        upstream_outputs: further input columns, from earlier stages.
        corruption: what corrupted copies are learned from; None but for fusion.
        other_targets: learned beside the task's own, and not predicted.
    """

    task: Task
    name: str
    network: NetworkSpec
    fit: FitSpec
    normalisation_mode: NormalisationMode
    difficulty_scale: DifficultyScale
    timing: Timing
    seed: int
    train_ids: tuple[str, ...]
    devel_ids: tuple[str, ...]
    key: str
    upstream_outputs: UpstreamOutputs
    corruption: CorruptionSpec | None = None
    other_targets: tuple[str, ...] = ()

    def raw_inputs(self, session: Session) -> NDArray[np.float32]:
        """Return one session's raw input, shape (frames, columns), NaN where missing."""
        return raw_inputs(session, self.task.modality, self.upstream_outputs)

    def network_inputs(self, session: Session) -> NDArray[np.float32]:
        """Return one session's input at the network's frames, before it is normalised."""
        raw = self.raw_inputs(session)
        return self.timing.network_inputs(raw, difficulty_size=self.difficulty_size)

    @property
    def difficulty_size(self) -> int:
        """Return how many of the input columns are difficulties."""
        return _width(self.upstream_outputs.difficulty)

    @property
    def num_modalities(self) -> int:
        """Return of how many modalities predictions are fused; 0 but for fusion."""
        return _width(self.upstream_outputs.predictions)

    @property
    def num_other_predictions(self) -> int:
        """Return how many of the input columns are predictions of other targets."""
        return _width(self.upstream_outputs.other_predictions)


def raw_inputs(session: Session, modality: str, upstream: UpstreamOutputs) -> NDArray[np.float32]:
    """Join a stage's input columns for one session.

    Their order: the feature set or the predictions, presence, predictions of other targets,
    difficulty.

    Returns:
        Shape (frames, columns), NaN where missing.
    """
    parts = []

    if modality:
        is_present = session.present[modality]
        features = session.features[modality]
        if not is_present.all():
            features = np.where(is_present[:, None], features, np.float32(np.nan))
        parts.append(features)

    for columns in (
        upstream.predictions,
        upstream.presence,
        upstream.other_predictions,
        upstream.difficulty,
    ):
        if columns is not None:
            parts.append(columns[session.session_id])

    return np.concatenate(parts, axis=1)


def _width(columns: Columns | None) -> int:
    return 0 if columns is None else next(iter(columns.values())).shape[1]
