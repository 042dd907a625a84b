"""What to do after a study: three commands to paste, and where its runs are seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from pipeline.credentials.masking import masked_uri
from pipeline.shell_command import library_command, near_path, shell_command
from pipeline.storage.json_record import read_record
from tuning.journal.events import ModelRegistered
from tuning.mlflow_backend.tracking.journal_sender import TRACKING


def next_steps(
    folder: Path, report: Path, registered: ModelRegistered, uri: str, *, is_champion: bool
) -> list[str]:
    """Return what a person may do with a finished study, as lines that they can paste.

    Args:
        folder: of the study.
        report: its page.
        registered: the version that it became.
        uri: of the tracking server.
        is_champion: whether the version is the champion already.
    """
    name, version = registered.model, registered.version
    promote = shell_command("registry", "promote", name, version, tracking_uri=uri)
    if is_champion:
        promote = shell_command("registry", "show", name, tracking_uri=uri)
    model = f"models:/{name}@champion"

    return [
        f"Report: {report.absolute()}",
        *tracking_lines(folder, registered, uri),
        "",
        f"Next (version {version} is the champion already):" if is_champion else "Next:",
        f"  {shell_command('study', 'report', near_path(folder))}",
        f"  {promote}",
        f"  {shell_command('serve', '--model', model, tracking_uri=uri)}",
    ]


def tracking_lines(folder: Path, registered: ModelRegistered | None, uri: str) -> Iterator[str]:
    """Yield where runs and model are seen in MLflow, or the command that shows them.

    Args:
        folder: of the study.
        registered: the version that it became, if it did.
        uri: of the tracking server; one with a password is not told.
    """
    if uri.startswith(("http://", "https://")):
        base = masked_uri(uri).rstrip("/")
        experiment = (read_record(folder / TRACKING) or {}).get("experiment_id")
        if experiment is not None:
            yield f"Runs: {base}/#/experiments/{experiment}?workflowType=machine_learning"
        if registered is not None:
            name = _quoted(registered.model)
            yield f"Model: {base}/#/models/{name}/versions/{registered.version}"
    elif masked_uri(uri) == uri:
        yield f"Runs and model: {library_command('mlflow', 'ui', '--backend-store-uri', uri)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
