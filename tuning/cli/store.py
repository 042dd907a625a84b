"""The commands of `affectune store`: what is in a store, and what of it nothing needs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from pipeline.errors import InputError
from pipeline.status_line import print_status
from pipeline.terminal import Console, cells, title

if TYPE_CHECKING:
    from tuning.garbage.collection import Collection

store_app = typer.Typer(
    help="Look into a store of trained stages, and tidy it up.", no_args_is_help=True
)

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZES = ("B", "kB", "MB", "GB", "TB")


@store_app.command("gc")
def gc_command(
    store: Annotated[
        str,
        typer.Argument(
            help="What --store was: a folder or an object-store URI.", show_default=False
        ),
    ],
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what nothing needs; else it is only shown.")
    ] = False,
    keep: Annotated[
        list[Path] | None,
        typer.Option(
            help="A study's folder or a model that needs the store, too. May be repeated.",
            show_default=False,
        ),
    ] = None,
    older_than: Annotated[
        str, typer.Option(help="Keep all that is younger, such as 7d, 12h or 30m.")
    ] = "7d",
    forget: Annotated[
        list[str] | None,
        typer.Option(
            help="A published study, by name or id, that needs nothing any more: it goes, too. "
            "May be repeated.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Show what no study and no model needs any more, and remove it with --remove.

    Example: affectune store gc .affectune/store --keep model --older-than 30d

    What the studies that are published in the store need is kept, and what --keep names. Should
    something else need what was removed, it is trained again, with the same result.
    """
    older_than_s = _parse_age(older_than)
    print_status(f"Reading what is needed of the store '{store}'")
    from tuning.garbage.collection import collect

    found = collect(
        store,
        keep=keep or (),
        forget=forget or (),
        older_than_s=older_than_s,
        remove=remove,
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    console = Console()
    console.print(_table(found))
    console.print(_sentence(found), soft_wrap=True, markup=False, highlight=False)


def _table(found: Collection) -> Table:
    from tuning.garbage.collection import WHYS

    heading = title(f"Entries of {found.store}")
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("what", "entries", "size", "", "because"):
        is_count = name in ("entries", "size")
        table.add_column(name, justify="right" if is_count else "left", no_wrap=True)
    for (kind, why), total in sorted(found.totals.items(), key=lambda each: each[0][::-1]):
        fate = "kept"
        if why == "unneeded":
            fate = "removed" if found.is_removed else "removable"
        row = [kind, f"{total.entries:,}", _size_text(total.size_bytes), fate, WHYS[why]]
        table.add_row(*cells(row))
    return table


def _sentence(found: Collection) -> str:
    total = found.total("unneeded")
    amount = f"{total.entries:,} entries, {_size_text(total.size_bytes)}"
    if found.is_removed:
        return f"Removed: {amount}."
    if not total.entries:
        return "Nothing is to be removed."
    return f"Nothing was removed. To remove {amount}: the same command with --remove"


def _size_text(size_bytes: float) -> str:
    """Return such as "3.4 MB"."""
    for unit in SIZES[:-1]:
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} {SIZES[-1]}"


def _parse_age(text: str) -> float:
    """Return an age in seconds.

    Raises:
        InputError: it is none.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text.strip())
    if not match:
        raise InputError(f"--older-than is {text!r}; write an age such as 7d, 12h, 30m or 0s.")
    return float(match[1]) * UNITS_S[match[2]]
