"""Sessions with aligned feature sets and labels, their partitions and subjects. Knows no files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

Partition = Literal["train", "devel", "test"]
PARTITIONS: tuple[Partition, ...] = ("train", "devel", "test")


@dataclass(frozen=True)
class Finding:
    """One thing a reader dropped, imputed or noticed, for a person to act on.

    Attributes:
        level: "note" (normal), "warning" (look at it) or "error" (training is refused).
        kind: a short stable name, such as "rows dropped" or "zero rows".
        where: the feature set, target or file concerned.
        session_id: the session concerned, or "" when it is about the whole corpus.
        count: how many rows, cells or columns; 0 where counting makes no sense.
        total: out of how many; 0 where there is no whole.
        message: a sentence that says what it is and what to do.
    """

    level: Literal["note", "warning", "error"]
    kind: str
    where: str
    session_id: str
    count: int
    total: int
    message: str


@dataclass(frozen=True)
class Session:
    """One recording: frames in time order, every feature set and label on the same frames.

    Attributes:
        timestamps_ms: shape (frames,), strictly ascending.
        segment_ids: shape (frames,), as written in the second column of the label files.
        features: feature set -> shape (frames, columns), float32, finite; 0 where not present.
        present: feature set -> shape (frames,); False where the set has nothing for this frame
            (no row within the tolerance, a row of zeros, a row of NaN).
        labels: target -> shape (frames,), float64; NaN where the label is unknown.
    """

    session_id: str
    subject: str
    partition: Partition
    timestamps_ms: NDArray[np.int64]
    segment_ids: NDArray[np.str_]
    features: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]
    labels: Mapping[str, NDArray[np.float64]]

    @property
    def num_frames(self) -> int:
        return len(self.timestamps_ms)


@dataclass(frozen=True)
class Corpus:
    """A set of sessions over the same feature sets and targets.

    Attributes:
        name: the folder's name.
        columns: feature set -> names of its columns, in the order of `Session.features`.
        targets: names of the labels, in the order asked for.
        sessions: sorted by `session_id`; no subject is in two partitions.
        frame_period_ms: median distance of two frames.
        digest: sha256 over the content of every file read and the settings of reading.
        findings: what reading dropped, imputed or noticed.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    targets: tuple[str, ...]
    sessions: tuple[Session, ...]
    frame_period_ms: float
    digest: str
    findings: tuple[Finding, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def partition(self, name: Partition) -> tuple[Session, ...]:
        """The sessions of one partition, sorted by id."""
        return tuple(session for session in self.sessions if session.partition == name)

    def session(self, session_id: str) -> Session:
        """The session with this id.

        Raises:
            InputError: there is none.
        """
        try:
            return self._by_id[session_id]
        except KeyError:
            raise InputError(f"Corpus {self.name!r} has no session {session_id!r}.") from None

    def digest_of(self, session_ids: Sequence[str], *, modality: str = "", target: str = "") -> str:
        """sha256 over these sessions' subjects, one feature set and one target: what a task's result depends on."""
        total = hashlib.sha256()
        for session_id in session_ids:
            session = self.session(session_id)
            total.update(f"{session_id}\0{session.subject}\0".encode())
            if modality:
                total.update(self._digest_of_array(session_id, "features", modality))
                total.update(session.present[modality].tobytes())
            if target:
                total.update(self._digest_of_array(session_id, "labels", target))
        return total.hexdigest()

    def _digest_of_array(
        self, session_id: str, kind: Literal["features", "labels"], name: str
    ) -> bytes:
        """Hashed once per corpus: a wide set is read by many tasks."""
        place = (session_id, kind, name)
        if place not in self._digests:
            array = np.ascontiguousarray(getattr(self.session(session_id), kind)[name])
            self._digests[place] = hashlib.sha256(
                f"{array.shape}".encode() + array.tobytes()
            ).digest()
        return self._digests[place]

    @cached_property
    def _by_id(self) -> dict[str, Session]:
        return {session.session_id: session for session in self.sessions}

    @cached_property
    def _digests(self) -> dict[tuple[str, str, str], bytes]:
        return {}

    def select(self, sessions: Sequence[Session]) -> Corpus:
        """The same corpus with only these sessions."""
        return replace(self, sessions=tuple(sessions))
