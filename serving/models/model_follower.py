"""The model that predicts now, and how it is replaced: a version that fails never replaces it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

from pipeline.errors import AffectuneError, InputError
from serving.models.bundle_cache import Bundle
from serving.models.model_registry import RegistryUnavailable
from serving.models.model_source import ModelSource
from serving.models.predictor import Predictor
from serving.models.smoke_test import predict_once
from serving.monitoring.metrics import Metrics
from serving.settings import Settings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 600.0
"""After a check that was cut off; each pause is twice the one before."""
SECOND_LOOK_S = 300.0
"""How often a version that was refused is fetched again: it may hold another bundle by then."""

_LEADING_FOLDERS = re.compile(r"(?<=')/(?:[^'/]+/)+")
"""Of a path in quotes: where things lie on this machine is not for everybody to read."""

log = logging.getLogger(__name__)


class ModelFollower:
    """Keeps a predictor up to date with a model source.

    Args:
        source: knows the newest version.
        settings: how often it is looked up, and the predictor's limits.
        metrics: where versions and failures are counted.
        now: a clock, seconds.
    """

    def __init__(
        self,
        source: ModelSource,
        settings: Settings,
        metrics: Metrics | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._now = now

        self._pool = ThreadPoolExecutor(settings.prediction_threads, "network")
        self._current: Predictor | None = None
        self._attempts: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
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
        except RegistryUnavailable as error:
            self._advice = error.advice
            self._record_failure(str(error))
            self._load_last_verified()
            return
        if self._is_due(version):
            self._load_version(version)

    def _is_due(self, version: str) -> bool:
        """Return whether a version is another one, and is not to be left alone for now."""
        is_current = self._current is not None and self._current.version == version
        return not is_current and self._now() >= self._not_before.get(version, 0.0)

    def _load_version(self, version: str) -> None:
        """Load a version.

        One that is broken is looked at again much later: it may hold something else by then. A
        check that was cut off says nothing of the version: it is repeated after a pause.
        """
        try:
            self._load(self._source.fetch(version))
        except InputError as error:
            self._attempts.pop(version, None)
            self._not_before[version] = self._now() + SECOND_LOOK_S
            self._advice = f"Version {version} was refused: {_LEADING_FOLDERS.sub('', str(error))}"
            self._load_last_verified()
            raise
        except Exception as error:  # memory, disk, processes: whatever the surroundings lack
            self._postpone(version, error)
            self._load_last_verified()

    def _postpone(self, version: str, error: Exception) -> None:
        """Try a version again after a pause, which grows with each attempt."""
        attempt = self._attempts[version] = self._attempts.get(version, 0) + 1
        pause_s = min(FIRST_PAUSE_S * 2 ** min(attempt - 1, 20), LONGEST_PAUSE_S)
        self._not_before[version] = self._now() + pause_s

        is_told = isinstance(error, AffectuneError)
        cause = str(error) if is_told else f"{type(error).__name__}: {error}"
        self._advice = f"Version {version} could not be checked yet, and is tried again."
        if isinstance(error, RegistryUnavailable):
            self._advice = error.advice or self._advice
        self._record_failure(
            f"{cause} This says nothing of version {version}: attempt {attempt + 1} follows in "
            f"{pause_s:g} s."
        )

    def _load_last_verified(self) -> None:
        """Load what is kept on this machine, where nothing is loaded yet."""
        if self._current is None and (bundle := self._source.last_verified()) is not None:
            self._load(bundle)

    def _load(self, bundle: Bundle) -> None:
        """Make a bundle the model that predicts."""
        predictor = Predictor.load(
            bundle.folder, bundle.name, bundle.version, self._settings, self._pool
        )
        # A first prediction builds what later ones use, and takes seconds.
        predict_once(predictor.model)

        previous, self._current = self._current, predictor
        self._last_failure = ""
        self._attempts.pop(bundle.version, None)
        version = {"version": bundle.version}
        log.info("Serving %s version %s.", bundle.name, bundle.version, extra=version)

        if previous is not None:
            self._metrics.model.labels(previous.name, previous.version).set(0)
        self._metrics.model.labels(bundle.name, bundle.version).set(1)

    def _record_failure(self, message: str) -> None:
        """Count a failure, and log it once, however often it is the same."""
        self._metrics.follow_failures.inc()
        if message != self._last_failure:
            is_loaded = self._current is not None
            outcome = (
                "What was loaded last goes on answering." if is_loaded else "No model answers."
            )
            log.warning("%s %s", message, outcome)
            self._last_failure = message

    def _follow(self) -> None:
        while not self._stop.wait(self._settings.follow_period_s):
            self.refresh()
