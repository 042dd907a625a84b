"""A tracking server is written to, and nothing stays; what it refuses is told with a mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from tuning.doctor import champion, tracking
from tuning.doctor.champion import check_champion
from tuning.doctor.tracking import check_tracking, plain_findings, write_fault

DEAD = "http://127.0.0.1:9"


class Registry:
    """A client of a registry in memory, which may refuse."""

    def __init__(self, refused: str = "", aliases: dict[str, str] | None = None) -> None:
        self.models: set[str] = set()
        self.refused, self.aliases = refused, aliases

    def create_registered_model(self, name: str) -> None:
        """Make a model; the answer may be lost."""
        if self.refused != "create":
            self.models.add(name)
        if self.refused in ("create", "answer"):
            raise ConnectionError("API request failed with error code 403 != 200")

    def delete_registered_model(self, name: str) -> None:
        """Remove a model."""
        if self.refused == "delete":
            raise PermissionError("not yours")
        self.models.discard(name)


@pytest.mark.parametrize(
    ("refused", "said"),
    [("", None), ("create", "refuses you"), ("answer", "refuses you"), ("delete", "not yours")],
)
def test_what_is_written_is_removed_also_where_the_answer_was_lost(
    refused: str, said: str | None
) -> None:
    client = Registry(refused)
    fault = write_fault(client)  # type: ignore[arg-type]
    assert (fault is None) == (said is None)
    assert said is None or said in str(fault)
    assert len(client.models) == (refused == "delete")


def test_a_server_that_is_not_there_is_told_once() -> None:
    [finding] = [*check_tracking(DEAD), *check_champion(DEAD, _fetch)]
    assert (finding.status, DEAD in finding.finding) == ("error", True)
    assert "--tracking-uri" in finding.mend


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    [finding] = check_tracking(f"sqlite:///{tmp_path}/mlflow.db")
    assert (finding.status, [*tmp_path.iterdir()]) == ("ok", [])
    [finding] = check_tracking(f"sqlite:///{tmp_path}/none/mlflow.db")
    assert (finding.status, bool(finding.mend)) == ("error", True)


@pytest.mark.parametrize(
    ("uri", "variable", "is_told"),
    [
        ("http://me:gr4pefruit@mlflow:5000", None, True),
        ("http://mlflow:5000", "MLFLOW_TRACKING_TOKEN", True),
        ("http://mlflow:5000", "MLFLOW_TRACKING_PASSWORD", True),
        ("http://mlflow:5000", None, False),
        ("https://me:gr4pefruit@mlflow", None, False),
        ("http://me:gr4pefruit@localhost:5000", None, False),
        ("http://me:gr4pefruit@127.0.0.1:5000", None, False),
        ("sqlite:///mlflow.db", "MLFLOW_TRACKING_TOKEN", False),
    ],
)
def test_credentials_on_plain_http_are_doubtful(
    uri: str, variable: str | None, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in tracking.CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "gr4pefruit")
    findings = [*plain_findings(uri)]
    assert [finding.status for finding in findings] == ["warning"] * is_told
    assert "gr4pefruit" not in str(findings)


def _fetch(model: str, uri: str) -> Path:
    assert model == "models:/affectune@champion"
    return Path("bundle")


def _fail(model: str, uri: str) -> Path:
    raise InputError("'weights.safetensors' was changed. Register the version anew.")


@pytest.mark.parametrize(
    ("models", "aliases", "fetch", "status", "said"),
    [
        ([], {}, _fetch, "ok", "no model 'affectune' yet"),
        (["other"], {}, _fetch, "ok", "it has other"),
        (["affectune"], {}, _fetch, "warning", "has no champion"),
        (["affectune"], {"champion": "3"}, _fetch, "ok", "is version 3"),
        (["affectune"], {"champion": "3"}, _fail, "error", "version 3 cannot be read"),
    ],
)
def test_the_champion_is_looked_for_and_read(
    models: list[str],
    aliases: dict[str, str],
    fetch: Any,
    status: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(champion, "raise_if_unreachable", lambda uri: None)
    monkeypatch.setattr(champion, "connect", lambda uri: Registry())
    monkeypatch.setattr(champion, "model_names", lambda client: models)
    monkeypatch.setattr(champion, "aliases_of", lambda client, name: aliases)
    [finding] = check_champion("http://mlflow:5000", fetch)
    assert (finding.status, bool(finding.mend)) == (status, status != "ok")
    assert said in finding.finding
