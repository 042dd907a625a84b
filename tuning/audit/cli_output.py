"""An audit as the command line shows it: its progress, audit.json, and a table."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.stage_store import StageStore
from pipeline.terminal import title
from tuning.audit.audit import Audit, audit
from tuning.audit.estimates import Estimate
from tuning.audit.stopping_cost import StoppingCost
from tuning.journal.history import History, read_history

AUDIT = "audit.json"

UNKNOWN = "-"
"""Stands for an estimate that too few trials allow."""
HEADINGS = ("task", "to the\nend", "rank\ncorrelation", "best\nstopped", "regret", "saved")
CAPTION = (
    "To the end: how many stopped trials the audit trained to their end. "
    "Rank correlation: of the scores at a rung with the final scores. "
    "Best stopped: the chance that the best trial was stopped. "
    "Regret: the best final score of all trials, minus the best of those that were not stopped. "
    "Saved: the share of epochs. Brackets are 95% intervals. -: too few trials to tell."
)


def audit_folder(
    folder: Path,
    corpus_folder: Path | None,
    store: str,
    *,
    sample: int,
    workers: int | None,
    seed: int,
    console: Console,
) -> Audit:
    """Audit the study in a folder, and write audit.json there.

    Args:
        folder: of the study, in any state.
        corpus_folder: of the study's corpus; None: where the study read it.
        store: folder or URI of the study's store.
        sample: see `audit`.
        workers: fits at a time; None: one per core.
        seed: see `audit`.
        console: where progress is shown.

    Raises:
        InputError: the folder, corpus or store is missing, not the study's, or cannot be written.
        AffectuneError: the audit was interrupted, or failed.
    """
    history = read_history(folder)
    if not os.access(folder, os.W_OK):
        raise InputError(
            f"'{folder}' cannot be written, and {AUDIT} belongs there. Audit a copy of it."
        )
    _raise_if_other_file(folder / AUDIT)
    corpus = _read_study_corpus(history, corpus_folder)

    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("trained to the end", total=None)
        try:
            result = audit(
                history,
                corpus,
                StageStore(store),
                sample=sample,
                workers=workers or os.cpu_count() or 1,
                seed=seed,
                on_trained=lambda done, total: progress.update(bar, completed=done, total=total),
            )
        except KeyboardInterrupt:
            raise AffectuneError(
                "Interrupted. What was trained is kept: the same command goes on."
            ) from None

    _write_audit(folder / AUDIT, result)
    return result


def print_audit(result: Audit, console: Console) -> None:
    """Print a row per task, then tasks together, then the notes."""
    table = Table(
        title=title(f"What early stopping cost in '{result.study}'"),
        caption=CAPTION,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)

    for name, cost in result.tasks.items():
        table.add_row(Text(name), *_cells(cost))
    table.add_section()
    for name, cost in result.pooled.items():
        table.add_row(Text(f"{name}: {cost.num_tasks} tasks"), *_cells(cost))

    console.print(table)
    for note in result.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}", soft_wrap=True)


def _read_study_corpus(history: History, folder: Path | None) -> Corpus:
    """Read the corpus of a study, from a folder or from where the study read it.

    Raises:
        InputError: it is not there.
    """
    if folder is None:
        assert history.opened is not None
        folder = Path(history.opened.corpus["path"])
    if not folder.is_dir():
        raise InputError(f"The study's corpus is not at '{folder}'. Pass its folder as --corpus.")

    study = history.study
    return read_corpus(
        folder,
        modalities=study.modalities,
        targets=study.targets,
        resampling=study.resample,
        time_unit=study.time_unit,
    )


def _raise_if_other_file(path: Path) -> None:
    """Refuse to replace a file of somebody else's with the name of an audit."""
    if not path.is_symlink() and not path.exists():
        return
    try:
        before = None if path.is_symlink() else json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        before = None
    if not isinstance(before, dict) or not before.keys() >= {"tasks", "pooled"}:
        raise InputError(f"'{path}' is no audit of a study, and is left as it is. Move it away.")


def _write_audit(path: Path, result: Audit) -> None:
    try:
        write_atomically(path, json.dumps(result.to_json(), indent=1, allow_nan=False))
    except AffectuneError as error:
        raise AffectuneError(f"{error} What was trained is in the store.") from error


def _cells(cost: StoppingCost) -> list[str]:
    """Return a row of the table, without the task's name."""
    correlations = [
        f"{rung}: {_estimate_text(estimate)}" for rung, estimate in cost.rank_correlation.items()
    ]
    return [
        f"{cost.num_retrained}/{cost.num_stopped}",
        "\n".join(correlations),
        _estimate_text(cost.best_stopped, ".0%"),
        _estimate_text(cost.regret),
        _saved_text(cost),
    ]


def _estimate_text(estimate: Estimate | None, number_format: str = ".2f") -> str:
    """Return a number, and below it its interval, where it has one."""
    if estimate is None:
        return UNKNOWN

    value = format(estimate.value, number_format)
    if estimate.low == estimate.high:
        return value

    low, high = format(estimate.low, number_format), format(estimate.high, number_format)
    return f"{value}\n[{low}, {high}]"


def _saved_text(cost: StoppingCost) -> str:
    """Return the epochs saved, and below them their share."""
    if cost.epochs_saved is None:
        return UNKNOWN
    return f"{cost.epochs_saved:.0f}\n{cost.epochs_saved_share:.0%}"
