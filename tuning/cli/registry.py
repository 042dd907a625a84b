"""The commands `registry list`, `show`, `promote` and `rollback`: arguments in, tables or JSON out."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.errors import AffectuneError, InputError
from tuning.mlflow_backend.client import cause_of, connect, masked, resolve_uri, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.corpus import Corpus
    from pipeline.model.fused_model import FusedModel
    from tuning.mlflow_backend.promotion import Comparison

registry_app = typer.Typer(
    help="Look at registered models, and choose which one is served.", no_args_is_help=True
)

Name = Annotated[
    str, typer.Argument(help="Of the registered model, such as affectune.", show_default=False)
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="Default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in this folder.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@registry_app.command("list")
def list_command(tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """List the registered models and which versions have an alias.

    Example: affectune registry list --tracking-uri http://127.0.0.1:5000
    """
    from tuning.mlflow_backend.registry import aliases_of, registry_names

    with _Registry(tracking_uri) as client:
        models = []
        token = None
        while True:
            page = client.search_registered_models(page_token=token)
            models += [model.name for model in page]
            token = page.token
            if not token:
                break
        found = [{"name": name, "aliases": aliases_of(client, name)} for name in models]
    if as_json:
        typer.echo(json.dumps({"models": found}, indent=1))
        return
    aliases = list(registry_names().aliases.model_dump().values())
    table = Table("model", *aliases, box=box.SIMPLE, pad_edge=False)
    for model in found:
        table.add_row(
            escape(model["name"]), *(model["aliases"].get(alias, "") for alias in aliases)
        )
    Console().print(
        table
        if found
        else "No model is registered yet. `affectune study run` registers its winner."
    )


@registry_app.command("show")
def show_command(name: Name, tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """Show the versions of a model: where each comes from, its devel CCC, and what was decided about it.

    Example: affectune registry show affectune
    """
    from tuning.mlflow_backend.registry import aliases_of, versions_of

    with _Registry(tracking_uri) as client:
        versions, aliases = versions_of(client, name), aliases_of(client, name)
    found = [_version_json(version, aliases) for version in versions]
    if as_json:
        typer.echo(json.dumps({"name": name, "versions": found}, indent=1))
        return
    targets = sorted({target for version in found for target in version["ccc"]})
    headings = ("version", "alias", "study", "trials", *targets, "decision")
    table = Table(
        title=f"{escape(name)}: CCC on devel", title_justify="left", box=box.SIMPLE, pad_edge=False
    )
    for heading in headings:
        table.add_column(escape(heading), no_wrap=heading not in {"study", "decision"})
    for version in found:
        table.add_row(
            version["version"],
            ", ".join(version["aliases"]),
            escape(version["study"] or ""),
            version["trials"] or "",
            *(_score(version["ccc"].get(target)) for target in targets),
            f"{version['decision'] or ''}"
            + (f" against {version['against']}" if version["against"] else ""),
        )
    Console().print(table)


@registry_app.command("promote")
def promote_command(
    name: Name,
    version: Annotated[
        str, typer.Argument(help="Its number, or an alias such as challenger.", show_default=False)
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Promote it even where it is worse, or cannot be compared."),
    ] = (False),
    corpus: Annotated[
        Path | None,
        typer.Option(help="To compare on; default: the one it learned from.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion, unless it is worse than the present one on the same devel sessions.

    Example: affectune registry promote affectune challenger
    """
    from pipeline.cli import find_device
    from tuning.mlflow_backend.registry import aliases_of, promote, registry_names

    where = find_device(device)
    with _Registry(tracking_uri) as client:
        chosen = _find_version(client, name, version)
        number = str(chosen.version)  # an sqlite store answers with an int
        champion = aliases_of(client, name).get(registry_names().aliases.champion)
        if champion == number:
            raise InputError(f"Version {champion} of '{name}' is the champion already.")
        comparison = None
        if champion is not None and not (
            force and corpus is None and not _corpus_of(chosen).is_dir()
        ):
            comparison = _compare(
                client, resolve_uri(tracking_uri), chosen, champion, corpus, where
            )
        done = promote(client, name, number, comparison, force=force)
    if as_json:
        difference = comparison.to_json() if comparison else None
        record = {"name": name, "version": number, "against": champion, "promoted": done}
        typer.echo(json.dumps(record | {"difference": difference}, indent=1))
    elif comparison is not None:
        _print_comparison(comparison, number, str(champion))
    if not done:
        assert comparison is not None
        raise AffectuneError(
            f"Version {number} of '{name}' was not promoted: {'; '.join(comparison.reasons)}. "
            f"Version {champion} stays the champion. --force promotes it all the same."
        )
    if not as_json:
        said = f"Version {number} of '{name}' is the champion. `affectune registry rollback {name}` undoes it."
        Console().print(said, soft_wrap=True)


@registry_app.command("rollback")
def rollback_command(name: Name, tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """Make the previous champion the champion again; done twice, it is as before.

    Example: affectune registry rollback affectune
    """
    from tuning.mlflow_backend.registry import rollback

    with _Registry(tracking_uri) as client:
        champion, previous = rollback(client, name)
    if as_json:
        typer.echo(json.dumps({"name": name, "champion": champion, "previous": previous}, indent=1))
    else:
        Console().print(
            f"Version {champion} of '{name}' is the champion again, in place of {previous}."
        )


class _Registry:
    """A client whose failures are told as a person needs them."""

    def __init__(self, tracking_uri: str | None) -> None:
        self.uri = resolve_uri(tracking_uri)

    def __enter__(self) -> MlflowClient:
        path = sqlite_path(self.uri)
        if path is not None and not path.is_file():  # MLflow would make an empty one
            raise InputError(
                f"There is no registry '{path}'. Give --tracking-uri, or set MLFLOW_TRACKING_URI."
            )
        return connect(self.uri)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        from mlflow.exceptions import MlflowException

        if isinstance(error, MlflowException):
            code = error.error_code
            missing = code == "RESOURCE_DOES_NOT_EXIST"
            raise (InputError if missing else AffectuneError)(
                f"The registry '{masked(self.uri)}' says: {cause_of(error)}."
            ) from error


def _find_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    if version.isdigit():
        return client.get_model_version(name, version)
    return client.get_model_version_by_alias(name, version)


def _corpus_of(version: ModelVersion) -> Path:
    return Path(version.tags.get("affectune.corpus") or "/nowhere")


def _compare(
    client: MlflowClient,
    uri: str,
    challenger: ModelVersion,
    champion: str,
    corpus: Path | None,
    device: str,
) -> Comparison:
    from pipeline.data.muse import read_corpus
    from tuning.mlflow_backend.promotion import compare
    from tuning.mlflow_backend.registry import fetch

    where, own = corpus or _corpus_of(challenger), str(challenger.version)
    if not where.is_dir():
        raise InputError(
            f"There is no corpus '{where}' to compare on. Give --corpus; or --force, to do without."
        )
    with tempfile.TemporaryDirectory() as temporary:
        ours, theirs = (
            fetch(client, uri, challenger.name, number, Path(temporary) / number)
            for number in (own, champion)
        )
    read = read_corpus(
        where,
        modalities=list(dict.fromkeys([*ours.modalities, *theirs.modalities])),
        targets=list(dict.fromkeys([*ours.targets, *theirs.targets])),
    )
    for model, number in ((ours, own), (theirs, champion)):
        if not _same_split(model, read):
            Console(stderr=True).print(
                f"[yellow]Note:[/] version {number} learned from another split than '{escape(str(where))}' has: if "
                "these devel sessions were among its training sessions, the comparison favours it.",
                soft_wrap=True,
            )
    return compare(ours, theirs, read, device=device)


def _same_split(model: FusedModel, corpus: Corpus) -> bool:
    """By counts: the corpus's digest also depends on which of its feature sets were read."""
    from pipeline.corpus import PARTITIONS

    return all(
        len(corpus.partition(part)) == model.data["sessions"][part]
        and len({session.subject for session in corpus.partition(part)})
        == model.data["subjects"][part]
        for part in PARTITIONS
    )


def _print_comparison(comparison: Comparison, challenger: str, champion: str) -> None:
    from tuning.mlflow_backend.promotion import signed

    table = Table(
        "target",
        "CCC gained [95% interval]",
        title=f"Version {challenger} minus version {champion}, devel, {comparison.subjects} subjects",
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
    )
    for name, score in [*comparison.targets.items(), ("mean", comparison.mean)]:
        table.add_row(escape(name), escape(signed(score)))
    Console().print(table)


def _version_json(version: ModelVersion, aliases: dict[str, str]) -> dict[str, Any]:
    tags = version.tags
    return {
        "version": str(version.version),
        "aliases": [alias for alias, number in aliases.items() if number == str(version.version)],
        "study": tags.get("affectune.study_name"),
        "trials": tags.get("affectune.trials"),
        "ccc": {
            key.removeprefix("ccc."): [
                None if part == "undefined" else float(part) for part in value.split()
            ]
            for key, value in tags.items()
            if key.startswith("ccc.")
        },
        "made_at": version.creation_timestamp / 1000,
        "run_id": version.run_id,
        "decision": tags.get("affectune.decision"),
        "against": tags.get("affectune.decision.against"),
    }


def _score(score: list[float | None] | None) -> str:
    if not score or score[0] is None:
        return ""
    ccc, low, high = score
    return f"{ccc:.3f}" + (
        "" if low is None or high is None else escape(f"\n[{low:.3f}, {high:.3f}]")
    )
