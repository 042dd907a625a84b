"""What Prometheus reads: requests, latency, frames, difficulty, the model's version, the queue.

Where `PROMETHEUS_MULTIPROC_DIR` names a folder, all replicas on a machine count into it, and any of them answers for
all: a scrape that meets one replica after the other would else see counters jump.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FRAME_BUCKETS = (10, 60, 120, 300, 600, 1200, 3600, 7200, 36000)
PERCENTILE_BUCKETS = (10, 25, 50, 75, 90, 95, 99)
FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The endpoint's counters, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        if os.environ.get(FOLDER):
            Path(os.environ[FOLDER]).mkdir(parents=True, exist_ok=True)
        self.requests = Counter(
            "affectune_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.latency = Histogram(
            "affectune_request_seconds",
            "From the request's head to the response's end.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.refusals = Counter(
            "affectune_refusals", "Requests refused, by error code.", ["code"], registry=registry
        )
        self.frames = Histogram(
            "affectune_frames", "Frames of a session.", buckets=FRAME_BUCKETS, registry=registry
        )
        self.difficulty = Histogram(
            "affectune_difficulty_percentile",
            "Mean difficulty of a session's frames, against training.",
            ["modality"],
            buckets=PERCENTILE_BUCKETS,
            registry=registry,
        )
        self.difficult = Counter(
            "affectune_difficult_sessions",
            "Sessions a modality of which stayed above the difficulty threshold.",
            ["modality"],
            registry=registry,
        )
        self.missing = Counter(
            "affectune_missing_modalities",
            "Sessions in which a modality was missing, at least in part.",
            ["modality"],
            registry=registry,
        )
        self.waiting = Gauge(
            "affectune_queue",
            "Requests that wait or are predicted.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.model = Gauge(
            "affectune_model_replicas",
            "Replicas that serve this version.",
            ["name", "version"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.follow_failures = Counter(
            "affectune_follow_failures", "Times the registry could not be asked or a version was refused.",
            registry=registry,
        )  # fmt: skip

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        registry = self._registry
        if os.environ.get(FOLDER):
            _forget_dead(Path(os.environ[FOLDER]))
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library gives no hints here
        return generate_latest(registry)


def _forget_dead(folder: Path) -> None:
    """A replica that is gone serves nothing and has no queue; what it counted stays."""
    for file in folder.glob("gauge_livesum_*.db"):
        try:
            os.kill(int(file.stem.rsplit("_", 1)[1]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except (PermissionError, ValueError):
            continue
