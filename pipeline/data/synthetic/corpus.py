"""Writes a synthetic corpus in the MuSe 2021 layout, with the flaws of real files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from pipeline.corpus import PARTITIONS
from pipeline.data.layout import FEATURES, LABELS
from pipeline.data.metadata import PARTICIPANTS_FILE, PARTITION_FILE
from pipeline.data.synthetic.presets import (
    FRAME_PERIOD_MS,
    MODALITIES,
    Modality,
    Preset,
    SessionPlan,
    plan_sessions,
)
from pipeline.data.synthetic.signals import draw_latents, observe
from pipeline.errors import InputError
from pipeline.storage.csv_text import csv_lines
from pipeline.storage.surroundings import mend_of

TARGETS = ("arousal", "valence")
README = """# A synthetic corpus

Made by `affectune corpus synthesize` (preset {preset}, seed {seed}). **No person was recorded**:
arousal and valence are smoothed random walks, the feature sets are noisy mixtures of them, named
after what they imitate. Use it to try the program and to test it; scores on it say nothing about
people. The files have the flaws of real ones on purpose: headers that differ, files that start
500 ms late, unequal lengths, a constant column, rows of zeros, NaN cells, withheld test labels.
"""


def synthesize(
    out: Path, *, subjects: int = 12, minutes: float = 1.0, seed: int = 0, preset: Preset = "small"
) -> Path:
    """Write a corpus; the same arguments write the same bytes.

    Args:
        out: a folder that is empty or does not exist.
        subjects: at least 3, one session each, about 60/20/20 % train, devel and test. Only used
            by the preset "small".
        minutes: length of a session, at least 0.1. Only used by the preset "small".
        seed: of everything random.
        preset: "small", or "ulm-tsst" for the subjects, split, lengths and widths of Ulm-TSST
            (about 2 GB).

    Returns:
        `out`.

    Raises:
        InputError: an argument is out of range, or the folder holds something or cannot be written.
    """
    if preset not in MODALITIES:
        names = ", ".join(MODALITIES)
        raise InputError(f"There is no preset {preset!r}. The presets are {names}.")
    if subjects < len(PARTITIONS) or minutes < 0.1 or seed < 0:
        raise InputError(
            f"{subjects} subjects, {minutes:g} minutes, seed {seed}: "
            "at least 3, 0.1 and 0 are needed."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} is not an empty folder, and nothing is overwritten. Name a new one."
        )

    plans = plan_sessions(preset, subjects, minutes, seed)
    was_there = out.exists()
    try:
        _write_metadata(out, plans, README.format(preset=preset, seed=seed))
        _write_sessions(out, plans, MODALITIES[preset], seed)
    except BaseException as error:
        # Half of a corpus would be in the way of the next attempt.
        shutil.rmtree(out, ignore_errors=True)
        if was_there:
            with contextlib.suppress(OSError):
                out.mkdir(exist_ok=True)
        if isinstance(error, OSError):
            mend = mend_of(error) or "Correct its path"
            raise InputError(
                f"{out} cannot be written: {error.strerror}. {mend}, or name another folder."
            ) from error
        raise
    return out


def _write_metadata(out: Path, plans: Sequence[SessionPlan], readme: str) -> None:
    (out / PARTITION_FILE).parent.mkdir(parents=True)
    (out / "README.md").write_text(readme, encoding="utf-8")

    partitions = [(plan.session_id, plan.partition) for plan in plans]
    participants = [(plan.session_id, plan.session_id) for plan in plans]
    _write_metadata_table(out / PARTITION_FILE, ("Id", "Proposal"), partitions)
    _write_metadata_table(out / PARTICIPANTS_FILE, ("session", "participant"), participants)


def _write_metadata_table(
    path: Path, header: tuple[str, str], rows: Iterable[tuple[str, str]]
) -> None:
    path.write_text(csv_lines([header, *rows]), encoding="utf-8", newline="")


def _write_sessions(
    out: Path, plans: Sequence[SessionPlan], modalities: Sequence[Modality], seed: int
) -> None:
    test_ids = [plan.session_id for plan in plans if plan.partition == "test"]
    ids_without_label_files = test_ids[1::2]

    for number, plan in enumerate(plans):
        random = np.random.default_rng([seed, 1, number])
        latents_2T = draw_latents(random, plan.num_frames)
        has_files = plan.session_id not in ids_without_label_files
        _write_labels(out, plan, latents_2T, random, has_files=has_files)

        for modality_number, modality in enumerate(modalities):
            mixture = np.random.default_rng([seed, 2, modality_number])
            values_TF = observe(modality, latents_2T, mixture, random)
            _write_features(out, plan, modality, number + modality_number, values_TF)


def _write_labels(
    out: Path,
    plan: SessionPlan,
    latents_2T: NDArray[np.float64],
    random: np.random.Generator,
    *,
    has_files: bool,
) -> None:
    """Write the labels. Those of test are withheld: NaN, or no file at all."""
    for target, latent_T in zip(TARGETS, latents_2T, strict=True):
        labels_T = np.tanh(0.6 * latent_T) + random.normal(size=plan.num_frames) * 0.02
        if plan.partition == "test":
            labels_T = np.full(plan.num_frames, np.nan)

        if has_files:
            _write_table(
                out / LABELS / target / f"{plan.session_id}.csv",
                ["timestamp", "segment_id", "value"],
                [*_time_columns(plan.num_frames), _rounded(labels_T)],
            )


def _write_features(
    out: Path, plan: SessionPlan, modality: Modality, number: int, values_TF: NDArray[np.float64]
) -> None:
    """Write a feature file with the flaws that its number gives it.

    Every fifth file of a set whose columns are only numbered counts them from 1, every third starts
    a frame late, every fourth ends early, and every fourth has NaN cells.
    """
    first_column = 1 if number % 5 == 4 and modality.column == "{}" else 0
    start = 1 if number % 3 == 1 else 0
    stop = len(values_TF) - (2 if number % 4 == 2 else 0)
    if number % 4 == 1 and len(values_TF) > 8:
        values_TF[5:7, 0] = np.nan

    names = [modality.column.format(first_column + index) for index in range(modality.width)]
    time_columns = [column[start:stop] for column in _time_columns(len(values_TF))]
    _write_table(
        out / FEATURES / modality.name / f"{plan.session_id}.csv",
        ["timestamp", "segment_id", *names],
        [*time_columns, *_rounded(values_TF[start:stop].T)],
    )


def _time_columns(num_frames: int) -> list[NDArray[np.int64]]:
    """Return the timestamps and the segment ids of all frames."""
    return [np.arange(num_frames) * FRAME_PERIOD_MS, np.ones(num_frames, np.int64)]


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to four decimals: what is written is short and reads back as the same float32."""
    return np.ascontiguousarray(np.round(values, 4), np.float32)


def _write_table(path: Path, header: Sequence[str], columns: Sequence[NDArray[np.generic]]) -> None:
    # Arrow quotes the names of columns, and they need not be unique: the header is written apart.
    table = pa.table(
        [pa.array(column) for column in columns],
        names=[str(index) for index in range(len(columns))],
    )

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(csv_lines([header]).encode())
        pyarrow.csv.write_csv(table, file, pyarrow.csv.WriteOptions(include_header=False))
