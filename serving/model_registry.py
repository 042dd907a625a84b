"""MLflow's registry, read only: which version an alias points to, and the files of a version.

The one module of serving that knows mlflow. It knows no bundle.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cluster_address import shown
from pipeline.environment import (
    forbid_mlflow_retries,
    resolve_tracking_uri,
    set_mlflow_defaults,
)
from pipeline.errors import AffectuneError
from pipeline.shell_command import how_to_promote

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from serving.settings import Settings

SQLITE = "sqlite:///"
CHAMPION = "champion"
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's error codes where there is no such model, version or alias."""
MAX_CAUSE_CHARACTERS = 300
BUNDLE_TAG, BUNDLE_HASH = "affectune.bundle", re.compile("(?<=/)[0-9a-f]{64}$")
"""Tag of a version that ends with the sha256 of its bundle's manifest."""


class RegistryUnavailable(AffectuneError):
    """The registry does not answer, or has no such version: not the fault of a version.

    Attributes:
        advice: how to get a model, as anybody may read it; "" where it cannot be said.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class ModelRegistry:
    """A registry, and what is registered there.

    Args:
        tracking_uri: where it is.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri

    def version_of_alias(self, name: str, alias: str) -> str:
        """Return the version that an alias points to.

        Raises:
            RegistryUnavailable: the registry does not answer, or has no such alias.
        """
        model = f"models:/{name}@{alias}"
        with _unavailable(f"The registry '{shown(self.tracking_uri)}' gives no {model}"):
            client = self._client()
            from mlflow.exceptions import MlflowException

            try:
                return str(client.get_model_version_by_alias(name, alias).version)
            except MlflowException as error:
                if error.error_code not in MISSING:
                    raise
                public, private = (
                    _advice(client, name, alias, uri) for uri in (None, self.tracking_uri)
                )
                raise RegistryUnavailable(
                    f"There is no {model} in the registry '{shown(self.tracking_uri)}'. {private}",
                    advice=public,
                ) from None

    def created_ms(self, name: str, version: str) -> int:
        """Return when a version was registered, in milliseconds since 1970.

        Raises:
            RegistryUnavailable: the registry does not answer, or has no such version.
        """
        with _unavailable(f"The registry gives no version {version} of {name!r}"):
            return int(self._client().get_model_version(name, version).creation_timestamp)

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
        """Copy all files of a version into a folder.

        Raises:
            RegistryUnavailable: the registry does not answer, or has no such version.
        """
        with _unavailable(f"Version {version} of {name!r} cannot be downloaded"):
            uri = self._client().get_model_version_download_uri(name, version)
            import mlflow.artifacts

            mlflow.artifacts.download_artifacts(
                uri, dst_path=str(folder), tracking_uri=self.tracking_uri
            )

    def _client(self) -> MlflowClient:
        file = self.tracking_uri.removeprefix(SQLITE)
        if file != self.tracking_uri and not Path(file).is_file():
            raise RegistryUnavailable(
                f"There is no registry '{self.tracking_uri}' yet. Set MLFLOW_TRACKING_URI, if "
                "it is elsewhere. "
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


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, cut; else the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0][:MAX_CAUSE_CHARACTERS] if lines else type(error).__name__


@contextlib.contextmanager
def _unavailable(message: str) -> Iterator[None]:
    """Turn whatever the library or the network raises into RegistryUnavailable."""
    try:
        yield
    except RegistryUnavailable:
        raise
    except Exception as error:
        raise RegistryUnavailable(f"{message}: {first_line(error)}") from None
