"""The chart for Kubernetes, rendered as `helm install` would send it; no cluster is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import helm_python
import yaml

from tests.infra_tests.hosts import ROOT

CHART = ROOT / "infra/kubernetes"
EXAMPLES = CHART / "examples"
RELEASE, NAMESPACE = "affectune", "emotion"
Object = dict[str, Any]
"""As Kubernetes gets it."""
AUTOSCALER = "autoscaler"
"""The container that KubeRay adds to a head; the chart gives its limits and its mounts."""


@dataclass(frozen=True)
class Pod:
    """The template of a pod.

    Attributes:
        name: where it stands, such as `RayJob/affectune-study/head`.
        labels: by which policies find it.
        spec: its containers and volumes.
        is_long: whether it runs until it is told to end, so that it is probed.
    """

    name: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    is_long: bool = True

    def containers(self) -> list[Mapping[str, Any]]:
        """Return all containers, those that run before the others among them."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def render(values: Mapping[str, Any], release: str = RELEASE) -> list[Object]:
    """Return the objects that the chart makes of values.

    Raises:
        helm_python.HelmError: the values do not fit the schema, or a template fails.
    """
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(dict(values))
        files = chart.render(dict(values), name=release, namespace=NAMESPACE)
    return [
        document
        for name, text in sorted(files.items())
        if not name.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document is not None
    ]


def notes(values: Mapping[str, Any]) -> str:
    """Return what Helm says after an installation."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(dict(values), name=RELEASE, namespace=NAMESPACE)
    return files["affectune/templates/NOTES.txt"]


def example(name: str) -> dict[str, Any]:
    """Return the values of an example file; "" for none."""
    if not name:
        return {}
    values: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    return values


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of one kind."""
    return [found for found in objects if found["kind"] == kind]


def pods(objects: list[Object]) -> Iterator[Pod]:
    """Yield the template of every pod, those in Ray's kinds among them."""
    for found in objects:
        name, spec = f"{found['kind']}/{found['metadata']['name']}", found.get("spec", {})
        if found["kind"] in ("Deployment", "StatefulSet"):
            yield _pod(name, spec["template"])
        elif found["kind"] == "RayJob":
            yield _pod(f"{name}/submitter", spec["submitterPodTemplate"], is_long=False)
            yield from _pods_of_cluster(name, spec["rayClusterSpec"])
        elif found["kind"] == "RayService":
            yield from _pods_of_cluster(name, spec["rayClusterConfig"])


def _pods_of_cluster(name: str, cluster: Mapping[str, Any]) -> Iterator[Pod]:
    """Yield the pods of a Ray cluster: its head, as KubeRay completes it, and its workers."""
    head = _pod(f"{name}/head", cluster["headGroupSpec"]["template"])
    if cluster["enableInTreeAutoscaling"]:
        options = cluster["autoscalerOptions"]
        taken = ("securityContext", "resources", "volumeMounts")
        container = {"name": AUTOSCALER, "image": head.spec["containers"][0]["image"]}
        container |= {key: options[key] for key in taken}
        spec = {**head.spec, "containers": [*head.spec["containers"], container]}
        head = Pod(head.name, head.labels, spec)
    yield head
    for group in cluster["workerGroupSpecs"]:
        yield _pod(f"{name}/{group['groupName']}", group["template"])


def _pod(name: str, template: Mapping[str, Any], *, is_long: bool = True) -> Pod:
    return Pod(name, template["metadata"]["labels"], template["spec"], is_long)
