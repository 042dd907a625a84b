"""Predictions for Python programs: of a corpus, by session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.api.device import find_device
from pipeline.api.python_errors import in_python
from pipeline.api.reading import corpus_to_predict
from pipeline.corpus import PARTITIONS, Corpus, Partition, Session
from pipeline.display.picture import Picture
from pipeline.display.short_repr import short_repr
from pipeline.errors import InputError
from pipeline.evaluation.evaluate import as_model_reads
from pipeline.model.fused_model import FusedModel, Prediction


class Predictions(Mapping[str, Prediction]):
    """What a model predicts of several sessions: session id -> `Prediction`.

    Example:
        >>> predictions = affectune.predict(model, "data/c3_muse_stress")  # doctest: +SKIP
        >>> predictions["P05_V3"].values["arousal"]  # doctest: +SKIP
        >>> predictions.to_frame()["arousal", "prediction"]  # doctest: +SKIP
        >>> predictions.plot("P05_V3").savefig("P05_V3.png")  # doctest: +SKIP
    """

    def __init__(self, sessions: Sequence[Session], predictions: Sequence[Prediction]) -> None:
        self._sessions = {session.session_id: session for session in sessions}
        self._predictions = dict(zip(self._sessions, predictions, strict=True))

    def __getitem__(self, session_id: str) -> Prediction:
        """Return the prediction of one session."""
        return self._predictions[session_id]

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of the sessions."""
        return iter(self._predictions)

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._predictions)

    def __repr__(self) -> str:
        first = next(iter(self.values()))
        frames = sum(session.num_frames for session in self._sessions.values())
        return short_repr(self, sessions=len(self), frames=frames, targets=tuple(first.values))

    def to_frame(self) -> pd.DataFrame:
        """Return all series as one table: see `Prediction.to_frame`.

        Returns:
            A row for each frame; its index has the levels "session_id" and "timestamp_ms".
        """
        frames = {session_id: prediction.to_frame() for session_id, prediction in self.items()}
        return pd.concat(frames, names=["session_id"])

    def plot(self, session_id: str | None = None) -> Picture:
        """Draw one session: see `Prediction.plot`. Known labels are drawn with it.

        Args:
            session_id: default: the first session.

        Raises:
            InputError: there is no such session.
        """
        session_id = next(iter(self)) if session_id is None else session_id
        if session_id not in self._sessions:
            raise InputError(f"No session {session_id!r} was predicted: {', '.join(self)} were.")
        labels = {
            target: values
            for target, values in self._sessions[session_id].labels.items()
            if target in self[session_id].values and np.isfinite(values).any()
        }
        return self[session_id].plot(labels)


@in_python
def predict(
    model: FusedModel,
    corpus: Corpus | Path | str,
    partition: Partition = "test",
    *,
    device: str = "auto",
) -> Predictions:
    """Predict the sessions of a partition. One session of your own: `model.predict(features)`.

    Args:
        model: from `train` or `load`.
        corpus: its folder; or the corpus, best read with `read_corpus(path, model=model)`.
        partition: "train", "devel" or "test".
        device: "auto" (a GPU for 256 hidden units and more), "cpu" or "cuda".

    Raises:
        InputError: the corpus is not one that the model can read, or has no such sessions.

    Example:
        >>> model = affectune.load("model")  # doctest: +SKIP
        >>> affectune.predict(model, "data/c3_muse_stress").to_frame()  # doctest: +SKIP
    """
    raise_if_not_loaded(model)
    part, torch_device = check_partition(partition), find_device(device, model.spec)
    if not isinstance(corpus, Corpus):
        corpus = corpus_to_predict(model, Path(corpus))
    corpus = as_model_reads(model, corpus)
    sessions = corpus.partition(part)
    if not sessions:
        raise InputError(f"Corpus {corpus.name!r} has no {part} sessions.")
    return Predictions(sessions, model.predict_sessions(sessions, device=torch_device))


def raise_if_not_loaded(model: object) -> None:
    """Refuse the name of a model in the place of a model.

    Raises:
        InputError: it is such a name.
    """
    if isinstance(model, str | Path):
        raise InputError(f"'{model}' names a model: load it first, affectune.load('{model}').")


def check_partition(name: str) -> Partition:
    """Return a partition, if it is one.

    Raises:
        InputError: it is none.
    """
    for partition in PARTITIONS:
        if name == partition:
            return partition
    raise InputError(f"--partition is {name!r}; it must be one of {', '.join(PARTITIONS)}.")
