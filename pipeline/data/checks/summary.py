"""Summarises a corpus and its findings before training: counts, shares, ranges and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pipeline.corpus import PARTITIONS, Corpus, Finding, Partition, Session

LEVELS = ("error", "warning", "note")
"""As they are shown: the gravest first."""


@dataclass(frozen=True)
class PartitionSummary:
    """One partition; its `labelled_frames` have a label of every target."""

    name: str
    sessions: int
    subjects: int
    frames: int
    labelled_frames: int


@dataclass(frozen=True)
class SetSummary:
    """One feature set over all sessions.

    The `present_share` is of the frames; the other counts add up the findings.
    """

    name: str
    columns: int
    present_share: float
    zero_rows: int
    empty_rows: int
    stuck_rows: int
    imputed_cells: int
    dropped_rows: int
    frames_without_row: int
    sessions_without_file: int
    constant_columns: int


@dataclass(frozen=True)
class TargetSummary:
    """The known labels of one target over all sessions; numbers are NaN where there is none."""

    name: str
    labels: int
    mean: float
    std: float
    low: float
    high: float
    constant_sessions: int
    unlabelled_sessions: int


@dataclass(frozen=True)
class FindingGroup:
    """The findings of one kind about one feature set, target or file."""

    level: str
    kind: str
    where: str
    sessions: tuple[str, ...]
    count: int
    total: int
    message: str


@dataclass(frozen=True)
class Summary:
    """What `affectune corpus check` shows.

    The `verdict` is "ready", "look" (there are warnings) or "cannot be learned" (there are errors,
    or nothing to learn).
    """

    name: str
    digest: str
    frame_period_ms: float
    partitions: tuple[PartitionSummary, ...]
    sets: tuple[SetSummary, ...]
    targets: tuple[TargetSummary, ...]
    findings: tuple[FindingGroup, ...]
    verdict: str
    reason: str

    def to_document(self) -> dict[str, object]:
        """Return the summary as one JSON object, with null for numbers that are unknown."""
        document = asdict(self)
        document["targets"] = [_without_nan(target) for target in document["targets"]]
        return document


def summarise(corpus: Corpus) -> Summary:
    """Summarise a corpus and its findings."""
    groups = _group(corpus.findings)
    partitions = tuple(_summarise_partition(corpus, name) for name in PARTITIONS)
    verdict, reason = _verdict(corpus, partitions, groups)

    return Summary(
        name=corpus.name,
        digest=corpus.digest,
        frame_period_ms=corpus.frame_period_ms,
        partitions=partitions,
        sets=tuple(_summarise_set(corpus, name, groups) for name in corpus.modalities),
        targets=tuple(_summarise_target(corpus, name, groups) for name in corpus.targets),
        findings=groups,
        verdict=verdict,
        reason=reason,
    )


def _group(findings: Sequence[Finding]) -> tuple[FindingGroup, ...]:
    """Group findings: the gravest first, within a level by kind and by what they are about."""
    groups: dict[tuple[int, str, str], list[Finding]] = {}
    for finding in findings:
        key = (LEVELS.index(finding.level), finding.kind, finding.where)
        groups.setdefault(key, []).append(finding)

    return tuple(_add_up(groups[key]) for key in sorted(groups))


def _add_up(findings: Sequence[Finding]) -> FindingGroup:
    first = findings[0]
    return FindingGroup(
        level=first.level,
        kind=first.kind,
        where=first.where,
        sessions=tuple(finding.session_id for finding in findings if finding.session_id),
        count=sum(finding.count for finding in findings),
        total=sum(finding.total for finding in findings),
        message=first.message,
    )


def _summarise_partition(corpus: Corpus, name: Partition) -> PartitionSummary:
    sessions = corpus.partition(name)
    return PartitionSummary(
        name=name,
        sessions=len(sessions),
        subjects=len({session.subject for session in sessions}),
        frames=sum(session.num_frames for session in sessions),
        labelled_frames=sum(_num_labelled_frames(session) for session in sessions),
    )


def _num_labelled_frames(session: Session) -> int:
    if not session.labels:
        return 0

    is_known = [np.isfinite(labels) for labels in session.labels.values()]
    return int(np.all(is_known, axis=0).sum())


def _summarise_set(corpus: Corpus, name: str, groups: Sequence[FindingGroup]) -> SetSummary:
    present = np.concatenate([session.present[name] for session in corpus.sessions])
    return SetSummary(
        name=name,
        columns=len(corpus.columns[name]),
        present_share=float(present.mean()),
        zero_rows=_count(groups, name, "zero rows"),
        empty_rows=_count(groups, name, "empty rows"),
        stuck_rows=_count(groups, name, "stuck rows"),
        imputed_cells=_count(groups, name, "cells imputed"),
        dropped_rows=_count(groups, name, "rows not used"),
        frames_without_row=_count(groups, name, "frames without a row"),
        sessions_without_file=_num_sessions(groups, name, "no file"),
        constant_columns=_count(groups, name, "constant columns"),
    )


def _summarise_target(corpus: Corpus, name: str, groups: Sequence[FindingGroup]) -> TargetSummary:
    labels = np.concatenate([session.labels[name] for session in corpus.sessions])
    known = labels[np.isfinite(labels)]
    withheld = _num_sessions(groups, name, "labels withheld")

    return TargetSummary(
        name=name,
        labels=len(known),
        mean=float(known.mean()) if len(known) else math.nan,
        std=float(known.std()) if len(known) else math.nan,
        low=float(known.min()) if len(known) else math.nan,
        high=float(known.max()) if len(known) else math.nan,
        constant_sessions=_num_sessions(groups, name, "constant labels"),
        unlabelled_sessions=withheld + _num_sessions(groups, name, "no labels"),
    )


def _count(groups: Sequence[FindingGroup], where: str, kind: str) -> int:
    return sum(group.count for group in _select(groups, where, kind))


def _num_sessions(groups: Sequence[FindingGroup], where: str, kind: str) -> int:
    return sum(len(group.sessions) for group in _select(groups, where, kind))


def _select(groups: Sequence[FindingGroup], where: str, kind: str) -> list[FindingGroup]:
    return [group for group in groups if (group.where, group.kind) == (where, kind)]


def _verdict(
    corpus: Corpus, partitions: Sequence[PartitionSummary], groups: Sequence[FindingGroup]
) -> tuple[str, str]:
    """Return the verdict and a sentence that gives its reason."""
    if not corpus.targets:
        return "cannot be learned", (
            "it has no labels. Add them: affectune corpus import LABELS CORPUS --target arousal."
        )
    unlabelled = [
        partition.name
        for partition in partitions
        if partition.name != "test" and not partition.labelled_frames
    ]
    if unlabelled:
        return "cannot be learned", f"there are no labelled frames in {' and '.join(unlabelled)}."

    if nothing := _nothing_to_learn(corpus):
        return "cannot be learned", nothing

    errors = sorted({group.kind for group in groups if group.level == "error"})
    if errors:
        return "cannot be learned", f"mend the errors first: {', '.join(errors)}."

    num_warnings = sum(group.level == "warning" for group in groups)
    if num_warnings:
        return "look", f"training will run, but see the warnings ({num_warnings})."

    return "ready", "nothing to mend."


def _nothing_to_learn(corpus: Corpus) -> str:
    """Return what training would refuse: labels that are all the same, or a set without a row."""
    partitions: tuple[Partition, ...] = ("train", "devel")
    for partition in partitions:
        sessions = corpus.partition(partition)
        for target in corpus.targets:
            labels = np.concatenate([session.labels[target] for session in sessions])
            if len(np.unique(labels[np.isfinite(labels)])) == 1:
                return f"every label of {target!r} in {partition} is the same."
        for modality in corpus.modalities:
            if not any(session.present[modality].any() for session in sessions):
                return f"{modality!r} is missing from every {partition} frame: leave it out."
    return ""


def _without_nan(numbers: dict[str, object]) -> dict[str, object]:
    return {
        name: None if isinstance(number, float) and not math.isfinite(number) else number
        for name, number in numbers.items()
    }
