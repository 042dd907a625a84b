"""The files of an entry as one object, which a service replaces in one step: a zip archive.

Nothing in it is compressed, so that what it takes in memory is what it is long. Its manifest says
what every file must be.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from pipeline.errors import InputError
from pipeline.storage.atomic_folder import MANIFEST, manifest_of, verify

ENDING = ".zip"
DATE = (1980, 1, 1, 0, 0, 0)
"""Of every file: the same files are the same bytes."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return files and their manifest as an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [*files.items(), (MANIFEST, manifest_of(files))]:
            archive.writestr(zipfile.ZipInfo(name, DATE), data)
    return buffer.getvalue()


def unpack(where: str, packed: bytes) -> dict[str, bytes]:
    """Return the verified files of an archive.

    Raises:
        InputError: it is none, or holds something else than its manifest says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("compressed")
            files = {member.filename: archive.read(member) for member in members}
        manifest = files.pop(MANIFEST)
    except (zipfile.BadZipFile, ArithmeticError, LookupError, NotImplementedError, OSError,
            RuntimeError, ValueError) as error:  # fmt: skip
        raise InputError(f"'{where}' is no whole entry of a store ({error}).") from error
    verify(where, files, manifest)
    return files
