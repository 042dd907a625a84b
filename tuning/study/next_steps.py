"""What to do after a study: three commands to paste, and where its runs are seen."""

from __future__ import annotations

from pathlib import Path

from pipeline.shell_command import near_path, shell_command
from tuning.journal.events import ModelRegistered
from tuning.mlflow_backend.links import (
    experiment_link,
    experiments_link,
    model_link,
    pages_of,
    run_link,
)
from tuning.mlflow_backend.tracking.record import recorded_run


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


def tracking_lines(folder: Path, registered: ModelRegistered | None, uri: str) -> list[str]:
    """Return where MLflow shows a study, its runs and its model, and the command that is needed.

    Args:
        folder: of the study.
        registered: the version that it became, if it did.
        uri: of the tracking server; one with a password is not told.
    """
    if (pages := pages_of(uri)) is None:
        return []
    links = {}
    if (ids := recorded_run(folder)) is not None:
        experiment_id, run_id = ids
        links["Results"] = run_link(experiment_id, run_id)
        links["Runs"] = experiment_link(experiment_id)
    if registered is not None:
        links["Model"] = model_link(registered.model, registered.version)

    lines = [f"  {name}: {pages.address}{link}" for name, link in links.items()]
    if pages.command:
        return ["In MLflow, while this runs:", f"  {pages.command}", *lines]
    return ["In MLflow:", *lines]


def where_seen(folder: Path, uri: str) -> str:
    """Return in one line where MLflow shows a study that runs; "" where that cannot be said.

    Args:
        folder: of the study.
        uri: of the tracking server.
    """
    if (pages := pages_of(uri)) is None:
        return ""
    if pages.command:
        return pages.command
    ids = recorded_run(folder)
    return pages.address + (experiments_link() if ids is None else experiment_link(ids[0]))
