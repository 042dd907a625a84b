"""A study while it runs, for who follows it: the live table, and the metrics for Prometheus."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console

from tuning.monitoring.live_table import Course, LiveTable
from tuning.monitoring.metrics import StudyMetrics
from tuning.monitoring.metrics_server import metrics_server
from tuning.study.next_steps import where_seen
from tuning.study.study import Study

LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def exported_metrics(host: str | None, port: int | None) -> Iterator[StudyMetrics | None]:
    """Let Prometheus read the metrics that are kept up to date in a block; None without a port.

    Args:
        host: an address of this machine; None: loopback.
        port: where it listens.

    Raises:
        InputError: it cannot listen there.
    """
    if port is None:
        yield None
        return
    metrics = StudyMetrics()
    with metrics_server(host or LOOPBACK, port, metrics.text):
        yield metrics


@contextlib.contextmanager
def followed(
    study: Study,
    name: str,
    console: Console,
    metrics: StudyMetrics | None,
    tracking_uri: str | None = None,
) -> Iterator[Callable[[], None]]:
    """Show a study while it runs, and keep its metrics up to date.

    Args:
        study: is open.
        name: by which its metrics call it.
        console: where it is shown.
        metrics: may be None.
        tracking_uri: of MLflow; None: it is not recorded.

    Yields:
        What is to be called some times a second.
    """
    if metrics is not None:
        metrics.begin(name)
        study.store_seconds = metrics.store_seconds

    def update_metrics(*, is_last: bool = False) -> None:
        if metrics is not None:
            budget_s = study.options.budget_s
            metrics.update(study.history, study.num_workers, budget_s, is_last=is_last)

    def course() -> Course:
        options = study.options
        where = where_seen(options.folder, tracking_uri) if tracking_uri else ""
        return Course(study.num_workers, options.budget_s, where)

    with LiveTable(console) as table:

        def update() -> None:
            table.update(study.history, course)
            update_metrics()

        study.on_event = lambda event: update()
        update_metrics()
        try:
            yield update
        finally:
            update_metrics(is_last=True)
