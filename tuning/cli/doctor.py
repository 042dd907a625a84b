"""The command doctor: every check with its time, a table with mends or JSON out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from pipeline.credentials.masking import masked_uri
from pipeline.environment import resolve_tracking_uri
from pipeline.status_line import print_status
from pipeline.terminal import Console, cells

if TYPE_CHECKING:
    from pipeline.doctor.finding import Check, Finding

STORE = ".affectune/store"
"""The store of a study that names none."""
COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
SERVICE_S = 60.0
"""So long a service may take, the import of its library and the download of a bundle included."""
CLUSTER_S = 120.0


def add_commands(app: typer.Typer) -> None:
    """Mount the command on the command line."""
    app.command("doctor")(doctor_command)


def doctor_command(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(
            help="A Ray cluster ('auto', 'host:6379'); default: RAY_ADDRESS, else this machine "
            "alone ('local')."
        ),
    ] = None,
    store: Annotated[
        str, typer.Option(help="Trained stages: a folder or an object-store URI.")
    ] = STORE,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow server; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where studies are written.")] = Path("studies"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON array instead of a table.")
    ] = False,
) -> None:
    """Say what is installed, what a cluster or a server answers, and what is unsafe.

    Example: affectune doctor --address ray-head:6379 --store s3://bucket/store

    What is not well has its mend beside it. Exit status: 1 where something is wrong, else 0.
    """
    print_status("Looking at this machine")
    from pipeline.doctor.finding import examine, is_wrong

    store = store if "://" in store else str(Path(store).absolute())
    tracked_at = resolve_tracking_uri(tracking_uri)
    findings: list[Finding] = []
    for check in _checks(context, address, store, tracked_at, out):
        findings += examine(check)

    if as_json:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=1))
    else:
        Console().print(finding_table(findings))
    if is_wrong(findings):
        raise typer.Exit(1)


def _checks(
    context: typer.Context, address: str | None, store: str, tracking_uri: str, out: Path
) -> Iterator[Check]:
    """Yield the checks in the order of their findings; those that ask others come last."""
    yield from _checks_of_this_machine(store, tracking_uri, out)
    yield from _checks_of_services(context, address, store, tracking_uri)


def _checks_of_this_machine(store: str, tracking_uri: str, out: Path) -> Iterator[Check]:
    from pipeline.doctor import cuda, disks, open_ports, resources, rights, versions
    from pipeline.doctor.finding import Check
    from tuning.doctor.places import study_places, trusted_places

    yield Check("versions", versions.check_versions)
    yield Check("cores", resources.check_threads)
    yield Check("memory", resources.check_memory)
    yield Check("shared memory", resources.check_shm)
    yield Check("limits", resources.check_limits)
    yield Check("disk", lambda: disks.check_disks(study_places(out, store)))
    yield Check("Ray's folder", disks.check_ray_folder)
    yield Check("home", disks.check_home)
    yield Check("secrets", rights.check_secrets)
    yield Check(
        "rights", lambda: rights.check_writable_by_others(trusted_places(store, tracking_uri))
    )
    yield Check("open ports", open_ports.check_open_ports)
    print_status("Asking torch for a GPU")
    yield Check("CUDA", cuda.check_cuda, cuda.ANSWER_S + 5)


def _checks_of_services(
    context: typer.Context, address: str | None, store: str, tracking_uri: str
) -> Iterator[Check]:
    """Yield the checks that import torch, MLflow or Ray: within the check, as one may be broken."""
    from pipeline.doctor.finding import Check

    def look_at_store() -> Iterable[Finding]:
        from pipeline.doctor.store import check_store

        return check_store(store)

    def look_at_tracking() -> Iterable[Finding]:
        from tuning.doctor.tracking import check_tracking

        return check_tracking(tracking_uri)

    def look_at_champion() -> Iterable[Finding]:
        from tuning.doctor.champion import check_champion

        return check_champion(tracking_uri, context.obj)

    def look_at_cluster() -> Iterable[Finding]:
        from tuning.doctor.cluster import check_cluster

        return check_cluster(address, store)

    print_status(f"Asking the store '{masked_uri(store)}'")
    yield Check("store", look_at_store, SERVICE_S)
    print_status(f"Asking the tracking server '{masked_uri(tracking_uri)}'")
    yield Check("MLflow", look_at_tracking, SERVICE_S)
    yield Check("champion", look_at_champion, SERVICE_S)
    print_status("Asking the Ray cluster")
    yield Check("Ray cluster", look_at_cluster, CLUSTER_S)


def finding_table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table: what is wrong has its mend below it."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("finding, and what to do", overflow="fold")
    for finding in findings:
        check, said, mend = cells([finding.check, finding.finding, finding.mend])
        if finding.mend:
            said.append("\n").append(Text.assemble(("→ ", "bold"), mend))
        table.add_row(check, Text(finding.status, style=COLOURS[finding.status]), said)
    return table
