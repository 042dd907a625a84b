"""A secret that a user gives to a command is in nothing that the command says or leaves behind."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

import affectune

SECRET = "p3ar/gr@pe+fig ü"
IN_URI = quote(SECRET, safe="")
HEADER = "p3ar-gr4pe-fig-lime"
DEAD = "127.0.0.1:9"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Call the command line in this process: exit status, and all that it said."""
    before, sys.argv = sys.argv, ["affectune", *arguments]
    try:
        affectune.main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        sys.argv = before
    said = capsys.readouterr()
    return status, said.out + said.err


def secrets_in(text: str) -> list[str]:
    """Return which secrets are in a text, escaped or not."""
    forms = {SECRET, IN_URI, quote(SECRET), HEADER, "gr@pe", "gr4pe", "gr%40pe"}
    return [form for form in forms if form in text]


def assert_refused_without_secrets(
    capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str
) -> str:
    """Run a command that ends with an error; return what it said."""
    status, said = run(capsys, *arguments)
    assert status in (1, 2)
    assert secrets_in(said) == []
    for path in folder.rglob("*"):
        assert secrets_in(str(path)) == []
        if path.is_file() and path.suffix not in (".toml", ".given"):
            assert secrets_in(path.read_text(errors="replace")) == []
    return said


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("registry list --tracking-uri http://alice:{quoted}@{dead}", "'http://***@{dead}'"),
        ("registry show m --tracking-uri https://{header}@{dead}/a", "'https://***@{dead}/a'"),
        (
            "registry list --tracking-uri=postgresql://{dead}/db?password={quoted}&user=a",
            "{dead}/db?password=***&user=a",
        ),
        ("registry list --tracking-uri mysql://a:{raw}@{dead}/runs", "'mysql://***@{dead}/runs'"),
        ("evaluate models:/m/1 --corpus c --tracking-uri=http://a:{quoted}@{dead}", "***@127"),
        ("study run demo --corpus c --address me:{raw}@{dead}", "'***@{dead}'"),
        ("study run demo --corpus c --tracking-uri http://a:{quoted}@{dead}", "http://***@{dead}"),
        ("train --corpus s3://KEY:{raw}@bucket/c --out m", "bucket/c"),
        ("evaluate s3://KEY:{raw}@bucket/m --corpus c", "bucket/m"),
        ("serve --model s3://KEY:{quoted}@bucket/m", "bucket/m"),
        ("serve --model models:KEY:{raw}@bucket/m", "bucket/m"),
        ("registry http://alice:{raw}@{dead}", "http://***@{dead}"),
        ("corpus check http://a:{quoted}@{dead}/c", "***@{dead}/c"),
        ("study run http://alice:{quoted}@{dead}/study.toml", "{dead}/study.toml"),
    ],
)
def test_a_secret_among_the_arguments_is_not_said(
    line: str,
    shown: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        word.format(raw=SECRET, quoted=IN_URI, header=HEADER, dead=DEAD) for word in line.split()
    ]
    said = assert_refused_without_secrets(capsys, tmp_path, *arguments)
    assert shown.format(dead=DEAD) in said


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"MLFLOW_TRACKING_URI": f"http://alice:{IN_URI}@{DEAD}"}, "registry list"),
        ({"MLFLOW_TRACKING_URI": f"http://alice:{IN_URI}@{DEAD}"}, "serve --host 300.1.1.1"),
        ({"MLFLOW_TRACKING_URI": f"redis+x://{DEAD}?token={IN_URI}"}, "registry list"),
        ({"RAY_ADDRESS": f"ray://me:{SECRET}@{DEAD}"}, "study run demo --corpus c"),
        ({"RAY_ADDRESS": f"me:{SECRET}@{DEAD}"}, "study run demo --corpus c"),
        ({"AFFECTUNE_SERVE_TOKEN": HEADER, "AFFECTUNE_SERVE_TOKEN_FILE": "x"}, "serve"),
        ({"AFFECTUNE_SERVE_TRACKING_URI": f"http://a:{IN_URI}@{DEAD}"}, "serve --host 300.1.1.1"),
        ({"AFFECTUNE_SERVE_MODEL": f"models:/{HEADER}", "MY_TOKEN": HEADER}, "serve"),
    ],
)
def test_a_secret_in_the_environment_is_not_said(
    variables: Mapping[str, str],
    line: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert_refused_without_secrets(capsys, tmp_path, *line.split())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f'token = "{HEADER}"\nport = 0\n', "serve --settings given.toml"),
        (f'tokens = "{HEADER}"\n', "serve --settings given.toml"),
        (
            f'tracking_uri = "http://a:{IN_URI}@{DEAD}"\nhost = "300.1.1.1"',
            "serve --settings given.toml",
        ),
        (f'token = "{HEADER}" oops\n', "serve --settings given.toml"),
        (f'name = "a"\ncorpus = "s3://KEY:{IN_URI}@bucket/c"\n', "study run given.toml"),
        (f'name = "a"\ncorpus = 3\nstore = "s3://KEY:{IN_URI}@bucket/c"\n', "study run given.toml"),
    ],
)
def test_a_secret_in_a_file_is_not_said(
    text: str,
    line: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("given.toml").write_text(text)
    assert_refused_without_secrets(capsys, tmp_path, *line.split())
