"""Ray's token: made, or closed, so that only its user reads it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.local_ray.token import keep_token_private


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the token of the test's own home is, or will be."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is unset after the test, whatever happens
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray" / "auth_token"


def _rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_its_user_alone_whatever_the_umask(token: Path) -> None:
    before = os.umask(0)
    try:
        assert keep_token_private() == []
    finally:
        os.umask(before)

    assert (_rights(token.parent), _rights(token)) == (0o700, 0o600)
    assert len(token.read_text()) == 64
    assert list(token.parent.iterdir()) == [token]


def test_it_stays_the_same_and_others_files_in_the_folder_stay(token: Path) -> None:
    token.parent.mkdir()
    (token.parent / "cluster.yaml").write_text("mine")
    keep_token_private()
    text = token.read_text()
    assert keep_token_private() == []
    assert token.read_text() == text
    assert (token.parent / "cluster.yaml").read_text() == "mine"


@pytest.mark.parametrize("rights", [0o644, 0o640, 0o604, 0o666, 0o660])
def test_one_that_others_may_read_is_closed_with_a_note(token: Path, rights: int) -> None:
    token.parent.mkdir(mode=0o755)
    token.write_text("0" * 64)
    token.chmod(rights)

    [note] = keep_token_private()
    assert str(token) in note
    assert (_rights(token.parent), _rights(token)) == (0o700, 0o600)
    assert token.read_text() == "0" * 64
    assert keep_token_private() == []


def test_two_starts_at_once_have_one_token(token: Path) -> None:
    code = (
        "import os; from pipeline.local_ray.token import keep_token_private; input(); "
        "keep_token_private(); "
        "print(open(os.environ['HOME'] + '/.ray/auth_token').read())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate()[0] for process in processes}
    assert said == {token.read_text() + "\n"}


@pytest.mark.parametrize("home", ["missing", "file", "file/below"])
def test_without_a_home_the_token_is_in_the_environment(
    token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / home))
    assert keep_token_private() == []
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_token_that_is_another_users_is_not_used(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token.parent.mkdir()
    token.write_text("known to another")
    monkeypatch.setattr(os, "geteuid", lambda: token.stat().st_uid + 1)
    assert keep_token_private() == []
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_file_that_was_named_is_closed_or_noted_and_must_be_there(
    token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    with pytest.raises(InputError, match=r"RAY_AUTH_TOKEN_PATH.*cannot be read"):
        keep_token_private()

    named.write_text("0" * 64)
    named.chmod(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: named.stat().st_uid + 1)
    [note] = keep_token_private()
    assert "its owner" in note
    assert _rights(named) == 0o644

    monkeypatch.undo()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    [note] = keep_token_private()
    assert _rights(named) == 0o600
    assert not token.exists()


@pytest.mark.parametrize("mode", ["disabled", "DISABLED", ""])
def test_without_a_token_a_person_is_warned(
    token: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    [note] = keep_token_private()
    assert "asks for no token" in note
    assert "Unset RAY_AUTH_MODE" in note
    assert not token.exists()


def test_a_token_in_the_environment_is_left_as_it_is(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the user's")
    assert keep_token_private() == []
    assert os.environ["RAY_AUTH_TOKEN"] == "the user's"
    assert not token.exists()
