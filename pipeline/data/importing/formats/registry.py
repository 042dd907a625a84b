"""The formats that can be read, and which of them a file is of: by its content."""

from __future__ import annotations

from pipeline.data.importing.formats.arff import ARFF
from pipeline.data.importing.formats.edf import EDF
from pipeline.data.importing.formats.empatica import EMPATICA
from pipeline.data.importing.formats.openface import OPENFACE
from pipeline.data.importing.formats.opensignals import FORMAT as OPENSIGNALS
from pipeline.data.importing.formats.opensmile import OPENSMILE
from pipeline.data.importing.formats.source_file import Format, SourceFile
from pipeline.data.importing.formats.table import TABLE
from pipeline.data.importing.formats.xdf import XDF
from pipeline.errors import InputError

FORMATS = (XDF, EDF, ARFF, OPENSIGNALS, EMPATICA, OPENFACE, OPENSMILE, TABLE)
"""The first that a file is like counts: the plain table is like all others that are tables."""


def find_format(file: SourceFile) -> Format | None:
    """Return the format that a file is of; None where it is of none.

    Raises:
        InputError: the file cannot be read.
    """
    if not file.head:
        return None
    return next((kind for kind in FORMATS if kind.is_like(file)), None)


def format_named(name: str) -> Format:
    """Return the format with this name.

    Raises:
        InputError: there is none.
    """
    for kind in FORMATS:
        if kind.name == name:
            return kind
    names = ", ".join(kind.name for kind in FORMATS)
    raise InputError(f"There is no format {name!r}. The formats are {names}.")
