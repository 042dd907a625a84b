"""Runs the benchmarks that are named, or all: prints tables and writes bench.json."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.storage.atomic_file import write_atomically
from tests.benchmarks.attacks import attack_rows
from tests.benchmarks.bundle_damages import bundle_damage_rows
from tests.benchmarks.corpus import corpus_rows
from tests.benchmarks.damages import damages_rows
from tests.benchmarks.distillation import distillation_rows
from tests.benchmarks.endpoint import endpoint_rows
from tests.benchmarks.first_output import first_output_rows
from tests.benchmarks.full_disk import full_disk_rows
from tests.benchmarks.gpu import gpu_rows
from tests.benchmarks.gru import gru_rows
from tests.benchmarks.host_kills import host_kills_rows
from tests.benchmarks.object_storage import object_storage_rows
from tests.benchmarks.overhead import overhead_rows
from tests.benchmarks.planner import planner_rows
from tests.benchmarks.rows import Row
from tests.benchmarks.scaling import scaling_rows
from tests.benchmarks.search import search_rows
from tests.benchmarks.secrets import secrets_rows
from tests.benchmarks.study import study_rows

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "gru": gru_rows,
    "gpu": gpu_rows,
    "corpus": corpus_rows,
    "study": study_rows,
    "overhead": overhead_rows,
    "endpoint": endpoint_rows,
    "attacks": attack_rows,
    "search": search_rows,
    "distillation": distillation_rows,
    "first_output": first_output_rows,
    "full_disk": full_disk_rows,
    "secrets": secrets_rows,
    "bundles": bundle_damage_rows,
    "damages": damages_rows,
    "planner": planner_rows,
    "scaling": scaling_rows,
    "s3": object_storage_rows,
    "host_kills": host_kills_rows,
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


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(
        title=title,
        caption="ratio > 1: ours is better",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("name", "ours", "other", "unit", "ratio"):
        table.add_column(column, justify="left" if column in ("name", "unit") else "right")

    for row in rows:
        ours, other, ratio = (f"{figure:,.4g}" for figure in (row.ours, row.other, row.ratio))
        table.add_row(row.name, ours, other, row.unit, ratio)
    return table


def _merge(rows: list[Row], path: Path) -> None:
    """Write rows to a file; rows of earlier runs stay there unless they have a new row's name."""
    names = {row.name for row in rows}
    try:
        earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        kept = [row for row in earlier if row["name"] not in names]
    except (ValueError, KeyError, TypeError):
        sys.exit(f"{path} is not a list of rows with names. Delete it and run again.")

    merged = kept + [row.to_json() for row in rows]
    write_atomically(path, json.dumps(merged, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
