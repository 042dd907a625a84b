"""A model's name to a verified bundle on this machine: from a folder, a store or the registry.

Nothing that comes from the registry or a store is executed. Of a version's files only the bundle is
read, its hashes are verified, and it has to pass a smoke test before it counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError, SurroundingsError
from pipeline.model.bundle_copy import copy_from
from pipeline.storage.atomic_folder import MANIFEST, MAX_MANIFEST_BYTES
from pipeline.storage.object_store import Objects
from pipeline.storage.open_objects import open_objects
from pipeline.storage.plain_file import read_plain_file
from pipeline.storage.store_address import folder_of
from serving.models.bundle_cache import Bundle, BundleCache, cache_folder
from serving.models.model_registry import ModelRegistry, RegistryUnavailable, registry_uri
from serving.models.smoke_test import run_smoke_test
from serving.settings import Settings

MODEL_URI = re.compile(r"models:/(?P<name>[^/]+)(@(?P<alias>[^/@]+)|/(?P<version>[1-9][0-9]*))")
VERSION_DIGITS = 12
"""Of the hash of a manifest, which is the version of a bundle that no registry numbers."""


class ModelSource(Protocol):
    """Where a served model comes from."""

    def newest(self) -> str:
        """Return the version to serve.

        Raises:
            InputError: there is no model.
            RegistryUnavailable: it cannot be known now.
        """
        ...

    def fetch(self, version: str) -> Bundle:
        """Return a version's bundle, verified.

        Raises:
            InputError: it is broken.
            RegistryUnavailable: it cannot be fetched now.
        """
        ...

    def last_verified(self) -> Bundle | None:
        """Return what was fetched last, verified; None where nothing is kept."""
        ...


@dataclass(frozen=True)
class RegisteredModel:
    """A model in the registry: the version that an alias points to, or one fixed version.

    Attributes:
        name: of the registered model.
        alias, version: one of them; the other is "".
    """

    name: str
    alias: str
    version: str

    @classmethod
    def parse(cls, uri: str) -> RegisteredModel:
        """Read models:/<name>@<alias> or models:/<name>/<version>.

        Raises:
            InputError: it is neither.
        """
        match = MODEL_URI.fullmatch(uri)
        if not match:
            raise InputError(
                f"'{uri}' is not a model. Write models:/<name>@<alias>, models:/<name>/<version>, "
                "a folder, or the URI of a bundle in an object store."
            )
        return cls(match["name"], match["alias"] or "", match["version"] or "")


class FolderSource:
    """A bundle folder. It has one version, its hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> str:
        """Return the version there is.

        Raises:
            InputError: it is not a bundle.
        """
        try:
            manifest = read_plain_file(self.folder / MANIFEST, MAX_MANIFEST_BYTES)
        except OSError as error:
            raise InputError(
                f"'{self.folder}' is not a bundle: {MANIFEST}: {error.strerror}. Give the folder "
                "that `affectune train --out` wrote, or models:/<name>@<alias>."
            ) from None
        return hashlib.sha256(manifest).hexdigest()[:VERSION_DIGITS]

    def fetch(self, version: str) -> Bundle:
        """Return the folder itself, verified.

        Raises:
            InputError: a file is missing or was changed.
        """
        from pipeline.model.bundle import read_bundle  # here, because importing torch takes seconds

        read_bundle(self.folder)
        return Bundle(self.folder, self.folder.resolve().name, version)

    def last_verified(self) -> Bundle | None:
        """Return None: the folder is the only copy."""
        return None


class StoreSource:
    """A bundle in an object store, below a URI. It has one version, its hash.

    Args:
        uri: of the bundle's folder, without credentials.
        objects: below it.
        cache: where what was fetched is kept.
        smoke_test: raises InputError for a bundle that does not predict.

    Raises:
        InputError: the URI holds credentials, or is none of an object store.
    """

    def __init__(
        self,
        uri: str,
        objects: Objects,
        cache: BundleCache,
        smoke_test: Callable[[Path], None],
    ) -> None:
        if masked_uri(uri) != uri:
            raise InputError(
                f"The model '{masked_uri(uri)}' has credentials in its URI. Leave them out, and "
                "put them into the environment, such as AWS_ACCESS_KEY_ID."
            )
        self._uri, self._objects = uri, objects
        self._cache, self._smoke_test = cache, smoke_test

    def newest(self) -> str:
        """Return the version there is.

        Raises:
            InputError: there is no bundle.
            RegistryUnavailable: the store does not answer.
        """
        try:
            manifest = self._objects.read(MANIFEST, max_bytes=MAX_MANIFEST_BYTES)
        except SurroundingsError as error:
            raise RegistryUnavailable(str(error)) from error
        if manifest is None:
            raise self._no_bundle()
        return hashlib.sha256(manifest).hexdigest()[:VERSION_DIGITS]

    def fetch(self, version: str) -> Bundle:
        """Return the bundle from the cache; else download, verify and test it first.

        Raises:
            RegistryUnavailable: it cannot be downloaded.
            InputError: it is broken.
        """
        # The cache names versions by numbers; the hash is in the second one.
        bundle = self._cache.get("1", int(version, 16), self._download)
        return Bundle(bundle.folder, bundle.name, version)

    def last_verified(self) -> Bundle | None:
        """Return what any process on this machine fetched last; None where it was changed."""
        bundle = self._cache.last_verified()
        if bundle is None:
            return None
        number = int(bundle.folder.name.rpartition("-")[2])
        return Bundle(bundle.folder, bundle.name, f"{number:0{VERSION_DIGITS}x}")

    def _download(self, folder: Path) -> Path:
        """Fill a folder with the bundle, verified and tested; return it."""
        from pipeline.model.bundle import read_bundle

        try:
            copy_from(self._objects, "", folder)
            read_bundle(folder)
            self._smoke_test(folder)
        except FileNotFoundError:
            raise self._no_bundle() from None
        except SurroundingsError as error:
            raise RegistryUnavailable(str(error)) from error
        except InputError as error:
            raise InputError(str(error).replace(f"'{folder}", f"'{self._uri}")) from error
        return folder

    def _no_bundle(self) -> InputError:
        return InputError(
            f"There is no bundle at '{self._uri}': it has no {MANIFEST}. `affectune study status "
            "STORE --study NAME` says where a study's model is."
        )


class RegistrySource:
    """A model in the registry; its verified versions are kept in a cache.

    Args:
        model: which one.
        registry: where its versions come from.
        cache: where they are kept.
        smoke_test: raises InputError for a bundle that does not predict.
    """

    def __init__(
        self,
        model: RegisteredModel,
        registry: ModelRegistry,
        cache: BundleCache,
        smoke_test: Callable[[Path], None],
    ) -> None:
        self._model = model
        self._registry = registry
        self._cache = cache
        self._smoke_test = smoke_test
        self._refused: dict[str, str] = {}
        """Hash of the bundle that was refused last -> why."""

    def newest(self) -> str:
        """Return the version that the alias points to, or the fixed one.

        Raises:
            RegistryUnavailable: the registry does not answer, or has no such alias.
        """
        if self._model.version:
            return self._model.version
        return self._registry.version_of_alias(self._model.name, self._model.alias)

    def fetch(self, version: str) -> Bundle:
        """Return a version's bundle from the cache; else download, verify and test it first.

        Raises:
            RegistryUnavailable: it cannot be downloaded.
            InputError: it is broken.
        """
        created_ms = self._registry.created_ms(self._model.name, version)
        return self._cache.get(version, created_ms, lambda folder: self._download(version, folder))

    def last_verified(self) -> Bundle | None:
        """Return what any process on this machine fetched last; None where it was changed."""
        return self._cache.last_verified()

    def _download(self, version: str, folder: Path) -> Path:
        """Fill a folder with a version's bundle, verified and tested; return it."""
        self._registry.download(self._model.name, version, folder)
        self._check(version, folder)
        return folder

    def _check(self, version: str, folder: Path) -> None:
        """Raise unless a bundle works; one that did not is not tried again."""
        from pipeline.model.bundle import read_bundle

        try:
            read_bundle(folder)
        except InputError as error:
            raise InputError(_naming(version, folder, error)) from error

        # Of verified files the manifest says what they hold.
        manifest = read_plain_file(folder / MANIFEST, MAX_MANIFEST_BYTES)
        digest = hashlib.sha256(manifest).hexdigest()
        registered = self._registry.bundle_hash(self._model.name, version)
        if registered not in ("", digest):
            raise InputError(
                f"Version {version} of {self._model.name!r} holds another bundle than the one that "
                "was registered. Put that one back, or register this one."
            )

        if digest not in self._refused:
            try:
                self._smoke_test(folder)
            except InputError as error:
                self._refused = {digest: _naming(version, folder, error)}
        if digest in self._refused:
            raise InputError(self._refused[digest])


def _naming(version: str, folder: Path, error: Exception) -> str:
    """Return a message with a version in place of its folder, which is gone at once."""
    return str(error).replace(f"'{folder}", f"'version {version}")


def find_source(
    settings: Settings, *, smoke_test: Callable[[Path, float], None] = run_smoke_test
) -> ModelSource:
    """Return the source that `settings.model` names.

    Args:
        settings: the model, where the registry is, the cache, and how long a smoke test may take.
        smoke_test: takes a bundle's folder and a time-out in seconds.

    Raises:
        InputError: it looks like a model in the registry or a store, and is none.
    """
    if "://" in settings.model:
        return _store_source(settings, smoke_test)
    if not settings.model.startswith("models:"):
        return FolderSource(Path(settings.model))

    model = RegisteredModel.parse(settings.model)
    uri = registry_uri(settings)
    # Without credentials: a new password is no other registry, and a hash of one could be guessed.
    key = hashlib.sha256(
        f"{masked_uri(uri)}\0{model.name}\0{model.alias or model.version}".encode()
    )
    cache = BundleCache(cache_folder(settings) / key.hexdigest()[:16], model.name)
    return RegistrySource(
        model,
        ModelRegistry(uri),
        cache,
        lambda folder: smoke_test(folder, settings.trial_timeout_s),
    )


def _store_source(settings: Settings, smoke_test: Callable[[Path, float], None]) -> ModelSource:
    if (bundle := folder_of(settings.model)) is not None:
        return FolderSource(bundle)

    uri = settings.model
    name = uri.partition("?")[0].rstrip("/").rpartition("/")[2]
    cache = BundleCache(
        cache_folder(settings) / hashlib.sha256(uri.encode()).hexdigest()[:16], name
    )
    objects = open_objects(uri)
    return StoreSource(
        uri, objects, cache, lambda folder: smoke_test(folder, settings.trial_timeout_s)
    )
