"""The commands `study list` and `study show`: the studies that are installed with Affectune."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.status_line import print_status
from tuning.api.studies import STUDIES

if TYPE_CHECKING:
    from tuning.spec.study_spec import StudySpec

EXAMPLE_MODALITIES, EXAMPLE_TARGETS = ("set 1", "set 2", "set 3"), ("target 1", "target 2")
"""How many fits a study has depends on the corpus: they are counted for one of this size."""
TIME_NOTE = (
    "Fits: at most, with 3 feature sets and 2 targets. One takes seconds (a layer of 32) to a\n"
    "minute or more (four layers of 64); --time-budget 8h shrinks a plan to a time."
)


def add_commands(app: typer.Typer) -> None:
    """Mount the commands on `affectune study`."""
    app.command("list")(list_command)
    app.command("show")(show_command)


def list_command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """List the shipped studies: what each is for, and how many fits it asks for.

    Example: affectune study list
    """
    print_status("Reading the shipped studies")
    records = [_describe(name) for name in STUDIES.names()]
    if as_json:
        typer.echo(json.dumps({"studies": records}, indent=1))
        return

    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from pipeline.terminal import Console

    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("study", no_wrap=True)
    table.add_column("fits", justify="right", no_wrap=True)
    table.add_column("what it is")
    for record in sorted(records, key=lambda record: int(record["fits"])):
        table.add_row(record["name"], f"{record['fits']:,}", escape(record["about"]))

    console = Console()
    console.print(table)
    console.print(escape(TIME_NOTE), soft_wrap=True, highlight=False)
    console.print(
        "To run one:    affectune study run NAME --corpus PATH\n"
        "To change one: affectune study show NAME > mine.toml",
        soft_wrap=True,
        highlight=False,
    )


def show_command(
    name: Annotated[
        str,
        typer.Argument(
            help="Of a shipped study.", show_default=False, autocompletion=STUDIES.complete_name
        ),
    ],
) -> None:
    """Print a shipped study's file, to copy and change it.

    Example: affectune study show wide > mine.toml
    """
    typer.echo(STUDIES.path(name).read_text(encoding="utf-8"), nl=False)


def _describe(name: str) -> dict[str, Any]:
    """Return a study's name, what it is about, and its fits for a corpus of the example's size."""
    from tuning.spec.study_spec import for_corpus, read_study

    path = STUDIES.path(name)
    study = for_corpus(read_study(path), EXAMPLE_MODALITIES, EXAMPLE_TARGETS)
    return {
        "name": name,
        "about": STUDIES.about(name),
        "fits": _num_fits(study),
        "protocol": study.protocol,
        "path": str(path),
    }


def _num_fits(study: StudySpec) -> int:
    """Count the fits that a study plans before early stopping or the store spare any."""
    from tuning.journal.history import History
    from tuning.planning.outstanding_fits import FitPlan

    plan = FitPlan(study, num_folds=1 if study.protocol == "in_sample" else study.folds)
    return sum(plan.outstanding(History(), task).total for task in plan.tasks)
