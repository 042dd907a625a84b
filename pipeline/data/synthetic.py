"""Writes a synthetic corpus in the MuSe 2021 layout: sequences a network can learn, with the traps of the real files.

Arousal and valence drift slowly; every modality sees them with its own gain, lag and noise, through a fixed mixture.
Now and then a modality is corrupted for some seconds (noise, freeze, dropout to zeros): its reconstruction error tells.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from pipeline.corpus import PARTITIONS, Partition
from pipeline.errors import InputError

Preset = Literal["small", "ulm-tsst"]
PERIOD_MS = 500
FRAMES_PER_MINUTE = 60_000 // PERIOD_MS
README = """# A synthetic corpus

Made by `affectune corpus synthesize` (preset {preset}, seed {seed}). **No person was recorded**: arousal and valence
are smoothed random walks, the feature sets are noisy mixtures of them, named after what they imitate. Use it to try the
program and to test it; scores on it say nothing about people. The files have the flaws of real ones on purpose: headers
that differ, files that start 500 ms late, unequal lengths, a constant column, rows of zeros, NaN cells, withheld test
labels.
"""

# The official split of Ulm-TSST in MuSe 2021. The ids run from 1 to 70; which one of the rest is unused is not public.
ULM_TSST: dict[Partition, tuple[int, ...]] = {
    "devel": (6, 7, 14, 19, 21, 22, 26, 27, 34, 45, 51, 55, 57, 70),
    "test": (2, 3, 13, 15, 17, 37, 39, 40, 41, 54, 56, 61, 64, 67),
}
ULM_TSST_UNUSED = 11
ULM_TSST_FRAMES: dict[Partition, int] = {
    "train": 600,
    "devel": 607,
    "test": 600,
}  # 24.6k, 8.5k and 8.4k in all


@dataclass(frozen=True)
class View:
    """How one modality sees the latents.

    Attributes:
        name: the feature set.
        width: number of columns.
        gains: of arousal and valence.
        lag_frames: how much later it shows them.
        noise: standard deviation of each column's own noise; the signal's is about 1.
        corrupted_share: share of the frames in corrupted stretches.
        silent_share: share of the frames where it finds nothing: rows of zeros.
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


VIEWS: dict[Preset, tuple[View, ...]] = {
    "small": (
        View("face", 17, (0.3, 0.9), 1, 0.9, 0.35, column="AU{:02}"),
        View("physio", 6, (0.8, 0.1), 4, 0.7, 0.2, column="physio_{}"),
        View("text", 16, (0.2, 0.7), 2, 1.0, 0.2, silent_share=0.15),
        View("voice", 20, (0.8, 0.3), 0, 0.9, 0.35),
    ),
    "ulm-tsst": (
        View("bert", 768, (0.2, 0.6), 2, 1.0, 0.1, silent_share=0.3),
        View("deepspectrum", 4096, (0.7, 0.3), 1, 1.5, 0.2),
        View("egemaps", 88, (0.8, 0.3), 1, 0.8, 0.2, column="feature_{}"),
        View("fau_intensity", 17, (0.3, 0.8), 0, 0.8, 0.2, column="AU{:02}"),
        View("vggface", 512, (0.3, 0.7), 0, 1.0, 0.2),
    ),
}


@dataclass(frozen=True)
class _Plan:
    """One session to write."""

    session_id: str
    subject: str
    partition: Partition
    num_frames: int


def synthesize(
    out: Path, *, subjects: int = 12, minutes: float = 1.0, seed: int = 0, preset: Preset = "small"
) -> Path:
    """Writes a corpus; the same arguments write the same bytes.

    Args:
        out: a folder that is empty or does not exist.
        subjects: at least 3, one session each, about 60/20/20 % train, devel and test. Preset small only.
        minutes: length of a session, at least 0.1. Preset small only.
        seed: of everything random.
        preset: "small", or "ulm-tsst" for the subjects, split, lengths and widths of Ulm-TSST (about 2 GB).

    Returns:
        `out`.

    Raises:
        InputError: an argument is out of range, or the folder holds something or cannot be written.
    """
    if preset not in VIEWS:
        raise InputError(f"There is no preset {preset!r}. The presets are {', '.join(VIEWS)}.")
    if subjects < len(PARTITIONS) or minutes < 0.1 or seed < 0:
        raise InputError(
            f"{subjects} subjects, {minutes:g} minutes, seed {seed}: at least 3, 0.1 and 0 are needed."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} is not an empty folder, and nothing is overwritten. Name a new one."
        )
    plans = _ulm_tsst_plans(seed) if preset == "ulm-tsst" else _small_plans(subjects, minutes)
    try:
        _write_metadata(out, plans, README.format(preset=preset, seed=seed))
        _write_sessions(out, plans, preset, seed)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}. Name another folder."
        ) from None
    return out


def _write_sessions(out: Path, plans: Sequence[_Plan], preset: Preset, seed: int) -> None:
    for number, plan in enumerate(plans):
        random = np.random.default_rng([seed, 1, number])
        latents_2T = np.stack([_drift(random, plan.num_frames, 16) for _ in range(2)])  # T = frames
        _write_labels(out, plan, plans, latents_2T, random)
        for view_number, view in enumerate(VIEWS[preset]):
            mixture = np.random.default_rng([seed, 2, view_number])  # the same for every session
            values_TF = _observe(view, latents_2T, mixture, random)  # F = feature columns
            _write_features(out, plan, view, number + view_number, values_TF)


def _small_plans(subjects: int, minutes: float) -> list[_Plan]:
    held_out = max(1, round(subjects / 5))
    counts: dict[Partition, int] = {
        "train": subjects - 2 * held_out,
        "devel": held_out,
        "test": held_out,
    }
    homes = [partition for partition, count in counts.items() for _ in range(count)]
    num_frames = round(minutes * FRAMES_PER_MINUTE)
    return [
        _Plan(f"S{number:02}", f"S{number:02}", home, num_frames)
        for number, home in enumerate(homes, 1)
    ]


def _ulm_tsst_plans(seed: int) -> list[_Plan]:
    random = np.random.default_rng([seed, 0])
    homes: dict[int, Partition] = {
        number: home for home, numbers in ULM_TSST.items() for number in numbers
    }
    plans = []
    for number in range(1, 71):
        if number != ULM_TSST_UNUSED:
            home = homes.get(number, "train")
            plans.append(
                _Plan(
                    str(number),
                    str(number),
                    home,
                    ULM_TSST_FRAMES[home] + int(random.integers(-12, 13)),
                )
            )
    return plans


def _drift(random: np.random.Generator, num_frames: int, tau_frames: float) -> NDArray[np.float64]:
    """An Ornstein-Uhlenbeck process, smoothed; mean 0 and standard deviation 1 over many sessions."""
    decay = np.exp(-1 / tau_frames)
    noise = random.normal(size=num_frames + 8)
    state, states = float(random.normal()), []
    for kick in noise:
        state = decay * state + float(np.sqrt(1 - decay**2) * kick)
        states.append(state)
    return np.convolve(states, np.hanning(11)[1:-1] / np.hanning(11)[1:-1].sum(), mode="valid")


def _observe(
    view: View,
    latents_2T: NDArray[np.float64],
    mixture: np.random.Generator,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """What the modality makes of the latents: shape (frames, columns)."""
    num_frames = latents_2T.shape[1]
    weights_F2 = mixture.normal(size=(view.width, 2)) * view.gains
    nuisance_F2 = mixture.normal(size=(view.width, 2)) * 0.9
    offset_F = mixture.normal(size=view.width)
    late_2T = latents_2T[:, np.maximum(np.arange(num_frames) - view.lag_frames, 0)]
    other_2T = np.stack([_drift(random, num_frames, 8) for _ in range(2)])
    signal_TF = (weights_F2 @ late_2T + nuisance_F2 @ other_2T).T
    subject_F = random.normal(size=view.width) * 0.2
    clean_TF = np.tanh(signal_TF / 2) * 2 + offset_F + subject_F
    values_TF = clean_TF + random.normal(size=clean_TF.shape) * view.noise
    _corrupt(view, values_TF, random)
    for start, stop in _stretches(random, num_frames, view.silent_share):
        values_TF[start:stop] = 0
    if view.width > 8:
        values_TF[values_TF.any(axis=1), -1] = 1  # a constant column, but for the rows of zeros
    return values_TF


def _corrupt(view: View, values_TF: NDArray[np.float64], random: np.random.Generator) -> None:
    for start, stop in _stretches(random, len(values_TF), view.corrupted_share):
        how = random.choice(["noise", "noise", "freeze", "dropout"])
        if how == "noise":
            values_TF[start:stop] = random.normal(size=(stop - start, view.width)) * 2.5
        else:
            values_TF[start:stop] = values_TF[start] if how == "freeze" else 0


def _stretches(random: np.random.Generator, num_frames: int, share: float) -> list[tuple[int, int]]:
    """Stretches of 3 to 10 s that cover about this share of the frames."""
    stretches, covered = [], 0
    while covered < share * num_frames:
        length = int(random.integers(6, 21))
        start = int(random.integers(0, num_frames))
        stretches.append((start, min(start + length, num_frames)))
        covered += length
    return stretches


def _write_metadata(out: Path, plans: Sequence[_Plan], readme: str) -> None:
    (out / "metadata").mkdir(parents=True)
    (out / "README.md").write_text(readme, encoding="utf-8")
    tables = {
        "partition.csv": [
            ("Id", "Proposal"),
            *((plan.session_id, plan.partition) for plan in plans),
        ],
        "participants.csv": [
            ("session", "participant"),
            *((plan.session_id, plan.subject) for plan in plans),
        ],
    }
    for name, rows in tables.items():
        with (out / "metadata" / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _write_labels(
    out: Path,
    plan: _Plan,
    plans: Sequence[_Plan],
    latents_2T: NDArray[np.float64],
    random: np.random.Generator,
) -> None:
    """Known in train and devel; in test NaN, and for every second test session no file at all."""
    tests = [one.session_id for one in plans if one.partition == "test"]
    for target, latent_T in zip(("arousal", "valence"), latents_2T, strict=True):
        values_T = np.tanh(0.6 * latent_T) + random.normal(size=plan.num_frames) * 0.02
        if plan.partition == "test":
            if tests.index(plan.session_id) % 2:
                continue
            values_T = np.full(plan.num_frames, np.nan)
        _write_csv(
            out / "label_segments" / target / f"{plan.session_id}.csv",
            [_times(plan.num_frames), _ones(plan.num_frames), _short(values_T)],
            ["timestamp", "segment_id", "value"],
        )


def _write_features(
    out: Path, plan: _Plan, view: View, number: int, values_TF: NDArray[np.float64]
) -> None:
    """Every fifth file counts its columns from 1, every third starts a frame late, every fourth ends early."""
    if number % 4 == 1 and len(values_TF) > 8:
        values_TF[5:7, 0] = np.nan
    rows = slice(1 if number % 3 == 1 else 0, len(values_TF) - (2 if number % 4 == 2 else 0))
    first = 1 if number % 5 == 4 else 0
    _write_csv(
        out / "feature_segments" / view.name / f"{plan.session_id}.csv",
        [_times(len(values_TF))[rows], _ones(len(values_TF))[rows], *_short(values_TF[rows].T)],
        [
            "timestamp",
            "segment_id",
            *(view.column.format(index + first) for index in range(view.width)),
        ],
    )


def _times(num_frames: int) -> NDArray[np.int64]:
    return np.arange(num_frames) * PERIOD_MS


def _ones(num_frames: int) -> NDArray[np.int64]:
    return np.ones(num_frames, np.int64)


def _short(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Four decimals: what is written is short and reads back as the same float32."""
    return np.ascontiguousarray(np.round(values, 4), np.float32)


def _write_csv(path: Path, columns: Sequence[NDArray[np.generic]], names: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write((",".join(names) + "\n").encode())
        table = pa.table(
            [pa.array(column) for column in columns], names=list(map(str, range(len(names))))
        )
        pyarrow.csv.write_csv(table, file, pyarrow.csv.WriteOptions(include_header=False))
