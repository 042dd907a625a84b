"""The model that answers now, and how it is replaced: what cannot be loaded never replaces what works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from pipeline.errors import AffectuneError, InputError
from serving.metrics import Metrics
from serving.model_source import Bundle, RegistryUnavailable, Source
from serving.predictor import Predictor
from serving.settings import Settings
from serving.smoke_test import answer_once

log = logging.getLogger(__name__)


class ModelFollower:
    """Keeps a predictor up to date with a source.

    Args:
        source: asked for the newest version.
        settings: how often, and the predictor's limits.
        metrics: hears of versions and failures.
    """

    def __init__(self, source: Source, settings: Settings, metrics: Metrics | None = None) -> None:
        self._source = source
        self._settings = settings
        self._metrics = metrics
        self._current: Predictor | None = None
        self._refused: set[str] = set()
        self._stop = Event()
        self._said = ""

    def current(self) -> Predictor | None:
        """The model that answers now."""
        return self._current

    def start(self) -> None:
        """Load, and go on asking in the background."""
        self.refresh()
        Thread(target=self._follow, name="following", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def refresh(self) -> None:
        """Ask once. Whatever goes wrong is logged, and what answers goes on answering."""
        try:
            version = self._source.newest()
            if version in self._refused or (
                self._current is not None and version == self._current.version
            ):
                return
            self._load(lambda: self._source.fetch(version), version)
        except RegistryUnavailable as error:
            self._complain(str(error))
            if self._current is None:
                self._load(self._source.last_verified, None)
        except AffectuneError as error:
            self._complain(str(error))
        except Exception:
            log.exception("The newest version cannot be served.")

    def _load(self, fetch: Callable[[], Bundle | None], version: str | None) -> None:
        """Make a bundle the one that answers; one that is broken is not asked for again."""
        try:
            bundle = fetch()
            if bundle is None:
                return
            predictor = Predictor.load(bundle.folder, bundle.name, bundle.version, self._settings)
            answer_once(
                predictor.model
            )  # a first prediction builds what later ones use, and takes seconds
        except InputError:
            if version is not None:
                self._refused.add(version)
            raise
        before, self._current = self._current, predictor
        log.info(
            "Serving %s version %s.", bundle.name, bundle.version, extra={"version": bundle.version}
        )
        self._said = ""
        if self._metrics:
            if before is not None:
                self._metrics.model.labels(before.name, before.version).set(0)
            self._metrics.model.labels(bundle.name, bundle.version).set(1)

    def _complain(self, message: str) -> None:
        """Once, however often it is the same."""
        if self._metrics:
            self._metrics.follow_failures.inc()
        if message != self._said:
            log.warning("%s What was loaded last goes on answering.", message)
            self._said = message

    def _follow(self) -> None:
        while not self._stop.wait(self._settings.follow_period_s):
            self.refresh()
