"""The commands of `affectune registry`: arguments in, tables or JSON out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.credentials.masking import masked_uri
from pipeline.data.cli import TimeUnitOption, parse_time_unit
from pipeline.environment import resolve_tracking_uri
from pipeline.errors import AffectuneError, InputError, naming_doctor
from pipeline.names import printable_word, shorten
from pipeline.shell_command import how_to_promote, shell_command
from pipeline.status_line import print_status
from pipeline.terminal import Console, cells, note, title
from tuning.mlflow_backend.client import (
    answer_of,
    cause_of,
    connect,
    raise_if_unreachable,
    sqlite_path,
)
from tuning.mlflow_backend.links import model_link, pages_of
from tuning.mlflow_backend.registry.version_scores import Interval, read_scores, unread_keys

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.corpus import Corpus, TimeUnit
    from pipeline.model.fused_model import FusedModel
    from tuning.mlflow_backend.registry.comparison import Comparison

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

MAX_UNREAD = 3


@dataclass(frozen=True)
class VersionSummary:
    """What `registry show` tells of a version; the fields are the keys of its JSON.

    Attributes:
        version: its number.
        aliases: those that point to it.
        study: name of the study that it comes from.
        trials: how many trials the study had.
        ccc: target -> CCC on devel, with its interval.
        between_ccc: target -> the same between sessions; {} for a version that does not say it.
        within_ccc: target -> the same within sessions; likewise.
        made_at: when it was registered, in seconds since 1970.
        run_id: MLflow's id of the study's run.
        decision: what was decided about it last.
        against: the version that it was compared with.
    """

    version: str
    aliases: list[str]
    study: str | None
    trials: str | None
    ccc: dict[str, Interval]
    between_ccc: dict[str, Interval]
    within_ccc: dict[str, Interval]
    made_at: float
    run_id: str | None
    decision: str | None
    against: str | None


@registry_app.command("list")
def list_command(tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """List the registered models and which versions have an alias.

    Example: affectune registry list --tracking-uri http://127.0.0.1:5000
    """
    _print_asking(tracking_uri)
    from tuning.mlflow_backend.registry.versions import (
        advice_without_champion,
        aliases_of,
        model_names,
        registry_names,
    )

    with _registry_client(tracking_uri) as client:
        aliases_by_model = {name: aliases_of(client, name) for name in model_names(client)}
        champion = registry_names().aliases.champion
        without = [name for name, aliases in aliases_by_model.items() if champion not in aliases]
        if without or not aliases_by_model:
            name = without[0] if without else registry_names().model
            advice = advice_without_champion(client, resolve_tracking_uri(tracking_uri), name)

    if as_json:
        models = [{"name": name, "aliases": aliases} for name, aliases in aliases_by_model.items()]
        typer.echo(json.dumps({"models": models}, indent=1))
        return

    if not aliases_by_model:
        _print_advice(advice)
        return

    alias_names = list(registry_names().aliases.model_dump().values())
    table = Table("model", *alias_names, box=box.SIMPLE, pad_edge=False)
    for name, aliases in aliases_by_model.items():
        table.add_row(*_words([name, *(aliases.get(alias, "") for alias in alias_names)]))
    Console().print(table)
    if without:
        _print_advice(advice)


@registry_app.command("show")
def show_command(name: Name, tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """Show a model's versions: their origin, devel CCC, and what was decided about them.

    Example: affectune registry show affectune
    """
    _print_asking(tracking_uri)
    from tuning.mlflow_backend.registry.versions import (
        advice_without_champion,
        aliases_of,
        registry_names,
        search_versions,
    )

    with _registry_client(tracking_uri) as client:
        versions = search_versions(client, name)
        aliases = aliases_of(client, name) if versions else {}
        advice = ""
        if registry_names().aliases.champion not in aliases:
            uri = resolve_tracking_uri(tracking_uri)
            advice = advice_without_champion(client, uri, name)
    if not versions:
        raise InputError(f"The registry has no model '{name}' with a version. {advice}")
    summaries = [_summarise(version, aliases) for version in versions]
    for sentence in _unread(versions):
        Console(stderr=True).print(note(sentence), soft_wrap=True)

    if as_json:
        records = [dataclasses.asdict(summary) for summary in summaries]
        typer.echo(json.dumps({"name": name, "versions": records}, indent=1))
    else:
        Console().print(_version_table(name, summaries))
        if pages := pages_of(resolve_tracking_uri(tracking_uri)):
            _print_advice(pages.line("In MLflow", model_link(name)))
        if advice:
            _print_advice(advice)


@registry_app.command("promote")
def promote_command(
    context: typer.Context,
    name: Name,
    version: Annotated[
        str, typer.Argument(help="Its number, or an alias such as challenger.", show_default=False)
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Promote it even where it is worse, or cannot be compared."),
    ] = False,
    corpus: Annotated[
        Path | None,
        typer.Option(help="To compare on; default: the one it learned from.", show_default=False),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto (a GPU for 256 hidden units and more), cpu or cuda.")
    ] = "auto",
    time_unit: TimeUnitOption = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion, unless it is worse than the champion on devel.

    Example: affectune registry promote affectune challenger
    """
    _print_asking(tracking_uri)
    from pipeline.api.device import find_device
    from tuning.mlflow_backend.registry.promotion import promote
    from tuning.mlflow_backend.registry.versions import aliases_of, find_version, registry_names

    find_device(device)  # refuses what is none, before anything is fetched
    with _registry_client(tracking_uri) as client:
        challenger = find_version(client, name, version)
        number = str(challenger.version)  # an sqlite store answers with an int
        champion = aliases_of(client, name).get(registry_names().aliases.champion)
        if champion == number:
            raise InputError(f"Version {champion} of '{name}' is the champion already.")

        corpus_folder = corpus or _corpus_folder(challenger)
        is_compared = not force or corpus is not None or corpus_folder.is_dir()
        comparison = None
        if champion is not None and is_compared:
            unit = parse_time_unit(time_unit)
            if not corpus_folder.is_dir():
                raise InputError(
                    f"There is no corpus '{corpus_folder}' to compare on. Give --corpus; or "
                    "--force, to do without."
                )
            bundles = {
                each: context.obj(f"models:/{name}/{each}", tracking_uri)
                for each in (number, champion)
            }
            comparison = _compare(bundles, corpus_folder, device, unit)
        is_promoted = promote(client, name, number, comparison, against=champion, force=force)

    if as_json:
        record = {
            "name": name,
            "version": number,
            "against": champion,
            "promoted": is_promoted,
            "difference": comparison.to_json() if comparison else None,
        }
        typer.echo(json.dumps(record, indent=1))
    elif comparison is not None:
        Console().print(_comparison_table(comparison, number, str(champion)))

    if not is_promoted:
        assert comparison is not None
        raise AffectuneError(
            f"Version {number} of '{name}' was not promoted: {'; '.join(comparison.reasons)}. "
            f"Version {champion} stays the champion. --force promotes it all the same."
        )
    if not as_json:
        _print_advice(_promoted(name, number, champion, resolve_tracking_uri(tracking_uri)))


@registry_app.command("rollback")
def rollback_command(name: Name, tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """Make the previous champion the champion again; done twice, it is as before.

    Example: affectune registry rollback affectune
    """
    _print_asking(tracking_uri)
    from tuning.mlflow_backend.registry.promotion import rollback

    with _registry_client(tracking_uri) as client:
        champion, previous = rollback(client, name)

    if as_json:
        typer.echo(json.dumps({"name": name, "champion": champion, "previous": previous}, indent=1))
    else:
        Console().print(
            Text(f"Version {champion} of '{name}' is the champion again, in place of {previous}.")
        )


def _print_asking(tracking_uri: str | None) -> None:
    print_status(f"Asking the registry '{masked_uri(resolve_tracking_uri(tracking_uri))}'")


@contextmanager
def _registry_client(tracking_uri: str | None) -> Iterator[MlflowClient]:
    """Give a client whose errors are raised as those of a person's input or of the registry.

    Raises:
        InputError: there is no such registry, model, version or alias.
        AffectuneError: MLflow raised another error.
    """
    uri = resolve_tracking_uri(tracking_uri)
    path = sqlite_path(uri)
    if path is not None and not path.is_file():  # MLflow would make an empty one
        raise InputError(
            f"There is no registry '{path}'. Give --tracking-uri, or set MLFLOW_TRACKING_URI, if "
            f"it is elsewhere. {how_to_promote('', [], [], uri)}"
        )

    if path is None:
        with naming_doctor():
            try:
                raise_if_unreachable(uri)
            except InputError:
                raise
            except Exception as error:  # a driver or the network raises errors of its own
                raise InputError(
                    f"No registry answers at '{masked_uri(uri)}': {cause_of(error)}."
                ) from error
    from mlflow.exceptions import MlflowException

    try:
        yield connect(uri)
    except MlflowException as error:
        is_missing = error.error_code == "RESOURCE_DOES_NOT_EXIST"
        kind = InputError if is_missing else AffectuneError
        raise kind(f"The registry '{masked_uri(uri)}' says: {answer_of(error)}.") from error


def _print_advice(text: str) -> None:
    """Print a sentence with a command, so that the command can be copied."""
    Console().print(text, soft_wrap=True, markup=False, highlight=False)


def _promoted(name: str, version: str, before: str | None, uri: str) -> str:
    """Return what a promotion did, and the command that undoes it, or where there is none, serves.

    Args:
        name: of the model.
        version: the champion.
        before: the champion before; None where there was none.
        uri: of the registry.
    """
    said = f"Version {version} of '{name}' is the champion."
    if before is None:
        serve = shell_command("serve", "--model", f"models:/{name}@champion", tracking_uri=uri)
        return f"{said} It is the first one, so there is none to go back to. To serve it: {serve}"
    undo = shell_command("registry", "rollback", name, tracking_uri=uri)
    return f"{said} Version {before} was; this undoes it: {undo}"


def _corpus_folder(version: ModelVersion) -> Path:
    """Return the corpus that a version learned from, or a folder that does not exist."""
    return Path(version.tags.get("affectune.corpus") or "/nowhere")


def _compare(
    bundles: Mapping[str, Path], corpus_folder: Path, device: str, time_unit: TimeUnit | None
) -> Comparison:
    """Compare two versions, the challenger first, by their verified bundles."""
    from pipeline.api.device import find_device
    from pipeline.data.muse import read_corpus
    from pipeline.model.bundle import load_model
    from tuning.mlflow_backend.registry.comparison import compare

    models = [load_model(bundle) for bundle in bundles.values()]
    torch_device = find_device(device, *(model.spec for model in models))
    modalities = dict.fromkeys(modality for model in models for modality in model.modalities)
    targets = dict.fromkeys(target for model in models for target in model.targets)
    corpus, champion_corpus = (
        read_corpus(
            corpus_folder,
            modalities=list(modalities),
            targets=list(targets),
            mark_stuck_rows=False,  # each model does, by its own limits
            model_columns=model.columns_in_files,
            model_set_aside=model.set_aside,
            resampling=model.resampling_of_sets,
            time_unit=time_unit,
        )
        for model in models
    )

    for model, number in zip(models, bundles, strict=True):
        if not _has_same_split(model, corpus):
            Console(stderr=True).print(
                f"[yellow]Note:[/] version {number} learned from another split than "
                f"'{escape(str(corpus_folder))}' has: if these devel sessions were among its "
                "training sessions, the comparison favours it.",
                soft_wrap=True,
            )
    challenger, champion = models
    return compare(
        challenger, champion, corpus, device=torch_device, champion_corpus=champion_corpus
    )


def _has_same_split(model: FusedModel, corpus: Corpus) -> bool:
    """Whether the partitions are of the same size.

    The corpus's digest says less: it depends on which feature sets were read.
    """
    from pipeline.corpus import PARTITIONS

    for partition in PARTITIONS:
        sessions = corpus.partition(partition)
        subjects = {session.subject for session in sessions}
        if len(sessions) != model.data["sessions"][partition]:
            return False
        if len(subjects) != model.data["subjects"][partition]:
            return False
    return True


def _comparison_table(comparison: Comparison, challenger: str, champion: str) -> Table:
    num_subjects = comparison.num_subjects
    people = "one person: no interval" if num_subjects == 1 else f"{num_subjects} subjects"
    table = Table(
        "target",
        "CCC gained [95% interval]",
        title=f"Version {challenger} minus version {champion}, devel, {people}",
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
    )
    for name, difference in [*comparison.targets.items(), ("mean", comparison.mean)]:
        table.add_row(*cells([name, difference.with_sign()]))
    return table


def _version_table(name: str, summaries: list[VersionSummary]) -> Table:
    targets = sorted({target for summary in summaries for target in summary.ccc})
    table = Table(
        title=title(f"{name}: CCC on devel"), title_justify="left", box=box.SIMPLE, pad_edge=False
    )
    for heading in ("version", "alias", "study", "trials", *targets, "decision"):
        table.add_column(*_words([heading]), no_wrap=heading not in {"study", "decision"})

    for summary in summaries:
        against = f" against {summary.against}" if summary.against else ""
        table.add_row(
            *_words([summary.version, ", ".join(summary.aliases), summary.study or ""]),
            *_words([summary.trials or ""]),
            *cells(_format_scores(summary, target) for target in targets),
            *_words([f"{summary.decision or ''}{against}"]),
        )
    return table


def _words(words: Iterable[str]) -> list[Text]:
    """Return words of the registry as cells of one line, each cut where it is long."""
    return cells(printable_word(shorten(word)) for word in words)


def _summarise(version: ModelVersion, aliases: dict[str, str]) -> VersionSummary:
    number, tags = str(version.version), version.tags
    return VersionSummary(
        version=number,
        aliases=[alias for alias, aliased in aliases.items() if aliased == number],
        study=tags.get("affectune.study_name"),
        trials=tags.get("affectune.trials"),
        ccc=read_scores(tags, "ccc"),
        between_ccc=read_scores(tags, "between_ccc"),
        within_ccc=read_scores(tags, "within_ccc"),
        made_at=(version.creation_timestamp or 0) / 1000,
        run_id=version.run_id,
        decision=tags.get("affectune.decision"),
        against=tags.get("affectune.decision.against"),
    )


def _unread(versions: Sequence[ModelVersion]) -> list[str]:
    """Return a note for each version with tags that are not as a study writes them."""
    notes = []
    for version in versions:
        if keys := unread_keys(version.tags):
            shown = ", ".join(f"'{shorten(key)}'" for key in keys[:MAX_UNREAD])
            more = f" and {len(keys) - MAX_UNREAD} more" if len(keys) > MAX_UNREAD else ""
            notes.append(
                f"version {version.version} has tags that no study writes, which are left out: "
                f"{shown}{more}."
            )
    return notes


def _format_scores(summary: VersionSummary, target: str) -> str:
    """Return a target's CCC with its interval, and below it the CCCs between and within."""
    lines = [_format_interval(summary.ccc.get(target))]
    for name, intervals in (("between", summary.between_ccc), ("within", summary.within_ccc)):
        ccc = intervals.get(target, [None])[0]
        if ccc is not None:
            lines.append(f"{name} {ccc:.3f}")
    return "\n".join(lines)


def _format_interval(interval: Interval | None) -> str:
    if not interval or interval[0] is None:
        return ""

    ccc, low, high = interval
    if low is None or high is None:
        return f"{ccc:.3f}"
    return f"{ccc:.3f}\n[{low:.3f}, {high:.3f}]"
