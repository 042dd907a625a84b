"""The names that mlflow/README.md documents, as patterns."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[3] / "mlflow" / "README.md"
PLACEHOLDER = re.compile(r"<[a-z]+>")


def documented_run_names(heading: str) -> dict[str, list[str]]:
    """Return the names in the table below a heading, by the kind of run that has them.

    A run has the names of its kind, and those of kind "all".
    """
    section = README.read_text(encoding="utf-8").split(f"\n### {heading}\n")[1].split("\n#")[0]
    names: dict[str, list[str]] = {}
    for kind, cell, _ in _rows(section):
        names.setdefault(kind, []).extend(_names(cell))
    return names


def documented_version_tags() -> list[str]:
    """Return the tags of a registered version."""
    table = README.read_text(encoding="utf-8").split("\n| tag of a version |")[1].split("\n\n")[0]
    tags = []
    for cell, _ in _rows(table):
        tags += _names(cell)
    return tags


def undocumented(names: set[str], documented: list[str]) -> set[str]:
    """Return the names that match no documented name."""
    pattern = re.compile("|".join(_pattern(name) for name in documented))
    return {name for name in names if not pattern.fullmatch(name)}


def unused(names: set[str], documented: list[str]) -> set[str]:
    """Return the documented names that match no name."""
    matched = set()
    for documented_name in documented:
        pattern = re.compile(_pattern(documented_name))
        matched |= {documented_name for name in names if pattern.fullmatch(name)}
    return {*documented} - matched


def _pattern(documented_name: str) -> str:
    """Return the pattern of a name, with something in the place of each `<placeholder>`."""
    return ".+".join(map(re.escape, PLACEHOLDER.split(documented_name)))


def _rows(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table's rows, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [re.split(r" *\| *", line.strip("| ")) for line in lines]
    rule = next(index for index, row in enumerate(rows) if set(row[0]) == {"-"})
    return rows[rule + 1 :]


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
