"""The studies that are published in a store, in one table: which run, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from pipeline.terminal import cells, title
from tuning.monitoring.state import silence_s
from tuning.monitoring.status import format_duration
from tuning.publication.head import SILENT_S, Head

ID_DIGITS = 12
"""Of an id, in tables."""


def published_table(heads: Sequence[Head], store: str) -> Table:
    """Return a row for each study.

    Args:
        heads: what is published of them.
        store: its name, without credentials.
    """
    heading = title(f"Studies in {store}")
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("study", "id", "state", "ended", "fits", "host", "heard of"):
        is_count = name in ("ended", "fits")
        table.add_column(name, justify="right" if is_count else "left", overflow="fold")
    for head in heads:
        row = [head.name, head.id[:ID_DIGITS], _state(head), str(head.ended), str(head.fits)]
        heard = f"{format_duration(silence_s(head))} ago"
        table.add_row(*cells([*row, head.host, heard]))
    return table


def published_json(head: Head) -> dict[str, Any]:
    """Return what a program is told of a published study."""
    return {
        "id": head.id,
        "name": head.name,
        "digest": head.digest,
        "state": _state(head),
        "host": head.host,
        "heard_at": head.at,
        "heard_s": round(silence_s(head), 1),
        "fits": head.fits,
        "ended": head.ended,
        "finished": head.is_finished,
        "model": head.model,
    }


def _state(head: Head) -> str:
    """Return how a study stands, as far as its head tells."""
    if head.is_open:
        return "running" if silence_s(head) <= SILENT_S else "silent"
    return "completed" if head.is_finished else "stopped"
