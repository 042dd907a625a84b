"""The folder of a local Ray: nobody else's, short, removed at the end, kept for its logs."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError, InputError
from pipeline.local_ray.session import KEPT_S, LONGEST, STARTING_S, LocalRay, local_ray

VARIABLES = ("RAY_TMPDIR", "TMPDIR", "TEMP", "TMP", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short path, where Ray's goes; and a home that is the test's own."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def _rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _start_ray_in(folder: Path) -> None:
    """Make what Ray makes: folders into which everybody may write."""
    logs = folder / "session_1" / "logs"
    logs.mkdir(parents=True)
    for path in (folder, logs.parent, logs):
        path.chmod(0o777)
    (folder / "session_latest").symlink_to("session_1")
    (logs / "raylet.out").write_text("why it failed")


def test_no_other_user_may_enter_it_whatever_the_umask(base: Path) -> None:
    before = os.umask(0)
    try:
        with local_ray() as local:
            _start_ray_in(local.folder)
            assert local.folder.parent.parent == base
            assert _rights(local.folder.parent) == 0o700
            assert (local.logs / "raylet.out").exists()
    finally:
        os.umask(before)


def test_it_is_removed_at_the_end(base: Path) -> None:
    with local_ray() as local:
        _start_ray_in(local.folder)
    assert list(base.iterdir()) == []
    with pytest.raises(InputError), local_ray():
        raise InputError("wrong")
    with pytest.raises(KeyboardInterrupt), local_ray():
        raise KeyboardInterrupt
    assert list(base.iterdir()) == []


def test_after_a_failure_its_logs_are_kept_for_a_day(base: Path) -> None:
    local = _fail()
    _grow_old(local.folder.parent, KEPT_S - 60)
    with local_ray():
        assert (local.logs / "raylet.out").read_text() == "why it failed"
    _grow_old(local.folder.parent, KEPT_S)
    with local_ray():
        assert not local.folder.exists()


def _fail() -> LocalRay:
    """Start a Ray whose use fails."""
    try:
        with local_ray() as local:
            _start_ray_in(local.folder)
            raise AffectuneError("failed")
    except AffectuneError:
        return local


def test_that_of_a_killed_process_is_removed_and_that_of_a_running_one_is_not(base: Path) -> None:
    code = (
        "from pipeline.local_ray.session import local_ray\n"
        "with local_ray() as local:\n"
        "    local.folder.mkdir(); print(local.folder.parent, flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        _grow_old(folder, STARTING_S)
        with local_ray():
            assert folder.exists()
        process.kill()

    with local_ray():
        assert not folder.exists()


def test_what_only_looks_like_one_is_left_alone(base: Path) -> None:
    others = [base / "affectune-mine", base / "affectune-12345678", base / "affectune-1-abcdefgh"]
    for folder in others:
        (folder / "data").mkdir(parents=True)
        _grow_old(folder)
    target = base / "target"
    (target / "ray").mkdir(parents=True)
    (base / "affectune-abcdefgh").symlink_to(target)
    os.utime(base / "affectune-abcdefgh", (0, 0), follow_symlinks=False)

    with local_ray():
        pass
    assert all((folder / "data").exists() for folder in others)
    assert (target / "ray").exists()


def _grow_old(folder: Path, age_s: float = 2 * KEPT_S) -> None:
    then = time.time() - age_s - 5
    os.utime(folder, (then, then))


@pytest.mark.parametrize("num_characters", [21, 40, 41, 90, 200])
def test_a_folder_for_temporary_files_whose_path_is_too_long_is_not_used(
    base: Path, monkeypatch: pytest.MonkeyPatch, num_characters: int
) -> None:
    longer = base / ("y" * (num_characters - len(str(base)) - 1))
    longer.mkdir()
    assert len(str(longer)) == num_characters
    monkeypatch.setenv("TMPDIR", str(longer))
    with local_ray() as local:
        assert len(str(local.folder)) <= LONGEST
        assert not local.folder.is_relative_to(longer)


def test_a_path_of_the_greatest_length_leaves_room_for_the_longest_socket(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = base / ("x" * (20 - len(str(base)) - 1))
    longest.mkdir()
    monkeypatch.setenv("TMPDIR", str(longest))
    with local_ray() as local:
        assert local.folder.is_relative_to(longest)
        session = "session_2026-11-26_23-59-59_999999_4194304"
        assert len(str(local.folder / session / "sockets" / "plasma_store")) <= 107


@pytest.mark.parametrize("name", ["none", "file", "y" * 40])
def test_a_folder_that_was_asked_for_and_cannot_be_used_is_refused_with_the_reason(
    base: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (base / "file").write_text("")
    monkeypatch.setenv("RAY_TMPDIR", str(base / name))
    reason = {
        "none": "No such file or directory",
        "file": "Not a directory",
    }.get(name, "longer than 20 characters")
    with pytest.raises(InputError, match=reason) as refusal, local_ray():
        pass
    assert str(base / name) in str(refusal.value)
    assert "RAY_TMPDIR" in str(refusal.value)


def test_a_folder_whose_content_anybody_may_rename_is_used_last_and_with_a_note(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/tmp").stat().st_mode & stat.S_ISVTX:
        pytest.skip("on this machine everybody may rename what is in /tmp")
    base.chmod(0o777)
    with local_ray() as local:
        assert not local.folder.is_relative_to(base)
        assert local.notes == []

    monkeypatch.setenv("RAY_TMPDIR", str(base))
    with local_ray() as local:
        assert local.folder.is_relative_to(base)
        assert _rights(local.folder.parent) == 0o700
        [note] = local.notes
    assert f"chmod +t '{base}'" in note
    base.chmod(0o1777)
    with local_ray() as local:
        assert local.notes == []


def test_a_local_ray_is_kept_on_loopback_whatever_is_set(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    with local_ray():
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
