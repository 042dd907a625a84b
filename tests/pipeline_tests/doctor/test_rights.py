"""Secrets that others can read, and models that others can write, are told; others are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.doctor.rights import check_secrets, check_writable_by_others, secret_files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a token of Ray's, for its owner alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    write(tmp_path / ".ray" / "auth_token", 0o600)
    return tmp_path


def write(path: Path, mode: int) -> Path:
    path.write_text("gr4pefruit")
    path.chmod(mode)
    return path


def test_secrets_for_their_owner_alone_are_well(home: Path) -> None:
    [finding] = check_secrets({})
    assert (finding.status, finding.mend) == ("ok", "")


@pytest.mark.parametrize(("mode", "status"), [(0o644, "error"), (0o640, "warning")])
@pytest.mark.parametrize("name", [".ray/auth_token", ".netrc", ".pgpass"])
def test_secrets_that_others_read_are_told_with_the_command_that_mends(
    name: str, mode: int, status: str, home: Path
) -> None:
    path = write(home / name, mode)
    [finding] = check_secrets({})
    assert (finding.status, finding.mend) == (status, f"`chmod 600 {path}`")
    assert "gr4pefruit" not in finding.finding


@pytest.mark.parametrize(
    ("variable", "is_secret"),
    [
        ("AFFECTUNE_SERVE_TOKEN_FILE", True),
        ("RAY_AUTH_TOKEN_PATH", True),
        ("POSTGRES_PASSWORD_FILE", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", True),
        ("AWS_SHARED_CREDENTIALS_FILE", True),
        ("MPLCONFIG_PATH", False),
        ("PWD", False),
    ],
)
def test_files_that_variables_name_are_looked_at(
    variable: str, is_secret: bool, home: Path
) -> None:
    path = write(home / "given", 0o604)
    assert (path in secret_files({variable: str(path)})) is is_secret
    statuses = [finding.status for finding in check_secrets({variable: str(path)})]
    assert statuses == (["error"] if is_secret else ["ok"])


@pytest.mark.parametrize(("mode", "is_wrong"), [("token", False), ("disabled", True), ("", True)])
def test_a_ray_that_asks_for_no_token_is_wrong(mode: str, is_wrong: bool, home: Path) -> None:
    findings = [*check_secrets({"RAY_AUTH_MODE": mode})]
    assert ("error" in [finding.status for finding in findings]) is is_wrong


def test_folders_that_others_write_are_wrong_and_sticky_ones_are_not(tmp_path: Path) -> None:
    store, shared = tmp_path / "my store", tmp_path / "shared"
    for folder, mode in ((store, 0o777), (shared, 0o1777)):
        folder.mkdir()
        folder.chmod(mode)
    [finding] = check_writable_by_others([store, shared, tmp_path / "none"])
    assert (finding.status, finding.mend) == ("error", f"`chmod -R o-w '{store}'`")
    [finding] = check_writable_by_others([shared])
    assert finding.status == "ok"
