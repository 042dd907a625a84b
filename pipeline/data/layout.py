"""Finds the files of a corpus in a MuSe layout. Lists files, and reads only the metadata.

The layouts of 2021, 2022 and 2023 differ in names, not in structure:

    <root>/feature_segments/<set>/<session>.csv    timestamp, segment_id | subject_id, <features...>
    <root>/label_segments/<target>/<session>.csv   timestamp, segment_id | subject_id, value;
                                                   in any order
    <root>/metadata/partition.csv                  session, partition
    <root>/metadata/participants.csv               session, participant; optional
    <root>/metadata/sessions.csv                   session, stimulus; optional
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus import Finding
from pipeline.data.checks.findings import corpus_finding
from pipeline.data.input_errors import quoted_list, raise_if_any
from pipeline.data.metadata import PARTITION_FILE, Metadata, read_metadata
from pipeline.data.records.matching import first_hint
from pipeline.errors import InputError
from pipeline.names import (
    mistake_in_file_name,
    mistake_in_label,
    mistake_in_text,
    normal,
    twins,
)

FEATURES = "feature_segments"
LABELS = "label_segments"


@dataclass(frozen=True)
class Layout:
    """The files of a corpus, before any of them is read.

    Attributes:
        root: the folder that holds `feature_segments`.
        metadata: its sessions.
        features: feature set -> session -> file, for the sessions in the partition file.
        labels: target -> session -> file, likewise.
        findings: what is odd about the folder and its metadata.
    """

    root: Path
    metadata: Metadata
    features: Mapping[str, Mapping[str, Path]]
    labels: Mapping[str, Mapping[str, Path]]
    findings: tuple[Finding, ...]

    def name(self, file: Path) -> str:
        """Return how messages name a file: its path in the corpus."""
        return file.relative_to(self.root).as_posix()


def find_layout(
    path: Path, modalities: Sequence[str] | None, targets: Sequence[str] | None
) -> Layout:
    """Find the files of a corpus.

    Args:
        path: the corpus, or a folder that holds exactly one.
        modalities: the feature sets to read, in this order; None for all, sorted.
        targets: the targets to read, likewise.

    Raises:
        InputError: there is no corpus; or its metadata, a feature set, a target or a session does
            not fit.
    """
    root = find_root(path)
    metadata = read_metadata(root)
    sessions = [entry.session_id for entry in metadata.entries]
    _check_names(metadata)

    feature_sets = _choose(root, FEATURES, "feature set", modalities)
    all_features = {name: _session_files(at, sessions) for name, at in feature_sets.items()}
    chosen_targets = _choose(root, LABELS, "target", targets)
    all_labels = {target: _session_files(at, sessions) for target, at in chosen_targets.items()}
    _check_feature_sets(all_features, sessions)

    return Layout(
        root=root,
        metadata=metadata,
        features={name: _listed_only(files, sessions) for name, files in all_features.items()},
        labels={target: _listed_only(files, sessions) for target, files in all_labels.items()},
        findings=(
            *metadata.findings,
            *_unlisted_findings(FEATURES, all_features, sessions),
            *_unlisted_findings(LABELS, all_labels, sessions),
        ),
    )


def find_root(path: Path) -> Path:
    """Return the folder of a corpus: the path itself, or the one folder in it that is one.

    Raises:
        InputError: there is none, or several.
    """
    if not path.is_dir():
        raise InputError(f"There is no corpus folder {path}. Check the path.")
    if (path / FEATURES).is_dir():
        return path

    roots = sorted(child for child in path.iterdir() if (child / FEATURES).is_dir())
    if len(roots) > 1:
        names = quoted_list([root.name for root in roots])
        raise InputError(f"{path} holds several corpora: {names}. Name one of them.")
    if not roots:
        raise InputError(
            f"{path} is no corpus: neither it nor a folder in it has {FEATURES}. A corpus is "
            f"{FEATURES}/<set>/<session>.csv, {LABELS}/<target>/<session>.csv and {PARTITION_FILE}."
        )
    return roots[0]


def _check_names(metadata: Metadata) -> None:
    """Refuse names in the metadata that could not be written and read back."""
    sessions = [entry.session_id for entry in metadata.entries]
    raise_if_any(
        _mistakes("session", sessions, mistake_in_file_name),
        f"Sessions are named as their files are: rename them in {PARTITION_FILE} and their files.",
    )
    raise_if_any(
        [
            f"the sessions {first!a} and {second!a} look the same"
            for first, second in twins(sessions)
            if normal(first) == normal(second)
        ],
        f"They differ only in how Unicode writes an accent: keep one of them in {PARTITION_FILE}.",
    )

    subjects = dict.fromkeys(entry.subject for entry in metadata.entries)
    stimuli = dict.fromkeys(entry.stimulus for entry in metadata.entries if entry.stimulus)
    raise_if_any(
        _mistakes("participant", subjects, mistake_in_text)
        + _mistakes("stimulus", stimuli, mistake_in_text),
        "Remove the character from the metadata.",
    )


def _mistakes(
    kind: str, names: Iterable[str], mistake_in: Callable[[str], str | None]
) -> list[str]:
    mistakes = ((name, mistake_in(name)) for name in names)
    return [f"the {kind} {name!r} {mistake}" for name, mistake in mistakes if mistake]


def _choose(root: Path, folder: str, kind: str, wanted: Sequence[str] | None) -> dict[str, Path]:
    """Return the feature sets or targets to read with their folders; all where None is wanted.

    One that is wanted keeps the name by which it is wanted, which may have its accents composed
    where the folder has them apart.
    """
    available = _data_folders(root / folder)
    chosen = available if wanted is None else list(dict.fromkeys(wanted))
    raise_if_any(
        _mistakes(kind, chosen, mistake_in_label),
        "Rename the folder, or name the ones to read (--modalities, --targets).",
    )

    by_normal = {normal(name): name for name in available}
    shown = [repr(name) if mistake_in_text(name) else name for name in available]
    what_there_is = f"{root} has {', '.join(shown) or 'none'}"
    raise_if_any(
        [f"there is no {kind} {name!r}" for name in chosen if normal(name) not in by_normal],
        f"{what_there_is}: name one of these.",
    )
    if folder == FEATURES and not chosen:
        raise InputError(
            f"No {kind} to read: {what_there_is}. A set is a folder {FEATURES}/<set> with one CSV "
            "file per session."
        )
    raise_if_any(
        [f"the {kind}s {first!a} and {second!a}" for first, second in twins(chosen)],
        "They differ only in case or accents, so that one would replace the other on many disks "
        "and databases: rename one of the folders, or read one of them (--modalities, --targets).",
    )

    folders = {
        name: root / folder / (name if name in available else by_normal[normal(name)])
        for name in chosen
    }
    _raise_if_elsewhere(root, folders)
    return folders


def _raise_if_elsewhere(root: Path, folders: Mapping[str, Path]) -> None:
    """Refuse a folder that is a link to a place outside of the corpus."""
    raise_if_any(
        [
            f"{path.relative_to(root).as_posix()!r} is a link to '{path.resolve()}'"
            for path in folders.values()
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve())
        ],
        "A corpus may come from anybody, so that no link is followed out of it: copy the folder "
        "into the corpus.",
    )


def _data_folders(parent: Path) -> list[str]:
    if not parent.is_dir():
        return []

    return sorted(child.name for child in parent.iterdir() if _is_data(child) and child.is_dir())


def _session_files(folder: Path, sessions: Iterable[str]) -> dict[str, Path]:
    """Return session -> file.

    The files may lie one folder deeper, in one of the same name, as those of BPM/BPM do in 2021.
    A file whose name writes a session's accents otherwise is the session's, too.
    """
    by_normal = {normal(session): session for session in sessions}
    files: dict[str, Path] = {}
    mistakes = []
    for parent in (folder / folder.name, folder):
        for file in sorted(parent.iterdir()) if parent.is_dir() else ():
            if _is_data(file) and file.suffix.lower() == ".csv" and file.is_file():
                session = by_normal.get(normal(file.stem), file.stem)
                if other := files.get(session):
                    names = [each.relative_to(folder.parent).as_posix() for each in (other, file)]
                    mistakes.append(f"session {session!r} has two files, {quoted_list(names)}")
                files[session] = file

    raise_if_any(mistakes, f"Keep one file per session in {folder.parent.name}/{folder.name}.")
    return files


def _is_data(path: Path) -> bool:
    # Archives made on a Mac bring ._1.csv and __MACOSX.
    return not path.name.startswith((".", "__"))


def _listed_only(files: Mapping[str, Path], sessions: Iterable[str]) -> dict[str, Path]:
    listed = set(sessions)
    return {session: file for session, file in files.items() if session in listed}


def _unlisted_findings(
    folder: str, files_by_name: Mapping[str, Mapping[str, Path]], sessions: Sequence[str]
) -> list[Finding]:
    """Return one finding per feature set or target with files that belong to no session."""
    findings = []
    for name, files in files_by_name.items():
        unlisted = sorted(set(files) - set(sessions))
        if unlisted:
            message = (
                f"{PARTITION_FILE} does not list these sessions, their files were not read: "
                f"{quoted_list(unlisted)}. {_hint(unlisted, set(sessions) - set(files))}".strip()
            )
            findings.append(
                corpus_finding(
                    "warning",
                    "unlisted files",
                    f"{folder}/{name}",
                    len(unlisted),
                    len(files),
                    message,
                )
            )
    return findings


def _check_feature_sets(
    features: Mapping[str, Mapping[str, Path]], sessions: Sequence[str]
) -> None:
    """Raise where a feature set has no file of a listed session, or a listed session no file."""
    raise_if_any(
        [f"{FEATURES}/{name} has no CSV files" for name, files in features.items() if not files],
        "Add them, remove the folder, or name the sets to read (--modalities).",
    )

    foreign = {name: files for name, files in features.items() if set(files).isdisjoint(sessions)}
    foreign_files = sorted(next(iter(foreign.values()), {}))
    raise_if_any(
        [
            f"{FEATURES}/{name} has no file of any session in {PARTITION_FILE} (the files are of "
            f"{quoted_list(sorted(files), 3)}, the sessions {quoted_list(sessions, 3)})"
            for name, files in foreign.items()
        ],
        f"{_hint(foreign_files, sessions)}The files must be named after the sessions, such as "
        f"{sessions[0]}.csv.",
    )

    sessions_with_files = set[str]().union(*features.values())
    without = [session for session in sessions if session not in sessions_with_files]
    hint = _hint(without, sessions_with_files - set(sessions))
    raise_if_any(
        [
            f"session {session!r} has no file in {quoted_list(list(features))}"
            for session in without
        ],
        f"{hint}Add one, or remove the session from {PARTITION_FILE}.",
    )


def _hint(names: Sequence[str], candidates: Iterable[str]) -> str:
    """Return a question with the candidate that one of the first names is near, or nothing."""
    hint = first_hint(names, sorted(candidates))
    return f"{hint[0]!r} -> did you mean {hint[1]!r}? " if hint else ""
