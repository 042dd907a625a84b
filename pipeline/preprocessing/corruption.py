"""Spoils one modality of a session in a known way: to see what a model makes of it, or to teach it.

Knows no model: the size of noise comes from the standard deviations of columns.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.preprocessing.normalisation import Normalisation
    from pipeline.spec import CorruptionKind

FORMS = "SET=noise:STD, SET=drop, SET=freeze or SET=shift:FRAMES"
"""The corruptions that `parse_corruption` reads, for messages and help."""

COPY_NOISE = (0.5, 4.0)
"""Between these many standard deviations lies the noise of a training copy, log-uniform."""
COPY_SHIFT_MS = (1_000, 10_000)
"""A training copy is early or late by a time between these."""
COPY_SEED = 1
"""Training copies have other noise than evaluations, whose seed is 0."""

_PATTERN = re.compile(
    r"(?P<modality>.+)="
    r"(?:noise:(?P<std>\d+(?:\.\d*)?|\.\d+)|(?P<drop>drop)|(?P<freeze>freeze)"
    r"|shift:(?P<frames>[+-]?\d+))"
)


@dataclass(frozen=True)
class Corruption:
    """A function from a session to its corrupted copy, which knows what it is called.

    Attributes:
        texts: what it does, one after the other, such as ("head=noise:1.0",).
        apply: does it.
    """

    texts: tuple[str, ...]
    apply: Callable[[Session], Session]

    def __call__(self, session: Session) -> Session:
        return self.apply(session)


def parse_corruptions(
    texts: Sequence[str], normalisations: Mapping[str, Normalisation]
) -> Corruption | None:
    """Return what applies several corruptions, one after the other; None where there are none.

    Args:
        texts: as `parse_corruption` reads them.
        normalisations: likewise.

    Raises:
        InputError: see `parse_corruption`.
    """
    corruptions = [parse_corruption(text, normalisations) for text in texts]

    def apply(session: Session) -> Session:
        for corrupt in corruptions:
            session = corrupt(session)
        return session

    return Corruption(tuple(texts), apply) if corruptions else None


def parse_corruption(
    text: str, normalisations: Mapping[str, Normalisation], *, seed: int = 0
) -> Corruption:
    """Return the corruption that a text such as "head=noise:1.0" describes.

    Args:
        text: a modality, and what happens to it. `noise:STD` adds Gaussian noise, STD in standard
            deviations of each column in training; `drop` makes the modality missing; `freeze`
            repeats its first present frame; `shift:FRAMES` delays it (a negative number: it is
            early), and what leaves the session is missing.
        normalisations: modality -> the normalisation that was fitted on its training frames.
        seed: of the noise, which differs between sessions and modalities.

    Raises:
        InputError: the text has another form, or names a modality without a normalisation.
    """
    match = _PATTERN.fullmatch(text)
    if not match:
        raise InputError(f"Cannot read the corruption {text!r}: write {FORMS}.")

    modality = match["modality"]
    if modality not in normalisations:
        raise InputError(
            f"Cannot corrupt {modality!r}: the model reads {', '.join(normalisations)}."
        )

    if match["std"]:
        column_std = float(match["std"]) * _column_std(normalisations[modality])
        return Corruption((text,), lambda session: _add_noise(session, modality, column_std, seed))
    if match["drop"]:
        return Corruption((text,), lambda session: _drop(session, modality))
    if match["freeze"]:
        return Corruption((text,), lambda session: _freeze(session, modality))
    num_frames = int(match["frames"])
    return Corruption((text,), lambda session: _shift(session, modality, num_frames))


def corrupted_copy(
    session: Session,
    modality: str,
    kind: CorruptionKind,
    column_std: NDArray[np.float64] | None = None,
) -> Session:
    """Return the copy of a session that teaches fusion what a broken modality looks like.

    How much it is spoilt differs between sessions, and is the same in every run. "drop": the
    modality is missing. "freeze": from some frame in the session's first half on it stands still.
    "noise": Gaussian, of a size drawn from `COPY_NOISE`. "shift": early or late by a time drawn
    from `COPY_SHIFT_MS`, but by half of the session at most.

    Args:
        session: any session.
        modality: what is spoilt.
        kind: how.
        column_std: standard deviation of each of its columns, shape (columns,); only noise needs
            it.
    """
    random = _session_random(session, modality, COPY_SEED)

    if kind == "drop":
        return _drop(session, modality)
    if kind == "freeze":
        onset = int(random.uniform(0, 0.5) * session.num_frames)
        return _freeze(session, modality, onset)
    if kind == "noise":
        low, high = np.log(COPY_NOISE)
        size = float(np.exp(random.uniform(low, high)))
        assert column_std is not None
        return _add_noise(session, modality, size * column_std, COPY_SEED)

    num_frames = int(random.uniform(*COPY_SHIFT_MS) / _frame_period_ms(session))
    num_frames = min(max(num_frames, 1), session.num_frames // 2)
    return _shift(session, modality, num_frames if random.random() < 0.5 else -num_frames)


def column_std(sessions: tuple[Session, ...], modality: str) -> NDArray[np.float64]:
    """Return the standard deviation of a modality's columns over its present frames.

    Returns:
        Shape (columns,); 0 for a constant column.
    """
    num_columns = sessions[0].features[modality].shape[1]
    count, total = 0, np.zeros(num_columns)
    for session in sessions:
        values = session.features[modality][session.present[modality]]
        count += len(values)
        total += values.sum(axis=0, dtype=np.float64)
    mean = total / max(count, 1)

    squares = np.zeros(num_columns)
    for session in sessions:
        values = session.features[modality][session.present[modality]]
        squares += ((values - mean) ** 2).sum(axis=0)
    return np.sqrt(squares / max(count, 1))


def _column_std(normalisation: Normalisation) -> NDArray[np.float64]:
    """Return each column's standard deviation in training; 0 for a constant column."""
    return np.where(np.isfinite(normalisation.std), normalisation.std, 0.0)


def _session_random(session: Session, modality: str, seed: int) -> np.random.Generator:
    """Return random numbers of one session and modality, the same in every run."""
    name = f"{session.session_id}/{modality}"
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _frame_period_ms(session: Session) -> float:
    if session.num_frames < 2:
        return 1.0
    return float(np.median(np.diff(session.timestamps_ms)))


def _add_noise(session: Session, modality: str, std: NDArray[np.float64], seed: int) -> Session:
    random = _session_random(session, modality, seed)
    values, present = session.features[modality], session.present[modality]

    noisy = values + std * random.standard_normal(values.shape)
    return _replace_modality(session, modality, np.where(present[:, None], noisy, 0.0), present)


def _drop(session: Session, modality: str) -> Session:
    values = session.features[modality]
    missing = np.zeros(len(values), dtype=bool)

    return _replace_modality(session, modality, np.zeros_like(values), missing)


def _freeze(session: Session, modality: str, onset: int = 0) -> Session:
    """Repeat the first frame from an onset on at which the modality is present."""
    values, present = session.features[modality], session.present[modality]
    candidates = np.flatnonzero(present[onset:])
    if not candidates.size:
        return session

    first = onset + int(candidates[0])
    # What comes before a freeze from the session's start is frozen, too.
    begin = first if onset else 0
    values, present = values.copy(), present.copy()
    values[begin:], present[begin:] = values[first], True
    return _replace_modality(session, modality, values, present)


def _shift(session: Session, modality: str, num_frames: int) -> Session:
    values, present = session.features[modality], session.present[modality]
    source = np.arange(len(values)) - num_frames
    is_inside = (source >= 0) & (source < len(values))
    source = np.where(is_inside, source, 0)

    shifted = np.where(is_inside[:, None], values[source], 0.0)
    return _replace_modality(session, modality, shifted, is_inside & present[source])


def _replace_modality(
    session: Session,
    modality: str,
    values: NDArray[np.floating[Any]],
    present: NDArray[np.bool_],
) -> Session:
    features = {**session.features, modality: values.astype(np.float32)}

    return replace(session, features=features, present={**session.present, modality: present})
