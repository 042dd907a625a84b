"""A model's name to a verified local bundle: a folder, or a version in the registry, kept in a local cache.

The one module of serving that knows mlflow. Nothing that comes from the registry is executed: of a version's files only
the bundle is read, its hashes verified, and a process of its own has to load it and predict before it counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import AffectuneError, InputError
from pipeline.storage.atomic_folder import MANIFEST, MODEL, read_folder, write_folder
from serving.settings import Settings
from serving.smoke_test import pass_trial

log = logging.getLogger(__name__)

REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")
KEPT_VERSIONS = 3
DEFAULT_STORE = "sqlite:///mlflow.db"


class RegistryUnavailable(AffectuneError):
    """The registry does not answer, or has no such version: not the fault of a version."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on this machine."""

    folder: Path
    name: str
    version: str


class FolderSource:
    """A bundle folder: there is one version, its hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> str:
        """The version there is.

        Raises:
            InputError: it is not a bundle.
        """
        try:
            manifest = (self.folder / MANIFEST).read_bytes()
        except OSError as error:
            raise InputError(
                f"'{self.folder}' is not a bundle: {MANIFEST}: {error.strerror}. Give the folder that `affectune train "
                "--out` wrote, or models:/<name>@<alias>."
            ) from None
        return hashlib.sha256(manifest).hexdigest()[:12]

    def fetch(self, version: str) -> Bundle:
        """The folder itself, verified."""
        read_folder(self.folder)
        return Bundle(self.folder, self.folder.resolve().name, version)

    def last_verified(self) -> Bundle | None:
        """Nothing is kept: the folder is the only copy."""
        return None


class RegistrySource:
    """A version in the registry, by its number or by an alias that may move.

    Args:
        name, alias, version: which; either an alias or a version.
        settings: where the registry is, and the cache.
    """

    def __init__(
        self, name: str, alias: str | None, version: str | None, settings: Settings
    ) -> None:
        self.name, self.alias, self.version = name, alias, version
        self.tracking_uri = (
            settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
        )
        self.trial_timeout_s = settings.trial_timeout_s
        key = hashlib.sha256(
            f"{self.tracking_uri}\0{name}\0{alias or version}".encode()
        ).hexdigest()[:16]
        self.cache = cache_folder(settings) / key

    def newest(self) -> str:
        """The version the alias stands at.

        Raises:
            Away: the registry does not answer, or has no such alias.
        """
        if self.version is not None:
            return self.version
        try:
            found: str = self._client().get_model_version_by_alias(self.name, self.alias).version
        except RegistryUnavailable:
            raise
        except Exception as error:  # whatever the library or the network raises
            raise RegistryUnavailable(
                f"The registry '{self.tracking_uri}' gives no {self._shown()}: {_first_line(error)}"
            ) from None
        return str(found)

    def fetch(self, version: str) -> Bundle:
        """A version's bundle: from the cache, else downloaded, verified and tried, and then kept.

        Raises:
            Away: it could not be downloaded.
            InputError: it is broken.
        """
        folder = (
            self.cache / f"{version}-{self._made_at(version)}"
        )  # a registry made anew counts from 1 again
        with self._only_one():
            if not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                with tempfile.TemporaryDirectory(dir=self.cache, prefix=".download-") as temporary:
                    found = self._download(version, Path(temporary))
                    files = read_folder(found)
                    pass_trial(found, self.trial_timeout_s)
                    files.pop(MANIFEST, None)
                    write_folder(folder, files)
            self._remember(version, folder)
        return Bundle(folder, self.name, version)

    def last_verified(self) -> Bundle | None:
        """What was fetched last, by whatever process on this machine; None where there is nothing or it was changed."""
        try:
            current = json.loads((self.cache / "current.json").read_text(encoding="utf-8"))
            version, folder = str(current["version"]), self.cache / str(current["folder"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Bundle(folder, self.name, version) if _is_whole(folder) else None

    def _shown(self) -> str:
        return f"models:/{self.name}" + (f"@{self.alias}" if self.alias else f"/{self.version}")

    def _client(self) -> MlflowClient:  # type: ignore[name-defined]  # noqa: F821 - imported below, when needed
        store = self.tracking_uri.removeprefix("sqlite:///")
        if store != self.tracking_uri and not Path(store).is_file():
            raise RegistryUnavailable(
                f"There is no registry '{self.tracking_uri}' yet. Set --tracking-uri or MLFLOW_TRACKING_URI."
            )
        # The library's defaults try for minutes; whoever follows asks again anyway.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow.tracking import MlflowClient  # here, because importing it takes seconds

        return MlflowClient(self.tracking_uri, self.tracking_uri)

    def _download(self, version: str, folder: Path) -> Path:
        """All files of a version; returns the folder of the bundle among them."""
        try:
            uri = self._client().get_model_version_download_uri(self.name, version)
            import mlflow.artifacts

            mlflow.artifacts.download_artifacts(
                uri, dst_path=str(folder), tracking_uri=self.tracking_uri
            )
        except RegistryUnavailable:
            raise
        except Exception as error:  # whatever the library or the network raises
            raise RegistryUnavailable(
                f"Version {version} of {self.name!r} cannot be downloaded: {_first_line(error)}"
            ) from None
        found = sorted(
            path.parent for path in folder.rglob(MANIFEST) if (path.parent / MODEL).is_file()
        )
        if not found:
            raise InputError(f"Version {version} of {self.name!r} holds no bundle.")
        return found[0]

    def _made_at(self, version: str) -> int:
        """When a version was registered, in milliseconds since 1970."""
        try:
            return int(self._client().get_model_version(self.name, version).creation_timestamp)
        except RegistryUnavailable:
            raise
        except Exception as error:  # whatever the library or the network raises
            raise RegistryUnavailable(
                f"The registry gives no version {version} of {self.name!r}: {_first_line(error)}"
            ) from None

    def _remember(self, version: str, folder: Path) -> None:
        temporary = self.cache / f".current.{os.getpid()}.tmp"
        temporary.write_text(
            json.dumps({"version": version, "folder": folder.name}), encoding="utf-8"
        )
        os.replace(temporary, self.cache / "current.json")
        kept = sorted(
            (path for path in self.cache.iterdir() if path.name[0].isdigit() and path != folder),
            key=lambda path: path.stat().st_mtime,
        )
        for old in kept[: -(KEPT_VERSIONS - 1)]:
            shutil.rmtree(old, ignore_errors=True)

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """Replicas on one machine share the cache: one downloads and tries, the others then find it."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with open(self.cache / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise AffectuneError(
                f"The cache '{self.cache}' cannot be used: {error.strerror}. Set another."
            ) from error


Source = FolderSource | RegistrySource


def find_source(settings: Settings) -> Source:
    """What `settings.model` means.

    Raises:
        InputError: it looks like the registry's, and is not.
    """
    text = settings.model
    if not text.startswith("models:"):
        return FolderSource(Path(text))
    found = REGISTERED.fullmatch(text)
    if not found:
        raise InputError(
            f"'{text}' is not a model. Write models:/<name>@<alias>, models:/<name>/<version> or a folder."
        )
    return RegistrySource(found["name"], found["alias"], found["version"], settings)


def cache_folder(settings: Settings) -> Path:
    """Where verified bundles are kept."""
    if settings.cache is not None:
        return settings.cache
    named = os.environ.get("AFFECTUNE_CACHE")
    return (Path(named) if named else Path.home() / ".cache" / "affectune") / "served"


def _is_whole(folder: Path) -> bool:
    """Whether a bundle is there and no file of it was changed."""
    try:
        read_folder(folder)
    except InputError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
