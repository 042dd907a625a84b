"""Spoils one modality of a session in a known way, to see what a model makes of it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from pipeline.corpus import Session
from pipeline.errors import InputError
from pipeline.preprocessing.normalisation import Normalisation

FORMS = "SET=noise:STD, SET=drop, SET=freeze or SET=shift:FRAMES"


def corruption(
    text: str, scales: Mapping[str, Normalisation], *, seed: int = 0
) -> Callable[[Session], Session]:
    """Read a corruption such as "head=noise:1.0".

    Args:
        text: `noise:STD` adds Gaussian noise, STD in standard deviations of each column in training; `drop` takes the
            set away; `freeze` repeats its first frame; `shift:FRAMES` delays it (a negative number: it comes early).
        scales: feature set -> its training scale.

    Raises:
        InputError: another form, or a set the model does not read.
    """
    match = re.fullmatch(
        r"([^=]+)=(?:(noise):(\d+(?:\.\d*)?|\.\d+)|(drop)|(freeze)|(shift):([+-]?\d+))", text
    )
    if not match:
        raise InputError(f"Cannot read the corruption {text!r}: write {FORMS}.")
    modality = match[1]
    if modality not in scales:
        raise InputError(f"Cannot corrupt {modality!r}: the model reads {', '.join(scales)}.")
    if match[2]:
        return lambda session: _noise(session, modality, float(match[3]), scales[modality], seed)
    if match[4]:
        return lambda session: _drop(session, modality)
    if match[5]:
        return lambda session: _freeze(session, modality)
    return lambda session: _shift(session, modality, int(match[7]))


def _noise(session: Session, modality: str, std: float, scale: Normalisation, seed: int) -> Session:
    # Each session and set has noise of its own, the same in every run.
    random = np.random.default_rng([seed, zlib.crc32(f"{session.session_id}/{modality}".encode())])
    values = session.features[modality]
    column_std = np.where(np.isfinite(scale.std), scale.std, 0.0)
    noisy = values + std * column_std * random.standard_normal(values.shape)
    present = session.present[modality]
    return _with(session, modality, np.where(present[:, None], noisy, 0.0), present)


def _drop(session: Session, modality: str) -> Session:
    values = session.features[modality]
    return _with(session, modality, np.zeros_like(values), np.zeros(len(values), dtype=bool))


def _freeze(session: Session, modality: str) -> Session:
    present = session.present[modality]
    if not present.any():
        return session
    first = int(np.flatnonzero(present)[0])
    values = np.repeat(session.features[modality][first : first + 1], len(present), axis=0)
    return _with(session, modality, values, np.ones(len(present), dtype=bool))


def _shift(session: Session, modality: str, frames: int) -> Session:
    values, present = session.features[modality], session.present[modality]
    source = np.arange(len(values)) - frames
    inside = (source >= 0) & (source < len(values))
    moved = np.where(inside, source, 0)
    return _with(
        session, modality, np.where(inside[:, None], values[moved], 0.0), inside & present[moved]
    )


def _with(session: Session, modality: str, values: object, present: object) -> Session:
    return replace(
        session,
        features={**session.features, modality: np.asarray(values, dtype=np.float32)},
        present={**session.present, modality: np.asarray(present, dtype=bool)},
    )
