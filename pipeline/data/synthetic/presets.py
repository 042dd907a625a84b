"""The presets of synthetic corpora: their sessions and modalities. Knows no signals, no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.corpus import Partition

Preset = Literal["small", "ulm-tsst"]

FRAME_PERIOD_MS = 500
FRAMES_PER_MINUTE = 60_000 // FRAME_PERIOD_MS

# The official split of Ulm-TSST in MuSe 2021; the other ids are in train.
ULM_TSST: dict[Partition, tuple[int, ...]] = {
    "devel": (6, 7, 14, 19, 21, 22, 26, 27, 34, 45, 51, 55, 57, 70),
    "test": (2, 3, 13, 15, 17, 37, 39, 40, 41, 54, 56, 61, 64, 67),
}
ULM_TSST_LAST_ID = 70
ULM_TSST_UNUSED_ID = 11
"""One of the ids from 1 to 70 is unused. Which one is not public, so this is a guess."""
ULM_TSST_FRAMES: dict[Partition, int] = {"train": 600, "devel": 607, "test": 600}
"""Mean frames per session: 24.6k, 8.5k and 8.4k in all sessions of the partition."""


@dataclass(frozen=True)
class Modality:
    """How one modality shows arousal and valence.

    Attributes:
        name: the feature set.
        width: the number of columns.
        gains: of arousal and valence.
        lag_frames: how much later it shows them.
        noise: standard deviation of each column's noise; that of the signal is about 1.
        corrupted_share: share of the frames in corrupted stretches.
        silent_share: share of the frames where it measures nothing: rows of zeros.
        column: name of a column, with its number; the number alone in half of the public sets.
    """

    name: str
    width: int
    gains: tuple[float, float]
    lag_frames: int
    noise: float
    corrupted_share: float
    silent_share: float = 0.0
    column: str = "{}"


MODALITIES: dict[Preset, tuple[Modality, ...]] = {
    "small": (
        Modality("face", 17, (0.3, 0.9), 1, 0.9, 0.35, column="AU{:02}"),
        Modality("physio", 6, (0.8, 0.1), 4, 0.7, 0.2, column="physio_{}"),
        Modality("text", 16, (0.2, 0.7), 2, 1.0, 0.2, silent_share=0.15),
        Modality("voice", 20, (0.8, 0.3), 0, 0.9, 0.35),
    ),
    "ulm-tsst": (
        Modality("bert", 768, (0.2, 0.6), 2, 1.0, 0.1, silent_share=0.3),
        Modality("deepspectrum", 4096, (0.7, 0.3), 1, 1.5, 0.2),
        Modality("egemaps", 88, (0.8, 0.3), 1, 0.8, 0.2, column="feature_{}"),
        Modality("fau_intensity", 17, (0.3, 0.8), 0, 0.8, 0.2, column="AU{:02}"),
        Modality("vggface", 512, (0.3, 0.7), 0, 1.0, 0.2),
    ),
}


@dataclass(frozen=True)
class SessionPlan:
    """One session to synthesize. No two sessions are of the same subject."""

    session_id: str
    partition: Partition
    num_frames: int


def plan_sessions(preset: Preset, subjects: int, minutes: float, seed: int) -> list[SessionPlan]:
    """Return the sessions of a preset.

    Args:
        preset: "small", or "ulm-tsst" for the ids, split and about the lengths of Ulm-TSST.
        subjects: the number of sessions of "small", about 60/20/20 % train, devel and test.
        minutes: length of the sessions of "small".
        seed: of the lengths of "ulm-tsst".
    """
    return _plan_ulm_tsst(seed) if preset == "ulm-tsst" else _plan_small(subjects, minutes)


def _plan_small(subjects: int, minutes: float) -> list[SessionPlan]:
    num_frames = round(minutes * FRAMES_PER_MINUTE)
    num_held_out = max(1, round(subjects / 5))
    num_train = subjects - 2 * num_held_out

    partitions: list[Partition] = ["train"] * num_train
    partitions += ["devel"] * num_held_out
    partitions += ["test"] * num_held_out
    return [
        SessionPlan(f"S{number:02}", partition, num_frames)
        for number, partition in enumerate(partitions, 1)
    ]


def _plan_ulm_tsst(seed: int) -> list[SessionPlan]:
    random = np.random.default_rng([seed, 0])
    plans = []

    for number in range(1, ULM_TSST_LAST_ID + 1):
        if number != ULM_TSST_UNUSED_ID:
            partition = _ulm_tsst_partition(number)
            num_frames = ULM_TSST_FRAMES[partition] + int(random.integers(-12, 13))
            plans.append(SessionPlan(str(number), partition, num_frames))
    return plans


def _ulm_tsst_partition(number: int) -> Partition:
    for partition, numbers in ULM_TSST.items():
        if number in numbers:
            return partition

    return "train"
