"""Reads the registry: its names, a model's versions and aliases, and the bundle of a version."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import AffectuneError, InputError
from pipeline.names import mistake_in_version, shorten
from pipeline.shell_command import how_to_promote
from pipeline.spec import read_toml
from tuning.mlflow_backend.client import connect, search_all

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

NAMES_FILE = "registry.toml"
PAGE_SIZE = 200


class Aliases(BaseModel):
    """What the aliases are called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    champion: str
    challenger: str
    previous: str


class RegistryNames(BaseModel):
    """The names in registry.toml, which studies write and the endpoint reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    bundle: str
    aliases: Aliases


@cache
def registry_names() -> RegistryNames:
    """Read registry.toml, which is installed beside this module.

    Raises:
        InputError: the file is not there, or damaged.
    """
    path = Path(str(resources.files(__package__) / NAMES_FILE))
    try:
        return RegistryNames.model_validate(read_toml(path, "registry's names"))
    except ValidationError as error:
        raise InputError(f"'{path}' does not fit: install Affectune anew.") from error


def model_names(client: MlflowClient) -> list[str]:
    """Return the names of all registered models."""
    models = search_all(lambda token: client.search_registered_models(page_token=token))
    return [model.name for model in models]


def versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Return all versions of a model, the first one first.

    Raises:
        InputError: there is no such model, or it has no version.
    """
    versions = search_versions(client, name)
    if not versions:
        raise InputError(
            f"The registry has no model '{name}' with a version. See `affectune registry list`."
        )
    return versions


def search_versions(client: MlflowClient, name: str, condition: str = "") -> list[ModelVersion]:
    """Return the versions of a model that meet a condition, the first one first.

    Args:
        client: of the registry.
        name: of the model.
        condition: in MLflow's filter language; "" for all versions.

    Raises:
        InputError: the name holds a quote, which MLflow's filter language cannot write.
        AffectuneError: the registry answers with what is no version.
    """
    if "'" in name:
        raise InputError(f'The registry has no model "{name}": names hold no quotes.')

    model_condition = f"name = '{name}'"
    filter_string = f"{model_condition} and {condition}" if condition else model_condition
    versions = search_all(
        lambda token: client.search_model_versions(
            filter_string, max_results=PAGE_SIZE, page_token=token
        )
    )
    found = [_checked(version) for version in versions]
    return sorted(found, key=lambda version: int(version.version))


def find_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """Return a version by its number or by an alias.

    Raises:
        InputError: there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        if version.isdigit():
            return _checked(client.get_model_version(name, version))
        return _checked(client.get_model_version_by_alias(name, version))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        numbers = [str(other.version) for other in versions_of(client, name)]
        kind = "version" if version.isdigit() else "alias"
        raise InputError(
            f"The {kind} '{version}' of '{name}' was not found. There is version "
            f"{', '.join(numbers)}."
        ) from error


def _checked(version: ModelVersion) -> ModelVersion:
    """Return a version whose number is one, as MLflow counts them.

    Raises:
        AffectuneError: it is none, so what answers is no registry of MLflow's.
    """
    if mistake := mistake_in_version(str(version.version)):
        raise AffectuneError(
            f"The registry answers with the version {shorten(str(version.version))!a}, which "
            f"{mistake}."
        )
    return version


def aliases_of(client: MlflowClient, name: str) -> dict[str, str]:
    """Return the number of the version of every alias of a model."""
    aliases = client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in aliases.items()}


def is_the_champion(uri: str, name: str, version: str) -> bool:
    """Return whether a version is the champion; a registry that does not answer says no."""
    try:
        aliases = aliases_of(connect(uri), name)
    except Exception:  # MLflow and the network raise errors of many kinds
        return False
    return aliases.get(registry_names().aliases.champion) == version


def advice_without_champion(client: MlflowClient, uri: str, name: str) -> str:
    """Return how to get a champion of a model, in a registry where it has none."""
    names = model_names(client)
    versions = search_versions(client, name) if name in names else []
    return how_to_promote(name, [str(version.version) for version in versions], names, uri)
