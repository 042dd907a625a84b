"""Settings: where they come from, which source wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from serving.settings import read_settings


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('port = 1\nreplicas = 3\nhost = "::1"\n')
    environment = {"AFFECTUNE_SERVE_PORT": "2", "AFFECTUNE_SERVE_REPLICAS": "4", "PORT": "9"}

    settings = read_settings(path, environment, port=5)
    assert (settings.port, settings.replicas, settings.host) == (5, 4, "::1")


def test_by_default_only_this_machine_may_connect() -> None:
    assert read_settings(None, {}).host == "127.0.0.1"


@pytest.mark.parametrize(
    "environment",
    [
        {"AFFECTUNE_SERVE_PROT": "1"},
        {"AFFECTUNE_SERVE_PORT": "70000"},
        {"AFFECTUNE_SERVE_PORT": "x"},
        {"AFFECTUNE_SERVE_REPLICAS": "0"},
        {"AFFECTUNE_SERVE_OVERLAP_FRAMES": "7200"},
        {"AFFECTUNE_SERVE_REPLICAS": "3", "AFFECTUNE_SERVE_MAX_REPLICAS": "2"},
        {"AFFECTUNE_SERVE_ALLOWED_HOSTS": "https://page.example"},
        {"AFFECTUNE_SERVE_ALLOWED_HOSTS": "page.example:8000"},
        {"AFFECTUNE_SERVE_ALLOWED_HOSTS": "page.*.example"},
        {"AFFECTUNE_SERVE_ALLOWED_ORIGINS": "page.example"},
        {"AFFECTUNE_SERVE_ALLOWED_ORIGINS": "https://page.example/"},
        {"AFFECTUNE_SERVE_ALLOWED_ORIGINS": "https://user@page.example"},
        {"AFFECTUNE_SERVE_ALLOWED_ORIGINS": "https://*.example"},
        {"AFFECTUNE_SERVE_ALLOWED_ORIGINS": "null"},
    ],
)
def test_settings_that_do_not_fit_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(InputError, match="settings do not fit"):
        read_settings(None, environment)


def test_the_token_comes_from_a_file_or_the_environment_and_is_never_printed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "token"
    path.write_text("from a file\n")
    assert read_settings(None, {}, token_file=str(path)).secrets() == {b"from a file"}

    settings = read_settings(None, {"AFFECTUNE_SERVE_TOKEN": "from here"})
    assert settings.secrets() == {b"from here"}
    assert "from here" not in repr(settings)
    assert read_settings(None, {}).secrets() == set()


def test_an_empty_or_missing_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(InputError, match="empty"):
        read_settings(None, {}, token_file=str(tmp_path / "token")).secrets()
    with pytest.raises(InputError, match="Cannot read the token file"):
        read_settings(None, {}, token_file=str(tmp_path / "none")).secrets()


def test_names_come_as_a_list_or_between_commas(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('allowed_hosts = ["A.example.", "*.b.example"]')
    assert read_settings(path, {}).allowed_hosts == ("a.example", "*.b.example")
    variable = {"AFFECTUNE_SERVE_ALLOWED_ORIGINS": "https://a.example, http://[::1]:80,"}
    assert read_settings(None, variable).allowed_origins == ("https://a.example", "http://[::1]:80")
    assert read_settings(None, {"AFFECTUNE_SERVE_ALLOWED_HOSTS": ""}).allowed_hosts == ()


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        (b"plain\n", {b"plain"}),
        (b" \tplain \r\n", {b"plain"}),
        (b"\xef\xbb\xbfplain", {b"plain"}),
        ("voil\u00e0".encode(), {b"voil\xc3\xa0", b"voil\xe0"}),
        (b"voil\xe0", {b"voil\xe0", b"voil\xc3\xa0"}),
        ("\u00a0\u00e0\u00a0".encode(), {b"\xc2\xa0\xc3\xa0\xc2\xa0", b"\xa0\xe0\xa0"}),
        ("\u4f60\u597d".encode(), {"\u4f60\u597d".encode()}),
        (b"two words", {b"two words"}),
    ],
)
def test_a_token_is_what_its_bytes_are_in_either_encoding(
    tmp_path: Path, content: bytes, accepted: set[bytes]
) -> None:
    (tmp_path / "token").write_bytes(content)
    settings = read_settings(None, {}, token_file=str(tmp_path / "token"))
    assert settings.secrets() == accepted


@pytest.mark.parametrize("content", [b"two\nlines", b"a\x00b", b"a\x7f", "\u0661".encode("utf-16")])
def test_a_token_that_no_request_can_carry_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(InputError, match="no request can carry"):
        read_settings(None, {}, token_file=str(tmp_path / "token")).secrets()


def test_a_token_by_the_name_of_its_variable_is_never_missing_silently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = read_settings(None, {}, token_variable="OUR_TOKEN")
    monkeypatch.setenv("OUR_TOKEN", "from there")
    assert settings.secrets() == {b"from there"}

    monkeypatch.delenv("OUR_TOKEN")
    with pytest.raises(InputError, match="OUR_TOKEN"):
        settings.secrets()
    with pytest.raises(InputError, match="give one of"):
        read_settings(None, {"AFFECTUNE_SERVE_TOKEN": "x"}, token_variable="OUR_TOKEN")
