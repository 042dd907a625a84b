"""Small files of other formats, as programs write them, for tests to import."""

from __future__ import annotations

import csv
from pathlib import Path

from typer.testing import CliRunner

from pipeline.data.cli import corpus_app


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """Write a text file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def run(*arguments: object) -> str:
    """Run a command below `corpus` and return what it prints, or raise its error."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        corpus_app, [str(argument) for argument in arguments]
    )
    if result.exception:
        raise result.exception
    return result.stdout


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file, its header first."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def column(path: Path, name: str) -> list[float | None]:
    """Return a column of a CSV file as numbers, None where a cell is empty."""
    header, *rows = read_rows(path)
    cells = [row[header.index(name)] for row in rows]
    return [float(cell) if cell else None for cell in cells]


def files_below(folder: Path) -> list[str]:
    """Return the paths of all files below a folder, hidden ones too."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def write_e4(folder: Path, start_s: float, *, without: tuple[str, ...] = ()) -> Path:
    """Write what an Empatica E4 writes: two seconds of every sensor, heart rate 1 s later."""
    starts = f"{start_s:.6f}"
    sensors = {
        "ACC": [f"{starts}, {starts}, {starts}", "32.0, 32.0, 32.0", *["64,-32,0"] * 64],
        "BVP": [starts, "64.0", *["-0.5"] * 128],
        "EDA": [starts, "4.0", *[f"{0.25 * row}" for row in range(8)]],
        "HR": [f"{start_s + 1:.6f}", "1.0", "60.0", "61.0"],
        "IBI": [f"{starts}, IBI", "0.5,0.75", "1.25,0.8"],
        "TEMP": [starts, "4.0", *["32.5"] * 8],
        "tags": [f"{start_s + 1:.2f}"],
    }
    for sensor, lines in sensors.items():
        if sensor not in without:
            write(folder / f"{sensor}.csv", *lines)
    return folder
