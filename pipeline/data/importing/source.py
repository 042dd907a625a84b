"""What a source holds: a file, a folder of files, or a folder of folders. Reads no numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.importing.formats.empatica import EMPATICA, SENSORS, TAGS, is_recording
from pipeline.data.importing.formats.registry import find_format, format_named
from pipeline.data.importing.formats.source_file import Format, SourceFile, describe_unreadable
from pipeline.data.input_errors import quoted_list, raise_if_any
from pipeline.data.layout import FEATURES, LABELS
from pipeline.errors import InputError
from pipeline.shell_command import shell_command

RATER = re.compile(
    r"(?P<session>.+?)[_\-. ]+"
    r"(?P<rater>(?:annotator|annotation|anno|ann|rater|coder|evaluator|r|a)[_-]?\d+)",
    re.IGNORECASE,
)
"""A file's name that ends with a rater, such as TaskA_ann10."""
FIELDS = {"session": r"[^/]+?", "set": r"[^/]+?", "rater": r"[^/]+?"}
"""Field of a pattern -> what it stands for."""


@dataclass(frozen=True)
class SourceOptions:
    """What a person says about a source as a whole.

    Attributes:
        format_name: the format of its files; "" to find it by their content.
        session: the session that all of it is of; "" where names say it.
        pattern: where the names of its files say what, such as "{session}/{set}.csv"; or "".
        is_label: whether it is of a target, and not of feature sets.
        has_raters: whether several files may be of one session.
        names_set: whether the name of the feature set is given.
    """

    format_name: str = ""
    session: str = ""
    pattern: str = ""
    is_label: bool = False
    has_raters: bool = False
    names_set: bool = False


@dataclass(frozen=True)
class Part:
    """One file of a source; `session`, `set_name` and `rater` are "" where its path says none."""

    file: SourceFile
    format: Format
    session: str = ""
    set_name: str = ""
    rater: str = ""


@dataclass(frozen=True)
class Source:
    """The files of a source that are read, in order, and sentences about the others."""

    parts: tuple[Part, ...]
    set_aside: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    path: Path
    session: str = ""
    set_name: str = ""
    rater: str = ""


def find_source(path: Path, options: SourceOptions) -> Source:
    """Find the files of a source, and the one format that they are of.

    A folder holds files of one format, one per session; or folders, one per feature set; or, where
    the feature set or target is given, one per session. An E4's folder is one session.

    Raises:
        InputError: there is none; or a file cannot be read, and is no text for people; or the files
            are of several formats; or it cannot be told which session they are of.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {path}. Check the path.")

    set_aside: list[str] = []
    if path.is_file():
        candidates = [_Candidate(path, options.session)]
    elif options.pattern:
        candidates, set_aside = _match_pattern(path, options)
    else:
        candidates, set_aside = _list_folder(path, options)

    parts, refused = [], []
    for candidate in candidates:
        file = SourceFile(candidate.path, _where(candidate.path, path))
        kind = format_named(options.format_name) if options.format_name else find_format(file)
        if kind is not None and not (path.is_dir() and file.is_document):
            parts.append(Part(file, kind, candidate.session, candidate.set_name, candidate.rater))
        elif path.is_dir() and (file.is_document or _is_empty_sensor(file)):
            set_aside.append(describe_unreadable(file).removesuffix(" Leave it out."))
        else:
            refused.append(describe_unreadable(file))

    if refused:
        others = " Or read only some files of the folder: --pattern." if path.is_dir() else ""
        raise InputError(" ".join(refused[:3]) + others)
    _raise_unless_alike(parts, path, set_aside)
    return Source(tuple(_assign(parts, path, options)), tuple(set_aside))


def _where(file: Path, source: Path) -> str:
    return file.name if source.is_file() else f"{source.name}/{file.relative_to(source).as_posix()}"


def _match_pattern(path: Path, options: SourceOptions) -> tuple[list[_Candidate], list[str]]:
    """Return the files whose path in the folder is of the pattern."""
    expression = ""
    for text, field in re.findall(r"([^{}]*)(?:\{([^{}]*)\})?", options.pattern):
        expression += re.escape(text).replace(r"\*", "[^/]*")
        if field and field not in FIELDS:
            raise InputError(
                f"The pattern {options.pattern!r} has the field {field!r}. "
                f"The fields are {', '.join(FIELDS)}."
            )
        if field:
            # A field that is there twice is the same text twice.
            is_new = f"(?P<{field}>" not in expression
            expression += f"(?P<{field}>{FIELDS[field]})" if is_new else f"(?P={field})"

    candidates, num_others = [], 0
    for file in _files_below(path):
        match = re.fullmatch(expression, file.relative_to(path).as_posix())
        if match is None:
            num_others += 1
            continue
        fields = match.groupdict()
        session = fields.get("session") or options.session
        candidates.append(_Candidate(file, session, fields.get("set", ""), fields.get("rater", "")))
    if not candidates:
        raise InputError(
            f"No file in {path} is of the pattern {options.pattern!r}. It is the path in the "
            "folder, such as {session}/{set}.csv."
        )
    return candidates, [f"{num_others} files are not of the pattern."] if num_others else []


def _files_below(path: Path) -> list[Path]:
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(
        file
        for file in files
        if not any(part.startswith((".", "__")) for part in file.relative_to(path).parts)
    )


def _list_folder(path: Path, options: SourceOptions) -> tuple[list[_Candidate], list[str]]:
    """Return the files of a folder, or those of the folders in it."""
    files, folders = _children(path)
    if is_recording(files):
        return _sensors(files, options.session or path.resolve().name), _tags(files)

    data = [file for file in files if not SourceFile(file, file.name).is_document]
    if data or not folders:
        set_aside = [f"Folders in it are not read: {_quoted(folders)}."] if folders else []
        return [_Candidate(file, options.session) for file in files], set_aside

    recordings = [folder for folder in folders if _is_recording_folder(folder)]
    if recordings:
        return _recordings(folders, recordings, files)

    is_session = options.is_label or options.names_set
    candidates = [_Candidate(file) for file in files]
    for folder in folders:
        inner, deeper = _children(folder)
        if deeper and folder.name in (FEATURES, LABELS):
            check = shell_command("corpus", "check", path)
            raise InputError(f"{path} is a corpus already: {check}")
        if deeper:
            example = "{session}/{set}/*.csv"
            if options.is_label:
                example = "{session}/*/{session}_{rater}.csv"
            raise InputError(
                f"{folder} holds folders: say which part of a path is what, such as "
                f"--pattern '{example}'."
            )
        for file in inner:
            if is_session:
                candidates.append(_Candidate(file, session=folder.name))
            else:
                candidates.append(_Candidate(file, options.session, set_name=folder.name))
    return candidates, []


def _recordings(
    folders: Sequence[Path], recordings: Sequence[Path], files: Sequence[Path]
) -> tuple[list[_Candidate], list[str]]:
    """Return the files of the folders that an E4 wrote, each of them a session."""
    candidates, set_aside = [], []
    for folder in recordings:
        inner, _ = _children(folder)
        candidates += _sensors(inner, folder.name)
        set_aside += _tags(inner)

    others = [folder for folder in folders if folder not in recordings]
    if others:
        set_aside.append(f"No recording of an E4, and not read: {_quoted(others)}.")
    if files:
        set_aside.append(f"Files beside the recordings are not read: {_quoted(files)}.")
    return candidates, set_aside


def _sensors(files: Sequence[Path], session: str) -> list[_Candidate]:
    return [_Candidate(file, session) for file in files if file.stem.upper() != TAGS]


def _tags(files: Sequence[Path]) -> list[str]:
    """Say what is not of a sensor in the folder of a recording, and which sensors are not there."""
    notes = []
    names = {file.stem.upper() for file in files}
    missing = [sensor for sensor in SENSORS if sensor not in names]
    folder = files[0].parent.name
    if missing:
        notes.append(f"{folder} has no {', '.join(missing)}.")
    for file in files:
        if file.stem.upper() == TAGS:
            num_tags = len(file.read_text(encoding="utf-8", errors="replace").split())
            if num_tags:
                pressed = "1 button press" if num_tags == 1 else f"{num_tags} button presses"
                notes.append(f"{folder}: {pressed} ({file.name}).")
    return notes


def _is_recording_folder(folder: Path) -> bool:
    return is_recording(_children(folder)[0])


def _is_empty_sensor(file: SourceFile) -> bool:
    return not file.head and file.path.stem.upper() in SENSORS


def _children(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and folders in a folder, without hidden ones, sorted."""
    try:
        children = [path for path in folder.iterdir() if not path.name.startswith((".", "__"))]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}.") from None
    files = sorted(path for path in children if path.is_file())
    return files, sorted(path for path in children if path.is_dir())


def _quoted(paths: Sequence[Path]) -> str:
    return quoted_list([path.name for path in paths])


def _raise_unless_alike(parts: Sequence[Part], path: Path, set_aside: Sequence[str]) -> None:
    if not parts:
        raise InputError(f"{path} holds nothing that can be read. {' '.join(set_aside)}".strip())

    counts = Counter(part.format.name for part in parts)
    if len(counts) > 1:
        kinds = ", ".join(f"{count} of {name!r}" for name, count in counts.most_common())
        raise InputError(
            f"{path} holds files of several formats: {kinds}. Import one at a time: --pattern "
            "'{session}.csv' takes only files whose names are so."
        )


def _assign(parts: Sequence[Part], path: Path, options: SourceOptions) -> list[Part]:
    """Return the parts with their sessions, and their raters where there are any."""
    if parts[0].format is EMPATICA:
        # The file is named after a sensor, and the folder after the session.
        return [
            replace(part, session=part.session or part.file.path.resolve().parent.name)
            for part in parts
        ]
    if options.pattern or not options.is_label:
        return list(parts)

    matches = [RATER.fullmatch(part.file.path.stem) for part in parts]
    sessions = Counter(match["session"] for match in matches if match)
    if not options.has_raters:
        if len(parts) > 1 and all(matches) and max(sessions.values()) > 1:
            [(session, count)] = sessions.most_common(1)
            raise InputError(
                f"{path}: {count} files seem to be raters of session {session!r}. Fuse them: "
                "--raters ewe or --raters mean. If each is a session: --pattern '{session}.csv'."
            )
        return list(parts)
    names_none = not any(matches) and not any(part.session for part in parts)
    if names_none or (len(parts) == 1 and path.is_file()):
        # The columns or the rows of each file name its raters.
        return list(parts)

    assigned = []
    for part, match in zip(parts, matches, strict=True):
        session = part.session or (match["session"] if match else "")
        rater = match["rater"] if match else part.file.path.stem
        assigned.append(Part(part.file, part.format, session, part.set_name, rater))
    raise_if_any(
        [f"{part.file.where} names no session and rater" for part in assigned if not part.session],
        "Pass --session NAME if all files are raters of one session, or say which part of a name "
        "is what: --pattern '{session}_{rater}.csv'.",
    )
    return assigned
