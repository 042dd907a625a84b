"""Files that are written atomically are complete or not there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError
from pipeline.storage.atomic_file import flush_and_rename, temporary_file, write_atomically
from pipeline.storage.atomic_folder import read_folder, write_folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that does not exist yet."""
    return tmp_path / "report.html"


def names_in(folder: Path) -> list[str]:
    """Return the names of all files in a folder, hidden ones included."""
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"\x00\r\n\xff", "", "Straße\r\nmit Zeilen\n"])
def test_a_written_file_holds_exactly_the_data(path: Path, data: bytes | str) -> None:
    write_atomically(path, data)

    assert path.read_bytes() == (data.encode("utf-8") if isinstance(data, str) else data)
    assert names_in(path.parent) == [path.name]


def test_an_existing_file_is_replaced(path: Path) -> None:
    write_atomically(path, "a long first content")
    write_atomically(path, "second")

    assert path.read_text() == "second"
    assert names_in(path.parent) == [path.name]


def test_the_content_is_on_the_disk_before_the_file_has_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        calls.append(f"fsync of {os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def recording_replace(source: Path, target: Path) -> None:
        calls.append(f"rename to {target.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    write_atomically(path, b"12345")

    assert calls == ["fsync of 5 bytes", "rename to report.html"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_temporary_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path.write_text("old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(AffectuneError) as caught:
        write_atomically(path, "new")

    expected = f"Cannot write '{path}': No space left on device. What was there is intact."
    assert str(caught.value) == f"{expected} Make room there, or raise the quota."
    assert path.read_text() == "old"
    assert names_in(path.parent) == [path.name]


def test_an_interruption_leaves_no_temporary_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")

    assert names_in(path.parent) == []


def test_a_missing_folder_and_a_folder_in_the_way_are_errors_with_path_and_cause(
    tmp_path: Path,
) -> None:
    missing = tmp_path / "missing" / "file"
    with pytest.raises(AffectuneError, match="missing/file': No such file or directory"):
        write_atomically(missing, "text")

    with pytest.raises(AffectuneError, match="Is a directory"):
        write_atomically(tmp_path, "text")

    assert names_in(tmp_path) == []


def test_permissions_follow_the_umask_and_can_be_narrowed(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "shared", "text")
        write_atomically(tmp_path / "private", "text", mode=0o600)
    finally:
        os.umask(umask)

    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_readers_only_see_complete_files_while_several_write(path: Path) -> None:
    contents = [letter * 100_000 for letter in "abcd"]
    write_atomically(path, contents[0])

    def write_often(content: str) -> None:
        for _ in range(20):
            write_atomically(path, content)

    writers = [threading.Thread(target=write_often, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() in contents
    for writer in writers:
        writer.join()

    assert path.read_text() in contents
    assert names_in(path.parent) == [path.name]


def test_a_temporary_file_is_kept_only_under_its_final_name(tmp_path: Path) -> None:
    with temporary_file(tmp_path) as abandoned:
        abandoned.write_bytes(b"half")
    with temporary_file(tmp_path) as finished:
        finished.write_bytes(b"complete")
        flush_and_rename(finished, tmp_path / "named-by-its-content")

    assert names_in(tmp_path) == ["named-by-its-content"]
    assert (tmp_path / "named-by-its-content").read_bytes() == b"complete"


def test_two_temporary_files_of_one_folder_have_different_names(tmp_path: Path) -> None:
    with temporary_file(tmp_path) as one, temporary_file(tmp_path) as other:
        assert one != other
        assert names_in(tmp_path) == sorted([one.name, other.name])


@pytest.mark.parametrize("name", ["x" * 255, "\u00e9" * 127, "[a] #1"])
def test_a_folder_may_have_any_name_that_the_disk_takes(tmp_path: Path, name: str) -> None:
    for content in (b"first", b"second"):
        write_folder(tmp_path / name, {"file": content})
    assert read_folder(tmp_path / name) == {"file": b"second"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
