"""Spoils one modality of a session in a known way, to see what a model makes of it.

Knows no model: the size of noise comes from a normalisation.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.errors import InputError
from pipeline.preprocessing.normalisation import Normalisation

Corruption = Callable[[Session], Session]

FORMS = "SET=noise:STD, SET=drop, SET=freeze or SET=shift:FRAMES"
"""The corruptions that `parse_corruption` reads, for messages and help."""

_PATTERN = re.compile(
    r"(?P<modality>[^=]+)="
    r"(?:noise:(?P<std>\d+(?:\.\d*)?|\.\d+)|(?P<drop>drop)|(?P<freeze>freeze)"
    r"|shift:(?P<frames>[+-]?\d+))"
)


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

    Returns:
        A function from a session to its corrupted copy.

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
        return lambda session: _add_noise(session, modality, column_std, seed)
    if match["drop"]:
        return lambda session: _drop(session, modality)
    if match["freeze"]:
        return lambda session: _freeze(session, modality)
    return lambda session: _shift(session, modality, int(match["frames"]))


def _column_std(normalisation: Normalisation) -> NDArray[np.float64]:
    """Return each column's standard deviation in training; 0 for a constant column."""
    return np.where(np.isfinite(normalisation.std), normalisation.std, 0.0)


def _add_noise(session: Session, modality: str, std: NDArray[np.float64], seed: int) -> Session:
    # Each session and modality has noise of its own, the same in every run.
    name = f"{session.session_id}/{modality}"
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values, present = session.features[modality], session.present[modality]

    noisy = values + std * random.standard_normal(values.shape)
    return _replace_modality(session, modality, np.where(present[:, None], noisy, 0.0), present)


def _drop(session: Session, modality: str) -> Session:
    values = session.features[modality]
    missing = np.zeros(len(values), dtype=bool)

    return _replace_modality(session, modality, np.zeros_like(values), missing)


def _freeze(session: Session, modality: str) -> Session:
    values, present = session.features[modality], session.present[modality]
    if not present.any():
        return session

    first = int(np.flatnonzero(present)[0])
    repeated = np.repeat(values[first : first + 1], len(present), axis=0)
    return _replace_modality(session, modality, repeated, np.ones(len(present), dtype=bool))


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
