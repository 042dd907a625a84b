"""MLflow's registry, read only: which version an alias points to, and the files of a version.

The one module of serving that knows mlflow. It knows no bundle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.environment import resolve_tracking_uri, set_mlflow_defaults
from pipeline.errors import AffectuneError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from serving.settings import Settings

SQLITE = "sqlite:///"
MAX_CAUSE_CHARACTERS = 300


class RegistryUnavailable(AffectuneError):
    """The registry does not answer, or has no such version: not the fault of a version."""


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
        with _unavailable(f"The registry '{self.tracking_uri}' gives no models:/{name}@{alias}"):
            return str(self._client().get_model_version_by_alias(name, alias).version)

    def created_ms(self, name: str, version: str) -> int:
        """Return when a version was registered, in milliseconds since 1970.

        Raises:
            RegistryUnavailable: the registry does not answer, or has no such version.
        """
        with _unavailable(f"The registry gives no version {version} of {name!r}"):
            return int(self._client().get_model_version(name, version).creation_timestamp)

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
                f"There is no registry '{self.tracking_uri}' yet. "
                "Set --tracking-uri or MLFLOW_TRACKING_URI."
            )

        set_mlflow_defaults()
        from mlflow.tracking import MlflowClient  # here, because importing it takes seconds

        return MlflowClient(self.tracking_uri, self.tracking_uri)


def registry_uri(settings: Settings) -> str:
    """Return where the registry is: by the settings, else the environment, else the default."""
    return resolve_tracking_uri(settings.tracking_uri)


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
