"""What a corpus must have, so that models can be trained on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.corpus import Corpus, Session
from pipeline.errors import InputError
from pipeline.names import mistake_in_file_name, mistake_in_label
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.unimodal import UnimodalTask

MAX_INPUT_COLUMNS = 8192
"""Of a feature set with its context; before normalisation, which may give each twice."""


def raise_if_untrainable(corpus: Corpus, spec: Spec) -> None:
    """Refuse a corpus that no model can be trained on, before anything is trained.

    Raises:
        InputError: reading found an error; too few subjects; a part of the plan without labels,
            with one constant label, or without a modality; a timing of the regressors that does
            not suit the sessions; a name that could not be written and read back.
    """
    raise_if_wrong(corpus)
    if not corpus.modalities or not corpus.targets:
        raise InputError(
            f"Corpus {corpus.name!r}: training needs at least one feature set and one target."
        )
    _raise_if_names_do_not_do(corpus)

    for partition in ("train", "devel"):
        sessions = corpus.partition(partition)
        if not sessions:
            raise InputError(
                f"Corpus {corpus.name!r} has no {partition} sessions. Check metadata/partition.csv."
            )
        _raise_if_nothing_to_learn(corpus, f"every {partition} frame", sessions)
    raise_if_timing_does_not_suit(corpus, spec)

    for fold in CrossFitPlan.from_spec(corpus, spec).folds:
        sessions = tuple(corpus.session(session_id) for session_id in fold.train_ids)
        _raise_if_nothing_to_learn(corpus, f"every training frame of {fold.name}", sessions)


def raise_if_wrong(corpus: Corpus) -> None:
    """Refuse a corpus in which reading found an error: it would spoil what is learned and scored.

    Raises:
        InputError: with the first such finding, and how many sessions have it.
    """
    errors = [finding for finding in corpus.findings if finding.level == "error"]
    if not errors:
        return

    first = errors[0]
    alike = [each for each in errors if (each.kind, each.where) == (first.kind, first.where)]
    count, total = sum(each.count for each in alike), sum(each.total for each in alike)
    raise InputError(
        f"Corpus {corpus.name!r}, {first.where}: {first.message} It is so in {count} of {total} "
        f"in {len(alike)} sessions ({first.kind}). `affectune corpus check` shows all errors."
    )


def raise_if_timing_does_not_suit(corpus: Corpus, spec: Spec) -> None:
    """Refuse delays, contexts and resampling of regressors that a corpus is too short or wide for.

    Args:
        corpus: with train and devel sessions.
        spec: its settings of stage 2.

    Raises:
        InputError: a delay for an unknown target, or as long as the shortest session; windows or
            frames that do not suit the corpus's; too many columns.
    """
    settings = spec.unimodal
    delays = settings.delay_s if isinstance(settings.delay_s, dict) else {}
    if unknown := sorted(delays.keys() - set(corpus.targets)):
        raise InputError(
            f"unimodal.delay_s has a delay for {unknown[0]!r}; the targets are "
            f"{', '.join(corpus.targets)}. Correct the name, or remove it."
        )

    sessions = [*corpus.partition("train"), *corpus.partition("devel")]
    shortest = min(sessions, key=lambda session: session.num_frames)
    length_s = shortest.num_frames * corpus.frame_period_ms / 1000
    length = f"session {shortest.session_id!r} of corpus {corpus.name!r} lasts {length_s:g} s"

    for target in corpus.targets:
        timing = UnimodalTask(corpus.modalities[0], target).timing(spec, corpus.frame_period_ms)
        if timing.delay_frames >= shortest.num_frames:
            raise InputError(
                f"unimodal.delay_s is {settings.target_delay_s(target):g} s for {target!r}, and "
                f"{length}: no label would be left. Lower it, or leave the session out."
            )
        if timing.resample_frames > 1 and timing.resample_frames >= shortest.num_frames:
            raise InputError(
                f"unimodal.resample_s is {settings.resample_s:g} s, and {length}: it would be a "
                "single frame. Lower it, or leave the session out."
            )

        for modality, names in corpus.columns.items():
            num_columns = len(names) * (1 + 2 * len(timing.context_frames))
            if timing.context_frames and num_columns > MAX_INPUT_COLUMNS:
                raise InputError(
                    f"unimodal.context_s makes {num_columns} columns of the {len(names)} of "
                    f"{modality!r}; {MAX_INPUT_COLUMNS} are possible. Take fewer windows, or leave "
                    "the modality out."
                )


def _raise_if_names_do_not_do(corpus: Corpus) -> None:
    """Refuse names that nothing could be written under, whoever made the corpus."""
    for name in (*corpus.modalities, *corpus.targets):
        if mistake := mistake_in_label(name):
            raise InputError(
                f"Corpus {corpus.name!r}: the name {name!r} {mistake}. Choose another."
            )
    for session in corpus.sessions:
        if mistake := mistake_in_file_name(session.session_id):
            raise InputError(
                f"Corpus {corpus.name!r}: the session {session.session_id!r} {mistake}. Choose "
                "another name."
            )

    # In one table a feature is <set>.<column>, and its difficulty is beside the targets.
    owners: dict[str, str] = {}
    for modality, columns in corpus.columns.items():
        for column in columns:
            other = owners.setdefault(f"{modality}.{column}", modality)
            if other != modality:
                raise InputError(
                    f"Corpus {corpus.name!r}: a column of {other!r} and one of {modality!r} would "
                    f"both be '{modality}.{column}' in a table. Rename one of the sets."
                )
    for modality in corpus.modalities:
        for part in ("error", "percentile"):
            if f"difficulty.{modality}.{part}" in corpus.targets:
                raise InputError(
                    f"Corpus {corpus.name!r}: the target 'difficulty.{modality}.{part}' is what "
                    f"the difficulty of {modality!r} is called in a table. Rename it."
                )


def _raise_if_nothing_to_learn(corpus: Corpus, where: str, sessions: Sequence[Session]) -> None:
    for target in corpus.targets:
        labels = np.concatenate([session.labels[target] for session in sessions])
        labels = labels[np.isfinite(labels)]
        if not labels.size:
            raise InputError(
                f"Corpus {corpus.name!r}: {target!r} has no label in {where}. "
                "Use fewer --folds, or leave it out."
            )
        if np.ptp(labels) == 0:
            raise InputError(
                f"Corpus {corpus.name!r}: {target!r} is {labels[0]} in {where}: nothing to learn."
            )

    for modality in corpus.modalities:
        if not any(session.present[modality].any() for session in sessions):
            raise InputError(
                f"Corpus {corpus.name!r}: {modality!r} is missing from {where}. Leave it out."
            )
