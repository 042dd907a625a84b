"""An audit as a person runs it: its progress, audit.json, and a table."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from pipeline.data.muse import read_corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.storage.stage_store import StageStore
from tuning.audit.audit import Audit, audit
from tuning.audit.estimates import Estimate, Findings
from tuning.journal.history import read_history

AUDIT = "audit.json"


def audit_folder(
    folder: Path,
    corpus: Path | None,
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
        corpus: its corpus; None: where the study read it.
        store: its store.
        sample, seed: see `audit`.
        workers: fits at a time; None: one per core.
        console: for progress.

    Raises:
        InputError: something is not there, or not that of the study.
        AffectuneError: it was interrupted, or failed.
    """
    found = read_history(folder)
    assert found.opened is not None
    if not os.access(folder, os.W_OK):
        raise InputError(
            f"'{folder}' cannot be written, and {AUDIT} belongs there. Audit a copy of it."
        )
    where = corpus or Path(found.opened.corpus["path"])
    if not where.is_dir():
        raise InputError(f"The study's corpus is not at '{where}'. Pass its folder as --corpus.")
    read = read_corpus(where, modalities=found.study.modalities, targets=found.study.targets)
    workers = workers or os.cpu_count() or 1
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("trained again", total=None)

        def show(done: int, wanted: int) -> None:
            progress.update(bar, completed=done, total=wanted)

        try:
            result = audit(
                found,
                read,
                StageStore(store),
                sample=sample,
                workers=workers,
                seed=seed,
                on_trained=show,
            )
        except KeyboardInterrupt:
            raise AffectuneError(
                "Interrupted. What was trained is kept: the same command goes on."
            ) from None
    _write(folder / AUDIT, json.dumps(result.to_json(), indent=1, allow_nan=False))
    return result


def print_audit(found: Audit, console: Console) -> None:
    """A row per task, then tasks together, then what a reader must know."""
    table = Table(
        title=f"What early stopping cost in '{found.study}'",
        caption="Again: of the stopped trials those that were trained to the end. Rank correlation: of scores at a "
        "rung with final ones. Saved: epochs. In brackets: 95% intervals. -: too few trials to tell.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading in ("task", "again", "rank\ncorrelation", "best\nkilled", "regret", "saved"):
        table.add_column(heading, no_wrap=True)
    for name, one in found.tasks.items():
        table.add_row(name, *_cells(one))
    table.add_section()
    for name, one in found.pooled.items():
        table.add_row(f"{name}: {one.tasks} tasks", *_cells(one))
    console.print(table)
    for note in found.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}", soft_wrap=True)


def _cells(one: Findings) -> list[str]:
    return [
        f"{one.again}/{one.stopped}",
        "\n".join(f"{rung}: {_text(found)}" for rung, found in one.correlation.items()),
        _text(one.best_killed, ".0%"),
        _text(one.regret),
        f"{one.epochs_saved:.0f}\n{one.epochs_saved_share:.0%}"
        if one.epochs_saved is not None
        else "-",
    ]


def _text(found: Estimate | None, form: str = ".2f") -> str:
    """A number, and under it its interval."""
    if found is None:
        return "-"
    interval = f"\n[{found.low:{form}}, {found.high:{form}}]" if found.low < found.high else ""
    return f"{found.value:{form}}{interval}"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise AffectuneError(
            f"Cannot write '{path}': {error.strerror}. What was trained is in the store."
        ) from error
