"""What Prometheus reads: requests, latency, frames, difficulty, the model's version, the queue.

Where a link is named in the environment, all processes of the endpoint on a machine count together,
and any of them returns the metrics of all: a scrape that meets one replica after the other would
else see counters jump.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from serving.monitoring.metrics_sum import LINK, MetricsLink, Samples

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FRAME_BUCKETS = (10, 60, 120, 300, 600, 1200, 3600, 7200, 36000)
PERCENTILE_BUCKETS = (10, 25, 50, 75, 90, 95, 99)


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

    def __init__(self, link: str | None = None) -> None:
        """Begin to count.

        Args:
            link: over which these metrics are added to those of other processes; None: they are
                not.
        """
        self._registry = CollectorRegistry()
        self._add_request_metrics()
        self._add_prediction_metrics()
        self._add_replica_metrics()

        self._link = None
        if link is not None:
            counts, states = (partial(self._samples, is_state=state) for state in (False, True))
            self._link = MetricsLink(link, counts, states)

    @classmethod
    def shared(cls) -> Self:
        """Return the metrics of a process that counts together with all others of its endpoint."""
        return cls(os.environ.get(LINK))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        if self._link is None:
            return generate_latest(self._registry)

        registry = CollectorRegistry()
        registry.register(_Total(self._registry, self._link.total()))
        return generate_latest(registry)

    def close(self) -> None:
        """Tell other processes no more."""
        if self._link is not None:
            self._link.close()

    def _samples(self, *, is_state: bool) -> Samples:
        """Return the samples of gauges, or those of all others."""
        return {
            json.dumps([family.name, sample.name, *sorted(sample.labels.items())]): sample.value
            for family in self._registry.collect()
            if (family.type == "gauge") is is_state
            for sample in family.samples
            if not sample.name.endswith("_created")  # the sum of times is none
        }

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
        gauge = partial(Gauge, registry=self._registry)
        self.waiting = gauge("affectune_queue", "Requests that wait or are predicted.")
        self.model = gauge(
            "affectune_model_replicas", "Replicas that serve this version.", ["name", "version"]
        )
        self.follow_failures = Counter(
            "affectune_follow_failures",
            "Times the registry could not be asked or a version was refused.",
            registry=self._registry,
        )


class _Total(Collector):
    """The families of a registry, with other samples.

    Args:
        registry: of one process; all have the same families.
        samples: as `Metrics` makes them.
    """

    def __init__(self, registry: CollectorRegistry, samples: Samples) -> None:
        self._registry, self._samples = registry, samples

    def collect(self) -> Iterator[Metric]:
        """Iterate over the families."""
        families = {
            family.name: Metric(family.name, family.documentation, family.type)
            for family in self._registry.collect()
        }
        for text, value in self._samples.items():
            name, sample, *labels = json.loads(text)
            if name in families:
                families[name].add_sample(sample, dict(labels), value)
        yield from families.values()
