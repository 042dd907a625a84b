"""Writes the two Grafana dashboards from the tables below: `python infra/monitoring/dashboards.py`.

A panel is a title, a unit, what it shows and how each line is called. Grafana's JSON has a hundred
lines for each of them, which nobody would review.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent / "grafana" / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
"""As in grafana/provisioning/datasources."""
SCHEMA_VERSION = 39
"""Of Grafana 11; later ones migrate it by themselves."""
COLUMNS = 24
STAT_WIDTH, STAT_HEIGHT = 4, 4
GRAPH_WIDTH, GRAPH_HEIGHT = 8, 8

STUDY, ENDPOINT = '{study=~"$study"}', '{instance=~"$instance"}'


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        unit: Grafana's name of the unit.
        queries: (PromQL, how its lines are called) each.
        kind: the latest value, or its course.
        about: what to know about it.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: Literal["stat", "timeseries"] = "timeseries"
    about: str = ""


def _stat(title: str, unit: str, query: str, about: str = "") -> Panel:
    return Panel(title, unit, ((query, ""),), "stat", about)


def _graph(title: str, unit: str, *queries: tuple[str, str], about: str = "") -> Panel:
    return Panel(title, unit, queries, about=about)


def _study(metric: str) -> str:
    return f"affectune_study_{metric}{STUDY}"


def _ended(by: str, matcher: str = "") -> str:
    selector = f'affectune_study_fits_ended_total{{study=~"$study"{matcher}}}'
    return f"sum by ({by}) (rate({selector}[5m])) * 60"


def _ended_in_all(reason: str) -> str:
    return f'sum(affectune_study_fits_ended_total{{study=~"$study",reason="{reason}"}})'


def _endpoint(metric: str, matcher: str = "") -> str:
    return f'affectune_{metric}{{instance=~"$instance"{matcher}}}'


def _share_of_sessions(metric: str) -> str:
    sessions = f"scalar(sum(rate({_endpoint('frames_count')}[1h])))"
    return f"sum by (modality) (rate({_endpoint(metric)}[1h])) / {sessions}"


def _saved_share() -> str:
    saved, trained = f"sum({_study('epochs_saved_total')})", f"sum({_study('epochs_total')})"
    return f"{saved} / clamp_min({saved} + {trained}, 1)"


def _best_fusion() -> str:
    return "max(" + _best('task=~"fusion/.*",kind="devel"') + ")"


def _best(matchers: str) -> str:
    return f'affectune_study_best_score{{study=~"$study",{matchers}}}'


def _latency(share: float) -> tuple[str, str]:
    buckets = _endpoint("request_seconds_bucket", ',route="/v1/predictions"')
    query = f"histogram_quantile({share}, sum by (le) (rate({buckets}[5m])))"
    return query, f"p{share * 100:.0f}"


STUDY_PANELS = (
    _stat("Fits ended", "short", 'sum(affectune_study_fits_ended_total{study=~"$study"})'),
    _stat(
        "Fits planned",
        "short",
        f"sum({_study('fits_planned')})",
        "As known now; the plan grows and shrinks.",
    ),
    _stat("Stopped early", "short", _ended_in_all("asha")),
    _stat("Failed", "short", _ended_in_all("error")),
    _stat(
        "From the store", "short", _ended_in_all("store"), "Fits that need not be trained again."
    ),
    _stat("Since the last event", "s", f"time() - max({_study('last_event_timestamp_seconds')})"),
    _stat("Expected to take", "s", f"max({_study('left_seconds')})"),
    _stat("Budget left", "s", f"min({_study('budget_left_seconds')})", "Of --time-budget."),
    _stat("Fits per minute", "short", 'sum(study:fits_per_minute{study=~"$study"})'),
    _stat("Busy share of workers", "percentunit", 'avg(study:busy_share{study=~"$study"})'),
    _stat(
        "Best fusion",
        "short",
        _best_fusion(),
        "CCC on devel.",
    ),
    _stat(
        "Epochs saved",
        "percentunit",
        _saved_share(),
        "By early stopping, at most.",
    ),
    _graph("Fits per minute, by stage", "short", (_ended("stage"), "{{stage}}")),
    _graph("Fits per minute, by how they ended", "short", (_ended("reason"), "{{reason}}")),
    _graph(
        "Workers",
        "short",
        (f"sum({_study('fits_running')})", "fits asked for"),
        (f"sum({_study('workers')})", "workers"),
        about="One fit more than there are workers is asked for, so that none waits.",
    ),
    _graph(
        "Busy share of workers",
        "percentunit",
        ('study:busy_share{study=~"$study"}', "{{study}}"),
        about="Workers report at least after every epoch: longer ones make it uneven.",
    ),
    _graph(
        "Best devel score, by task",
        "short",
        (_best('kind="devel"'), "{{task}}"),
        about="CCC; of an auto-encoder minus its reconstruction error.",
    ),
    _graph(
        "Best deciding score, by task",
        "short",
        (_best('kind="deciding"'), "{{task}}"),
        about="By which finalists are ranked.",
    ),
    _graph("Tasks, by phase", "short", (f"sum by (phase) ({_study('tasks')})", "{{phase}}")),
    _graph("Queue to MLflow", "short", (_study("mlflow_queue_events"), "{{study}}")),
    _graph(
        "Age of the oldest event in the queue",
        "s",
        (_study("mlflow_queue_age_seconds"), "{{study}}"),
    ),
    _graph(
        "Store: seconds per request, p95",
        "s",
        ("study:store_seconds:p95 >= 0", "{{operation}} {{instance}}"),
        about="As the driver waits for it.",
    ),
    _graph(
        "Store: requests",
        "reqps",
        (
            "sum by (operation, result) (rate(affectune_study_store_seconds_count[5m]))",
            "{{operation}} {{result}}",
        ),
    ),
    _graph(
        "Epochs per second",
        "short",
        (f"sum(rate({_study('epochs_total')}[5m]))", "trained"),
        (f"sum(rate({_study('epochs_saved_total')}[5m]))", "saved"),
    ),
)

ENDPOINT_PANELS = (
    _stat("Requests per second", "reqps", f"sum(endpoint:requests_per_second{ENDPOINT})"),
    _stat("p95 of a prediction", "s", f"max(endpoint:prediction_seconds:p95{ENDPOINT})"),
    _stat("Refused because busy", "percentunit", f"max(endpoint:refused_share{ENDPOINT})"),
    _stat("Replicas with a model", "short", f"sum({_endpoint('model_replicas')})"),
    _stat(
        "Versions",
        "short",
        f"count(count by (name, version) ({_endpoint('model_replicas')} > 0))",
        "More than one while a promotion reaches the replicas.",
    ),
    _stat("Waiting", "short", f"sum({_endpoint('queue')})", "Requests that wait or are predicted."),
    _graph(
        "Requests, by status",
        "reqps",
        (f"sum by (status) (rate({_endpoint('requests_total')}[5m]))", "{{status}}"),
    ),
    _graph("Seconds of a prediction", "s", _latency(0.5), _latency(0.95), _latency(0.99)),
    _graph(
        "Refusals, by reason",
        "reqps",
        (f"sum by (code) (rate({_endpoint('refusals_total')}[5m]))", "{{code}}"),
    ),
    _graph(
        "Replicas, by version",
        "short",
        (f"sum by (name, version) ({_endpoint('model_replicas')} > 0)", "{{name}} {{version}}"),
    ),
    _graph(
        "Difficulty, by modality",
        "short",
        ("endpoint:difficulty_percentile:mean1h", "{{modality}}"),
        about="Mean percentile of an hour's sessions among those of training, whose mean is 50.",
    ),
    _graph(
        "Share of difficult sessions, by modality",
        "percentunit",
        (
            _share_of_sessions("difficult_sessions_total"),
            "{{modality}}",
        ),
    ),
    _graph(
        "Share of sessions without a modality",
        "percentunit",
        (
            _share_of_sessions("missing_modalities_total"),
            "{{modality}}",
        ),
    ),
    _graph(
        "Frames per second", "short", (f"sum(rate({_endpoint('frames_sum')}[5m]))", "predicted")
    ),
    _graph(
        "Failures to follow the registry",
        "short",
        (
            f"sum by (instance) (increase({_endpoint('follow_failures_total')}[15m]))",
            "{{instance}}",
        ),
    ),
)


def dashboards() -> dict[str, dict[str, Any]]:
    """Return the file's name -> the dashboard, as Grafana reads it."""
    study = _variable("study", "label_values(affectune_study_finished, study)")
    instance = _variable("instance", 'label_values(up{job="affectune-endpoint"}, instance)')
    return {
        "study.json": _dashboard("affectune-study", "Affectune: study", STUDY_PANELS, study),
        "endpoint.json": _dashboard(
            "affectune-endpoint", "Affectune: endpoint", ENDPOINT_PANELS, instance
        ),
    }


def _dashboard(
    uid: str, title: str, panels: Sequence[Panel], variable: dict[str, Any]
) -> dict[str, Any]:
    return {
        "uid": uid,
        "title": title,
        "tags": ["affectune"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": _placed(panels),
    }


def _placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Return panels from left to right and from top to bottom, the stats above the graphs."""
    placed: list[dict[str, Any]] = []
    top = 0
    for kind, width, height in (
        ("stat", STAT_WIDTH, STAT_HEIGHT),
        ("timeseries", GRAPH_WIDTH, GRAPH_HEIGHT),
    ):
        group = [panel for panel in panels if panel.kind == kind]
        per_row = COLUMNS // width
        for index, panel in enumerate(group):
            row, column = divmod(index, per_row)
            place = {"x": column * width, "y": top + row * height, "w": width, "h": height}
            placed.append(_panel(panel, len(placed) + 1, place))
        top += -(-len(group) // per_row) * height
    return placed


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "expr": query,
            "legendFormat": legend or "__auto",
            "instant": panel.kind == "stat",
            "range": panel.kind != "stat",
        }
        for index, (query, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "noValue": "-"}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.kind == "stat" else {},
        "targets": targets,
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def main() -> None:
    """Write the files."""
    for name, dashboard in dashboards().items():
        (FOLDER / name).write_text(json.dumps(dashboard, indent=1) + "\n")


if __name__ == "__main__":
    main()
