"""Registers the winner of a study as a version of a registered model: once, whatever fails."""

from __future__ import annotations

import hashlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from numpy.typing import ArrayLike

from pipeline.credentials.masking import masked_uri
from pipeline.errors import AffectuneError, InputError
from pipeline.storage.atomic_folder import MANIFEST, read_folder
from tuning.journal.history import History
from tuning.mlflow_backend.client import ALREADY_EXISTS, Connect, cause_of, connect
from tuning.mlflow_backend.registry.logged_model import (
    default_tracking,
    find_or_create_logged_model,
    finish_logged_model,
    link_version,
)
from tuning.mlflow_backend.registry.pyfunc_package import package
from tuning.mlflow_backend.registry.turn import turn
from tuning.mlflow_backend.registry.version_tags import (
    FIRST_ALIAS_TAG,
    IDENTITY_TAG,
    PROMOTE_FIRST_TAG,
    version_description,
    version_tags,
)
from tuning.mlflow_backend.registry.versions import (
    aliases_of,
    registry_names,
    search_versions,
    versions_of,
)
from tuning.mlflow_backend.tracking.run_notes import study_title
from tuning.mlflow_backend.tracking.run_updates import FORMAT, FORMAT_TAG, STUDY
from tuning.mlflow_backend.tracking.study_runs import (
    find_or_create_experiment,
    find_runs,
    identity_tags,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PATIENCE_S = 120.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
HOPELESS = (
    "INVALID_PARAMETER_VALUE",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_DOES_NOT_EXIST",
)
"""Error codes of requests that the server will never take."""

Result = TypeVar("Result")


@contextmanager
def registrable(uri: str, name: str) -> Iterator[None]:
    """Prove that a winner can be registered, before a study starts, by writing to its model.

    The registered model is made where it is not there, and removed again where what is done within
    refuses the study; without a version, nothing is served by it.

    Args:
        uri: of the registry.
        name: of the registered model.

    Raises:
        InputError: the registry does not take the name, or cannot be written.
    """
    is_made = False
    client = connect(uri)
    try:
        try:
            is_made = _ensure_model(client, name)
            client.set_registered_model_tag(name, "affectune", "study")
        except Exception as error:  # MLflow and the network raise errors of many kinds
            raise InputError(
                f"The registry '{masked_uri(uri)}' does not take the model '{name}', so a winner "
                f"could not be registered: {cause_of(error)}. Choose another registered_model, or "
                "another --tracking-uri."
            ) from error
        yield
    except AffectuneError:
        if is_made:
            _remove_if_empty(client, name)
        raise


def register(
    bundle: Path,
    history: History,
    uri: str,
    *,
    example: Mapping[str, ArrayLike],
    promote_first: bool = False,
    patience_s: float = PATIENCE_S,
    connect: Connect = connect,
) -> tuple[str, str]:
    """Register the winner as a version of the study's registered model.

    A new version becomes the challenger; with `promote_first`, it becomes the champion where the
    model has none. Registering the same bundle twice gives the same version.

    Args:
        bundle: of the winner.
        history: of its study.
        uri: of the tracking server.
        example: modality -> shape (frames, columns) of one devel session, for the input example.
        promote_first: whether it may become the champion.
        patience_s: how long requests that fail are repeated, seconds.
        connect: makes the client.

    Returns:
        Name of the registered model, and number of the version.

    Raises:
        InputError: the bundle is damaged, or the server has runs of the study in an earlier format.
        AffectuneError: MLflow cannot load the packaged model, or the registry did not take it.
    """
    assert history.opened is not None
    files = read_folder(bundle)
    bundle_hash = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    identity = f"{history.opened.digest}/{bundle_hash}"
    name = history.study.registered_model

    client = connect(uri)
    repeat = _Patience(f"Cannot register '{bundle}' in '{masked_uri(uri)}'", patience_s)
    repeat(partial(_ensure_model, client, name))
    version = repeat(partial(_find_version, client, name, identity))

    if version is None:
        run = repeat(partial(_find_or_create_study_run, client, uri, history))
        place = (run.info.experiment_id, run.info.run_id)
        model = repeat(partial(find_or_create_logged_model, client, *place, identity, history))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            package(bundle, example, folder)
            repeat(partial(finish_logged_model, client, model, folder, history))

        new_version = _NewVersion(
            name=name,
            identity=identity,
            model_id=model.model_id,
            run_id=run.info.run_id,
            tags=version_tags(files, history, identity, promote_first=promote_first),
            description=version_description(files),
        )
        with default_tracking(uri):
            version = repeat(partial(_ensure_version, client, new_version))
        repeat(partial(link_version, client, model, name, version))

    give_alias = partial(give_first_alias, client, name, version, uuid.uuid4().hex)
    repeat(partial(give_alias, promote_first=promote_first))
    return name, version


@dataclass(frozen=True)
class _NewVersion:
    """A version that is to be created; see `version_tags.IDENTITY_TAG` for its identity."""

    name: str
    identity: str
    model_id: str
    run_id: str
    tags: dict[str, str]
    description: str


class _Patience:
    """Repeats a step that fails, until the server takes it or the time is over.

    A step whose answer was lost is repeated, too, so each step looks first whether it was done.
    """

    def __init__(self, problem: str, patience_s: float) -> None:
        self._problem = problem
        self._deadline = time.monotonic() + patience_s

    def __call__(self, step: Callable[[], Result]) -> Result:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return step()
            except AffectuneError:
                raise
            except Exception as error:  # MLflow and the network raise errors of many kinds
                is_hopeless = getattr(error, "error_code", "") in HOPELESS
                if is_hopeless or time.monotonic() + wait_s > self._deadline:
                    raise AffectuneError(
                        f"{self._problem}: {cause_of(error)}. Nothing is lost: the same command "
                        "with --resume tries again."
                    ) from error

            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _ensure_model(client: MlflowClient, name: str) -> bool:
    """Make a registered model where it is not there; return whether it was made."""
    from mlflow.exceptions import MlflowException

    description = "Found by affectune; see each version's card."
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != ALREADY_EXISTS:
            raise
        return False
    return True


def _remove_if_empty(client: MlflowClient, name: str) -> None:
    """Remove a registered model, unless another study has registered a version meanwhile."""
    with suppress(Exception):  # what refused the study is said; the server may be away
        if not search_versions(client, name):
            client.delete_registered_model(name)


def _find_or_create_study_run(client: MlflowClient, uri: str, history: History) -> Run:
    """Return the study's run; it is created only where tracking did not get that far."""
    opened = history.opened
    assert opened is not None
    identity = opened.id
    experiment_id = find_or_create_experiment(client, uri, opened.study["name"])

    runs = find_runs(client, experiment_id, identity).get(STUDY)
    if runs:
        return runs[0]

    return client.create_run(
        experiment_id,
        start_time=round(opened.at * 1000),
        tags=identity_tags(identity, STUDY) | {FORMAT_TAG: FORMAT},
        run_name=study_title(opened),
    )


def _find_version(client: MlflowClient, name: str, identity: str) -> str | None:
    """Return the version of a bundle.

    Of several, which a lost answer can leave behind, the first is kept, and the others are deleted.
    """
    versions = search_versions(client, name, f"tag.`{IDENTITY_TAG}` = '{identity}'")
    for duplicate in versions[1:]:
        client.delete_model_version(name, str(duplicate.version))
    return str(versions[0].version) if versions else None


def _ensure_version(client: MlflowClient, new: _NewVersion) -> str:
    if _find_version(client, new.name, new.identity) is None:
        client.create_model_version(
            new.name,
            f"models:/{new.model_id}",
            new.run_id,
            tags=new.tags,
            description=new.description,
            await_creation_for=0,
            model_id=new.model_id,
        )

    # Another process may have created it, too: both then get the first.
    version = _find_version(client, new.name, new.identity)
    assert version is not None
    return version


def give_first_alias(
    client: MlflowClient, name: str, version: str, identity: str, *, promote_first: bool
) -> None:
    """Give a new version its alias; one that had its first alias keeps what was decided since.

    Args:
        client: of the registry.
        name: of the model.
        version: which is new.
        identity: for its turn.
        promote_first: whether it may become the champion.
    """
    if FIRST_ALIAS_TAG in client.get_model_version(name, version).tags:
        return

    names = registry_names().aliases
    with turn(client, name, identity) as own:
        champion = aliases_of(client, name).get(names.champion)
        is_first = promote_first and champion is None and _is_first_candidate(client, name, version)
        # It is the champion already where an earlier attempt came so far.
        alias = names.champion if champion == version or is_first else names.challenger

        own.raise_if_over()
        client.set_registered_model_alias(name, alias, version)
        client.set_model_version_tag(name, version, FIRST_ALIAS_TAG, alias)


def _is_first_candidate(client: MlflowClient, name: str, version: str) -> bool:
    """Whether a version is the first that is to be the champion where there is none.

    Several that are registered at the same time all find no champion; only the first becomes it.
    """
    candidates = [
        int(other.version)
        for other in versions_of(client, name)
        if other.tags.get(PROMOTE_FIRST_TAG) == "true"
    ]
    return int(version) == min(candidates)
