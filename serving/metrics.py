"""What Prometheus reads: requests, latency, frames, difficulty, the model's version, the queue.

Where `PROMETHEUS_MULTIPROC_DIR` names a folder, all replicas on a machine count into it, and any of
them returns the metrics of all: a scrape that meets one replica after the other would else see
counters jump.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FRAME_BUCKETS = (10, 60, 120, 300, 600, 1200, 3600, 7200, 36000)
PERCENTILE_BUCKETS = (10, 25, 50, 75, 90, 95, 99)
FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The endpoint's metrics, in a registry of their own.

    Attributes:
        requests: by route, method and status.
        latency: in seconds, by route.
        request_errors: by error code.
        waiting: requests that wait or are predicted.
        frames: of a predicted session.
        difficulty: mean percentile of a session, by modality.
        difficult, missing: sessions with such a modality, by modality.
        model: replicas that serve a version, by the model's name and version.
        follow_failures: refreshes of the model follower that failed.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        if os.environ.get(FOLDER):
            Path(os.environ[FOLDER]).mkdir(parents=True, exist_ok=True)

        self._add_request_metrics()
        self._add_prediction_metrics()
        self._add_replica_metrics()

    @classmethod
    def in_folder(cls, folder: str) -> Metrics:
        """Return metrics that count into a folder, for a process whose environment has none."""
        os.environ[FOLDER] = folder
        # The client library has looked at the environment when it was imported.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        return cls()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        folder = os.environ.get(FOLDER)
        if not folder:
            return generate_latest(self._registry)

        _remove_gauges_of_dead_processes(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # it has no type hints
        return generate_latest(registry)

    def _add_request_metrics(self) -> None:
        counter = partial(Counter, registry=self._registry)
        self.requests = counter(
            "affectune_requests", "Requests answered.", ["route", "method", "status"]
        )
        self.latency = Histogram(
            "affectune_request_seconds",
            "From the request's head to the response's end.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=self._registry,
        )
        self.request_errors = counter(
            "affectune_refusals", "Requests refused, by error code.", ["code"]
        )

    def _add_prediction_metrics(self) -> None:
        counter = partial(Counter, registry=self._registry)
        self.frames = Histogram(
            "affectune_frames",
            "Frames of a session.",
            buckets=FRAME_BUCKETS,
            registry=self._registry,
        )
        self.difficulty = Histogram(
            "affectune_difficulty_percentile",
            "Mean difficulty of a session's frames, against training.",
            ["modality"],
            buckets=PERCENTILE_BUCKETS,
            registry=self._registry,
        )
        self.difficult = counter(
            "affectune_difficult_sessions",
            "Sessions a modality of which stayed above the difficulty threshold.",
            ["modality"],
        )
        self.missing = counter(
            "affectune_missing_modalities",
            "Sessions in which a modality was missing, at least in part.",
            ["modality"],
        )

    def _add_replica_metrics(self) -> None:
        gauge = partial(Gauge, registry=self._registry, multiprocess_mode="livesum")
        self.waiting = gauge("affectune_queue", "Requests that wait or are predicted.")
        self.model = gauge(
            "affectune_model_replicas", "Replicas that serve this version.", ["name", "version"]
        )
        self.follow_failures = Counter(
            "affectune_follow_failures",
            "Times the registry could not be asked or a version was refused.",
            registry=self._registry,
        )


def _remove_gauges_of_dead_processes(folder: Path) -> None:
    """Forget what dead replicas serve and have in their queue; what they counted stays."""
    for file in folder.glob("gauge_livesum_*.db"):
        try:
            os.kill(int(file.stem.rsplit("_", 1)[1]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except (PermissionError, ValueError):
            continue
