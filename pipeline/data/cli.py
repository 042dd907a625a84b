"""The commands `corpus check` and `corpus synthesize`: arguments in, tables or JSON out; no method of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from pipeline.data.input_errors import listed
from pipeline.data.muse import read_corpus
from pipeline.data.summary import Group, SetSummary, Summary, TargetSummary, summarise
from pipeline.data.synthetic import Preset, synthesize

corpus_app = typer.Typer(help="Look at a corpus, or make a synthetic one.", no_args_is_help=True)


@corpus_app.command("check")
def check_command(
    path: Annotated[Path, typer.Argument(help="Folder in a MuSe layout.", show_default=False)],
    modalities: Annotated[
        str | None, typer.Option(help="Feature sets, with commas; default: all.")
    ] = None,
    targets: Annotated[str | None, typer.Option(help="Labels, with commas; default: all.")] = None,
    tolerance_ms: Annotated[
        float | None,
        typer.Option(
            help="Largest distance of a feature row from its label row; default: half a period."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
) -> None:
    """Say what a corpus holds, what was dropped or filled in, and whether it can be learned.

    Example: affectune corpus check data/c3_muse_stress --modalities egemaps,vggface
    """
    with Console(stderr=True).status(f"Reading {escape(str(path))}"):
        corpus = read_corpus(
            path, modalities=_names(modalities), targets=_names(targets), tolerance_ms=tolerance_ms
        )
    summary = summarise(corpus)
    if as_json:
        typer.echo(json.dumps(summary.document(), indent=1, allow_nan=False))
    else:
        _show(summary, Console())


@corpus_app.command("synthesize")
def synthesize_command(
    out: Annotated[
        Path, typer.Argument(help="A folder that is empty or does not exist.", show_default=False)
    ],
    subjects: Annotated[int, typer.Option(help="People, one session each (preset small).")] = 12,
    minutes: Annotated[float, typer.Option(help="Length of a session (preset small).")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 0,
    preset: Annotated[
        Preset, typer.Option(help="small, or ulm-tsst for its split, lengths and widths (2 GB).")
    ] = "small",
) -> None:
    """Write a synthetic corpus: learnable, with the flaws of real files.

    Example: affectune corpus synthesize demo/corpus --subjects 12 --minutes 1
    """
    console = Console(stderr=True)
    with console.status(f"Writing {escape(str(out))}"):
        synthesize(out, subjects=subjects, minutes=minutes, seed=seed, preset=preset)
    message = f"Wrote {out}. To see what it holds: affectune corpus check {out}"
    console.print(escape(message), soft_wrap=True, highlight=False)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _show(summary: Summary, console: Console) -> None:
    about = f"a frame every {summary.frame_period_ms:g} ms, digest {summary.digest[:12]}"
    console.print(f"[bold]{escape(summary.name)}[/], {about}", highlight=False)
    console.print(
        _table(
            ("partition", "sessions", "subjects", "frames", "labelled frames"),
            [
                (one.name, one.sessions, one.subjects, one.frames, one.labelled_frames)
                for one in summary.partitions
            ],
        )
    )
    console.print(
        _table(
            (
                "set",
                "columns",
                "const.",
                "present",
                "zero rows",
                "NaN rows",
                "imputed",
                "dropped",
                "no file",
            ),
            [_set_cells(one) for one in summary.sets],
        )
    )
    console.print(
        _table(
            ("target", "labels", "mean", "std", "range", "constant", "unlabelled"),
            [_target_cells(one) for one in summary.targets],
        )
    )
    for kind in dict.fromkeys((group.level, group.kind) for group in summary.findings):
        _show_findings(
            [group for group in summary.findings if (group.level, group.kind) == kind], console
        )
    colour = {"ready": "green", "look": "yellow"}.get(summary.verdict, "red")
    console.print(f"\n[{colour}]{summary.verdict}[/]: {summary.reason}", highlight=False)


def _set_cells(one: SetSummary) -> list[str | int]:
    counts = [
        one.zero_rows,
        one.empty_rows,
        one.imputed_cells,
        one.dropped_rows,
        one.sessions_without_file,
    ]
    return [one.name, one.columns, one.constant_columns, f"{one.present_share:.1%}", *counts]


def _target_cells(one: TargetSummary) -> list[str | int]:
    numbers = [f"{one.mean:.3f}", f"{one.std:.3f}", f"{one.low:.3g} .. {one.high:.3g}"]
    return [one.name, one.labels, *numbers, one.constant_sessions, one.unlabelled_sessions]


def _show_findings(groups: Sequence[Group], console: Console) -> None:
    """One kind of finding: what it means, then a line for each place."""
    colour = "yellow" if groups[0].level == "warning" else "cyan"
    console.print(f"[{colour}]{groups[0].level}[/] [bold]{groups[0].kind}[/]", highlight=False)
    for index, group in enumerate(groups):
        if index == 0 or group.message != groups[index - 1].message:
            console.print(f"  {escape(group.message)}", soft_wrap=True, highlight=False)
        amount = f" {group.count:,} of {group.total:,}" if group.total else ""
        sessions = (
            f" in {len(group.sessions)} sessions: {listed(group.sessions)}"
            if group.sessions
            else ""
        )
        console.print(
            f"    {escape(group.where)}:{amount}{escape(sessions)}", soft_wrap=True, highlight=False
        )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str | int]]) -> Padding:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for heading in headings:
        first = heading == headings[0]
        table.add_column(heading, justify="left" if first else "right", no_wrap=first)
    for row in rows:
        table.add_row(*(escape(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row))
    return Padding(table, (1, 0))
