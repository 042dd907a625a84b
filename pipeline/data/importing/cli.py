"""The command `corpus import`: arguments in, a table of what was understood or JSON out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from pipeline.data.input_errors import quoted_list
from pipeline.status_line import print_status
from pipeline.terminal import Console

if TYPE_CHECKING:
    from pipeline.data.importing.report import FileReport, ImportReport

SOURCE_HELP = "A file, a folder of files, or a folder of folders."
NUM_NOTES = 12
NUM_COLUMNS = 3

TimeUnitName = Literal["s", "ms", "us", "ns"]


def import_command(
    source: Annotated[Path, typer.Argument(help=SOURCE_HELP, show_default=False)],
    out: Annotated[
        Path, typer.Argument(help="The corpus: a new folder, or one to add to.", show_default=False)
    ],
    set_name: Annotated[
        str, typer.Option("--set", help="They are features of this feature set.")
    ] = "",
    target: Annotated[str, typer.Option(help="They are labels of this target.")] = "",
    session: Annotated[
        str, typer.Option(help="The session; default: the name of the file or folder.")
    ] = "",
    pattern: Annotated[
        str,
        typer.Option(help="What a path in SOURCE says: {session}, {set}, {rater}; * is anything."),
    ] = "",
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", help="Read only this column; may be given several times."),
    ] = None,
    format_name: Annotated[
        str,
        typer.Option(
            "--format",
            help="xdf, edf, arff, opensignals, e4, openface, opensmile or table; default: by "
            "content.",
        ),
    ] = "",
    participants: Annotated[
        Path | None, typer.Option(help="Table of session and participant.")
    ] = None,
    partition: Annotated[
        Path | None,
        typer.Option(help="Table of session and partition; default: divide new people 60/20/20."),
    ] = None,
    resample: Annotated[
        float | None, typer.Option(help="Average to rows so many ms apart.", metavar="MS")
    ] = None,
    raters: Annotated[
        Literal["mean", "ewe"] | None,
        typer.Option(help="Fuse several raters of a session: the mean, or weighted by agreement."),
    ] = None,
    align_raters: Annotated[
        float,
        typer.Option(
            help="Move raters by up to so many seconds to follow the fastest.", metavar="SECONDS"
        ),
    ] = 0.0,
    time_column: Annotated[str, typer.Option(help="The column of times.")] = "",
    time_unit: Annotated[TimeUnitName | None, typer.Option(help="The unit of the times.")] = None,
    rate_hz: Annotated[
        float | None, typer.Option(help="Rows per second, of a table without times.")
    ] = None,
    decimal: Annotated[
        Literal[",", "."] | None, typer.Option(help="The decimal mark, where it is not clear.")
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="Time zone of dates that state none, such as Europe/Berlin.")
    ] = "",
    start: Annotated[
        str,
        typer.Option(help="When the session began, in seconds or as a date; default: first row."),
    ] = "",
    face: Annotated[int | None, typer.Option(help="The face to read (OpenFace).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
) -> None:
    """Bring files of other formats into a corpus: one command per feature set or target.

    Example: affectune corpus import opensmile_csv/ corpus --set egemaps
    """
    print_status(f"Reading '{source}'")
    from pipeline.data.importing.formats.recording import ReadOptions
    from pipeline.data.importing.import_corpus import import_corpus
    from pipeline.data.importing.import_options import ImportOptions

    options = ImportOptions(
        set_name=set_name,
        target=target,
        session=session,
        format_name=format_name,
        pattern=pattern,
        read=ReadOptions(
            columns=tuple(columns or ()),
            time_column=time_column,
            time_unit=time_unit or "",
            rate_hz=rate_hz,
            decimal=decimal or "",
            face=face,
            timezone=timezone,
        ),
        partition_file=partition,
        participants_file=participants,
        resample_ms=resample,
        raters=raters,
        max_lag_ms=align_raters * 1000,
        start=start,
        overwrite=overwrite,
    )
    report = import_corpus(source, out, options)

    if as_json:
        typer.echo(json.dumps(report.to_document(), indent=1, allow_nan=False))
    else:
        _print_report(report, Console())


def _print_report(report: ImportReport, console: Console) -> None:
    sessions = {file.session for file in report.files}
    what = f"{report.format_title}, {len(sessions)} session{'s' if len(sessions) > 1 else ''}"
    console.print(f"[bold]{escape(report.out)}[/]: {escape(what)}", highlight=False)
    console.print(_file_table(report))
    for line in _time_lines(report):
        console.print(f"[cyan]times[/] {escape(line)}", soft_wrap=True, highlight=False)
    if report.raters:
        console.print(_rater_table(report))

    for colour, title, sentences in (
        ("yellow", "warning", report.warnings),
        ("cyan", "set aside", report.set_aside),
        ("cyan", "note", _joined(report.notes)),
    ):
        for sentence in sentences[:NUM_NOTES]:
            console.print(
                f"[{colour}]{title}[/] {escape(sentence)}", soft_wrap=True, highlight=False
            )
        if len(sentences) > NUM_NOTES:
            console.print(f"  and {len(sentences) - NUM_NOTES} more: --json has all.")

    for partition, group in groupby(
        sorted(report.new_sessions.items(), key=lambda entry: entry[1]), lambda entry: entry[1]
    ):
        names = [session for session, _ in group]
        console.print(
            f"new in {partition}: {escape(quoted_list(names))}", soft_wrap=True, highlight=False
        )
    console.print("\nNext:", highlight=False)
    for command in report.next_commands:
        console.print(f"  {escape(command)}", soft_wrap=True, highlight=False)


def _joined(notes: Sequence[str]) -> list[str]:
    """Return the notes, each sentence once, with the number of files that it is about."""
    files: dict[str, list[str]] = {}
    for note in notes:
        where, colon, sentence = note.partition(": ")
        files.setdefault(sentence if colon else note, []).append(where if colon else "")
    return [
        f"{len(names)} files: {sentence}"
        if len(names) > 1
        else ": ".join(part for part in (names[0], sentence) if part)
        for sentence, names in files.items()
    ]


def _file_table(report: ImportReport) -> Padding:
    headings = (
        report.kind,
        "sessions",
        "rows",
        "columns",
        "rate",
        "from",
        "to",
        "missing",
        "times",
    )
    table = _new_table(headings)
    files = sorted(report.files, key=lambda file: (file.name, file.session))
    for name, group in groupby(files, key=lambda file: file.name):
        of_set = list(group)
        rates = sorted({f"{file.rate_hz:.4g}" for file in of_set if file.rate_hz}, key=float)
        rate = rates[0] if len(rates) == 1 else f"{rates[0]} .. {rates[-1]}" if rates else "-"
        table.add_row(
            escape(name),
            f"{len(of_set):,}",
            f"{sum(file.rows_written for file in of_set):,}",
            escape(_columns(of_set[0])),
            f"{rate} Hz",
            f"{min(file.first_ms for file in of_set) / 1000:g} s",
            f"{max(file.last_ms for file in of_set) / 1000:g} s",
            f"{sum(file.missing_rows for file in of_set):,}",
        )
    return Padding(table, (1, 0))


def _time_lines(report: ImportReport) -> list[str]:
    """Return how the times were understood, each way once, with the sets or sessions it is of."""
    names: dict[str, list[str]] = {}
    for file in report.files:
        began = f"; the session began {file.start}" if file.start else ""
        line = f"{file.times}, from {file.clock}{began}"
        name = file.session if file.start else file.name
        names.setdefault(line, [])
        if name not in names[line]:
            names[line].append(name)
    lines = [f"{quoted_list(of)}: {line}" for line, of in names.items()]
    return lines[:NUM_NOTES]


def _columns(file: FileReport) -> str:
    names = [
        f"{name} ({file.units[name]})" if name in file.units else name
        for name in file.columns[:NUM_COLUMNS]
    ]
    more = len(file.columns) - len(names)
    return ", ".join(names) + (f" +{more}" if more > 0 else "")


def _rater_table(report: ImportReport) -> Padding:
    table = _new_table(("session", "rater", "weight", "lag", "CCC with others", "CCC of pairs"))
    for rater in report.raters:
        table.add_row(
            escape(rater.session),
            escape(rater.rater),
            f"{rater.weight:.3f}",
            f"{rater.lag_ms:g} ms",
            _score(rater.ccc_with_others),
            _score(rater.mean_pairwise_ccc),
        )
    return Padding(table, (0, 0, 1, 0))


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _new_table(headings: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column, heading in enumerate(headings):
        is_text = column == 0 or heading in ("columns", "rater")
        table.add_column(heading, justify="left" if is_text else "right")
    return table
