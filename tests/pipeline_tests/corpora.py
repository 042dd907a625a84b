"""Corpora made in memory, for tests of everything behind the readers."""

from __future__ import annotations

import numpy as np

from pipeline.corpus import Corpus, Partition, Session
from pipeline.spec import Spec

COLUMNS = {"voice": 4, "face": 3}


def tiny_session(
    name: str,
    subject: str,
    partition: Partition,
    *,
    frames: int = 30,
    seed: int = 0,
    labelled: bool = True,
) -> Session:
    """A session whose two feature sets are noisy views of its two labels."""
    random = np.random.default_rng(seed)
    arousal = np.sin(np.linspace(0, 6, frames) + random.uniform(0, 6))
    valence = np.cos(np.linspace(0, 4, frames) + random.uniform(0, 6))
    features = {}
    for modality, columns in COLUMNS.items():
        mixing = np.random.default_rng(len(modality)).normal(size=(2, columns))
        clean = np.stack([arousal, valence], axis=1) @ mixing
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
    return Corpus(
        name="tiny",
        columns={
            modality: tuple(f"{modality}_{i}" for i in range(columns))
            for modality, columns in COLUMNS.items()
        },
        targets=("arousal", "valence"),
        sessions=tuple(sorted(sessions, key=lambda session: session.session_id)),
        frame_period_ms=500.0,
        digest="0" * 64,
    )


def tiny_corpus(*, train_subjects: int = 6) -> Corpus:
    """Two sessions of different length per training subject, three devel and two unlabelled test subjects."""
    sessions = [
        tiny_session(
            f"t{subject}_{part}",
            f"t{subject}",
            "train",
            frames=24 + 4 * part + subject,
            seed=10 * subject + part,
        )
        for subject in range(train_subjects)
        for part in range(2)
    ]
    sessions += [
        tiny_session(f"d{subject}", f"d{subject}", "devel", seed=100 + subject)
        for subject in range(3)
    ]
    sessions += [
        tiny_session(f"x{subject}", f"x{subject}", "test", seed=200 + subject, labelled=False)
        for subject in range(2)
    ]
    return corpus_of(sessions)


def tiny_spec(**values: object) -> Spec:
    """Networks that train in a moment."""
    stage = {
        "network": {"num_layers": 1, "hidden_size": 8, "dropout": 0.0},
        "fit": {"max_epochs": 3, "batch_size": 4},
    }
    return Spec.model_validate(
        {
            "auto_encoder": stage,
            "unimodal": stage,
            "fusion": stage,
            "folds": 3,
            **values,
        }
    )
