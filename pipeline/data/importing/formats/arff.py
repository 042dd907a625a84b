"""Reads ARFF files (Weka): openSMILE's features, and gold standards such as those of AVEC.

scipy reads no ARFF file with text in it, and these name their recordings in text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from pipeline.data.importing.formats.opensmile import read_frames
from pipeline.data.importing.formats.recording import ReadOptions, Recording
from pipeline.data.importing.formats.source_file import Format, SourceFile
from pipeline.data.importing.text_tables.text import Table
from pipeline.data.importing.text_tables.time_column import find_time_column
from pipeline.errors import InputError

ATTRIBUTE = re.compile(
    r"@attribute\s+(?P<name>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+)\s+(?P<kind>.+)",
    re.IGNORECASE,
)
CELL = re.compile(r"\s*('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^,\t'\"]*)\s*(?:[,\t]|$)")
ISO_DATES = ("", "yyyy-mm-dd't'hh:mm:ss", "yyyy-mm-dd hh:mm:ss", "yyyy-mm-dd hh:mm:ss.sss")
"""Patterns of dates, in lower case, that need no translation."""
JAVA_DATE = {
    "yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S", "SSS": "%f",
}  # fmt: skip


@dataclass(frozen=True)
class Attribute:
    """A column; `kind` is numeric, string, nominal or date, `detail` its values or pattern."""

    name: str
    kind: str
    detail: str


def is_arff(file: SourceFile) -> bool:
    """Return whether the first line that is no comment begins a relation."""
    lines = [line.strip().lower() for line in file.head_lines]
    first = next((line for line in lines if not line.startswith("%")), "")
    return first.startswith("@relation")


def read(file: SourceFile, options: ReadOptions) -> Recording:
    """Read a file with dense or sparse rows. A column of names makes one session of each.

    Raises:
        InputError: it breaks the format, or has no times.
    """
    text = file.read_text()
    lines = text.text.split("\n")
    attributes, first = _read_header(lines, file.where)
    rows = list(_read_rows(lines, first, attributes, file.where))
    if not rows:
        raise InputError(f"{file.where} has no rows below @data. Export it again.")

    columns = [
        _to_column([row[place] for row in rows], attribute, file.where)
        for place, attribute in enumerate(attributes)
    ]
    header = tuple(attribute.name for attribute in attributes)
    if len(set(header)) < len(header):
        doubled = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{file.where} has several attributes {doubled!r}. Rename them.")

    table = Table(file.where, header, tuple(columns), ",", "\n".join(lines[first:]), first + 1)
    nominal = [place for place, attribute in enumerate(attributes) if attribute.kind == "nominal"]
    notes = [text.note] if text.note else []
    if nominal:
        table, dropped = _without(table, nominal)
        notes.append(f"Set aside, since they are classes: {dropped}.")

    if not options.time_column and "frameTime" not in header:
        place = find_time_column(table.header, options, file.where)
        if place is not None:
            options = replace(options, time_column=table.header[place])
    recording = read_frames(table, options, "arff")
    return replace(recording, notes=(*notes, *recording.notes))


def _read_header(lines: Sequence[str], where: str) -> tuple[list[Attribute], int]:
    """Return the attributes, and the index of the first line below @data."""
    attributes: list[Attribute] = []
    for index, line in enumerate(lines):
        text = line.strip()
        if not text or text.startswith("%") or text.lower().startswith("@relation"):
            continue
        if text.lower().startswith("@data"):
            if not attributes:
                raise InputError(f"{where} declares no attribute. Export it again.")
            return attributes, index + 1

        match = ATTRIBUTE.fullmatch(text)
        if match is None:
            raise InputError(
                f"{where}, line {index + 1}: {text[:60]!r} is no line of an ARFF header."
            )
        attributes.append(_to_attribute(match["name"], match["kind"].strip(), where, index + 1))
    raise InputError(f"{where} has no line @data. It may be cut off: export it again.")


def _to_attribute(name: str, kind: str, where: str, line: int) -> Attribute:
    word = kind.split()[0].lower()
    if word in ("numeric", "real", "integer"):
        return Attribute(_unquoted(name), "numeric", "")
    if word == "string":
        return Attribute(_unquoted(name), "string", "")
    if kind.startswith("{"):
        return Attribute(_unquoted(name), "nominal", kind.strip("{}").split(",")[0].strip())
    if word == "date":
        return Attribute(_unquoted(name), "date", _unquoted(kind[len("date") :].strip()))
    raise InputError(
        f"{where}, line {line}: attributes of the kind {word!r} are not read. Write numbers, text, "
        "dates or classes."
    )


def _read_rows(
    lines: Sequence[str], first: int, attributes: Sequence[Attribute], where: str
) -> Iterator[list[str]]:
    for index, line in enumerate(lines[first:], start=first):
        text = line.strip()
        if not text or text.startswith("%"):
            continue

        if text.startswith("{"):
            row = _read_sparse(text, attributes, f"{where}, line {index + 1}")
        elif "'" in text or '"' in text or "\t" in text:
            row = _split(text, f"{where}, line {index + 1}")
        else:
            row = [cell.strip() for cell in text.split(",")]
        if len(row) != len(attributes):
            raise InputError(
                f"{where}, line {index + 1}: {len(row)} cells, but there are {len(attributes)} "
                "attributes. Export the file again."
            )
        yield row


def _read_sparse(text: str, attributes: Sequence[Attribute], where: str) -> list[str]:
    """Read `{1 0.5, 3 'a b'}`: what is not there is 0, or the first class."""
    row = [attribute.detail if attribute.kind == "nominal" else "0" for attribute in attributes]
    if not text.endswith("}"):
        raise InputError(f"{where}: the sparse row {text[:60]!r} does not end. Export it again.")

    for part in _split(text[1:-1].strip(), where) if text[1:-1].strip() else ():
        place, _, cell = part.partition(" ")
        if not place.isdigit() or int(place) >= len(attributes) or not cell.strip():
            raise InputError(f"{where}: {part!r} is no cell of a sparse row. Export it again.")
        if attributes[int(place)].kind == "string" and not cell.strip():
            raise InputError(f"{where}: {part!r} has no text. Export it again.")
        row[int(place)] = _unquoted(cell.strip())

    unnamed = [
        attribute.name
        for attribute, cell in zip(attributes, row, strict=True)
        if attribute.kind in ("string", "date") and cell == "0"
    ]
    if unnamed:
        raise InputError(f"{where}: the sparse row leaves out {unnamed[0]!r}. Write dense rows.")
    return row


def _split(text: str, where: str) -> list[str]:
    """Split a row at its commas or tabs, but not at those in quotes."""
    cells, start = [], 0
    while start <= len(text):
        match = CELL.match(text, start)
        if match is None:
            match = re.compile(r"\s*(\d+\s+'[^']*'|\d+\s+\"[^\"]*\")\s*(?:,|$)").match(text, start)
        if match is None:
            raise InputError(f"{where}: the quotes of {text[:60]!r} do not close. Export it again.")
        cells.append(_unquoted(match[1].strip()))
        start = match.end()
        if start == len(text) and text[-1:] not in (",", "\t"):
            break
        if match.end() == match.start():
            break
    return cells


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _to_column(cells: Sequence[str], attribute: Attribute, where: str) -> pa.Array:
    if attribute.kind != "date" or attribute.detail.lower() in ISO_DATES:
        return pa.array([cell.strip() for cell in cells], pa.string())

    pattern = attribute.detail.replace("'", "")
    for java, python in JAVA_DATE.items():
        pattern = pattern.replace(java, python)
    if re.search(r"(?<!%)[A-Za-z]{2,}", pattern.replace("T", "")):
        raise InputError(
            f"{where}: the date pattern {attribute.detail!r} of {attribute.name!r} is not read. "
            "Write dates as yyyy-MM-dd HH:mm:ss."
        )
    try:
        moments = [datetime.strptime(cell, pattern).isoformat(" ") for cell in cells]
    except ValueError as error:
        raise InputError(f"{where}, attribute {attribute.name!r}: {error}.") from None
    return pa.array(moments, pa.string())


def _without(table: Table, places: Sequence[int]) -> tuple[Table, str]:
    """Return the table without some columns, and their names quoted."""
    names = ", ".join(repr(table.header[place]) for place in places)
    kept = [place for place in range(len(table.header)) if place not in places]
    header = tuple(table.header[place] for place in kept)
    columns = tuple(table.columns[place] for place in kept)
    return replace(table, header=header, columns=columns), names


ARFF = Format("arff", "ARFF (Weka, openSMILE, AVEC)", is_arff, read)
