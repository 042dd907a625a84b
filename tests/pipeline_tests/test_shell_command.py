"""Commands that are printed can be pasted: they come back as the words they were made of."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.shell_command import (
    how_to_promote,
    near_path,
    raise_if_masked,
    same_command,
    shell_command,
)


@pytest.fixture(autouse=True)
def called_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the program been called by a path that the shell would not find by its name."""
    monkeypatch.setattr(sys, "argv", ["/some where/affectune", "study", "run"])


@pytest.mark.parametrize("word", ["plain", "two words", "it's", 'a "b"', "$HOME", "a;b", "ü+%"])
def test_words_come_back_whole_and_the_program_is_called_as_it_was(word: str) -> None:
    command = shell_command("registry", "promote", word, 3)
    assert shlex.split(command) == ["/some where/affectune", "registry", "promote", word, "3"]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", []),
        (None, []),
        ("http://user:secret@host:5000", []),
        ("http://host:5000", ["--tracking-uri", "http://host:5000"]),
        ("sqlite:///my runs/ml.db", ["--tracking-uri", "sqlite:///my runs/ml.db"]),
    ],
)
def test_the_registry_is_named_where_it_is_not_the_default(
    uri: str | None, expected: list[str]
) -> None:
    assert shlex.split(shell_command("serve", tracking_uri=uri))[2:] == expected


def test_the_same_command_resumes_once_and_tells_no_password() -> None:
    arguments = ["study", "run", "a b.toml", "--resume", "--tracking-uri", "http://u:secret@h"]
    words = shlex.split(same_command(arguments, resume=True))[1:]
    assert words == ["study", "run", "a b.toml", "--tracking-uri", "http://***@h", "--resume"]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:secret@bucket/store?region=eu",
        "postgresql://host/db?user=me&password=secret",
        "http://token0123456789@host",
    ],
)
def test_a_command_that_was_pasted_without_its_password_asks_for_it(uri: str) -> None:
    raise_if_masked(uri, "--store")
    [*_, printed] = shlex.split(same_command(["train", f"--store={uri}"]))
    with pytest.raises(InputError, match=r"--store '.*Put them in again"):
        raise_if_masked(printed.removeprefix("--store="), "--store")


def test_without_a_champion_the_advice_is_the_newest_version_another_model_or_a_study() -> None:
    assert "registry promote 'my model' 12 " in how_to_promote(
        "my model", ["2", "12"], ["my model"], "http://h:1"
    )
    assert "registry list" in how_to_promote("affectune", [], ["other"], None)
    assert "study run" in how_to_promote("affectune", [], [], None)


def test_a_path_below_the_current_folder_is_shown_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert near_path(tmp_path / "studies" / "one") == "studies/one"
    assert near_path(Path("/elsewhere/one")) == "/elsewhere/one"
