"""The cache saves time and never changes what is read."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.data.tables import cache
from pipeline.data.tables.parse import FeatureTable, parse_features
from tests.pipeline_tests.data.muse_files import (
    PARTITIONS,
    SETS,
    feature_values,
    write_corpus,
    write_features,
)

NUM_FILES = len(SETS) * len(PARTITIONS)


class Parsed(list[str]):
    """Names of the feature files that were parsed."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    """Record what is parsed, and trust fingerprints at once: the files of a test are fresh."""
    names = Parsed()

    def parse(content: bytes, where: str) -> FeatureTable:
        names.append(where)
        return parse_features(content, where)

    monkeypatch.setattr(cache, "parse_features", parse)
    monkeypatch.setattr(cache, "SETTLED_NS", 0)
    return names


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a clean corpus."""
    return write_corpus(tmp_path / "corpus")


@pytest.fixture
def cache_folder(tmp_path: Path) -> Path:
    """Return a folder that does not exist yet."""
    return tmp_path / "cache"


def assert_same(actual: Corpus, expected: Corpus) -> None:
    """Compare everything that comes from feature files."""
    assert actual.digest == expected.digest
    assert (actual.columns, actual.findings) == (expected.columns, expected.findings)

    for session, other in zip(actual.sessions, expected.sessions, strict=True):
        assert np.array_equal(session.segment_ids, other.segment_ids)
        for modality in expected.modalities:
            assert np.array_equal(session.features[modality], other.features[modality])
            assert np.array_equal(session.present[modality], other.present[modality])


def modified_ns(folder: Path) -> dict[Path, int]:
    """Return file -> time of its last modification, for all files in a folder."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def pack_files(cache_folder: Path) -> list[Path]:
    """Return the packs in a cache."""
    return sorted((cache_folder / "packs").iterdir())


def test_the_second_reading_parses_nothing_and_reads_the_same(
    root: Path, cache_folder: Path, parsed: Parsed
) -> None:
    values = feature_values("1", 3)
    values[2], values[4, 1] = 0, np.nan
    write_features(root, "voice", "1", values, header=["1", "2", "3"])

    first = read_corpus(root, cache_folder=cache_folder)
    assert len(parsed) == NUM_FILES

    second = read_corpus(root, cache_folder=cache_folder)
    assert len(parsed) == NUM_FILES
    assert_same(second, first)


def test_files_with_the_same_fingerprint_are_not_opened(
    root: Path, cache_folder: Path, parsed: Parsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_corpus(root, cache_folder=cache_folder)

    def fail(path: Path, where: str) -> bytes:
        raise AssertionError(f"{where} was opened")

    monkeypatch.setattr(cache, "read_content", fail)
    read_corpus(root, cache_folder=cache_folder)


def test_only_a_changed_file_is_parsed_anew(root: Path, cache_folder: Path, parsed: Parsed) -> None:
    before = read_corpus(root, cache_folder=cache_folder)
    values_before = before.session("2").features["voice"]

    parsed.clear()
    write_features(root, "voice", "2", feature_values("2", 3) + 1)
    after = read_corpus(root, cache_folder=cache_folder)

    assert parsed == ["feature_segments/voice/2.csv"]
    assert np.array_equal(after.session("2").features["voice"], values_before + 1)
    assert after.digest != before.digest
    assert len(pack_files(cache_folder)) == len(SETS), "the old pack is still there"

    parsed.clear()
    assert_same(read_corpus(root, cache_folder=cache_folder), after)
    assert parsed == []


def test_a_change_that_keeps_size_and_time_is_noticed(
    root: Path, cache_folder: Path, parsed: Parsed
) -> None:
    read_corpus(root, cache_folder=cache_folder)
    new_values = feature_values("2", 3) + 1
    path = root / "feature_segments/voice/2.csv"
    status = path.stat()

    write_features(root, "voice", "2", new_values)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size

    corpus = read_corpus(root, cache_folder=cache_folder)
    assert np.array_equal(corpus.session("2").features["voice"], new_values.astype(np.float32))


def test_a_fresh_file_is_trusted_by_its_content_and_not_by_its_fingerprint(
    root: Path, cache_folder: Path, parsed: Parsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SETTLED_NS", 3_600_000_000_000)
    read_corpus(root, cache_folder=cache_folder)

    for file in (cache_folder / "sources").iterdir():
        assert '"fingerprints": {}' in file.read_text()

    parsed.clear()
    read_corpus(root, cache_folder=cache_folder)
    assert parsed == []


def test_a_file_with_the_same_content_is_not_parsed_anew(
    root: Path, cache_folder: Path, parsed: Parsed
) -> None:
    first = read_corpus(root, cache_folder=cache_folder)

    parsed.clear()
    for file in (root / "feature_segments/voice").iterdir():
        content, modification_ns = file.read_bytes(), file.stat().st_mtime_ns
        file.unlink()
        file.write_bytes(content)
        os.utime(file, ns=(modification_ns, modification_ns + 1_000_000_000))

    assert_same(read_corpus(root, cache_folder=cache_folder), first)
    assert parsed == []


def test_another_spelling_of_the_path_uses_the_same_cache(
    root: Path, cache_folder: Path, parsed: Parsed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_corpus(root, cache_folder=cache_folder)
    before = modified_ns(cache_folder)

    parsed.clear()
    monkeypatch.chdir(root)
    second = read_corpus(Path(), cache_folder=cache_folder)

    assert second.name == first.name
    assert_same(second, first)
    assert modified_ns(cache_folder) == before
    assert parsed == []


def test_every_set_has_a_pack_of_its_own(root: Path, cache_folder: Path, parsed: Parsed) -> None:
    read_corpus(root, modalities=["voice"], cache_folder=cache_folder)
    assert len(pack_files(cache_folder)) == 1

    parsed.clear()
    read_corpus(root, cache_folder=cache_folder)
    assert {name.split("/")[1] for name in parsed} == {"face"}


def damaged(content: bytes, damage: str) -> bytes:
    """Return a file's content after an accident."""
    middle = len(content) // 2
    flipped_byte = bytes([content[middle] ^ 0xFF])
    return {
        "cut": content[:middle],
        "flip": content[:middle] + flipped_byte + content[middle + 1 :],
        "empty": b"",
        "garbage": b"[1, 2]",
    }[damage]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "delete", "garbage"])
@pytest.mark.parametrize("kind", ["packs", "sources"])
def test_a_damaged_cache_is_rebuilt(
    root: Path,
    cache_folder: Path,
    parsed: Parsed,
    damage: str,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = read_corpus(root, cache_folder=cache_folder)
    for file in (cache_folder / kind).iterdir():
        if damage == "delete":
            file.unlink()
        else:
            file.write_bytes(damaged(file.read_bytes(), damage))

    with caplog.at_level(logging.WARNING):
        assert_same(read_corpus(root, cache_folder=cache_folder), first)
    assert bool(caplog.messages) == (damage != "delete")

    parsed.clear()
    assert_same(read_corpus(root, cache_folder=cache_folder), first)
    assert parsed == []


def test_mapped_arrays_outlive_the_cache(root: Path, cache_folder: Path) -> None:
    first = read_corpus(root, cache_folder=cache_folder)
    mapped = read_corpus(root, cache_folder=cache_folder)
    for file in pack_files(cache_folder):
        file.unlink()

    assert_same(mapped, first)


def test_simultaneous_readers_get_the_same(root: Path, cache_folder: Path) -> None:
    expected = read_corpus(root, cache_folder=cache_folder.parent / "other")
    corpora: list[Corpus] = []

    def read() -> None:
        corpora.append(read_corpus(root, cache_folder=cache_folder))

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    assert len(corpora) == 6
    for corpus in corpora:
        assert_same(corpus, expected)
    temporary_files = [file for file in cache_folder.rglob(".*") if file.is_file()]
    assert not temporary_files


def test_a_corpus_is_read_without_a_cache_that_cannot_be_written(
    root: Path, cache_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache_folder.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        corpus = read_corpus(root, cache_folder=cache_folder)

    assert len(corpus.sessions) == len(PARTITIONS)
    assert any("cannot be written" in message for message in caplog.messages)


def test_nothing_is_ever_written_into_the_corpus(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read_corpus(root, cache_folder=root / "cache")

    assert not (root / "cache").exists()
    assert "is in the corpus" in caplog.text


def test_only_the_owner_can_read_the_cache(root: Path, cache_folder: Path) -> None:
    read_corpus(root, cache_folder=cache_folder)

    assert {file.stat().st_mode & 0o077 for file in cache_folder.rglob("*")} == {0}


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
