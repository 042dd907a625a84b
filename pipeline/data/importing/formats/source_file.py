"""A file as the readers of formats meet it: its first bytes, its text, what it plainly is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.data.importing.formats.recording import ReadOptions, Recording
from pipeline.data.importing.text_tables.text import Text, decode_text
from pipeline.errors import InputError

HEAD_BYTES = 1 << 20
MAGIC = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "Unpack it, or save the sheet as CSV."),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "Save the sheet as CSV."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it."),
    (b"\x89HDF", "an HDF5 file (MATLAB 7.3, h5)", "Export its arrays as CSV."),
    (b"MATLAB 5.0", "a MATLAB file", "Export its arrays as CSV."),
    (b"\x93NUMPY", "a NumPy array", "Write it as CSV with a column of times."),
    (b"PAR1", "a Parquet file", "Write it as CSV (pandas: to_csv)."),
    (b"ARROW1", "an Arrow file", "Write it as CSV (pandas: to_csv)."),
    (b"RIFF", "an audio or video file", "Extract features from it, for example by openSMILE."),
    (b"ID3", "an audio file", "Extract features from it, for example by openSMILE."),
    (b"OggS", "an audio file", "Extract features from it, for example by openSMILE."),
    (b"\x89PNG", "a picture", "Leave it out."),
    (b"\xff\xd8\xff", "a picture", "Leave it out."),
    (b"%PDF", "a PDF document", "Leave it out."),
    (b"SQLite format 3", "an SQLite database", "Export its tables as CSV."),
    (b"#ROSBAG", "a ROS bag", "Export its topics as CSV."),
)  # fmt: skip
"""Start of a file -> what it is, and what to do."""
DOCUMENT_NAMES = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|citation|authors|info)(\W.*)?"
    r"|.*\.(md|rst|pdf|docx?)",
    re.IGNORECASE,
)
LOG_LINE = re.compile(r".{0,60}\b(DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL)\b")
LICENCE = re.compile(r"licen[cs]e|copyright|permission is hereby", re.IGNORECASE)


@dataclass(frozen=True)
class SourceFile:
    """A file to be read.

    Attributes:
        path: where it is.
        where: how messages name it.
    """

    path: Path
    where: str

    @cached_property
    def head(self) -> bytes:
        """Return the first bytes: the header of a wide table has more than 100 KB.

        Raises:
            InputError: it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                return file.read(HEAD_BYTES)
        except OSError as error:
            raise InputError(f"{self.where} cannot be read: {error.strerror}.") from None

    @cached_property
    def head_lines(self) -> list[str]:
        """Return the first lines that are complete and not blank; none where it is no text."""
        try:
            text = decode_text(self.head, self.where).text
        except InputError:
            return []
        lines = text.split("\n")
        if len(self.head) == HEAD_BYTES and len(lines) > 1:
            lines = lines[:-1]
        return [line for line in lines if line.strip()]

    def read_text(self) -> Text:
        """Return all of its text.

        Raises:
            InputError: it cannot be read, or is no text.
        """
        return decode_text(self.read_bytes(), self.where)

    def read_bytes(self) -> bytes:
        """Return all of its bytes.

        Raises:
            InputError: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.where} cannot be read: {error.strerror}.") from None

    @property
    def is_document(self) -> bool:
        """Return whether its name is one of a text for people, such as README or LICENSE."""
        return DOCUMENT_NAMES.fullmatch(self.path.name) is not None


@dataclass(frozen=True)
class Format:
    """A format that can be read.

    Attributes:
        name: what `--format` calls it.
        title: what people call it.
        is_like: whether a file is of this format, by its content.
        read: read a file of it.
    """

    name: str
    title: str
    is_like: Callable[[SourceFile], bool]
    read: Callable[[SourceFile, ReadOptions], Recording]


def describe_unreadable(file: SourceFile) -> str:
    """Return a sentence that says what a file is that no reader reads, and what to do."""
    if not file.head:
        return f"{file.where} is empty. Leave it out."
    for start, kind, advice in MAGIC:
        if file.head.startswith(start):
            return f"{file.where} is {kind}. {advice}"
    if file.head[4:8] == b"ftyp":
        return f"{file.where} is a video or audio file (MP4). Extract features from it."

    lines = file.head_lines
    if not lines:
        return f"{file.where} is a binary file of a kind that is not read. Export it as CSV."
    start_text = "\n".join(lines[:40])
    num_log_lines = sum(LOG_LINE.match(line) is not None for line in lines[:20])
    if num_log_lines >= 0.6 * len(lines[:20]):
        return f"{file.where} is a program's log, not a table of numbers. Leave it out."
    if lines[0].lstrip().startswith(("{", "[")):
        return f"{file.where} is JSON. Write it as CSV, with a column of times."
    if lines[0].lstrip().startswith("<"):
        return f"{file.where} is XML or HTML. Export its numbers as CSV."
    if LICENCE.search(start_text) and file.is_document:
        return f"{file.where} is a licence or a text for people. Leave it out."
    if file.is_document:
        return f"{file.where} is a text for people. Leave it out."
    second = f", its second {lines[1][:60]!r}" if len(lines) > 1 else ""
    return (
        f"{file.where} is no table: its first line is {lines[0][:60]!r}{second}. A table has a "
        "line of column names, one of them of times, and then rows of numbers."
    )
