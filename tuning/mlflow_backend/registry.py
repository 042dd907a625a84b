"""The registry: the winner of a study as a version of a registered model, and which version has which alias."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import AffectuneError, InputError
from pipeline.model.fused_model import CARD, FusedModel
from pipeline.spec import read_toml
from pipeline.storage.atomic_folder import MANIFEST, MODEL, read_folder
from tuning.journal.history import History
from tuning.mlflow_backend.client import ALREADY_EXISTS, cause_of, connect, experiment_id, masked
from tuning.mlflow_backend.promotion import Comparison
from tuning.mlflow_backend.pyfunc_package import package
from tuning.mlflow_backend.run_updates import STUDY, study_id
from tuning.mlflow_backend.tracker import RUN_TAG, STUDY_TAG, find_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

NAMES_FILE = Path(__file__).parent.parent / "mlflow" / "registry.toml"
IDENTITY, PLACED, FIRST = "affectune.bundle", "affectune.placed", "affectune.promote_first"
"""Tags of a version: what it is found by, the alias it was given first, and whether it asked to be the champion."""
MAX_DESCRIPTION = 5000  # characters
PATIENCE_S = 120.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
HOPELESS = (
    "INVALID_PARAMETER_VALUE",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_DOES_NOT_EXIST",
)

Answer = TypeVar("Answer")


class Aliases(BaseModel):
    """Names of the aliases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: str
    challenger: str
    previous: str


class Names(BaseModel):
    """What mlflow/registry.toml fixes for the search and the endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    bundle: str
    aliases: Aliases


@cache
def registry_names() -> Names:
    """Read mlflow/registry.toml.

    Raises:
        InputError: it is not there, or damaged.
    """
    try:
        return Names.model_validate(read_toml(NAMES_FILE, "registry's names"))
    except ValidationError as error:
        raise InputError(f"'{NAMES_FILE}' does not fit: restore it from the repository.") from error


def register(
    bundle: Path,
    history: History,
    uri: str,
    *,
    example: Mapping[str, ArrayLike],
    promote_first: bool = False,
    artefacts: Sequence[Path] = (),
) -> tuple[str, str]:
    """Make the winner a version of the study's registered model; done twice, it is the same version.

    A new version becomes the challenger. With `promote_first` it becomes the champion where the model has none.

    Args:
        bundle: of the winner.
        history: of the study that found it.
        uri: of the tracking server.
        example: modality -> shape (frames, columns) of one devel session; kept as the input example.
        promote_first: see above.
        artefacts: files to keep with the study's run.

    Returns:
        Name and version.

    Raises:
        InputError: the bundle is damaged.
        AffectuneError: it cannot be loaded as MLflow will load it, or the registry did not take it.
    """
    assert history.opened is not None
    files = read_folder(bundle)
    fingerprint = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    name, identity = history.study.registered_model, f"{history.opened.digest}/{fingerprint}"
    client = connect(uri)
    patient = _Patience(f"Cannot register '{bundle}' in '{masked(uri)}'")
    patient(lambda: _ensure_model(client, name))
    version = patient(lambda: _find(client, name, identity))
    if version is None:
        run = patient(lambda: _study_run(client, uri, history))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / f"model-{fingerprint[:12]}"
            package(bundle, example, folder)
            patient(lambda: client.log_artifacts(run.info.run_id, str(folder), folder.name))
        for path in artefacts:
            patient(partial(client.log_artifact, run.info.run_id, str(path)))
        source = f"{run.info.artifact_uri}/model-{fingerprint[:12]}"
        tags = _tags(files, history, identity, promote_first)
        version = patient(
            lambda: _ensure_version(
                client, name, identity, source, run.info.run_id, tags, _card(files)
            )
        )
    found = version
    patient(lambda: _place(client, name, found, promote_first))
    return name, version


def fetch(client: MlflowClient, uri: str, name: str, version: str, folder: Path) -> FusedModel:
    """Download a version's bundle and load it, every hash checked.

    Raises:
        InputError: it holds no bundle, or a damaged one.
        AffectuneError: it cannot be downloaded.
    """
    import mlflow.artifacts

    source = client.get_model_version_download_uri(name, version)
    place = f"{source}/artifacts/{registry_names().bundle}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = mlflow.artifacts.download_artifacts(place, dst_path=str(folder), tracking_uri=uri)
    except Exception as error:
        raise AffectuneError(
            f"Cannot download version {version} of '{name}': {cause_of(error)}."
        ) from error
    return FusedModel.load(found)


def versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions, the first one first.

    Raises:
        InputError: there is no such model.
    """
    found, token = [], None
    while True:
        page = client.search_model_versions(
            f"name = '{_quotable(name)}'", max_results=200, page_token=token
        )
        found += list(page)
        token = page.token
        if not token:
            break
    if not found:
        raise InputError(
            f"The registry has no model '{name}' with a version. See `affectune registry list`."
        )
    return sorted(found, key=lambda version: int(version.version))


def aliases_of(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias -> version."""
    return {
        alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()
    }


def promote(
    client: MlflowClient, name: str, version: str, comparison: Comparison | None, *, force: bool
) -> bool:
    """Make a version the champion, unless it is worse; the decision becomes tags of the version.

    Args:
        client: of the registry.
        name: of the model.
        version: to be promoted.
        comparison: of it with the champion; None where there is no champion.
        force: promote it, whatever the comparison says.

    Returns:
        Whether it is the champion now.
    """
    names, aliases = registry_names().aliases, aliases_of(client, name)
    champion = aliases.get(names.champion)
    acceptable = comparison is None or comparison.acceptable
    decision = "promoted" if acceptable else "forced" if force else "refused"
    _decided(client, name, version, decision, against=champion, comparison=comparison)
    if decision == "refused":
        return False
    if champion is not None:  # first: killed after this, the champion is what it was
        client.set_registered_model_alias(name, names.previous, champion)
    client.set_registered_model_alias(name, names.champion, version)
    if aliases.get(names.challenger) == version:
        client.delete_registered_model_alias(name, names.challenger)
    return True


def rollback(client: MlflowClient, name: str) -> tuple[str, str]:
    """The previous champion becomes the champion again, and the champion the previous one.

    Returns:
        The version that is the champion now, and the one that was.

    Raises:
        InputError: there is none to go back to.
    """
    names, aliases = registry_names().aliases, aliases_of(client, name)
    champion, previous = aliases.get(names.champion), aliases.get(names.previous)
    if champion is None or previous is None or champion == previous:
        raise InputError(
            f"'{name}' has no previous champion to go back to. Promote a version instead."
        )
    client.set_registered_model_alias(name, names.champion, previous)
    client.set_registered_model_alias(name, names.previous, champion)
    _decided(client, name, previous, "restored", against=champion, comparison=None)
    _decided(client, name, champion, "rolled back", against=previous, comparison=None)
    return previous, champion


class _Patience:
    """Repeats a step that failed until the server takes it. Each step looks first whether it was done already."""

    def __init__(self, what: str) -> None:
        self._what, self._end = what, time.monotonic() + PATIENCE_S

    def __call__(self, step: Callable[[], Answer]) -> Answer:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return step()
            except AffectuneError:
                raise
            except Exception as error:  # whatever MLflow or the network thinks of
                if (
                    getattr(error, "error_code", "") in HOPELESS
                    or time.monotonic() + wait_s > self._end
                ):
                    raise AffectuneError(
                        f"{self._what}: {cause_of(error)}. Nothing is lost: the same command with --resume tries again."
                    ) from error
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            name, description="Found by affectune; see each version's card."
        )
    except MlflowException as error:
        if error.error_code != ALREADY_EXISTS:
            raise


def _study_run(client: MlflowClient, uri: str, history: History) -> Run:
    """The run of the study; made here only where tracking did not get that far."""
    opened = history.opened
    assert opened is not None
    experiment, identity = experiment_id(client, uri, opened.study["name"]), study_id(opened)
    found = find_runs(client, experiment, identity).get(STUDY)
    if found:
        return found[0]
    tags = {STUDY_TAG: identity, RUN_TAG: f"{identity}/{STUDY}"}
    return client.create_run(
        experiment, start_time=round(opened.at * 1000), tags=tags, run_name=STUDY
    )


def _find(client: MlflowClient, name: str, identity: str) -> str | None:
    """The version of this bundle; of several, which a lost answer can leave behind, the first is kept."""
    found = client.search_model_versions(
        f"name = '{_quotable(name)}' and tag.`{IDENTITY}` = '{identity}'"
    )
    numbers = sorted(int(version.version) for version in found)
    for number in numbers[1:]:
        client.delete_model_version(name, str(number))
    return str(numbers[0]) if numbers else None


def _ensure_version(
    client: MlflowClient,
    name: str,
    identity: str,
    source: str,
    run_id: str,
    tags: dict[str, str],
    card: str,
) -> str:
    if _find(client, name, identity) is None:
        client.create_model_version(
            name, source, run_id, tags=tags, description=card, await_creation_for=0
        )
    version = _find(client, name, identity)
    assert version is not None
    return version


def _place(client: MlflowClient, name: str, version: str, promote_first: bool) -> None:
    """Give a new version its alias, once: what was decided since stays."""
    if PLACED in client.get_model_version(name, version).tags:
        return
    names = registry_names().aliases
    alias, champion = names.challenger, aliases_of(client, name).get(names.champion)
    if champion == version:  # an earlier attempt came so far
        alias = names.champion
    elif promote_first and champion is None:
        # Of several that are registered at once, all would find no champion: the first of them is it.
        asking = [
            int(other.version)
            for other in versions_of(client, name)
            if other.tags.get(FIRST) == "true"
        ]
        if int(version) == min(asking):
            alias = names.champion
    client.set_registered_model_alias(name, alias, version)
    client.set_model_version_tag(name, version, PLACED, alias)


def _decided(
    client: MlflowClient,
    name: str,
    version: str,
    decision: str,
    *,
    against: str | None,
    comparison: Comparison | None,
) -> None:
    tags = {"decision": decision, "decision.at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    if against is not None:
        tags["decision.against"] = against
    if comparison is not None:
        tags["decision.difference"] = json.dumps(comparison.to_json())
    for key, value in tags.items():
        client.set_model_version_tag(name, version, f"affectune.{key}", value)


def _card(files: Mapping[str, bytes]) -> str:
    card = files.get(CARD, b"").decode()
    if len(card) <= MAX_DESCRIPTION:
        return card
    rest = f"\n\n... The whole card is {CARD} in the bundle."
    return card[: MAX_DESCRIPTION - len(rest)] + rest


def _tags(
    files: Mapping[str, bytes], history: History, identity: str, promote_first: bool
) -> dict[str, str]:
    """Where a version comes from: the study, its data, its runs and stages, and how good it was on devel."""
    opened = history.opened
    assert opened is not None
    tags = {
        IDENTITY: identity,
        FIRST: str(promote_first).lower(),
        STUDY_TAG: study_id(opened),
        "affectune.study_name": str(opened.study["name"]),
        "affectune.study_digest": opened.digest,
        "affectune.corpus": str(opened.corpus.get("path", "")),
        "affectune.corpus_digest": str(opened.corpus.get("digest", "")),
        "affectune.trials": str(len(history.trials)),
        "affectune.git_commit": opened.git_commit or "",
    }
    for target, found in _summary(files, history).get("targets", {}).items():
        score = [found.get(key) for key in ("ccc", "ccc_low", "ccc_high")]
        tags[f"ccc.{target}"] = " ".join(
            "undefined" if value is None else f"{value:.4f}" for value in score
        )
    return {key: value for key, value in (tags | _stage_tags(files, history)).items() if value}


def _summary(files: Mapping[str, bytes], history: History) -> Mapping[str, Any]:
    if history.finished is not None:
        return history.finished.summary
    found: Mapping[str, Any] = json.loads(files.get("summary.json", b"{}"))
    return found


def _stage_tags(files: Mapping[str, bytes], history: History) -> dict[str, str]:
    """By task, which trials trained the stages of the bundle: "<trial> <start of the stage's key>, ..."."""
    trials = {trial.proposed.key: trial for trial in reversed(history.trials.values())}
    stages: dict[str, list[str]] = {}
    for key in sorted({stage["key"] for stage in json.loads(files[MODEL])["stages"].values()}):
        trial = trials.get(key)
        place, name = (trial.proposed.task, trial.name) if trial else ("others", "-")
        stages.setdefault(place, []).append(f"{name} {key[:16]}")
    return {f"stages.{task}": ", ".join(sorted(names))[:5000] for task, names in stages.items()}


def _quotable(name: str) -> str:
    """A name for a filter of MLflow, which has no way to write a quote.

    Raises:
        InputError: it holds one.
    """
    if "'" in name:
        raise InputError(f'The registry has no model "{name}": names hold no quotes.')
    return name
