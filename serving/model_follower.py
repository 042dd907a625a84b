"""The model that predicts now, and how it is replaced: a version that fails never replaces it."""

from __future__ import annotations

import logging
from threading import Event, Thread

from pipeline.errors import AffectuneError, InputError
from serving.bundle_cache import Bundle
from serving.metrics import Metrics
from serving.model_registry import RegistryUnavailable
from serving.model_source import ModelSource
from serving.predictor import Predictor
from serving.settings import Settings
from serving.smoke_test import predict_once

log = logging.getLogger(__name__)


class ModelFollower:
    """Keeps a predictor up to date with a model source.

    Args:
        source: knows the newest version.
        settings: how often it is looked up, and the predictor's limits.
        metrics: where versions and failures are counted.
    """

    def __init__(
        self, source: ModelSource, settings: Settings, metrics: Metrics | None = None
    ) -> None:
        self._source = source
        self._settings = settings
        self._metrics = metrics or Metrics()

        self._current: Predictor | None = None
        self._broken_versions: set[str] = set()
        self._last_failure = ""
        self._advice = ""
        self._stop = Event()

    def current(self) -> Predictor | None:
        """Return the model that predicts now."""
        return self._current

    def advice(self) -> str:
        """Return how to get a model where there is none, as anybody may read it."""
        return self._advice

    def start(self) -> None:
        """Load a model now, and follow its source in the background."""
        self.refresh()
        Thread(target=self._follow, name="following", daemon=True).start()

    def stop(self) -> None:
        """Follow no longer."""
        self._stop.set()

    def refresh(self) -> None:
        """Load the newest version where it is another one.

        Whatever fails is logged, and the model that was loaded before goes on predicting.
        """
        try:
            self._load_newest()
        except AffectuneError as error:
            self._record_failure(str(error))
        except Exception:
            log.exception("The newest version cannot be served.")

    def _load_newest(self) -> None:
        try:
            version = self._source.newest()
            if self._is_new(version):
                self._load_version(version)
        except RegistryUnavailable as error:
            self._advice = error.advice
            self._record_failure(str(error))
            self._load_last_verified()

    def _is_new(self, version: str) -> bool:
        is_current = self._current is not None and self._current.version == version
        return not is_current and version not in self._broken_versions

    def _load_version(self, version: str) -> None:
        """Load a version; one that is broken is never tried a second time."""
        try:
            self._load(self._source.fetch(version))
        except InputError:
            self._broken_versions.add(version)
            raise

    def _load_last_verified(self) -> None:
        """Load what is kept on this machine, where nothing is loaded yet."""
        if self._current is None and (bundle := self._source.last_verified()) is not None:
            self._load(bundle)

    def _load(self, bundle: Bundle) -> None:
        """Make a bundle the model that predicts."""
        predictor = Predictor.load(bundle.folder, bundle.name, bundle.version, self._settings)
        # A first prediction builds what later ones use, and takes seconds.
        predict_once(predictor.model)

        previous, self._current = self._current, predictor
        self._last_failure = ""
        version = {"version": bundle.version}
        log.info("Serving %s version %s.", bundle.name, bundle.version, extra=version)

        if previous is not None:
            self._metrics.model.labels(previous.name, previous.version).set(0)
        self._metrics.model.labels(bundle.name, bundle.version).set(1)

    def _record_failure(self, message: str) -> None:
        """Count a failure, and log it once, however often it is the same."""
        self._metrics.follow_failures.inc()
        if message != self._last_failure:
            log.warning("%s What was loaded last goes on answering.", message)
            self._last_failure = message

    def _follow(self) -> None:
        while not self._stop.wait(self._settings.follow_period_s):
            self.refresh()
