"""What a student learns from: sessions and copies of them, with a teacher's outputs as labels.

A copy is a training session with one modality corrupted, or a mixture of two sessions (mixup, Zhang
et al. 2018): there a teacher says more than the labels do. Reads no label.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.preprocessing.corruption import parse_corruption
from pipeline.preprocessing.normalisation import Normalisation
from pipeline.preprocessing.stuck import mark_stuck
from pipeline.stages.task import UpstreamOutputs, raw_inputs

NOISE_STD = (0.3, 3.0)
"""Between which standard deviations of a column noise is drawn, evenly in their logarithm."""
SHIFT_MS = (1_000, 10_000)
"""Between which delays a modality is shifted, either way."""
MIXTURES = 2
"""How many mixtures each training session is in the first part of."""


@dataclass(frozen=True)
class Lessons:
    """What a student learns from.

    Attributes:
        corpus: training sessions, their copies, and devel; all labels are the teacher's outputs.
            Under a target's name is its fused prediction, under `regressor_label` a modality's.
        clean_ids: training sessions as they are.
        corrupted_ids: modality -> copies of them in which it is corrupted.
        mixture_ids: mixtures of two of them.
    """

    corpus: Corpus
    clean_ids: tuple[str, ...]
    corrupted_ids: Mapping[str, tuple[str, ...]]
    mixture_ids: tuple[str, ...]

    def ids_for(self, modality: str) -> tuple[str, ...]:
        """Return what the regressors of a modality learn from: no copy has its features twice."""
        return (*self.clean_ids, *self.corrupted_ids[modality], *self.mixture_ids)

    @property
    def all_ids(self) -> tuple[str, ...]:
        """Return what the fusions learn from: all but devel."""
        corrupted = [name for names in self.corrupted_ids.values() for name in names]
        return (*self.clean_ids, *corrupted, *self.mixture_ids)

    def counts(self) -> dict[str, int]:
        """Return how many sessions of each kind there are, for a model's record."""
        return {
            "clean": len(self.clean_ids),
            "corrupted": sum(len(names) for names in self.corrupted_ids.values()),
            "mixtures": len(self.mixture_ids),
        }


def regressor_label(target: str, modality: str) -> str:
    """Return the name of what a modality alone predicts; no target's own name has a slash."""
    return f"{target}/{modality}"


def lessons_from(teacher: FusedModel, corpus: Corpus, seed: int, device: str = "cpu") -> Lessons:
    """Copy training sessions, and have a teacher predict all of them, and devel.

    Args:
        teacher: what is to be imitated.
        corpus: that it was trained on; its labels and its test sessions are not read.
        seed: of the copies.
        device: "cpu" or "cuda".
    """
    train = corpus.partition("train")
    corrupted = {
        modality: _corrupted_copies(corpus, modality, seed) for modality in teacher.modalities
    }
    mixtures = _mixtures(train, teacher.modalities, seed)
    copies = [session for sessions in corrupted.values() for session in sessions]

    sessions = [*train, *copies, *mixtures, *corpus.partition("devel")]
    predictions = teacher.predict_sessions(sessions, device=device)
    labelled = [
        replace(session, labels=_teacher_labels(teacher, prediction))
        for session, prediction in zip(sessions, predictions, strict=True)
    ]
    names = tuple(labelled[0].labels)
    return Lessons(
        corpus=replace(corpus, sessions=tuple(labelled), targets=names, findings=()),
        clean_ids=_ids(train),
        corrupted_ids={modality: _ids(sessions) for modality, sessions in corrupted.items()},
        mixture_ids=_ids(mixtures),
    )


def _teacher_labels(teacher: FusedModel, prediction: Prediction) -> dict[str, NDArray[np.float64]]:
    labels = {}
    for target in teacher.targets:
        labels[target] = prediction.values[target]
        for modality, series in prediction.unimodal[target].items():
            labels[regressor_label(target, modality)] = series
    return labels


def _corrupted_copies(corpus: Corpus, modality: str, seed: int) -> list[Session]:
    """Return each training session with one modality corrupted in a way that is drawn for it."""
    sessions = corpus.partition("train")
    inputs = [raw_inputs(session, modality, UpstreamOutputs()) for session in sessions]
    normalisation = Normalisation.fit(
        inputs, difficulty_size=0, mode="train", difficulty_scale="log"
    )

    copies = []
    for session in sessions:
        random = _random(seed, f"{session.session_id}/{modality}")
        form = _draw_form(random, corpus.frame_period_ms)
        corrupt = parse_corruption(f"{modality}={form}", {modality: normalisation}, seed=seed)
        name = f"{session.session_id}/{modality}/{form}"
        copy = mark_stuck(corrupt(session), corpus.max_held_frames)
        copies.append(replace(copy, session_id=name))
    return copies


def _draw_form(random: np.random.Generator, frame_period_ms: float) -> str:
    """Draw one of the corruptions of `parse_corruption`; noise is as likely as all others."""
    kind = random.choice(["noise", "drop", "freeze", "shift"], p=[1 / 2, 1 / 6, 1 / 6, 1 / 6])
    if kind == "noise":
        std = np.exp(random.uniform(*np.log(NOISE_STD)))
        return f"noise:{std:.3f}"
    if kind == "shift":
        delay_ms = random.uniform(*SHIFT_MS) * random.choice([-1, 1])
        return f"shift:{round(delay_ms / frame_period_ms)}"
    return str(kind)


def _mixtures(sessions: Sequence[Session], modalities: Sequence[str], seed: int) -> list[Session]:
    """Return mixtures of each session with others, as long as the shorter of both."""
    mixtures = []
    for first in sessions:
        random = _random(seed, first.session_id)
        for number in range(MIXTURES):
            second = sessions[int(random.integers(len(sessions)))]
            share = random.uniform(0.2, 0.8)
            name = f"{first.session_id}/mixture {number + 1}"
            mixtures.append(_mixture(first, second, share, modalities, name))
    return mixtures


def _mixture(
    first: Session, second: Session, share: float, modalities: Sequence[str], name: str
) -> Session:
    """Return `share` of one session and the rest of another; present where both are."""
    frames = slice(0, min(first.num_frames, second.num_frames))
    features, present = {}, {}
    for modality in modalities:
        is_present = first.present[modality][frames] & second.present[modality][frames]
        mixed = (
            share * first.features[modality][frames]
            + (1 - share) * second.features[modality][frames]
        )
        features[modality] = np.where(is_present[:, None], mixed, 0.0).astype(np.float32)
        present[modality] = is_present

    return replace(
        first,
        session_id=name,
        timestamps_ms=first.timestamps_ms[frames],
        segment_ids=first.segment_ids[frames],
        timestamps=None,
        label_rows={},
        features=features,
        present=present,
    )


def _random(seed: int, name: str) -> np.random.Generator:
    """Return random numbers of a session's own, which do not depend on the others."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _ids(sessions: Sequence[Session]) -> tuple[str, ...]:
    return tuple(session.session_id for session in sessions)
