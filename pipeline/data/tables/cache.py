"""Reads the files of a feature set, and parses each content once. A failing cache costs only time.

The cache folder has `packs/` (the parsed tables, see `arrow_pack`) and `sources/`, with a JSON file
per folder of feature files: the name of its pack, and per file a fingerprint and the sha256 of its
content. The fingerprint (size, times, inode) only saves reading a file again: where it differs, the
sha256 decides. What is cached is as private as the corpus: only its owner can read it. The cache
folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pipeline.data.input_errors import raise_if_any
from pipeline.data.tables.arrow_pack import FORMAT, OWNER_ONLY, read_pack, write_pack
from pipeline.data.tables.csv_columns import read_content
from pipeline.data.tables.parse import FeatureTable, parse_features
from pipeline.errors import AffectuneError, InputError
from pipeline.preprocessing.bookkeeping import Kind
from pipeline.preprocessing.columns import find_bookkeeping
from pipeline.storage.atomic_file import write_atomically

SETTLED_NS = 2_000_000_000
"""A file that changed more recently may change again without a new time: it gets no fingerprint."""
MAX_THREADS = 8
OWNER_ONLY_FOLDER = 0o700

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureFile:
    """The table in a feature file, with its own columns, and the sha256 of the file's content."""

    sha256: str
    table: FeatureTable


@dataclass(frozen=True)
class _Record:
    """What `sources/` keeps about one folder of feature files.

    Attributes:
        pack: the name of the pack with all its tables; "" if there is none.
        contents: file name -> sha256 of its content.
        fingerprints: file name -> fingerprint, of the files that had settled.
    """

    pack: str = ""
    contents: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, list[int]] = field(default_factory=dict)


def default_folder() -> Path:
    """Return `$AFFECTUNE_CACHE`, else `$XDG_CACHE_HOME/affectune`, else `~/.cache/affectune`."""
    if folder := os.environ.get("AFFECTUNE_CACHE"):
        return Path(folder)

    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affectune"


def read_features(
    files: Mapping[str, Path],
    names: Mapping[str, str],
    folder: Path | None,
    expected: Sequence[str] = (),
    known: Collection[str] = (),
) -> dict[str, FeatureFile]:
    """Read the files of one feature set, from the cache where it has their content.

    Args:
        files: session -> file; at least one.
        names: session -> how messages name its file.
        folder: where the cache is; None to read without a cache.
        expected: the columns that a model reads, in its order; empty if none does.
        known: columns that were no features when the model was trained.

    Returns:
        Session -> file, in the order of `files`. The same columns are set aside in all of them.

    Raises:
        InputError: files are no tables. The message names the first few.
    """
    record_path = _record_path(folder, files) if folder else None
    record, packed = _read_cache(record_path) if record_path else (_Record(), {})
    fingerprints = {path.name: _fingerprint(path) for path in files.values()}

    unchanged, changed = {}, {}
    for session, path in files.items():
        sha256 = record.contents.get(path.name, "")
        is_known = record.fingerprints.get(path.name) == fingerprints[path.name]
        if is_known and sha256 in packed:
            unchanged[session] = FeatureFile(sha256, packed[sha256])
        else:
            changed[session] = path

    results = unchanged | _read_files(changed, names, packed)
    results = {session: results[session] for session in files}
    columns = [file.table.file_columns for file in results.values()]
    results = _set_aside(results, files, names, find_bookkeeping(columns, expected, known))

    tables = {file.sha256: file.table for file in results.values()}
    # A pack holds tables of one width: files of several are a mistake, which is told elsewhere.
    if record_path and len({len(table.columns) for table in tables.values()}) == 1:
        is_packed = all(packed.get(sha256) is table for sha256, table in tables.items())
        new_record = _Record(
            pack=record.pack if is_packed else "",
            contents={files[session].name: file.sha256 for session, file in results.items()},
            fingerprints=_settled_only(fingerprints),
        )
        _write_cache(record_path, record, new_record, tables)
    return results


def _set_aside(
    results: Mapping[str, FeatureFile],
    files: Mapping[str, Path],
    names: Mapping[str, str],
    set_aside: Mapping[str, Kind],
) -> dict[str, FeatureFile]:
    """Parse again what was parsed as if other columns were features than in the whole set."""
    agreed = {}
    for session, file in results.items():
        table, name = file.table, names[session]
        if set(table.set_aside) != set(set_aside).intersection(table.file_columns.names):
            content = read_content(files[session], name)
            sha256 = hashlib.sha256(content).hexdigest()
            file = FeatureFile(sha256, parse_features(content, name, set_aside))
        agreed[session] = file
    return agreed


def _record_path(folder: Path, files: Mapping[str, Path]) -> Path:
    source = os.path.commonpath([path.parent.resolve() for path in files.values()])
    name = hashlib.sha256(source.encode()).hexdigest()[:32]
    return folder / "sources" / f"{name}.json"


def _packs_folder(record_path: Path) -> Path:
    return record_path.parent.parent / "packs"


def _read_cache(record_path: Path) -> tuple[_Record, dict[str, FeatureTable]]:
    """Return the record and the tables in its pack, both empty where they cannot be used."""
    try:
        document = json.loads(record_path.read_text())
        record = _Record(
            pack=str(document["pack"]),
            contents=dict(document["contents"]),
            fingerprints=dict(document["fingerprints"]),
        )
        if not set(record.fingerprints) <= set(record.contents):
            raise ValueError("it has fingerprints of unknown files")
        if record.pack and not record.pack.startswith(f"{FORMAT}-"):
            return _Record(record.pack), {}  # of an earlier version: it is replaced
        return record, read_pack(_packs_folder(record_path) / record.pack)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, LookupError) as error:
        logger.warning("Cache entry %s cannot be used and is made again: %s", record_path, error)

    return _Record(), {}


def _fingerprint(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _settled_only(fingerprints: Mapping[str, list[int]]) -> dict[str, list[int]]:
    settled_ns = time.time_ns() - SETTLED_NS
    return {
        name: [size, mtime_ns, ctime_ns, inode]
        for name, (size, mtime_ns, ctime_ns, inode) in fingerprints.items()
        if ctime_ns < settled_ns
    }


def _read_files(
    files: Mapping[str, Path], names: Mapping[str, str], packed: Mapping[str, FeatureTable]
) -> dict[str, FeatureFile]:
    """Read files, and parse those whose content is in no pack.

    Raises:
        InputError: with the mistakes of all files.
    """

    def read(session: str) -> FeatureFile | InputError:
        try:
            return _read_file(files[session], names[session], packed)
        except InputError as error:
            return error

    # The csv reader and the hash run without the interpreter's lock. More threads than cores only
    # cost memory.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        results = dict(zip(files, pool.map(read, files), strict=True))

    raise_if_any([str(result) for result in results.values() if isinstance(result, InputError)])
    return {
        session: result for session, result in results.items() if isinstance(result, FeatureFile)
    }


def _read_file(path: Path, name: str, packed: Mapping[str, FeatureTable]) -> FeatureFile:
    content = read_content(path, name)
    sha256 = hashlib.sha256(content).hexdigest()
    table = packed[sha256] if sha256 in packed else parse_features(content, name)
    return FeatureFile(sha256, table)


def _write_cache(
    record_path: Path, old: _Record, new: _Record, tables: Mapping[str, FeatureTable]
) -> None:
    """Write a new record, and a pack if it needs one; only log a failure.

    Args:
        record_path: where the record is.
        old: the record as it was read.
        new: the record as it should be; if its pack is "", one is written.
        tables: sha256 -> table of all files in the new record.
    """
    packs_folder = _packs_folder(record_path)
    try:
        if not new.pack:
            packs_folder.mkdir(OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
            new = replace(new, pack=write_pack(packs_folder, tables))

        if new != old:
            record_path.parent.mkdir(OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
            document = json.dumps(asdict(new), sort_keys=True)
            write_atomically(record_path, document, mode=OWNER_ONLY)

        if old.pack and old.pack != new.pack:
            (packs_folder / old.pack).unlink(missing_ok=True)
    except (OSError, AffectuneError) as error:
        logger.warning(
            "The cache in %s cannot be written, the next reading is as slow: %s",
            record_path.parent,
            error,
        )
