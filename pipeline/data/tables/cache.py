"""Reads the files of a feature set, each content only once. Never fails a reading: at worst it is slow.

The cache folder has `packs/` (the parsed tables, see `pack`) and `sources/<set folder>.json`: the pack of one set
folder, and per file a fingerprint and the content's hash. The fingerprint (size, times, inode) only saves reading a
file again: where it differs, the hash decides. What is cached is as private as the corpus: files are readable by their
owner only. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.data.input_errors import refuse
from pipeline.data.tables.arrow_pack import read_pack, replace_file, write_pack
from pipeline.data.tables.csv_columns import read_content
from pipeline.data.tables.parse import FeatureTable, parse_features
from pipeline.errors import InputError

# A file changed this recently may change again within the grain of its clock: its fingerprint proves nothing.
SETTLED_NS = 2_000_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """What a feature file holds, and its content's sha256."""

    content: str
    table: FeatureTable


@dataclass(frozen=True)
class _Record:
    """What is known about one set folder: its pack, and file name -> content's hash, fingerprint."""

    pack: str = ""
    contents: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, list[int]] = field(default_factory=dict)


def default_folder() -> Path:
    """`$AFFECTUNE_CACHE`, else `$XDG_CACHE_HOME/affectune`, else `~/.cache/affectune`."""
    named = os.environ.get("AFFECTUNE_CACHE")
    return (
        Path(named)
        if named
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "affectune"
    )


def read_features(
    files: Mapping[str, Path], names: Mapping[str, str], folder: Path | None
) -> dict[str, Source]:
    """Reads the files of one feature set, from the cache where it has their content.

    Args:
        files: session -> file; at least one.
        names: session -> how messages name its file.
        folder: where the cache is; None to do without.

    Raises:
        InputError: files are no tables, or differ in their number of columns; names the first few.
    """
    record_path = _record_path(folder, files) if folder else None
    record, packed = _read_cache(record_path) if record_path else (_Record(), {})
    prints = {session: _fingerprint(path) for session, path in files.items()}
    contents = {
        session: record.contents[path.name]
        for session, path in files.items()
        if record.fingerprints.get(path.name) == prints[session]
        and record.contents[path.name] in packed
    }
    tables = dict(packed)
    for session, content, table in _read(
        [(s, p, names[s]) for s, p in files.items() if s not in contents], packed
    ):
        contents[session], tables[content] = content, table
    _check_widths({names[session]: tables[contents[session]] for session in files})
    if record_path:
        settled_ns = time.time_ns() - SETTLED_NS
        fresh = _Record(
            pack=record.pack if set(contents.values()) <= set(packed) else "",
            contents={path.name: contents[session] for session, path in files.items()},
            fingerprints={
                files[s].name: print_ for s, print_ in prints.items() if print_[2] < settled_ns
            },
        )
        _write_cache(
            record_path, record, fresh, {content: tables[content] for content in contents.values()}
        )
    return {session: Source(contents[session], tables[contents[session]]) for session in files}


def _record_path(folder: Path, files: Mapping[str, Path]) -> Path:
    place = os.path.commonpath([path.parent.resolve() for path in files.values()])
    return folder / "sources" / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"


def _fingerprint(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(
    wanted: list[tuple[str, Path, str]], packed: Mapping[str, FeatureTable]
) -> list[tuple[str, str, FeatureTable]]:
    """(session, file, name in messages) -> (session, content, table); tells all the mistakes at once."""

    def read(item: tuple[str, Path, str]) -> tuple[str, str, FeatureTable] | InputError:
        session, path, name = item
        try:
            data = read_content(path, name)
            content = hashlib.sha256(data).hexdigest()
            return (
                session,
                content,
                packed[content] if content in packed else parse_features(data, name),
            )
        except InputError as error:
            return error

    # The csv reader and the hash run without the interpreter's lock; more threads than cores only cost memory.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        results = list(pool.map(read, wanted))
    refuse([str(result) for result in results if isinstance(result, InputError)])
    return [result for result in results if not isinstance(result, InputError)]


def _check_widths(tables: Mapping[str, FeatureTable]) -> None:
    widths = {name: table.values.shape[1] for name, table in tables.items()}
    usual = Counter(widths.values()).most_common(1)[0][0]
    refuse(
        [
            f"{name} has {width} feature columns, most files of its set have {usual}"
            for name, width in widths.items()
            if width != usual
        ],
        "Export these files again.",
    )


def _read_cache(record_path: Path) -> tuple[_Record, dict[str, FeatureTable]]:
    """The record and its pack; empty where there is none that can be used."""
    try:
        raw = json.loads(record_path.read_text())
        record = _Record(str(raw["pack"]), dict(raw["contents"]), dict(raw["fingerprints"]))
        if not set(record.fingerprints) <= set(record.contents):
            raise ValueError("it has fingerprints of unknown files")
        return record, read_pack(_packs(record_path) / record.pack)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, LookupError) as error:
        logger.warning("Cache entry %s cannot be used and is made again: %s", record_path, error)
    return _Record(), {}


def _write_cache(
    record_path: Path, old: _Record, new: _Record, tables: Mapping[str, FeatureTable]
) -> None:
    try:
        if not new.pack:
            new = _Record(write_pack(_packs(record_path), tables), new.contents, new.fingerprints)
        if new != old:
            text = json.dumps(asdict(new), sort_keys=True)
            replace_file(
                record_path.parent,
                lambda file: file.write(text.encode()),
                lambda _: record_path.name,
            )
        if old.pack and old.pack != new.pack:
            (_packs(record_path) / old.pack).unlink(missing_ok=True)
    except OSError as error:
        logger.warning(
            "The cache in %s cannot be written, the next reading is as slow: %s",
            record_path.parent,
            error,
        )


def _packs(record_path: Path) -> Path:
    return record_path.parent.parent / "packs"
