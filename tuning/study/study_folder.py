"""Which folders a study may be written to: what it did not make there is never replaced."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import InputError
from pipeline.storage.atomic_folder import read_folder
from pipeline.storage.result_folder import Files, what_is_in_the_way
from tuning.journal.file import JOURNAL
from tuning.journal.history import History
from tuning.mlflow_backend.tracking.record import TRACKING
from tuning.monitoring.state import COMMAND
from tuning.report.nested_scores import NESTED
from tuning.report.page import REPORT, is_report

MODEL_FOLDER, SUMMARY = "model", "summary.json"
PUBLISHED = "published.json"
"""Which process published the study last, and where."""
NESTED_FOLDER, DIVISION = "nested", "subjects.json"
SUMMARY_KEYS = {"targets", "trials"}
ADVICE = "Choose another --out, or move it away."


def raise_if_no_place(folder: Path) -> None:
    """Refuse a folder in which something has a name that a study writes to, but no study made it.

    Raises:
        InputError: there is such a thing; or the folder is no place for a study at all.
    """
    if folder.resolve() in (Path(folder.anchor), _home()):
        raise InputError(
            f"--out '{folder}' is no folder for a study alone. Choose another, such as "
            f"'{folder / 'study'}'."
        )
    journal = folder / JOURNAL
    if journal.is_symlink() or (journal.exists() and not journal.is_file()):
        raise InputError(f"--out '{folder}': '{JOURNAL}' there is no plain file. {ADVICE}")
    if journal.exists() and journal.stat().st_size:
        return  # a study's: what else is there is told when it is read

    for name in (MODEL_FOLDER, SUMMARY, REPORT, COMMAND, TRACKING, PUBLISHED):
        path = folder / name
        if path.is_symlink() or path.exists():
            raise InputError(
                f"--out '{folder}' holds '{name}', and no study that made it: it would be "
                f"replaced. {ADVICE}"
            )


def raise_if_no_nested_place(folder: Path) -> None:
    """Refuse a folder whose nested scores or outer folds are of somebody else; see above.

    Raises:
        InputError: there is such a thing.
    """
    if (folder / NESTED_FOLDER / DIVISION).is_file():
        return
    for name in (NESTED, NESTED_FOLDER):
        path = folder / name
        is_empty = path.is_dir() and not any(path.iterdir())
        if path.is_symlink() or (path.exists() and not is_empty):
            raise InputError(
                f"--out '{folder}' holds '{name}', and no outer folds that made it: it would be "
                f"replaced. {ADVICE}"
            )


def raise_if_results_are_others(folder: Path, history: History) -> None:
    """Refuse to go on with a study in whose folder there are results that it did not write.

    Args:
        folder: of the study.
        history: of the study.

    Raises:
        InputError: there are such results.
    """
    cause = what_is_in_the_way(folder / MODEL_FOLDER, lambda files: _is_of(history, files))
    name = MODEL_FOLDER
    if cause is None and (other := other_result(folder)):
        cause, name = "is of somebody else", other
    if cause is not None:
        raise InputError(
            f"'{folder / name}' {cause}, and not what this study wrote. Move it away, and run the "
            "same command with --resume: what was trained is kept."
        )


def other_result(folder: Path) -> str | None:
    """Return which of a study's files, beside its model, is another's; None where none is."""
    summary, report = folder / SUMMARY, folder / REPORT
    if (summary.is_symlink() or summary.exists()) and not _is_summary(summary):
        return SUMMARY
    if (report.is_symlink() or report.exists()) and not is_report(report):
        return REPORT
    return None


def is_model_of(folder: Path, history: History) -> bool:
    """Return whether a study's folder holds the model that the study wrote at its end."""
    try:
        return history.finished is not None and _is_of(history, read_folder(folder / MODEL_FOLDER))
    except InputError:
        return False


def _is_of(history: History, files: Files) -> bool:
    """Return whether a bundle was written at the end of a study, or may have been just before."""
    try:
        summary = json.loads(files[SUMMARY])
    except (KeyError, ValueError, RecursionError):
        return False
    if history.finished is None:
        return isinstance(summary, dict) and summary.keys() >= SUMMARY_KEYS
    return _plain(summary) == _plain(history.finished.summary)


def _is_summary(path: Path) -> bool:
    try:
        summary = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    return not path.is_symlink() and isinstance(summary, dict) and summary.keys() >= SUMMARY_KEYS


def _plain(summary: object) -> object:
    """Return a summary as it is after it was written and read, whatever wrote it."""
    return json.loads(json.dumps(summary), parse_constant=lambda name: None)


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except RuntimeError:
        return None
