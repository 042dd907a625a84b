"""Runs the benchmarks that are named, or all: prints a table and writes bench.json in the current folder."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.corpus import corpus_rows
from tests.benchmarks.endpoint import endpoint_rows
from tests.benchmarks.gru import gru_rows
from tests.benchmarks.overhead import overhead_rows
from tests.benchmarks.study import study_rows

BENCHMARKS: dict[str, Callable[[], list[dict[str, str | float]]]] = {
    "gru": gru_rows,
    "corpus": corpus_rows,
    "study": study_rows,
    "overhead": overhead_rows,
    "endpoint": endpoint_rows,
}


def main(names: list[str]) -> None:
    """Run the named benchmarks in turn; what is done stays in bench.json when a later one fails."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        sys.exit(f"There is no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}.")
    for name in names or BENCHMARKS:
        rows = BENCHMARKS[name]()
        Console().print(_table(name, rows))
        _merge(rows, Path("bench.json"))


def _table(name: str, rows: list[dict[str, str | float]]) -> Table:
    table = Table(
        title=name,
        caption="ratio > 1: ours is better",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("name", "ours", "other", "unit", "ratio"):
        table.add_column(column, justify="left" if column in ("name", "unit") else "right")
    for row in rows:
        table.add_row(
            *(value if isinstance(value, str) else f"{value:,.4g}" for value in row.values())
        )
    return table


def _merge(rows: list[dict[str, str | float]], path: Path) -> None:
    """Rows of earlier runs stay, unless one of the same name is among the new ones."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        replaced = {row["name"] for row in rows}
        merged = [row for row in earlier if row["name"] not in replaced] + rows
    except (ValueError, KeyError, TypeError):
        sys.exit(f"{path} is not a list of rows with names. Delete it and run again.")
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    main(sys.argv[1:])
