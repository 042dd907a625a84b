"""The commands below `corpus`: arguments in, tables or JSON out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from pipeline.corpus import RESAMPLINGS, TIME_UNITS, Corpus, Resampling, TimeUnit
from pipeline.data.importing.cli import import_command
from pipeline.data.input_errors import quoted_list
from pipeline.data.synthetic.presets import Preset
from pipeline.errors import InputError
from pipeline.status_line import print_status
from pipeline.terminal import Console

if TYPE_CHECKING:
    from pipeline.data.checks.summary import FindingGroup, SetSummary, Summary, TargetSummary
    from pipeline.data.rater_agreement import RaterAgreement

Choice = TypeVar("Choice", bound=str)

VERDICT_COLOURS = {"ready": "green", "look": "yellow", "cannot be learned": "red"}
LEVEL_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}

ResampleOption = Annotated[
    str | None,
    typer.Option(
        "--resample",
        help="What a frame is of a faster feature set: mean, mean+std or nearest; default: mean "
        "where most rows would be dropped.",
        show_default=False,
    ),
]
TimeUnitOption = Annotated[
    str | None,
    typer.Option(
        "--time-unit",
        help="Unit of all timestamps: s, ms, us or ns; default: recognised.",
        show_default=False,
    ),
]

corpus_app = typer.Typer(help="Look at a corpus, import one, or make one up.", no_args_is_help=True)
corpus_app.command("import")(import_command)


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
    resample: ResampleOption = None,
    time_unit: TimeUnitOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
) -> None:
    """Say what a corpus holds, what was dropped or filled in, and whether it can be learned.

    Example: affectune corpus check data/c3_muse_stress --modalities egemaps,vggface
    """
    print_status(f"Reading the corpus '{path}'")
    from pipeline.data.checks.summary import summarise
    from pipeline.data.layout import find_root
    from pipeline.data.muse import read_corpus
    from pipeline.data.rater_agreement import read_agreement

    corpus = read_corpus(
        path,
        modalities=parse_names(modalities),
        targets=parse_names(targets),
        tolerance_ms=tolerance_ms,
        resampling=parse_resampling(resample),
        time_unit=parse_time_unit(time_unit),
    )
    summary = summarise(corpus)
    raters = read_agreement(find_root(path), corpus.targets)

    if as_json:
        document = {**summary.to_document(), "raters": [asdict(rater) for rater in raters]}
        typer.echo(json.dumps(document, indent=1, allow_nan=False))
    else:
        _print_summary(summary, raters, Console(emoji=False))


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
    print_status(f"Writing the corpus '{out}'")
    from pipeline.data.synthetic.corpus import synthesize

    synthesize(out, subjects=subjects, minutes=minutes, seed=seed, preset=preset)

    message = f"Wrote {out}. To see what it holds: affectune corpus check {out}"
    Console(stderr=True).print(escape(message), soft_wrap=True, highlight=False)


def parse_names(text: str | None) -> list[str] | None:
    """Return the names in a comma-separated option, stripped; None where it was not given.

    Raises:
        InputError: a name is empty or there twice.
    """
    if text is None:
        return None

    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise InputError(
            f"Cannot read the list {text!r}: write different names, with commas between them."
        )
    return names


def parse_resampling(text: str | None) -> Resampling | None:
    """Return the value of --resample; None where it was not given.

    Raises:
        InputError: an unknown value.
    """
    return _parse_choice(text, "--resample", RESAMPLINGS)


def parse_time_unit(text: str | None) -> TimeUnit | None:
    """Return the value of --time-unit; None where it was not given.

    Raises:
        InputError: an unknown value.
    """
    return _parse_choice(text, "--time-unit", TIME_UNITS)


def _parse_choice(text: str | None, option: str, choices: tuple[Choice, ...]) -> Choice | None:
    if text is None:
        return None

    for choice in choices:
        if text == choice:
            return choice
    raise InputError(f"{option} is {text!r}; it must be one of {', '.join(choices)}.")


def print_corpus_warnings(corpus: Corpus, console: Console) -> None:
    """Print in a line which warnings a corpus has, before something is trained on it."""
    from pipeline.data.metadata import PARTICIPANTS_FILE
    from pipeline.data.records.persons import PERSONS_UNKNOWN

    kinds = Counter(finding.kind for finding in corpus.findings if finding.level == "warning")
    if not kinds:
        return

    warnings = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    line = f"[yellow]Note:[/] the corpus has warnings: {warnings}. See `affectune corpus check`."
    if PERSONS_UNKNOWN in kinds:
        line += f" Without {PARTICIPANTS_FILE} every session counts as a person of its own."
    console.print(line, soft_wrap=True, highlight=False)


def _print_summary(summary: Summary, raters: Sequence[RaterAgreement], console: Console) -> None:
    reading = f"a frame every {summary.frame_period_ms:g} ms, digest {summary.digest[:12]}"
    console.print(f"[bold]{escape(summary.name)}[/], {reading}", highlight=False)

    console.print(_partition_table(summary))
    console.print(_set_table(summary.sets))
    console.print(_target_table(summary.targets))
    if raters:
        console.print(_rater_table(raters))

    for _, groups in groupby(summary.findings, key=lambda group: (group.level, group.kind)):
        _print_findings(list(groups), console)

    colour = VERDICT_COLOURS[summary.verdict]
    console.print(f"\n[{colour}]{summary.verdict}[/]: {summary.reason}", highlight=False)


def _partition_table(summary: Summary) -> Padding:
    headings = ["partition", "sessions", "subjects", "frames", "labelled frames"]
    rows: list[list[str | int]] = [
        [
            partition.name,
            partition.sessions,
            partition.subjects,
            partition.frames,
            partition.labelled_frames,
        ]
        for partition in summary.partitions
    ]
    return _table(headings, rows)


def _set_table(sets: Sequence[SetSummary]) -> Padding:
    headings = ["set", "columns", "const.", "present", "zero rows", "NaN rows"]
    headings += ["imputed", "dropped", "no file"]
    rows: list[list[str | int]] = [
        [
            feature_set.name,
            feature_set.columns,
            feature_set.constant_columns,
            f"{feature_set.present_share:.1%}",
            feature_set.zero_rows,
            feature_set.empty_rows,
            feature_set.imputed_cells,
            feature_set.dropped_rows,
            feature_set.sessions_without_file,
        ]
        for feature_set in sets
    ]
    return _table(headings, rows)


def _target_table(targets: Sequence[TargetSummary]) -> Padding:
    headings = ["target", "labels", "mean", "std", "range", "constant", "unlabelled"]
    rows: list[list[str | int]] = [
        [
            target.name,
            target.labels,
            f"{target.mean:.3f}",
            f"{target.std:.3f}",
            f"{target.low:.3g} .. {target.high:.3g}",
            target.constant_sessions,
            target.unlabelled_sessions,
        ]
        for target in targets
    ]
    return _table(headings, rows)


def _rater_table(raters: Sequence[RaterAgreement]) -> Padding:
    headings = ["target", "rater", "fused by", "sessions", "weight", "lag"]
    headings += ["CCC with others", "CCC of pairs"]
    rows: list[list[str | int]] = [
        [
            rater.target,
            rater.rater,
            rater.fusion,
            rater.sessions,
            f"{rater.weight:.3f}",
            f"{rater.lag_ms:g} ms",
            "-" if rater.ccc_with_others is None else f"{rater.ccc_with_others:.3f}",
            "-" if rater.mean_pairwise_ccc is None else f"{rater.mean_pairwise_ccc:.3f}",
        ]
        for rater in raters
    ]
    return _table(headings, rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str | int]]) -> Padding:
    """Make a table whose first column names the row and whose others are numbers."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column, heading in enumerate(headings):
        is_name = column == 0
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=is_name)

    for row in rows:
        table.add_row(*(escape(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row))

    return Padding(table, (1, 0))


def _print_findings(groups: Sequence[FindingGroup], console: Console) -> None:
    """Print the findings of one kind: what they mean, then a line for each group."""
    level, kind = groups[0].level, groups[0].kind
    colour = LEVEL_COLOURS[level]
    console.print(f"[{colour}]{level}[/] [bold]{kind}[/]", highlight=False)

    printed_message = ""
    for group in groups:
        if group.message != printed_message:
            console.print(f"  {escape(group.message)}", soft_wrap=True, highlight=False)
            printed_message = group.message

        line = group.where
        if group.total:
            line += f": {group.count:,} of {group.total:,}"
        if group.sessions:
            line += f" in {len(group.sessions)} sessions: {quoted_list(group.sessions)}"
        console.print(f"    {escape(line)}", soft_wrap=True, highlight=False)
