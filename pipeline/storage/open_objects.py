"""Opens what others have written, by the name that a person gives it: a folder, or a URI."""

from __future__ import annotations

from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError
from pipeline.shell_command import raise_if_masked
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.object_store import Objects, ObjectStore
from pipeline.storage.store_address import folder_of, object_address


def open_objects(uri: str) -> Objects:
    """Return the objects of a store, to be read; nothing is made.

    Raises:
        InputError: no such kind of URI, or no such folder.
    """
    raise_if_masked(uri, "The store")
    folder = folder_of(uri)
    if folder is None:
        return ObjectStore(object_address(uri))
    if not folder.is_dir():
        raise InputError(f"There is no folder '{masked_uri(uri)}'.")
    return FolderStore(folder)
