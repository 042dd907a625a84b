"""The head of a published study: which journal it has by now, and who writes it.

Below `studies/<id>/` in the store lie `head.json`; `term-<number>`, one for each process that ran
the study; `journal-<driver>/<number>`, the journal in parts of one length, of which only the last
one still grows; and at the end `summary.json`, `report.html` and `model-<hash>/`. The head is
written last: what it tells of is there, whole, whatever becomes of its writer.
"""

from __future__ import annotations

import logging
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import InputError
from pipeline.storage.object_store import Objects

log = logging.getLogger(__name__)

STUDIES = "studies"
HEAD = "head.json"
PART_BYTES = 2**20
"""Of a part of a journal; at most so much is written again when a line is added."""
BEAT_S = 5.0
"""A driver writes its head so often, whether or not there is something new."""
SILENT_S = 20.0
"""A head that has not changed for so long is of a driver that has ended, or is cut off."""
MAX_HEAD_BYTES = 2**16
MAX_JOURNAL_BYTES = 2**30
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Head(BaseModel):
    """What is published of a study.

    Attributes:
        format: of what is published; raise it when it is written otherwise.
        id: of the study: see `StudyOpened.id`.
        digest: of its settings, data and code; the same study run twice has it twice.
        name: of the study.
        term: how many processes ran it, this one included.
        driver: of the process that runs it, or ran it last; drawn at random.
        host: where that is.
        at: when this was written, by that host's clock, in seconds since 1970.
        beat: counts up with every head of a driver.
        is_open: the driver goes on; False once it has ended and could say so.
        journal_bytes, journal_sha256: of the whole journal so far.
        lines: of it, and `seal` the sum in the seal of the last one.
        fits, ended: trials that were asked for, and those that ended.
        is_finished, is_registered: likewise, as the journal says.
        command: that goes on with the study, without credentials.
        model: name of the winner's folder; None before the end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    id: Hex32
    digest: Annotated[str, Field(max_length=64)]
    name: Annotated[str, Field(max_length=1000)]
    term: Annotated[int, Field(ge=1, lt=10**6)]
    driver: Hex32
    host: Annotated[str, Field(max_length=300)]
    at: Annotated[float, Field(ge=0)]
    beat: Annotated[int, Field(ge=0)]
    is_open: bool
    journal_bytes: Annotated[int, Field(ge=0, le=MAX_JOURNAL_BYTES)]
    journal_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    lines: Annotated[int, Field(ge=0)]
    seal: Annotated[str, Field(pattern=r"^[0-9a-f]{0,16}$")]
    fits: Annotated[int, Field(ge=0)]
    ended: Annotated[int, Field(ge=0)]
    is_finished: bool
    is_registered: bool
    command: Annotated[str, Field(max_length=20_000)] = ""
    model: Annotated[str, Field(pattern=r"^model-[0-9a-f]{12}$")] | None = None


def place_of(study: str, *parts: str) -> str:
    """Return the name of an object of a study.

    Args:
        study: its id.
        parts: of the name, below the study's.
    """
    return "/".join([STUDIES, study, *parts])


def part_of(study: str, driver: str, number: int) -> str:
    """Return the name of a part of the journal that a driver writes."""
    return place_of(study, f"journal-{driver}", f"{number:06d}")


def read_head(objects: Objects, study: str) -> Head | None:
    """Return what is published of a study; None where nothing is.

    Raises:
        InputError: it is damaged, or a later version wrote it.
        SurroundingsError: the store does not let it be read.
    """
    data = objects.read(place_of(study, HEAD), max_bytes=MAX_HEAD_BYTES)
    if data is None:
        return None
    try:
        head = Head.model_validate_json(data)
    except ValidationError as error:
        raise InputError(
            f"What the store has published of the study {study[:12]} is damaged, or of a later "
            "version of Affectune. Use the version that ran the study, or read the study's folder."
        ) from error
    if head.id != study:
        raise InputError(f"The store has another study's head in the place of {study[:12]}.")
    return head


def head_or_none(objects: Objects, study: str) -> Head | None:
    """Return what is published of a study; None also where that is damaged, which is logged.

    Raises:
        SurroundingsError: the store does not let it be read.
    """
    try:
        return read_head(objects, study)
    except InputError as error:
        log.warning("%s It is written anew.", error)
        return None
