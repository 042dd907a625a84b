"""Which entries of a store are needed: by what is published in it, and by folders beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.resumable_fit import checkpoint_name
from pipeline.model.bundle_limits import MAX_RECORD_BYTES
from pipeline.storage.atomic_folder import MODEL
from pipeline.storage.object_store import Objects
from pipeline.storage.plain_file import read_plain_file
from pipeline.storage.stage_store import StageStore
from pipeline.storage.strict_json import parse_json
from tuning.fitting.held_out_predictions import held_out_name
from tuning.journal.file import JOURNAL
from tuning.journal.history import History, history_of, read_history
from tuning.journal.lines import read_lines
from tuning.planning.lost_stages import needed_trials
from tuning.publication.head import HEAD, STUDIES
from tuning.publication.published import STUDY, read_study

BELOW = ("model", "nested/*", "nested/*/model")
"""Where a study's folder holds journals and bundles, beside itself."""


def needed_by_history(history: History) -> Iterator[str]:
    """Yield the names of the entries that a study may still read.

    Those are its candidates', and what its running trials, or those of a killed study, go on from.
    """
    for trial in needed_trials(history, with_open_tasks=True):
        yield from _names_of(trial.proposed.key)
    for trial in history.trials.values():
        if trial.ended is None and history.finished is None:
            yield from _names_of(trial.proposed.key)
            yield checkpoint_name(trial.proposed.key)


def needed_by_bundle(record: bytes, where: str) -> Iterator[str]:
    """Yield the names of the entries that a model was put together from.

    Args:
        record: the content of its model.json.
        where: that is, for messages.

    Raises:
        InputError: it is none.
    """
    try:
        stages = parse_json(record)["stages"]
        keys = [str(stage["key"]) for stage in stages.values()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"'{where}' is damaged: which stages it was made of is not known. Nothing is removed "
            "before it is mended, moved away, or no longer named."
        ) from error
    for key in keys:
        yield from _names_of(key)


def needed_by_folder(folder: Path) -> set[str]:
    """Return the names of the entries that a study's folder, or a bundle, needs.

    Raises:
        InputError: it is neither, or is damaged.
    """
    needed: set[str] = set()
    num_found = 0
    for place in [folder, *(path for pattern in BELOW for path in folder.glob(pattern))]:
        if (place / JOURNAL).is_file():
            needed.update(needed_by_history(read_history(place)))
            num_found += 1
        if (place / MODEL).is_file():
            data = read_plain_file(place / MODEL, MAX_RECORD_BYTES)
            needed.update(needed_by_bundle(data, str(place / MODEL)))
            num_found += 1
    if not num_found:
        raise InputError(
            f"--keep '{folder}' holds no study and no model. Give what `affectune study run --out` "
            "or `affectune train --out` wrote."
        )
    return needed


def needed_by_published(objects: Objects, forgotten: Iterable[str]) -> set[str]:
    """Return the names of the entries that the studies published in a store need.

    Args:
        objects: what is in the store.
        forgotten: ids of studies that need nothing any more.

    Raises:
        InputError: a study is damaged: what it needs is not known.
    """
    without = set(forgotten)
    needed: set[str] = set()
    studies: set[str] = set()
    for found in objects.names(f"{STUDIES}/"):
        study, _, name = found.name.removeprefix(f"{STUDIES}/").partition("/")
        if study in without or not STUDY.fullmatch(study):
            continue
        if name == HEAD:  # without one, a study has been begun, and nothing is known of it
            studies.add(study)
        if name.endswith(f"/{MODEL}"):
            data = objects.read(found.name, max_bytes=MAX_RECORD_BYTES)
            needed.update(needed_by_bundle(data or b"", found.name))
    for study in sorted(studies):
        try:
            needed.update(needed_by_history(read_study(objects, study).history()))
        except InputError as error:
            raise InputError(
                f"What the published study {study[:12]} needs is not known: {error} Nothing is "
                f"removed. To do without that study: --forget {study[:12]}"
            ) from error
    return needed


def needed_by_whole_study(store: StageStore, name: str) -> set[str]:
    """Return the names of the entries that a finished study's journal in a store needs."""
    journal = store.read(name, lambda files: files[JOURNAL]) or b""
    try:
        history = history_of(line.event for line in read_lines(BytesIO(journal), name))
    except AffectuneError:  # it is not used any more, either
        return set()
    return set(needed_by_history(history))


def _names_of(key: str) -> tuple[str, str]:
    return key, held_out_name(key)
