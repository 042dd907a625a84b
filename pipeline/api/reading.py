"""Corpora for Python programs: read for training, or as a model reads them; and synthetic ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pipeline.api.python_errors import in_python
from pipeline.corpus import RESAMPLINGS, TIME_UNITS, Corpus, Resampling, TimeUnit
from pipeline.data import muse
from pipeline.data.layout import find_layout
from pipeline.data.synthetic.corpus import synthesize
from pipeline.errors import InputError
from pipeline.model.fused_model import FusedModel

Resample = Resampling | Mapping[str, Resampling]
"""For all feature sets, or by name."""


@in_python
def read_corpus(
    path: Path | str,
    *,
    model: FusedModel | None = None,
    modalities: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    tolerance_ms: float | None = None,
    resample: Resample | None = None,
    time_unit: TimeUnit | None = None,
) -> Corpus:
    """Read a corpus from a folder in a MuSe layout: one frame for each row of labels.

    Args:
        path: the folder.
        model: read it as this model reads it: its modalities, columns and resampling, and those of
            its targets that are labelled. Give it where the corpus is to be predicted or evaluated,
            and not learned from.
        modalities: feature sets to read; default: all.
        targets: labels to read; default: all.
        tolerance_ms: largest distance of a feature row from its label row; default: half a period.
        resample: what a frame is of a faster feature set: "nearest", "mean" or "mean+std", for all
            or by name; default: the mean where most rows would be dropped.
        time_unit: of all timestamps: "s", "ms", "us" or "ns"; default: it is recognised.

    Returns:
        The corpus. Its `findings` say what was dropped, filled in or odd.

    Raises:
        InputError: it cannot be used; the message says where, why, and how to mend it.

    Example:
        >>> corpus = affectune.read_corpus("data/c3_muse_stress")  # doctest: +SKIP
        >>> corpus.partition("train")  # doctest: +SKIP
    """
    resampling = check_resampling(resample)
    unit = check_time_unit(time_unit)
    if model is not None:
        if modalities is not None or targets is not None:
            raise InputError(
                "The model says which modalities and targets are read: leave out "
                "modalities and targets, or the model."
            )
        corpus = corpus_to_predict(
            model, Path(path), tolerance_ms=tolerance_ms, resampling=resampling, time_unit=unit
        )
    else:
        corpus = muse.read_corpus(
            Path(path),
            modalities=check_names("modalities", modalities),
            targets=check_names("targets", targets),
            tolerance_ms=tolerance_ms,
            resampling=resampling,
            time_unit=unit,
        )
    _raise_if_not_read(resampling, corpus)
    return corpus


@in_python
def synthesize_corpus(
    out: Path | str,
    *,
    subjects: int = 12,
    minutes: float = 1.0,
    seed: int = 0,
    preset: Literal["small", "ulm-tsst"] = "small",
) -> Path:
    """Write a synthetic corpus: learnable, with the flaws of real files. No person was recorded.

    Args:
        out: a folder that is empty or does not exist.
        subjects: people, one session each, at least 3 (preset "small").
        minutes: length of a session, at least 0.1 (preset "small").
        seed: the same seed writes the same bytes.
        preset: "small", or "ulm-tsst" for the split, lengths and widths of Ulm-TSST (2 GB).

    Returns:
        The folder.

    Raises:
        InputError: an argument is out of range, or the folder holds something.
    """
    return synthesize(Path(out), subjects=subjects, minutes=minutes, seed=seed, preset=preset)


def corpus_to_evaluate(
    model: FusedModel,
    path: Path,
    *,
    tolerance_ms: float | None = None,
    resampling: Resample | None = None,
    time_unit: TimeUnit | None = None,
) -> Corpus:
    """Read a corpus as a model reads it, with the labels of all its targets.

    Raises:
        InputError: it cannot be used, or lacks a target.
    """
    return muse.read_corpus(
        path,
        modalities=model.modalities,
        targets=model.targets,
        tolerance_ms=tolerance_ms,
        resampling=resampling or model.resampling_of_sets,
        time_unit=time_unit,
        mark_stuck_rows=False,  # the model does, by its own limits
        model_columns=model.columns_in_files,
        model_set_aside=model.set_aside,
    )


def corpus_to_predict(
    model: FusedModel,
    path: Path,
    *,
    tolerance_ms: float | None = None,
    resampling: Resample | None = None,
    time_unit: TimeUnit | None = None,
) -> Corpus:
    """Read a corpus as a model reads it, with the labels that there are.

    Raises:
        InputError: it cannot be used.
    """
    labelled = find_layout(path, model.modalities, None).labels
    return muse.read_corpus(
        path,
        modalities=model.modalities,
        targets=[target for target in model.targets if target in labelled],
        tolerance_ms=tolerance_ms,
        resampling=resampling or model.resampling_of_sets,
        time_unit=time_unit,
        frame_period_ms=model.frame_period_ms,
        mark_stuck_rows=False,
        model_columns=model.columns_in_files,
        model_set_aside=model.set_aside,
    )


def check_names(argument: str, names: Sequence[str] | None) -> list[str] | None:
    """Return names as a list; None where they are not given.

    Raises:
        InputError: a text in place of a list, or a name that is empty or there twice.
    """
    if names is None:
        return None
    if isinstance(names, str):
        raise InputError(f"{argument} is the text {names!r}; write a list such as [{names!r}].")
    if "" in names or len(set(names)) < len(names):
        raise InputError(f"{argument} is {list(names)!r}: the names must be different.")
    return list(names)


def check_resampling(resample: Resample | None) -> Resample | None:
    """Return how to resample, if it is one of the ways.

    Raises:
        InputError: it is none.
    """
    kinds = resample.values() if isinstance(resample, Mapping) else (resample,)
    for kind in kinds:
        if kind is not None and kind not in RESAMPLINGS:
            raise InputError(f"resample is {kind!r}; it must be one of {', '.join(RESAMPLINGS)}.")
    return resample


def _raise_if_not_read(resampling: Resample | None, corpus: Corpus) -> None:
    """Refuse a way to resample what is no feature set of the corpus."""
    if isinstance(resampling, Mapping):
        for name in resampling:
            if name not in corpus.columns:
                raise InputError(
                    f"resample names {name!r}; the corpus has {', '.join(corpus.columns)}."
                )


def check_time_unit(time_unit: TimeUnit | None) -> TimeUnit | None:
    """Return a unit of time, if it is one.

    Raises:
        InputError: it is none.
    """
    if time_unit is not None and time_unit not in TIME_UNITS:
        raise InputError(f"time_unit is {time_unit!r}; it must be one of {', '.join(TIME_UNITS)}.")
    return time_unit
