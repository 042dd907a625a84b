"""Nested cross-validation of a study: the whole search, scored on people it never saw.

It gives no model: those of the outer folds are for the score alone, and are not registered.

Varma, S. and Simon, R. (2006): Bias in error estimation when using cross-validation for model
selection. BMC Bioinformatics 7, 91.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from pipeline.corpus import PARTITIONS, Corpus, Session
from pipeline.errors import AffectuneError, InputError
from pipeline.evaluation.paired_scores import Predictions, mean_paired_scores, paired_scores
from pipeline.fitting.progress_bar import ProgressBar
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.metrics.bootstrap import subject_moments
from pipeline.metrics.ccc import ccc_from_moments
from pipeline.model.bundle import load_model
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.stages.outer_folds import OuterFold, outer_folds
from pipeline.stages.requirements import raise_if_untrainable
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.json_record import read_record
from pipeline.storage.stage_store import StageStore
from pipeline.train import num_fits, train
from tuning.monitoring.metrics import StudyMetrics
from tuning.monitoring.status import format_duration
from tuning.report.nested_scores import (
    DEFAULT,
    NESTED,
    WINNER,
    NestedScores,
    OuterFoldRecord,
    nested_tables,
)
from tuning.spec.study_spec import StudySpec
from tuning.study.following import followed
from tuning.study.outer_fold_predictions import (
    best_modality,
    predict_set_apart,
    read_predictions,
    write_predictions,
)
from tuning.study.study import Study, StudyOptions, open_study, reached_cluster, run_study
from tuning.study.study_folder import (
    DIVISION,
    MODEL_FOLDER,
    NESTED_FOLDER,
    raise_if_no_nested_place,
)

PREDICTIONS, FOLD = "predictions", "fold.json"
HASHES = "sha256"
"""In the record of an outer fold: of its predictions, from which the scores are computed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NestedRun:
    """What nested cross-validation found, and the predictions it was computed from.

    Attributes:
        scores: of all predictions.
        sessions: of all people, each set apart in one fold.
        predictions: target -> prediction -> one series per session.
    """

    scores: NestedScores
    sessions: tuple[Session, ...]
    predictions: Predictions


def run_nested(
    spec: StudySpec,
    corpus: Corpus,
    corpus_path: Path,
    options: StudyOptions,
    console: Console,
    *,
    num_folds: int,
    resume: bool = False,
    metrics: StudyMetrics | None = None,
) -> NestedRun:
    """Score a whole search on every labelled person of train and devel.

    In each outer fold a study runs without the people set apart; its winner predicts them, and so
    does the untuned default: the study's own settings, trained on the same people. What is done
    stays: a fold that has ended is not run again, and a study that was killed goes on from its
    journal.

    Args:
        spec: its modalities and targets known.
        corpus: test sessions are never read.
        corpus_path: where it lies, for the record.
        options: where to run. The time budget is divided evenly over the folds, for their studies;
            the default, which has no trials, is trained to its end, on this machine.
        console: for tables and notes.
        num_folds: K.
        resume: whether unfinished studies of folds are to go on.
        metrics: what is kept up to date for Prometheus, if anything: the current fold's.

    Raises:
        InputError: before anything is trained: the people cannot be divided, a fold cannot be
            trained on, or other data, settings or folds are in the folder.
        AffectuneError: it was interrupted, or failed; it says how to go on.
    """
    raise_if_no_nested_place(options.folder)
    folds = outer_folds(corpus, num_folds)
    _raise_if_fold_is_untrainable(folds, spec.base)
    folder = options.folder / NESTED_FOLDER
    if (folder / DIVISION).exists():
        _keep_division(folder, folds)
    StageStore(options.store).raise_if_unusable()

    begin, num_run = time.monotonic(), 0
    with ExitStack() as stack:
        places = [folder / f"fold-{number}" for number in _numbers(folds)]
        if not all(_read_record(place, folder / PREDICTIONS) for place in places):
            # All folds share one Ray; where it cannot be had, nothing is written.
            ray = stack.enter_context(reached_cluster(options))
            ray.raise_if_too_small(spec)
        _keep_division(folder, folds)
        for number, fold in enumerate(folds, 1):
            place = replace(
                options, folder=folder / f"fold-{number}", budget_s=options.budget_s / num_folds
            )
            study = open_study(spec, fold.corpus, corpus_path, place, resume=resume)
            with study:
                if _read_record(place.folder, folder / PREDICTIONS) is not None:
                    continue
                try:
                    _run_fold(study, fold, folder / PREDICTIONS, console, metrics)
                except KeyboardInterrupt:
                    raise _interrupted(fold) from None

            num_run += 1
            left_s = (time.monotonic() - begin) / num_run * (num_folds - number)
            _print_done(place.folder, console, left_s)

    run = _gather(spec, folds, folder)
    write_atomically(options.folder / NESTED, json.dumps(run.scores.to_json(), indent=1))
    for table in nested_tables(run.scores):
        console.print(table)
    console.print(
        Text(
            "These scores are the search's. For a model, run it without --nested. "
            f"Written: {options.folder / NESTED}"
        ),
        soft_wrap=True,
    )
    return run


# Before anything is trained


def _raise_if_fold_is_untrainable(folds: Sequence[OuterFold], spec: Spec) -> None:
    for fold in folds:
        num_train = len(fold.subjects("train"))
        if spec.protocol == "cross_fit" and num_train < spec.folds:
            raise InputError(
                f"In {fold.name}, {num_train} people are left to train on, and the study's "
                f"{spec.folds} folds need at least {spec.folds}. Lower its folds, or pass a larger "
                "--nested: more people are then left."
            )
        try:
            raise_if_untrainable(fold.corpus, spec)
        except InputError as error:
            raise InputError(f"In {fold.name}: {error}") from error


def _numbers(folds: Sequence[OuterFold]) -> range:
    """Return how the folders of the folds are numbered."""
    return range(1, len(folds) + 1)


def _keep_division(folder: Path, folds: Sequence[OuterFold]) -> None:
    """Write down who is where; refuse a folder that holds another division."""
    path = folder / DIVISION
    division = [{"name": fold.name, "subjects": _subjects(fold)} for fold in folds]
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"--out '{folder.parent}' cannot be written: {error.strerror}. Choose another one."
            ) from error
        write_atomically(path, json.dumps(division, indent=1))
        return

    before = _read_division(path)
    if before is None:
        log.warning("'%s' is damaged, and is written anew.", path)
        write_atomically(path, json.dumps(division, indent=1))
        return
    if len(before) != len(folds):
        raise InputError(
            f"'{folder}' holds {len(before)} outer folds. Pass --nested {len(before)}, or another "
            "--out; trained stages are reused."
        )
    if before != division:
        raise InputError(
            f"'{folder}' holds outer folds of other people. Choose another --out; trained stages "
            "are reused."
        )


def _read_division(path: Path) -> list[object] | None:
    """Return who was where, as it was written; None where that is damaged.

    Then each fold's own journal still says whom it set apart.
    """
    try:
        before = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, RecursionError, ValueError):
        return None
    return before if isinstance(before, list) else None


def _subjects(fold: OuterFold) -> dict[str, list[str]]:
    return {partition: fold.subjects(partition) for partition in PARTITIONS}


# One outer fold


def _run_fold(
    study: Study,
    fold: OuterFold,
    predictions: Path,
    console: Console,
    metrics: StudyMetrics | None,
) -> None:
    """Search, train the default, predict the people set apart; last write that it is done."""
    people = {partition: len(names) for partition, names in _subjects(fold).items()}
    console.print(
        f"{fold.name.capitalize()}: {people['test']} people are set apart; the study searches with "
        f"{people['train']} train and {people['devel']} devel people.",
        soft_wrap=True,
    )

    name = f"{study.spec.name}/{study.options.folder.name}"
    with followed(study, name, console, metrics) as update:
        run_study(study, on_tick=update)
    if study.is_interrupted:
        raise _interrupted(fold)

    folder, begin = study.options.folder, time.monotonic()
    default = _train_default(study, console)
    default_s = time.monotonic() - begin

    winner = load_model(folder / MODEL_FOLDER)
    best = {target: best_modality(default, target) for target in default.targets}
    series = predict_set_apart(winner, default, best, fold.test, study.options.device)
    files: dict[str, str] = {}
    for target, by_name in series.items():
        write_predictions(predictions / target, fold.test, by_name)
        files |= _hashes(predictions, [f"{target}/{each.session_id}.csv" for each in fold.test])

    record = OuterFoldRecord(
        name=fold.name,
        subjects=_subjects(fold),
        best_modality=best,
        trials=len(study.history.trials),
        search_s=round(study.history.active_s, 3),
        default_s=round(default_s, 3),
        ccc=_fold_ccc(fold.test, series),
    )
    write_atomically(folder / FOLD, json.dumps(asdict(record) | {HASHES: files}, indent=1))


def _hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of files by name; of one that cannot be read there is none."""
    hashes = {}
    for name in names:
        with contextlib.suppress(OSError):
            hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return hashes


def _train_default(study: Study, console: Console) -> FusedModel:
    """Train the study's own settings, without any search, through the study's store."""
    options, spec = study.options, study.spec.base
    with (
        ProgressBar(num_fits(study.corpus, spec), console) as progress,
        WorkerPool(
            study.corpus,
            StageStore(options.store),
            workers=options.workers or os.cpu_count() or 1,
            device=options.device,
            on_progress=progress,
        ) as pool,
    ):
        return train(study.corpus, spec, pool)


def _fold_ccc(
    sessions: Sequence[Session], predictions: Predictions
) -> dict[str, dict[str, float | None]]:
    """Return the pooled CCC of winner and default on one fold."""
    by_target: dict[str, dict[str, float | None]] = {}
    for target, series in predictions.items():
        by_target[target] = {}
        for name in (WINNER, DEFAULT):
            sums = subject_moments(sessions, target, series[name]).sum(axis=0)
            ccc = float(ccc_from_moments(sums))
            by_target[target][name] = ccc if np.isfinite(ccc) else None
    return by_target


def _print_done(folder: Path, console: Console, left_s: float) -> None:
    record = _read_record(folder)
    assert record is not None
    scores = [
        f"{target} {name} {'undefined' if ccc is None else format(ccc, '.3f')}"
        for target, by_name in record.ccc.items()
        for name, ccc in by_name.items()
    ]
    left = f" About {format_duration(left_s)} left." if left_s else ""
    done = f"{record.name.capitalize()} is done: {', '.join(scores)} on the people set apart.{left}"
    console.print(Text(done), soft_wrap=True)


def _interrupted(fold: OuterFold) -> AffectuneError:
    return AffectuneError(
        f"Interrupted in {fold.name}. What is done is kept: the same command with --resume goes on."
    )


# All outer folds


def _gather(spec: StudySpec, folds: Sequence[OuterFold], folder: Path) -> NestedRun:
    """Pool the predictions of all folds, as they were written, and score them."""
    sessions = tuple(session for fold in folds for session in fold.test)
    targets = folds[0].corpus.targets
    predictions = {
        target: read_predictions(folder / PREDICTIONS / target, sessions) for target in targets
    }

    firsts = (WINNER, DEFAULT)
    records = [_read_record(folder / f"fold-{number}") for number in _numbers(folds)]
    scores = NestedScores(
        study=spec.name,
        targets={
            target: paired_scores(sessions, series, target, firsts)
            for target, series in predictions.items()
        },
        mean=mean_paired_scores(sessions, predictions, firsts) if len(targets) > 1 else None,
        folds=tuple(record for record in records if record is not None),
    )
    return NestedRun(scores, sessions, predictions)


def _read_record(folder: Path, predictions: Path | None = None) -> OuterFoldRecord | None:
    """Return what was written of an outer fold that is done.

    Args:
        folder: of the fold.
        predictions: the folder with what it predicts; None: not looked at.

    Returns:
        None where it is not done; or the record is damaged, or a prediction is no longer what it
        was: then the fold is done again, from what is trained, which is logged.
    """
    record = read_record(folder / FOLD)
    if record is None:
        return None
    hashes = record.pop(HASHES, {})  # earlier versions wrote none
    try:
        is_whole = predictions is None or _hashes(predictions, hashes) == hashes
        if is_whole:
            return OuterFoldRecord(**record)
    except TypeError:
        pass
    log.warning("What was written of '%s' is damaged, and is made anew.", folder)
    return None
