"""The commands of `affectune study`: arguments in, a study's folder out; no method of their own."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from pipeline.api.device import find_device
from pipeline.cluster_address import find_cluster
from pipeline.data.cli import (
    ResampleOption,
    TimeUnitOption,
    parse_names,
    parse_resampling,
    parse_time_unit,
    print_corpus_warnings,
)
from pipeline.environment import resolve_tracking_uri
from pipeline.errors import InputError
from pipeline.shell_command import same_command
from pipeline.status_line import print_status
from pipeline.supervisor import end_in_order, start_again
from pipeline.terminal import Console, note
from tuning.api.duration import parse_seconds
from tuning.api.studies import STUDIES
from tuning.cli.shipped_studies import add_commands
from tuning.ray_backend.head_watch import ClusterLost
from tuning.ray_backend.own_cluster import running_cluster

if TYPE_CHECKING:
    from tuning.journal.history import History
    from tuning.monitoring.state import StudyState
    from tuning.study.study import StudyOptions

study_app = typer.Typer(
    help="Search all three stages, record every trial, register the winner.", no_args_is_help=True
)
add_commands(study_app)

StudyPlace = Annotated[
    str,
    typer.Argument(
        help="What `study run --out` wrote; or what --store was: a folder or an object-store URI.",
        show_default=False,
    ),
]
WhichStudy = Annotated[
    str,
    typer.Option(
        "--study", help="Of a store: the study's name, or the begin of its id.", show_default=False
    ),
]
StudyFolder = Annotated[
    Path, typer.Argument(help="What `study run --out` wrote.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


@study_app.command("run")
def run_command(
    study: Annotated[
        str,
        typer.Argument(
            help="A shipped study by its name (`affectune study list`), or a TOML file.",
            show_default=False,
            autocompletion=STUDIES.complete,
        ),
    ],
    corpus: Annotated[
        Path | None, typer.Option(help="Folder in a MuSe layout; default: the study's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The study's folder.", show_default="studies/<name>")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="A Ray cluster ('auto', 'host:6379'); default: RAY_ADDRESS, else this machine "
            "alone ('local')."
        ),
    ] = None,
    wait_for_cluster: Annotated[
        str | None,
        typer.Option(
            help="Such as 30m: wait so long for a head that is away, now and after a loss, and go "
            "on.",
            show_default=False,
        ),
    ] = None,
    wait_for_nodes: Annotated[
        str | None,
        typer.Option(
            help="Such as 10m: wait so long for nodes that have what a trial asks for; default: as "
            "for the cluster.",
            show_default=False,
        ),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow server; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a study that was stopped or killed.")
    ] = False,
    nested: Annotated[
        int | None,
        typer.Option(
            help="Only score the search, on so many outer folds of people; gives no model.",
            show_default=False,
        ),
    ] = None,
    promote_first: Annotated[
        bool,
        typer.Option("--promote-first", help="Make the winner the champion where there is none."),
    ] = False,
    time_budget: Annotated[
        str | None,
        typer.Option(help="Such as 90m or 2h; the plan shrinks to fit.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Fits at a time on this machine, one thread each."),
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(help="Feature sets, with commas; default: the study's.")
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Labels, with commas; default: the study's.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="What folds hold out: subject, stimulus or both; default: the study's."),
    ] = None,
    resample: ResampleOption = None,
    time_unit: TimeUnitOption = None,
    store: Annotated[
        str, typer.Option(help="Trained stages: a folder or an object-store URI.")
    ] = ".affectune/store",
    device: Annotated[
        str, typer.Option(help="auto, cpu or cuda; trials have GPUs where the study gives them.")
    ] = "auto",
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Let Prometheus read /metrics here while it runs, such as 9464.",
            show_default=False,
        ),
    ] = None,
    metrics_host: Annotated[
        str | None,
        typer.Option(help="Who may read them; default: 127.0.0.1, this machine alone."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search, refit the finalists, write the winner's bundle and report, and register it.

    Example: affectune study run wide --corpus data/muse --time-budget 8h

    With --nested K people are set apart in turn, and a study runs without them: its winner, the
    untuned settings and the floors are scored on them, in OUT/nested.json. Nothing is tracked.
    """
    if nested is not None and (promote_first or tracking_uri):
        option = "--promote-first" if promote_first else "--tracking-uri"
        raise InputError(
            f"--nested only scores the search: it registers and tracks nothing. Leave {option} out."
        )
    budget_s = parse_seconds("--time-budget", time_budget)
    wait_s = parse_seconds("--wait-for-cluster", wait_for_cluster) or 0.0
    nodes_s = parse_seconds("--wait-for-nodes", wait_for_nodes)
    if metrics_host is not None and metrics_port is None:
        raise InputError(
            "--metrics-host says who may read the metrics, and no port is given. "
            "Pass --metrics-port 9464, or leave it out."
        )
    print_status(f"Reading {STUDIES.describe(study)}")
    study_file = STUDIES.find(study)
    from tuning.spec.study_spec import for_corpus, override, read_study

    spec = override(
        read_study(study_file),
        modalities=parse_names(modalities),
        targets=parse_names(targets),
        split=split,
        resample=parse_resampling(resample),
        time_unit=parse_time_unit(time_unit),
    )
    path = corpus or (Path(spec.corpus) if spec.corpus else None)
    if path is None:
        raise InputError(
            f"The study '{study}' names no corpus. Add corpus = \"path\" to it, or pass --corpus."
        )
    store = store if "://" in store else str(Path(store).absolute())
    folder = (out or Path("studies") / spec.name).absolute()
    tracked_at = None if nested else resolve_tracking_uri(tracking_uri)
    print_status("Asking for the store, the tracking server and the cluster")
    console = Console(stderr=True)
    cluster = find_cluster(
        address,
        running_cluster,
        wait_s=wait_s,
        on_wait=lambda reason: console.print(
            note(f"{reason} Waiting for it, at most {wait_for_cluster}."), soft_wrap=True
        ),
    )
    from tuning.study.services import raise_if_unusable  # MLflow takes seconds to import

    raise_if_unusable(spec.name, folder, store, tracked_at)
    print_status(f"Reading the corpus '{path}'")
    from pipeline.data.muse import read_corpus

    sessions = read_corpus(
        path,
        modalities=spec.modalities,
        targets=spec.targets,
        resampling=spec.resample,
        time_unit=spec.time_unit,
    )
    print_status("Loading torch, Ray and MLflow")
    from tuning.study.following import exported_metrics
    from tuning.study.nested import run_nested  # Ray, MLflow and torch take seconds to import
    from tuning.study.run import run
    from tuning.study.study import StudyOptions

    options = StudyOptions(
        folder=folder,
        store=store,
        address=cluster,
        workers=workers,
        wait_for_nodes_s=wait_s if nodes_s is None else nodes_s,
        is_head_waited_for=wait_s > 0,
        device=find_device(device, spec),
        trial_device="cpu" if device == "cpu" else "cuda",
        budget_s=inf if budget_s is None else budget_s,
        command=same_command(sys.argv[1:], resume=True),
    )
    spec = for_corpus(spec, sessions.modalities, sessions.targets)
    print_corpus_warnings(sessions, console)
    end_in_order()
    with (
        _begun_again_after_loss(options),
        exported_metrics(metrics_host, metrics_port) as metrics,
    ):
        if nested is not None:
            scores = run_nested(
                spec,
                sessions,
                path,
                options,
                console,
                num_folds=nested,
                resume=resume,
                metrics=metrics,
            ).scores
            summary = scores.to_json()
        else:
            summary = run(
                spec,
                sessions,
                path,
                options,
                console,
                tracking_uri=tracking_uri,
                resume=resume,
                promote_first=promote_first,
                metrics=metrics,
            )
    if as_json:
        typer.echo(json.dumps(summary, indent=1))


@study_app.command("status")
def status_command(where: StudyPlace, which: WhichStudy = "", as_json: AsJson = False) -> None:
    """Say how far a study is, also while it runs, and also on another machine.

    Example: affectune study status s3://bucket/store --study wide

    Of a store without --study it lists the studies that are published there.
    """
    print_status(f"Reading the study in '{where}'")
    from tuning.cli.study_place import find_store
    from tuning.journal.history import read_history
    from tuning.monitoring.state import study_state

    found = find_store(where, which)
    if found is None:
        history = read_history(Path(where))
        _print_status(history, study_state(Path(where), history), {}, as_json=as_json)
        return

    from tuning.monitoring.published_table import published_json, published_table
    from tuning.monitoring.state import published_state

    store, which = found
    if not which:
        heads = store.heads()
        if as_json:
            studies = [published_json(head) for head in heads]
            typer.echo(json.dumps({"store": store.name, "studies": studies}, indent=1))
        else:
            Console().print(published_table(heads, store.name))
        return

    study = store.read(which)
    history = study.history()
    place = {"model": store.model_uri(study.head)}
    state = published_state(study.head, history)
    _print_status(history, state, published_json(study.head) | place, as_json=as_json)


def _print_status(
    history: History, state: StudyState, published: dict[str, Any], *, as_json: bool
) -> None:
    """Print how far a study is; of a published one, also where that and its model are."""
    from tuning.monitoring.live_table import status_table
    from tuning.monitoring.status import status_json

    if as_json:
        typer.echo(json.dumps(published | status_json(history) | state.to_json(), indent=1))
        return
    console = Console()
    console.print(status_table(history))
    console.print(str(state), soft_wrap=True, markup=False, highlight=False)
    if published.get("model"):
        line = f"Its model: {published['model']}"
        console.print(line, soft_wrap=True, markup=False, highlight=False)


@study_app.command("report")
def report_command(
    where: StudyPlace,
    which: WhichStudy = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; default: report.html in the study's folder.", show_default=False
        ),
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="For the traces; default: where the study read it.")
    ] = None,
) -> None:
    """Write report.html anew, of a study in any state.

    Example: affectune study report studies/wide
    """
    print_status(f"Reading the study in '{where}'")
    from tuning.cli.study_place import find_store
    from tuning.journal.history import read_history
    from tuning.study.run import report

    found = find_store(where, which)
    if found is None:
        path = report(Path(where), read_history(Path(where)), corpus, out)
    else:
        from tuning.study.study_folder import MODEL_FOLDER

        store, which = found
        if out is None:
            raise InputError(
                f"'{where}' is a store: say where the report is to be, such as --out report.html."
            )
        study = store.read(which)
        with store.winner_in(study.head, MODEL_FOLDER) as folder:
            path = report(folder, study.history(), corpus, out)
    Console().print(Text(f"Written: {path}"), soft_wrap=True)


@study_app.command("audit")
def audit_command(
    folder: StudyFolder,
    sample: Annotated[int, typer.Option(min=1, help="Stopped trials to train to the end.")] = 20,
    corpus: Annotated[
        Path | None, typer.Option(help="The study's; default: where the study read it.")
    ] = None,
    store: Annotated[
        str, typer.Option(help="The study's: a folder or an object-store URI.")
    ] = ".affectune/store",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="Fits at a time, one thread each; default: one per core."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another one draws another sample.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Say what early stopping cost: train a random sample of the stopped trials to the end.

    Example: affectune study audit studies/wide --sample 40
    """
    print_status(f"Reading the study in '{folder}'")
    from tuning.audit.cli_output import audit_folder, print_audit

    end_in_order()
    audit = audit_folder(
        folder,
        corpus,
        store,
        sample=sample,
        workers=workers,
        seed=seed,
        console=Console(stderr=True),
    )
    if as_json:
        typer.echo(json.dumps(audit.to_json(), indent=1))
    else:
        print_audit(audit, Console())


@contextlib.contextmanager
def _begun_again_after_loss(options: StudyOptions) -> Iterator[None]:
    """Have this command started again where the cluster's head is lost, if that is waited for.

    In a new process: what a library has begun with one cluster it cannot begin with another.
    """
    try:
        yield
    except ClusterLost as error:
        if not options.is_head_waited_for or not start_again():
            raise
        Console(stderr=True).print(note(str(error)), soft_wrap=True)
        raise typer.Exit(1) from None
