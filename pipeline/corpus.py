"""A corpus in memory: sessions with aligned feature sets and labels. Knows no files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.display.short_repr import short_repr
from pipeline.errors import InputError

Partition = Literal["train", "devel", "test"]
PARTITIONS: tuple[Partition, ...] = ("train", "devel", "test")
Times = NDArray[np.int64] | NDArray[np.float64]
"""Ascending timestamps: integers where all are whole numbers."""
Resampling = Literal["nearest", "mean", "mean+std"]
"""What a frame is of the rows of a feature set: the nearest one, or statistics of those that are
nearer to it than to any other frame."""
RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)
TimeUnit = Literal["s", "ms", "us", "ns"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)


@dataclass(frozen=True)
class Finding:
    """One thing that a reader dropped, imputed or noticed, for a person to act on.

    Attributes:
        level: "note" (normal), "warning" (look at it) or "error" (training is refused).
        kind: a short stable name, such as "rows not used" or "zero rows".
        where: the feature set, target or file concerned.
        session_id: the session concerned, or "" for a finding about the corpus.
        count: the number of rows, cells, columns or sessions; 0 where there is nothing to count.
        total: the number that `count` is a part of; 0 where there is nothing to count.
        message: a sentence that explains the finding, and how to mend it where it can be mended.
    """

    level: Literal["note", "warning", "error"]
    kind: str
    where: str
    session_id: str
    count: int
    total: int
    message: str


@dataclass(frozen=True, repr=False)
class LabelRows:
    """The rows of a label file, as they are written back beside predictions, and their frames.

    Attributes:
        timestamps: shape (rows,), in the file's own text.
        segment_ids: shape (rows,), likewise.
        frames: shape (rows,), the place of the frame that each row is nearest to; ascending.
        values: shape (rows,), the labels, NaN where unknown.
    """

    timestamps: NDArray[np.str_]
    segment_ids: NDArray[np.str_]
    frames: NDArray[np.intp]
    values: NDArray[np.float64]

    def __repr__(self) -> str:
        return short_repr(self, rows=len(self.frames))


@dataclass(frozen=True, repr=False)
class Session:
    """One recording: frames in time order, every feature set and label on the same frames.

    Attributes:
        session_id: unique in its corpus.
        subject: the person recorded.
        partition: the partition of all sessions of the subject.
        timestamps_ms: shape (frames,), strictly ascending.
        segment_ids: shape (frames,), as written in the second column of the label files.
        features: feature set -> shape (frames, columns), float32, finite; 0 where not present.
        present: feature set -> shape (frames,); False where the set has nothing for this frame
            (no row within the tolerance, a row of zeros, a row of NaN, a row of a stuck sensor).
        labels: target -> shape (frames,), float64; NaN where the label is unknown. Of several rows
            at a frame it is the mean.
        stimulus: what the person was shown, by its name; "" where it is unknown.
        timestamps: shape (frames,), in the text and the unit of the file that a frame comes from;
            None: `timestamps_ms`.
        label_rows: target -> the rows of its own file; a target without a file is absent.
    """

    session_id: str
    subject: str
    partition: Partition
    timestamps_ms: Times
    segment_ids: NDArray[np.str_]
    features: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]
    labels: Mapping[str, NDArray[np.float64]]
    stimulus: str = ""
    timestamps: NDArray[np.str_] | None = None
    label_rows: Mapping[str, LabelRows] = field(default_factory=dict)

    def __repr__(self) -> str:
        return short_repr(
            self,
            session_id=self.session_id,
            subject=self.subject,
            partition=self.partition,
            frames=self.num_frames,
            features=tuple(self.features),
            labels=tuple(self.labels),
        )

    @property
    def num_frames(self) -> int:
        """Return the number of frames."""
        return len(self.timestamps_ms)

    def rows_of(self, target: str) -> LabelRows:
        """Return the rows that predictions of a target are written for: its own, or the frames."""
        if target in self.label_rows:
            return self.label_rows[target]

        timestamps = self.timestamps
        if timestamps is None:
            timestamps = np.array([str(time) for time in self.timestamps_ms.tolist()], np.str_)
        values = self.labels.get(target, np.full(self.num_frames, np.nan))
        return LabelRows(timestamps, self.segment_ids, np.arange(self.num_frames), values)


@dataclass(frozen=True, repr=False)
class Corpus:
    """The sessions of one data set, over the same feature sets and targets.

    Attributes:
        name: the folder's name.
        columns: feature set -> names of its columns, in the order of `Session.features`.
        targets: names of the labels, in the order in which the reader was given them.
        sessions: sorted by `session_id`; no subject is in two partitions.
        frame_period_ms: median distance of two frames.
        digest: sha256 over the content of every file that was read and the settings of reading.
        findings: what reading dropped, imputed or noticed.
        max_held_frames: feature set -> for how many frames it may hold its values in training; what
            stays the same for longer is of a stuck sensor (see `preprocessing.stuck`). A set that
            may hold them for any time is absent.
        set_aside: feature set -> columns of its files that are no features, and so not in
            `columns`; a set without any is absent.
        resampling: feature set -> what its frames are of its rows (see `preprocessing.align`); a
            set whose frames are the nearest rows may be absent.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    targets: tuple[str, ...]
    sessions: tuple[Session, ...]
    frame_period_ms: float
    digest: str
    findings: tuple[Finding, ...] = ()
    max_held_frames: Mapping[str, int] = field(default_factory=dict)
    set_aside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    resampling: Mapping[str, Resampling] = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = [f"{len(self.partition(name))} {name}" for name in PARTITIONS]
        return short_repr(
            self,
            name=self.name,
            sessions=", ".join(counts),
            modalities=self.modalities,
            targets=self.targets,
            frame_period_ms=self.frame_period_ms,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names of the modalities, in the order of `columns`."""
        return tuple(self.columns)

    def partition(self, name: Partition) -> tuple[Session, ...]:
        """Return the sessions of one partition, sorted by id."""
        return tuple(session for session in self.sessions if session.partition == name)

    def session(self, session_id: str) -> Session:
        """Return the session with this id.

        Raises:
            InputError: the corpus has no such session.
        """
        try:
            return self._sessions_by_id[session_id]
        except KeyError:
            raise InputError(f"Corpus {self.name!r} has no session {session_id!r}.") from None

    def select(self, sessions: Sequence[Session]) -> Corpus:
        """Return the same corpus with only these sessions."""
        return replace(self, sessions=tuple(sessions))

    def digest_of(self, session_ids: Sequence[str], *, modality: str = "", target: str = "") -> str:
        """Return the sha256 of the data that a task reads: its result depends on nothing else.

        Args:
            session_ids: the sessions, in the order that counts.
            modality: the modality whose features are read; none if empty.
            target: the target whose labels are read; none if empty.

        Raises:
            InputError: the corpus has no such session.
        """
        digest = hashlib.sha256()
        for session_id in session_ids:
            session = self.session(session_id)
            digest.update(f"{session_id}\0{session.subject}\0".encode())

            if modality:
                digest.update(self._array_digest(session, "features", modality))
                digest.update(session.present[modality].tobytes())
            if target:
                digest.update(self._array_digest(session, "labels", target))

        return digest.hexdigest()

    def _array_digest(
        self, session: Session, kind: Literal["features", "labels"], name: str
    ) -> bytes:
        """Hash the shape and content of an array, once per corpus: many tasks read a wide set."""
        key = (session.session_id, kind, name)

        if key not in self._array_digests:
            arrays = session.features if kind == "features" else session.labels
            array = np.ascontiguousarray(arrays[name])
            content = f"{array.shape}".encode() + array.tobytes()
            self._array_digests[key] = hashlib.sha256(content).digest()

        return self._array_digests[key]

    @cached_property
    def _sessions_by_id(self) -> dict[str, Session]:
        return {session.session_id: session for session in self.sessions}

    @cached_property
    def _array_digests(self) -> dict[tuple[str, str, str], bytes]:
        return {}
