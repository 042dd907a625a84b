"""MLflow's registry, read only: which version an alias points to, and the files of a version.

It knows no bundle. What a registry answers becomes a path or a number here, after it was checked.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.credentials.known import remember
from pipeline.credentials.masking import masked, masked_uri
from pipeline.environment import (
    forbid_mlflow_retries,
    resolve_tracking_uri,
    set_mlflow_defaults,
)
from pipeline.errors import AffectuneError, InputError
from pipeline.names import mistake_in_version
from pipeline.shell_command import how_to_promote
from serving.models.bundle_download import download_bundle

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from serving.settings import Settings

SQLITE = "sqlite:///"
CHAMPION = "champion"
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's error codes where there is no such model, version or alias."""
MAX_CAUSE_CHARACTERS = 300
MAX_SHOWN = 60
MAX_TIME_MS = 253402300799999
"""The end of the year 9999."""
BUNDLE_TAG, BUNDLE_HASH = "affectune.bundle", re.compile("(?<=/)[0-9a-f]{64}$")
"""Tag of a version that ends with the sha256 of its bundle's manifest."""


class RegistryUnavailable(AffectuneError):
    """The registry does not answer, or has no such version: not the fault of a version.

    Attributes:
        advice: how to get a model, as anybody may read it; "" where it cannot be said.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = masked(advice)


class ModelRegistry:
    """A registry, and what is registered there.

    Args:
        tracking_uri: where it is.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri
        remember(tracking_uri)

    def version_of_alias(self, name: str, alias: str) -> str:
        """Return the version that an alias points to.

        Raises:
            RegistryUnavailable: the registry does not answer, or has no such alias.
        """
        model = f"models:/{name}@{alias}"
        with _unavailable(f"The registry '{masked_uri(self.tracking_uri)}' gives no {model}"):
            client = self._client()
            from mlflow.exceptions import MlflowException

            try:
                return _checked_version(client.get_model_version_by_alias(name, alias).version)
            except MlflowException as error:
                if error.error_code not in MISSING:
                    raise
                public, private = (
                    _advice(client, name, alias, uri) for uri in (None, self.tracking_uri)
                )
                raise RegistryUnavailable(
                    f"There is no {model} in the registry '{masked_uri(self.tracking_uri)}'. "
                    f"{private}",
                    advice=public,
                ) from None

    def created_ms(self, name: str, version: str) -> int:
        """Return when a version was registered, in milliseconds since 1970.

        Raises:
            RegistryUnavailable: the registry does not answer, or has no such version.
        """
        with _unavailable(f"The registry gives no version {version} of {name!r}"):
            found = self._client().get_model_version(name, version)
            if _checked_version(found.version) != version:
                raise ValueError(f"it answers with version {found.version}")
            return _checked_time(found.creation_timestamp)

    def bundle_hash(self, name: str, version: str) -> str:
        """Return the hash of the manifest that a study registered; "" where no study did.

        Raises:
            RegistryUnavailable: the registry does not answer, or has no such version.
        """
        with _unavailable(f"The registry gives no version {version} of {name!r}"):
            tags = self._client().get_model_version(name, version).tags
        match = BUNDLE_HASH.search(str(tags.get(BUNDLE_TAG, "")))
        return match[0] if match else ""

    def download(self, name: str, version: str, folder: Path) -> None:
        """Copy the files of a version's bundle into a folder; see `download_bundle`.

        Raises:
            InputError: the version holds no bundle, or one that no study writes.
            RegistryUnavailable: the registry does not answer, or has no such version; or the files
                cannot be read now.
        """
        with _unavailable(f"Version {version} of {name!r} cannot be downloaded"):
            uri = self._client().get_model_version_download_uri(name, version)
            try:
                download_bundle(uri, self.tracking_uri, folder)
            except InputError as error:
                raise InputError(
                    f"Version {version} of {name!r} holds no bundle: {error}."
                ) from None

    def _client(self) -> MlflowClient:
        file = self.tracking_uri.removeprefix(SQLITE)
        if file != self.tracking_uri and not Path(file).is_file():
            raise RegistryUnavailable(
                f"There is no registry '{masked_uri(self.tracking_uri)}' yet. Set "
                "MLFLOW_TRACKING_URI, if it is elsewhere. "
                f"{how_to_promote('', [], [], self.tracking_uri)}",
                advice=how_to_promote("", [], [], None),
            )

        set_mlflow_defaults()
        forbid_mlflow_retries()  # the follower asks again, and nobody is to wait for a dead server
        from mlflow.tracking import MlflowClient  # here, because importing it takes seconds

        return MlflowClient(self.tracking_uri, self.tracking_uri)


def registry_uri(settings: Settings) -> str:
    """Return where the registry is: by the settings, else the environment, else the default."""
    return resolve_tracking_uri(settings.tracking_uri)


def _advice(client: MlflowClient, name: str, alias: str, uri: str | None) -> str:
    """Return how to get an alias that a model has not."""
    names = [model.name for model in client.search_registered_models()]
    found = client.search_model_versions(f"name = '{name}'") if name in names else []
    versions = sorted((str(version.version) for version in found), key=int)
    if versions and alias != CHAMPION:
        return f"'{name}' has version {', '.join(versions)}: name one, as models:/{name}/<version>."
    return how_to_promote(name, versions, names, uri)


def _checked_version(version: object) -> str:
    """Return a version as the registry gave it, where it is one.

    Raises:
        ValueError: it is none; MLflow counts versions from 1.
    """
    text = str(version)
    if mistake := mistake_in_version(text):
        raise ValueError(f"it answers with the version {text[:MAX_SHOWN]!a}, which {mistake}")
    return text


def _checked_time(milliseconds: object) -> int:
    """Return a time as the registry gave it, in milliseconds since 1970.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(milliseconds, int) or not 0 <= milliseconds <= MAX_TIME_MS:
        text = ascii(milliseconds)[:MAX_SHOWN]
        raise ValueError(f"it answers with the time {text}, which is no time in milliseconds")
    return milliseconds


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, cut; else the name of its class."""
    lines = masked(str(error)).strip().splitlines()
    return lines[0][:MAX_CAUSE_CHARACTERS] if lines else type(error).__name__


@contextlib.contextmanager
def _unavailable(message: str) -> Iterator[None]:
    """Turn whatever the library or the network raises into RegistryUnavailable."""
    try:
        yield
    except AffectuneError:
        raise
    except Exception as error:
        raise RegistryUnavailable(f"{message}: {first_line(error)}") from None
