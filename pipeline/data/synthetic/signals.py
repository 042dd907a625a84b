"""The signals of a synthetic session: latent emotions, and what each modality makes of them.

Arousal and valence drift slowly. Every modality shows them with its own gain, lag and noise,
through a fixed mixture. Now and then a modality is corrupted for some seconds (noise, freeze, or
dropout to zeros), which its reconstruction error can tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.data.synthetic.presets import Modality

# T = frames, F = feature columns, 2 = arousal and valence

SMOOTHING = np.hanning(11)[1:-1] / np.hanning(11)[1:-1].sum()
LATENT_TAU_FRAMES = 16
NUISANCE_TAU_FRAMES = 8
CORRUPTIONS = ["noise", "noise", "freeze", "dropout"]
"""Noise is twice as frequent as the others."""


def draw_latents(random: np.random.Generator, num_frames: int) -> NDArray[np.float64]:
    """Draw arousal and valence, shape (2, frames): mean 0 and deviation 1 over many sessions."""
    return np.stack([_drift(random, num_frames, LATENT_TAU_FRAMES) for _ in range(2)])


def observe(
    modality: Modality,
    latents_2T: NDArray[np.float64],
    mixture: np.random.Generator,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Return what a modality makes of the latents, shape (frames, columns).

    Args:
        modality: how it shows them.
        latents_2T: arousal and valence.
        mixture: draws what is the same in every session.
        random: draws what differs between sessions.
    """
    num_frames = latents_2T.shape[1]
    weights_F2 = mixture.normal(size=(modality.width, 2)) * modality.gains
    nuisance_weights_F2 = mixture.normal(size=(modality.width, 2)) * 0.9
    offset_F = mixture.normal(size=modality.width)

    lagged_2T = latents_2T[:, np.maximum(np.arange(num_frames) - modality.lag_frames, 0)]
    nuisance_2T = np.stack([_drift(random, num_frames, NUISANCE_TAU_FRAMES) for _ in range(2)])
    signal_TF = (weights_F2 @ lagged_2T + nuisance_weights_F2 @ nuisance_2T).T
    subject_offset_F = random.normal(size=modality.width) * 0.2
    clean_TF = np.tanh(signal_TF / 2) * 2 + offset_F + subject_offset_F

    values_TF = clean_TF + random.normal(size=clean_TF.shape) * modality.noise
    _corrupt(modality, values_TF, random)
    for start, stop in _draw_stretches(random, num_frames, modality.silent_share):
        values_TF[start:stop] = 0
    if modality.width > 8:
        values_TF[values_TF.any(axis=1), -1] = 1  # a constant column, but for the rows of zeros
    return values_TF


def _drift(random: np.random.Generator, num_frames: int, tau_frames: float) -> NDArray[np.float64]:
    """Draw a smoothed Ornstein-Uhlenbeck process: mean 0 and deviation 1 over many sessions."""
    decay = np.exp(-1 / tau_frames)
    noise = random.normal(size=num_frames + len(SMOOTHING) - 1)
    state = float(random.normal())

    states = []
    for innovation in noise:
        state = decay * state + float(np.sqrt(1 - decay**2) * innovation)
        states.append(state)

    return np.convolve(states, SMOOTHING, mode="valid")


def _corrupt(
    modality: Modality, values_TF: NDArray[np.float64], random: np.random.Generator
) -> None:
    """Corrupt some stretches of the values, in place."""
    for start, stop in _draw_stretches(random, len(values_TF), modality.corrupted_share):
        corruption = random.choice(CORRUPTIONS)

        if corruption == "noise":
            values_TF[start:stop] = random.normal(size=(stop - start, modality.width)) * 2.5
        elif corruption == "freeze":
            values_TF[start:stop] = values_TF[start]
        else:
            values_TF[start:stop] = 0


def _draw_stretches(
    random: np.random.Generator, num_frames: int, share: float
) -> list[tuple[int, int]]:
    """Draw (start, stop) of stretches of 3 to 10 s that cover about this share of the frames."""
    stretches, num_covered = [], 0
    while num_covered < share * num_frames:
        length = int(random.integers(6, 21))
        start = int(random.integers(0, num_frames))
        stretches.append((start, min(start + length, num_frames)))
        num_covered += length

    return stretches
