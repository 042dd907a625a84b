"""Corpora made in memory, for tests of everything behind the readers."""

from __future__ import annotations

import numpy as np

from pipeline.corpus import Corpus, Partition, Session
from pipeline.model.bands import BandCalibration
from pipeline.spec import Spec

COLUMNS = {"voice": 4, "face": 3}
MAX_HELD_FRAMES = {"voice": 10, "face": 10}
"""Those of 5 s: what is learned from sessions that vary."""


def tiny_session(
    name: str,
    subject: str,
    partition: Partition,
    *,
    frames: int = 30,
    seed: int = 0,
    labelled: bool = True,
) -> Session:
    """Return a session whose two feature sets are noisy mixtures of its two labels."""
    random = np.random.default_rng(seed)
    arousal = np.sin(np.linspace(0, 6, frames) + random.uniform(0, 6))
    valence = np.cos(np.linspace(0, 4, frames) + random.uniform(0, 6))

    features = {}
    for modality, columns in COLUMNS.items():
        mixture = np.random.default_rng(len(modality)).normal(size=(2, columns))
        clean = np.stack([arousal, valence], axis=1) @ mixture
        features[modality] = (clean + 0.3 * random.normal(size=clean.shape)).astype(np.float32)

    unknown = np.full(frames, np.nan)
    return Session(
        session_id=name,
        subject=subject,
        partition=partition,
        timestamps_ms=np.arange(frames, dtype=np.int64) * 500,
        segment_ids=np.full(frames, "1"),
        features=features,
        present={modality: np.ones(frames, dtype=bool) for modality in COLUMNS},
        labels={
            "arousal": arousal if labelled else unknown,
            "valence": valence if labelled else unknown,
        },
    )


def corpus_of(sessions: list[Session]) -> Corpus:
    """Return a corpus of tiny sessions."""
    return Corpus(
        name="tiny",
        columns={modality: _column_names(modality) for modality in COLUMNS},
        targets=("arousal", "valence"),
        sessions=tuple(sorted(sessions, key=lambda session: session.session_id)),
        frame_period_ms=500.0,
        digest="0" * 64,
        max_held_frames=MAX_HELD_FRAMES,
    )


def tiny_corpus(*, train_subjects: int = 6) -> Corpus:
    """Return a corpus of subjects of all partitions.

    Each training subject has two sessions of different length, each of the three devel and two
    test subjects one. Those of test are not labelled.
    """
    sessions = []
    for subject in range(train_subjects):
        for part in range(2):
            sessions.append(
                tiny_session(
                    f"t{subject}_{part}",
                    f"t{subject}",
                    "train",
                    frames=24 + 4 * part + subject,
                    seed=10 * subject + part,
                )
            )

    for subject in range(3):
        name = f"d{subject}"
        sessions.append(tiny_session(name, name, "devel", seed=100 + subject))

    for subject in range(2):
        name = f"x{subject}"
        sessions.append(tiny_session(name, name, "test", seed=200 + subject, labelled=False))

    return corpus_of(sessions)


def tiny_spec(**values: object) -> Spec:
    """Return settings of networks that train in a moment.

    Args:
        values: settings that replace those of this function.
    """
    stage = {
        "network": {"num_layers": 1, "hidden_size": 8, "dropout": 0.0},
        "fit": {"max_epochs": 3, "batch_size": 4},
    }
    tiny = {"auto_encoder": stage, "unimodal": stage, "fusion": stage, "folds": 3}
    return Spec.model_validate(tiny | values)


def tiny_fusion(*, kind: str) -> dict[str, object]:
    """Return the settings of a fusion of this kind, for `tiny_spec(fusion=...)`."""
    network = {"kind": kind, "num_layers": 1, "hidden_size": 8, "dropout": 0.0}
    return {"network": network, "fit": {"max_epochs": 3, "batch_size": 4}}


def _column_names(modality: str) -> tuple[str, ...]:
    return tuple(f"{modality}_{index}" for index in range(COLUMNS[modality]))


def band_calibration(*, num_inputs: int = 3) -> BandCalibration:
    """Return how bands are made for a model of two modalities; harder frames have wider ones."""
    return BandCalibration(
        level=0.9,
        people=20,
        quantile=2.0,
        constant_half_width=0.5,
        intercept=-1.5,
        weights=(0.2, 0.1, 0.3)[:num_inputs],
        centres=(0.0,) * num_inputs,
        deviations=(1.0,) * num_inputs,
        lowest=-1.0,
        highest=None,
    )
