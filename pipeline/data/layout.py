"""Where a MuSe corpus keeps what. Lists files, reads only the metadata.

The layouts of 2021, 2022 and 2023 differ in names, not in structure:

    <root>/feature_segments/<set>/<session>.csv     timestamp, segment_id | subject_id, <features...>
    <root>/label_segments/<target>/<session>.csv    timestamp, segment_id | subject_id, value, in any order
    <root>/metadata/partition.csv                   session, partition
    <root>/metadata/participants.csv                session, participant; optional
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus import Finding
from pipeline.data.input_errors import listed, refuse
from pipeline.data.metadata import PARTITION_FILE, Metadata, read_metadata
from pipeline.errors import InputError

FEATURES, LABELS = "feature_segments", "label_segments"


@dataclass(frozen=True)
class Layout:
    """What a corpus has, before any of it is read.

    Attributes:
        root: the folder that holds `feature_segments`.
        metadata: its sessions.
        features: set -> session -> file, of the sessions in the partition file.
        labels: target -> session -> file, likewise.
        findings: what is odd about the folder and its metadata.
    """

    root: Path
    metadata: Metadata
    features: Mapping[str, Mapping[str, Path]]
    labels: Mapping[str, Mapping[str, Path]]
    findings: tuple[Finding, ...]

    def name(self, file: Path) -> str:
        """How messages name a file: its path in the corpus."""
        return file.relative_to(self.root).as_posix()


def find_layout(
    path: Path, modalities: Sequence[str] | None, targets: Sequence[str] | None
) -> Layout:
    """Finds the files of a corpus.

    Args:
        path: the corpus, or a folder that holds exactly one.
        modalities: the sets wanted, in this order; None for all, sorted.
        targets: the targets wanted, likewise.

    Raises:
        InputError: there is no corpus; or its metadata, a set, a target or a session does not fit.
    """
    root = _find_root(path)
    metadata = read_metadata(root)
    known = {entry.session_id for entry in metadata.entries}
    features = {
        name: _files(root / FEATURES / name)
        for name in _choose(root, FEATURES, "feature set", modalities)
    }
    labels = {
        name: _files(root / LABELS / name) for name in _choose(root, LABELS, "target", targets)
    }
    _check_sets(features, metadata)
    findings = [
        finding
        for folder, sets in ((FEATURES, features), (LABELS, labels))
        for name, files in sets.items()
        for finding in _unlisted(f"{folder}/{name}", sorted(set(files) - known), len(files))
    ]
    return Layout(
        root,
        metadata,
        _listed_only(features, known),
        _listed_only(labels, known),
        (*metadata.findings, *findings),
    )


def _find_root(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"There is no corpus folder {path}. Check the path.")
    if (path / FEATURES).is_dir():
        return path
    roots = sorted(child for child in path.iterdir() if (child / FEATURES).is_dir())
    if len(roots) > 1:
        raise InputError(
            f"{path} holds several corpora: {listed([root.name for root in roots])}. Name one of them."
        )
    if not roots:
        raise InputError(
            f"{path} is no corpus: neither it nor a folder in it has {FEATURES}. A corpus is "
            f"{FEATURES}/<set>/<session>.csv, {LABELS}/<target>/<session>.csv and {PARTITION_FILE}."
        )
    return roots[0]


def _choose(root: Path, folder: str, what: str, wanted: Sequence[str] | None) -> list[str]:
    parent = root / folder
    there = (
        sorted(child.name for child in parent.iterdir() if _is_data(child) and child.is_dir())
        if parent.is_dir()
        else []
    )
    chosen = there if wanted is None else list(dict.fromkeys(wanted))
    has = f"{root} has {', '.join(there) or 'none'}"
    refuse(
        [f"there is no {what} {name!r}" for name in chosen if name not in there],
        f"{has}: name one of these.",
    )
    if folder == FEATURES and not chosen:
        raise InputError(
            f"No {what} to read: {has}. A set is a folder {FEATURES}/<set> with one CSV file per session."
        )
    return chosen


def _files(folder: Path) -> dict[str, Path]:
    """Session -> file. A set may lie one folder deeper under its own name, as BPM/BPM does in 2021."""
    places = [place for place in (folder / folder.name, folder) if place.is_dir()]
    return {
        file.stem: file
        for place in places
        for file in sorted(place.iterdir())
        if _is_data(file) and file.suffix.lower() == ".csv" and file.is_file()
    }


def _is_data(path: Path) -> bool:
    return not path.name.startswith(
        (".", "__")
    )  # archives made on a Mac bring ._1.csv and __MACOSX


def _listed_only(
    sets: Mapping[str, Mapping[str, Path]], known: set[str]
) -> dict[str, dict[str, Path]]:
    return {
        name: {session: file for session, file in files.items() if session in known}
        for name, files in sets.items()
    }


def _unlisted(where: str, sessions: Sequence[str], total: int) -> list[Finding]:
    message = f"{PARTITION_FILE} does not list these sessions, their files were not read: {listed(sessions)}."
    return (
        [Finding("warning", "unlisted files", where, "", len(sessions), total, message)]
        if sessions
        else []
    )


def _check_sets(features: Mapping[str, Mapping[str, Path]], metadata: Metadata) -> None:
    """Every set has files of sessions that are listed, every session that is listed has a file in some set."""
    refuse(
        [f"{FEATURES}/{name} has no CSV files" for name, files in features.items() if not files],
        "Add them, remove the folder, or name the sets to read (--modalities).",
    )
    sessions = [entry.session_id for entry in metadata.entries]
    refuse(
        [
            f"{FEATURES}/{name} has no file of any session in {PARTITION_FILE}"
            for name, files in features.items()
            if not set(files) & set(sessions)
        ],
        f"The files must be named after the sessions, such as {sessions[0]}.csv.",
    )
    refuse(
        [
            f"session {session!r} has no file in {listed(list(features))}"
            for session in sessions
            if not any(session in files for files in features.values())
        ],
        f"Add one, or remove the session from {PARTITION_FILE}.",
    )
