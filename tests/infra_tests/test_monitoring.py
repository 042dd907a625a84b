"""infra/monitoring: its files, and a real Prometheus on a live study and a live endpoint."""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from pipeline.data.synthetic.corpus import synthesize
from serving.monitoring.metrics import Metrics
from tests.infra_tests.hosts import ROOT, wait_until
from tests.infra_tests.small_study import small_study
from tests.serving_tests.conftest import bundle, corpus, store  # noqa: F401  # fixtures
from tests.serving_tests.endpoint_process import free_port, running, running_endpoint
from tests.tuning_tests.monitoring.test_metrics import finished_history
from tuning.monitoring.metrics import StudyMetrics

MONITORING = ROOT / "infra" / "monitoring"
DASHBOARDS = MONITORING / "grafana" / "dashboards"
NAMES = ("study.json", "endpoint.json")
METRIC = re.compile(r"\b(?:affectune_\w+|(?:study|endpoint):[\w:]+)")
SUFFIX = re.compile(r"_(?:total|bucket|sum|count)$")
README = (MONITORING / "README.md").read_text()
RULES: dict[str, Any] = yaml.safe_load((MONITORING / "rules.yml").read_text())
EVERY_RULE = [rule for group in RULES["groups"] for rule in group["rules"]]
RECORDS = {rule["record"]: rule["expr"] for rule in EVERY_RULE if "record" in rule}
ALERTS = {rule["alert"]: rule["expr"] for rule in EVERY_RULE if "alert" in rule}


class Target(BaseModel):
    """A query of a panel."""

    model_config = ConfigDict(extra="forbid")
    refId: str
    datasource: dict[str, str]
    expr: str
    legendFormat: str
    instant: bool
    range: bool


class GridPos(BaseModel):
    """Where a panel is."""

    model_config = ConfigDict(extra="forbid")
    x: int
    y: int
    w: int
    h: int


class Panel(BaseModel):
    """What Grafana reads of a panel of schema 39."""

    model_config = ConfigDict(extra="forbid")
    id: int
    type: str
    title: str
    description: str
    datasource: dict[str, str]
    gridPos: GridPos
    fieldConfig: dict[str, Any]
    options: dict[str, Any]
    targets: list[Target]


def _panels(name: str) -> list[Panel]:
    dashboard = json.loads((DASHBOARDS / name).read_text())
    return [Panel.model_validate(panel) for panel in dashboard["panels"]]


def _names(query: str) -> set[str]:
    return set(METRIC.findall(query))


def _documented() -> set[str]:
    """Return the metrics of the tables in the README."""
    return set(re.findall(r"^\| `(affectune_\w+)`", README, re.MULTILINE))


def _families() -> dict[str, str]:
    """Return name -> HELP of all metrics that a study and an endpoint have."""
    study = StudyMetrics()
    study.begin("a")
    study.backlog = lambda num_events: (0, 0.0)
    study.update(finished_history(), 1, 60.0)
    text = (study.text() + Metrics().text()).decode()
    families = re.findall(r"^# HELP (\w+) (.*)$", text, re.MULTILINE)
    return {SUFFIX.sub("", name): help for name, help in families if not name.endswith("_created")}


def test_files_of_the_dashboards_are_those_of_their_source(tmp_path: Path) -> None:
    made = tmp_path / "grafana" / "dashboards"
    made.mkdir(parents=True)
    shutil.copy(MONITORING / "dashboards.py", tmp_path)
    subprocess.run([sys.executable, "dashboards.py"], cwd=tmp_path, check=True)

    assert {path.name for path in made.iterdir()} == set(NAMES)
    for name in NAMES:
        assert (DASHBOARDS / name).read_text() == (made / name).read_text(), "run dashboards.py"


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_places_of_their_own_and_the_provisioned_datasource(name: str) -> None:
    panels = _panels(name)
    assert len({panel.id for panel in panels}) == len(panels)
    assert len({panel.title for panel in panels if panel.type == "stat"}) > 4

    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel.gridPos
        own = {
            (x, y)
            for x in range(place.x, place.x + place.w)
            for y in range(place.y, place.y + place.h)
        }
        assert place.x + place.w <= 24
        assert not own & cells, panel.title
        cells |= own
        assert panel.fieldConfig["defaults"]["unit"]

    file = MONITORING / "grafana/provisioning/datasources/prometheus.yml"
    (source,) = yaml.safe_load(file.read_text())["datasources"]
    provisioned = {"type": source["type"], "uid": source["uid"]}
    sources = [part.datasource for panel in panels for part in panel.targets]
    assert all(each == provisioned for each in sources)
    assert all(panel.datasource == provisioned for panel in panels)


def test_every_metric_is_documented_and_every_one_that_is_asked_for_exists() -> None:
    families = _families()
    assert _documented() == set(families)
    assert all(families.values())

    panels = [panel for name in NAMES for panel in _panels(name)]
    queries = [target.expr for panel in panels for target in panel.targets]
    queries += [*RECORDS.values(), *ALERTS.values()]
    asked = {SUFFIX.sub("", name) for query in queries for name in _names(query)}
    assert asked <= set(families) | set(RECORDS)
    assert set(RECORDS) <= asked  # each is used


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool: install prometheus")
@pytest.mark.parametrize(
    "arguments",
    ["check config prometheus.yml", "check rules rules.yml", "test rules rules_test.yml"],
)
def test_promtool_accepts_configuration_rules_and_alerts(arguments: str) -> None:
    ended = subprocess.run(
        ["promtool", *arguments.split()],
        cwd=MONITORING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_is_tested() -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert fired == set(ALERTS)


class Prometheus:
    """A running Prometheus, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query?"

    def values(self, query: str) -> list[float]:
        """Return the values of a query; what is no number is left out."""
        url = self._url + urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(url, timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success", (query, answer)
        values = [float(series["value"][1]) for series in answer["data"]["result"]]
        return [value for value in values if not math.isnan(value)]


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[tuple[Prometheus, int, int]]:
    """Prometheus with the project's files; it reads often, and two free ports."""
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus: install it")
    folder = tmp_path / "monitoring"
    shutil.copytree(MONITORING, folder)
    configuration = folder / "prometheus.yml"
    configuration.write_text(configuration.read_text().replace(": 15s", ": 1s"))
    study, endpoint, own = free_port(), free_port(), free_port()
    for name, port in (("study", study), ("endpoint", endpoint)):
        (folder / "targets" / f"{name}.yml").write_text(f'- targets: ["127.0.0.1:{port}"]\n')

    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{own}"]
    with running(command, own, "/-/ready", tmp_path / "prometheus.log"):
        yield Prometheus(own), study, endpoint


@pytest.mark.cluster
def test_every_query_of_every_panel_and_alert_is_answered(
    prometheus: tuple[Prometheus, int, int],
    bundle: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    server, study_port, endpoint_port = prometheus
    synthesize(tmp_path / "corpus", subjects=6, minutes=0.25, seed=0, preset="small")
    before, _, after = small_study().rpartition("trials = 2")
    (tmp_path / "study.toml").write_text(
        f"{before}trials = 400{after}"
    )  # in fusion until it is told

    line = "study run study.toml --corpus corpus --out out --store store --workers 1"
    line += f" --time-budget 1h --tracking-uri sqlite:///mlflow.db --metrics-port {study_port}"
    with (tmp_path / "study.log").open("wb") as log:
        study = subprocess.Popen(
            [sys.executable, "-m", "affectune", *line.split()],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
    try:
        with running_endpoint(
            str(bundle), endpoint_port, tmp_path / "serve.log", cache=tmp_path / "cache"
        ):
            _ask(endpoint_port)
            empty: dict[str, str] = {}

            def all_answer() -> bool:
                assert study.poll() is None, (tmp_path / "study.log").read_text()
                _ask(endpoint_port)
                empty.clear()
                empty.update(_empty(server))
                time.sleep(2.0)
                return not empty

            end = time.monotonic() + 240
            while not all_answer():
                assert time.monotonic() < end, empty
            for alert, query in ALERTS.items():
                server.values(query)
                assert alert != "EndpointDown" or not server.values(query)
    finally:
        study.terminate()
        study.wait(60)
    # The one that was told to end did not finish: that is what the alert is for.
    wait_until(lambda: len(server.values(ALERTS["StudyVanished"])) == 1, 15.0, "it is not noticed")
    wait_until(lambda: len(server.values(ALERTS["EndpointDown"])) == 1, 15.0, "it is not noticed")


def _ask(port: int) -> None:
    """Predict some sessions, and be refused with something that is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/v1/example")
    example = json.loads(connection.getresponse().read())
    first, *others = example["features"]
    lacking = {"session_id": "lacking", "features": {first: example["features"][first]}}
    strange = json.loads(json.dumps(example))
    for modality in (first, *others):
        rows = strange["features"][modality]["data"]
        strange["features"][modality]["data"] = [
            [1000 * (-1) ** number * value for value in row] for number, row in enumerate(rows)
        ]
    for body in (*(json.dumps(each) for each in (example, lacking, strange)), "{"):
        connection.request("POST", "/v1/predictions", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
    connection.close()


def _empty(server: Prometheus) -> dict[str, str]:
    """Return the queries that have no number yet: of panels, records, and what alerts read."""
    queries = {}
    for name in NAMES:
        for panel in _panels(name):
            for target in panel.targets:
                filled = target.expr.replace("$study", "small").replace("$instance", ".*")
                queries[f"{name}: {panel.title} {target.refId}"] = filled
    for alert, query in ALERTS.items():
        queries |= {f"{alert}: {name}": name for name in _names(query)}
    queries |= {record: record for record in RECORDS}
    return {name: query for name, query in queries.items() if not server.values(query)}
