"""A corpus and its findings -> what a person wants to see before training: counts, shares, ranges, a verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from pipeline.corpus import PARTITIONS, Corpus, Finding


@dataclass(frozen=True)
class PartitionSummary:
    """`labelled_frames` have a label of every target."""

    name: str
    sessions: int
    subjects: int
    frames: int
    labelled_frames: int


@dataclass(frozen=True)
class SetSummary:
    """One feature set over all sessions; `present_share` is of the frames, the other counts add up the findings."""

    name: str
    columns: int
    present_share: float
    zero_rows: int
    empty_rows: int
    imputed_cells: int
    dropped_rows: int
    frames_without_row: int
    sessions_without_file: int
    constant_columns: int


@dataclass(frozen=True)
class TargetSummary:
    """Known labels of one target over all sessions; NaN where there is none."""

    name: str
    labels: int
    mean: float
    std: float
    low: float
    high: float
    constant_sessions: int
    unlabelled_sessions: int


@dataclass(frozen=True)
class Group:
    """Findings of one kind about one place."""

    level: str
    kind: str
    where: str
    sessions: tuple[str, ...]
    count: int
    total: int
    message: str


@dataclass(frozen=True)
class Summary:
    """What `affectune corpus check` shows. `verdict` is "ready", "look" (there are warnings) or "cannot be learned"."""

    name: str
    digest: str
    frame_period_ms: float
    partitions: tuple[PartitionSummary, ...]
    sets: tuple[SetSummary, ...]
    targets: tuple[TargetSummary, ...]
    findings: tuple[Group, ...]
    verdict: str
    reason: str

    def document(self) -> dict[str, object]:
        """As one JSON object; numbers that are unknown are null."""
        document = asdict(self)
        for target in document["targets"]:
            target |= {
                key: None
                for key, value in target.items()
                if isinstance(value, float) and not np.isfinite(value)
            }
        return document


def summarise(corpus: Corpus) -> Summary:
    """Adds up a corpus and its findings."""
    groups = _group(corpus.findings)
    partitions = tuple(_partition(corpus, name) for name in PARTITIONS)
    verdict, reason = _verdict(partitions, groups)
    return Summary(
        name=corpus.name,
        digest=corpus.digest,
        frame_period_ms=corpus.frame_period_ms,
        partitions=partitions,
        sets=tuple(_set(corpus, name, groups) for name in corpus.modalities),
        targets=tuple(_target(corpus, name, groups) for name in corpus.targets),
        findings=groups,
        verdict=verdict,
        reason=reason,
    )


def _group(findings: tuple[Finding, ...]) -> tuple[Group, ...]:
    """Warnings first; within a level by kind and place."""
    buckets: dict[tuple[bool, str, str, str], list[Finding]] = {}
    for one in findings:
        buckets.setdefault((one.level == "note", one.level, one.kind, one.where), []).append(one)
    return tuple(
        Group(
            level=level,
            kind=kind,
            where=where,
            sessions=tuple(one.session_id for one in bucket if one.session_id),
            count=sum(one.count for one in bucket),
            total=sum(one.total for one in bucket),
            message=bucket[0].message,
        )
        for (_, level, kind, where), bucket in sorted(buckets.items())
    )


def _partition(corpus: Corpus, name: str) -> PartitionSummary:
    sessions = [session for session in corpus.sessions if session.partition == name]
    labelled = [
        np.all([np.isfinite(values) for values in one.labels.values()], axis=0).sum()
        for one in sessions
        if one.labels
    ]
    return PartitionSummary(
        name=name,
        sessions=len(sessions),
        subjects=len({session.subject for session in sessions}),
        frames=sum(session.num_frames for session in sessions),
        labelled_frames=int(sum(labelled)),
    )


def _set(corpus: Corpus, name: str, groups: tuple[Group, ...]) -> SetSummary:
    return SetSummary(
        name=name,
        columns=len(corpus.columns[name]),
        present_share=float(
            np.concatenate([session.present[name] for session in corpus.sessions]).mean()
        ),
        zero_rows=_count(groups, name, "zero rows"),
        empty_rows=_count(groups, name, "empty rows"),
        imputed_cells=_count(groups, name, "cells imputed"),
        dropped_rows=_count(groups, name, "rows not used"),
        frames_without_row=_count(groups, name, "frames without a row"),
        sessions_without_file=_num_sessions(groups, name, "no file"),
        constant_columns=_count(groups, name, "constant columns"),
    )


def _target(corpus: Corpus, name: str, groups: tuple[Group, ...]) -> TargetSummary:
    labels = np.concatenate([session.labels[name] for session in corpus.sessions])
    known = labels[np.isfinite(labels)]
    mean, std, low, high = (
        (known.mean(), known.std(), known.min(), known.max()) if len(known) else (np.nan,) * 4
    )
    return TargetSummary(
        name=name,
        labels=len(known),
        mean=float(mean),
        std=float(std),
        low=float(low),
        high=float(high),
        constant_sessions=_num_sessions(groups, name, "constant labels"),
        unlabelled_sessions=_num_sessions(groups, name, "labels withheld")
        + _num_sessions(groups, name, "no labels"),
    )


def _count(groups: tuple[Group, ...], where: str, kind: str) -> int:
    return sum(group.count for group in groups if (group.where, group.kind) == (where, kind))


def _num_sessions(groups: tuple[Group, ...], where: str, kind: str) -> int:
    return sum(
        len(group.sessions) for group in groups if (group.where, group.kind) == (where, kind)
    )


def _verdict(
    partitions: tuple[PartitionSummary, ...], groups: tuple[Group, ...]
) -> tuple[str, str]:
    bare = [one.name for one in partitions if one.name != "test" and not one.labelled_frames]
    if bare:
        return "cannot be learned", f"there are no labelled frames in {' and '.join(bare)}."
    num_warnings = sum(group.level == "warning" for group in groups)
    if num_warnings:
        return "look", f"training will run, but see the warnings ({num_warnings})."
    return "ready", "nothing to mend."
