"""Where a person says that a study is: its folder, or a store in which it is published."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError
from pipeline.model.bundle_copy import copy_from
from pipeline.storage.object_store import Objects
from pipeline.storage.open_objects import open_objects
from tuning.journal.file import JOURNAL
from tuning.publication.head import STUDIES, Head, place_of
from tuning.publication.published import PublishedStudy, choose, find_heads, read_study

STUDY_URI = re.compile(rf"(?P<store>[^?]+)/{STUDIES}/(?P<study>[0-9a-f]{{8,32}})/?(?P<query>\?.*)?")


@dataclass(frozen=True)
class Store:
    """A store in which studies are published.

    Attributes:
        uri: as it was given; it may hold credentials.
        objects: what is in it.
    """

    uri: str
    objects: Objects

    @property
    def name(self) -> str:
        """Return its name without credentials."""
        return masked_uri(self.uri)

    def heads(self) -> list[Head]:
        """Return the heads of all its studies, the latest first."""
        return find_heads(self.objects)

    def read(self, which: str) -> PublishedStudy:
        """Return the study with a name, an id or a digest.

        Raises:
            InputError: there is none, or several are.
        """
        head = choose(self.heads(), which, self.name)
        return read_study(self.objects, head.id)

    def model_uri(self, head: Head) -> str | None:
        """Return where the winner of a study is, as --model takes it; None where there is none."""
        if head.model is None:
            return None
        place, mark, query = self.name.partition("?")
        return f"{place.rstrip('/')}/{place_of(head.id, head.model)}{mark}{query}"

    @contextlib.contextmanager
    def winner_in(self, head: Head, name: str) -> Iterator[Path]:
        """Copy the winner of a study here for a while, below a folder that is like the study's.

        Args:
            head: of the study.
            name: that the winner's folder is to have.

        Raises:
            InputError: what is there is no bundle.
        """
        with tempfile.TemporaryDirectory(prefix="affectune-study-") as folder:
            if head.model is not None:
                model = Path(folder) / name
                model.mkdir()
                try:
                    copy_from(self.objects, place_of(head.id, head.model, ""), model)
                except FileNotFoundError as error:
                    raise InputError(
                        f"The winner of '{head.name}' is not in the store '{self.name}' any more: "
                        f"{error} is missing."
                    ) from error
            yield Path(folder)


def find_store(where: str, which: str) -> tuple[Store, str] | None:
    """Return the store that a person means, and which study; None where it is a study's folder.

    Args:
        where: a folder, or a URI of a store or of a study in it.
        which: name, id or digest; "" where none was given.

    Raises:
        InputError: there is no such place; or a study was named of a folder that holds one.
    """
    if match := STUDY_URI.fullmatch(where):
        place, which = match["store"] + (match["query"] or ""), which or match["study"]
        return Store(place, open_objects(place)), which
    if "://" in where:
        return Store(where, open_objects(where)), which

    folder = Path(where)
    if (folder / JOURNAL).exists() or not (folder / STUDIES).is_dir():
        if which:
            raise InputError(
                f"--study chooses among the studies of a store, and '{where}' is none. Leave it "
                "out, or give what `affectune study run --store` was given."
            )
        return None
    return Store(where, open_objects(where)), which
