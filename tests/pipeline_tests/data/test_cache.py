"""The cache saves time and never changes what is read."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.data.tables import cache
from pipeline.data.tables.parse import FeatureTable, parse_features
from tests.pipeline_tests.data.muse_files import (
    PARTITIONS,
    feature_values,
    write_corpus,
    write_features,
)

NUM_FILES = 2 * len(PARTITIONS)


class Parsed(list[str]):
    """Names of the feature files that were parsed."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    names = Parsed()

    def parse(content: bytes, where: str) -> FeatureTable:
        names.append(where)
        return parse_features(content, where)

    monkeypatch.setattr(cache, "parse_features", parse)
    monkeypatch.setattr(cache, "SETTLED_NS", 0)  # files of a test are always fresh
    return names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def assert_same(one: Corpus, other: Corpus) -> None:
    assert one.digest == other.digest
    assert (one.columns, one.findings) == (other.columns, other.findings)
    for left, right in zip(one.sessions, other.sessions, strict=True):
        assert all(
            np.array_equal(left.features[name], right.features[name]) for name in one.modalities
        )
        assert all(
            np.array_equal(left.present[name], right.present[name]) for name in one.modalities
        )
        assert np.array_equal(left.segment_ids, right.segment_ids)


def packs(folder: Path) -> list[Path]:
    return sorted((folder / "packs").iterdir())


def test_the_second_reading_parses_nothing_and_reads_the_same(
    root: Path, folder: Path, parsed: Parsed
) -> None:
    values = feature_values("1", 3)
    values[2], values[4, 1] = 0, np.nan
    write_features(root, "voice", "1", values, header=["1", "2", "3"])
    first = read_corpus(root, cache_folder=folder)
    assert len(parsed) == NUM_FILES
    second = read_corpus(root, cache_folder=folder)
    assert len(parsed) == NUM_FILES
    assert_same(first, second)


def test_files_with_the_same_fingerprint_are_not_even_opened(
    root: Path, folder: Path, parsed: Parsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_corpus(root, cache_folder=folder)

    def read(path: Path, where: str) -> bytes:
        raise AssertionError(f"{where} was opened")

    monkeypatch.setattr(cache, "read_content", read)
    read_corpus(root, cache_folder=folder)


def test_a_changed_file_is_parsed_again_and_only_that(
    root: Path, folder: Path, parsed: Parsed
) -> None:
    before = read_corpus(root, cache_folder=folder)
    parsed.clear()
    write_features(root, "voice", "2", feature_values("2", 3) + 1)
    after = read_corpus(root, cache_folder=folder)
    assert parsed == ["feature_segments/voice/2.csv"]
    assert np.array_equal(
        after.session("2").features["voice"], before.session("2").features["voice"] + 1
    )
    assert after.digest != before.digest
    assert len(packs(folder)) == 2  # the old pack is gone
    parsed.clear()
    assert_same(after, read_corpus(root, cache_folder=folder))
    assert parsed == []


def test_a_change_that_keeps_size_and_time_is_seen(
    root: Path, folder: Path, parsed: Parsed
) -> None:
    read_corpus(root, cache_folder=folder)
    path = root / "feature_segments/voice/2.csv"
    status = path.stat()
    write_features(root, "voice", "2", feature_values("2", 3) + 1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    changed = read_corpus(root, cache_folder=folder).session("2").features["voice"]
    assert np.array_equal(changed, (feature_values("2", 3) + 1).astype(np.float32))


def test_a_fresh_file_is_not_trusted_by_its_fingerprint(
    root: Path, folder: Path, parsed: Parsed
) -> None:
    cache.SETTLED_NS = 3_600_000_000_000  # restored by the fixture's monkeypatch
    read_corpus(root, cache_folder=folder)
    texts = [file.read_text() for file in (folder / "sources").iterdir()]
    assert all('"fingerprints": {}' in text for text in texts)
    parsed.clear()
    read_corpus(root, cache_folder=folder)
    assert parsed == []  # the content's hash still saves parsing


def test_a_touched_file_is_not_parsed_again(root: Path, folder: Path, parsed: Parsed) -> None:
    first = read_corpus(root, cache_folder=folder)
    parsed.clear()
    time.sleep(0.01)
    for file in (root / "feature_segments/voice").iterdir():
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    assert_same(first, read_corpus(root, cache_folder=folder))
    assert parsed == []


def test_another_spelling_of_the_path_uses_the_same_cache(
    root: Path, folder: Path, parsed: Parsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_corpus(root, cache_folder=folder)
    parsed.clear()
    monkeypatch.chdir(root)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    second = read_corpus(Path(), cache_folder=folder)
    assert second.name == first.name
    assert_same(first, second)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()} == before
    assert parsed == []


def test_one_set_does_not_need_another(root: Path, folder: Path, parsed: Parsed) -> None:
    read_corpus(root, modalities=["voice"], cache_folder=folder)
    assert len(packs(folder)) == 1
    parsed.clear()
    read_corpus(root, cache_folder=folder)
    assert {name.split("/")[1] for name in parsed} == {"face"}


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "delete", "garbage"])
@pytest.mark.parametrize("kind", ["packs", "sources"])
def test_a_damaged_cache_is_made_again(
    root: Path,
    folder: Path,
    parsed: Parsed,
    damage: str,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = read_corpus(root, cache_folder=folder)
    for file in (folder / kind).iterdir():
        content = file.read_bytes()
        middle = len(content) // 2
        spoiled = {
            "cut": content[:middle],
            "flip": content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :],
            "empty": b"",
            "garbage": b"[1, 2]",
        }
        file.unlink() if damage == "delete" else file.write_bytes(spoiled[damage])
    parsed.clear()
    with caplog.at_level(logging.WARNING):
        assert_same(first, read_corpus(root, cache_folder=folder))
    assert bool(caplog.messages) == (damage != "delete")
    parsed.clear()
    assert_same(first, read_corpus(root, cache_folder=folder))
    assert parsed == []


def test_what_is_mapped_outlives_the_cache(root: Path, folder: Path) -> None:
    first = read_corpus(root, cache_folder=folder)
    mapped = read_corpus(root, cache_folder=folder)
    for file in packs(folder):
        file.unlink()
    assert_same(first, mapped)


def test_readers_at_the_same_time_get_the_same(root: Path, folder: Path) -> None:
    expected = read_corpus(root, cache_folder=folder.parent / "other")
    results: list[Corpus] = []
    readers = [
        threading.Thread(target=lambda: results.append(read_corpus(root, cache_folder=folder)))
        for _ in range(6)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(results) == 6
    for result in results:
        assert_same(expected, result)
    assert not [file for file in folder.rglob(".*") if file.is_file()]  # no temporary file is left


def test_a_cache_that_cannot_be_written_is_done_without(
    root: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        corpus = read_corpus(root, cache_folder=folder)
    assert len(corpus.sessions) == len(PARTITIONS)
    assert any("cannot be written" in message for message in caplog.messages)


def test_nothing_is_ever_written_into_the_corpus(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read_corpus(root, cache_folder=root / "cache")
    assert not (root / "cache").exists()
    assert "is in the corpus" in caplog.text


def test_what_is_cached_is_for_its_owner_only(root: Path, folder: Path) -> None:
    read_corpus(root, cache_folder=folder)
    assert {file.stat().st_mode & 0o077 for file in folder.rglob("*")} == {0}


def test_the_folder_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path / "a"))
    assert cache.default_folder() == tmp_path / "a"
    monkeypatch.delenv("AFFECTUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache.default_folder() == tmp_path / "b/affectune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / ".cache/affectune"
