"""The chart for Kubernetes, for several kinds of values: what it makes is valid, safe and runs."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from serving.proxy.proxy_errors import CALLBACK
from serving.serve_config import proxy_variables
from serving.settings import OF_PROXY, PREFIX, Settings, read_proxy_settings
from tests.infra_tests.chart import (
    AUTOSCALER,
    CHART,
    EXAMPLES,
    NAMESPACE,
    Object,
    Pod,
    example,
    notes,
    of_kind,
    pods,
    render,
)
from tests.infra_tests.hosts import ROOT
from tests.infra_tests.own_commands import parse
from tests.infra_tests.ray_kinds import KINDS

helm_python = pytest.importorskip("helm_python", reason="the chart is rendered by helm-python-sdk")

VERSIONS = ("1.33.0", "1.37.0")
"""Of Kubernetes: the oldest and the newest whose schemas are installed."""
KUBERAY = Path(os.environ.get("AFFECTUNE_KUBERAY_SCHEMAS") or ROOT.parent / "shared/kuberay")
"""The schemas of KubeRay's kinds, where they are at hand."""
needs_kuberay = pytest.mark.skipif(
    not KUBERAY.is_dir(),
    reason=f"NOT TESTED on KubeRay's schemas: no folder {KUBERAY}; set AFFECTUNE_KUBERAY_SCHEMAS",
)
Validator = jsonschema_rs.Draft202012Validator | jsonschema_rs.Draft7Validator
EVERYTHING: dict[str, Any] = {
    "image": {"tag": "1.2.3", "pullSecrets": ["registry"]},
    "objectStore": {"url": "s3://bucket/a", "endpoint": "http://s3:9000", "existingSecret": "keys"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/a"}},
    "study": {
        "file": 'name = "own"\n',
        "timeBudget": "8h",
        "arguments": ["--modalities", "head,gaze"],
        "deadlineSeconds": 2_000_000,
        "queue": {"name": "emotion", "elastic": True},
        "head": {"nodeSelector": {"pool": "heads"}},
    },
    "endpoint": {
        "tokenSecret": "",
        "replicas": {"min": 1, "max": 1},
        "settings": {"max_body_bytes": 33_554_432, "request_timeout_s": 0.5, "cache": "/data/c"},
        "redis": {"address": "redis:6379", "existingSecret": "redis"},
        "ingress": {"host": "affectune.example.org"},
    },
    "networkPolicy": {
        "monitoringNamespace": "monitoring",
        "endpointClients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
        "trackingClients": [{"podSelector": {"matchLabels": {"team": "emotion"}}}],
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    **{path.stem: example(path.stem) for path in sorted(EXAMPLES.glob("*.yaml"))},
    "everything": EVERYTHING,
    "no policies": {"networkPolicy": {"enabled": False}, "study": {"enabled": False}},
}


@functools.cache
def _rendered(name: str) -> list[Object]:
    return render(VALUES[name])


@pytest.fixture(params=VALUES)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """The objects of one kind of values, a copy."""
    return copy.deepcopy(_rendered(request.param))


def _all_pods() -> Iterator[tuple[Pod, Mapping[str, Any]]]:
    """Yield every container of every pod of every kind of values."""
    for name in VALUES:
        for pod in pods(_rendered(name)):
            for container in pod.containers():
                yield pod, container


# What Kubernetes and KubeRay accept.


@functools.cache
def _schemas(version: str) -> tuple[Path, jsonschema_rs.Registry]:
    """Return where the schemas of a version of Kubernetes are, and what they refer to."""
    package = Path(str(resources.files("kubernetes_validate")))
    folder = package / f"kubernetes-json-schema/v{version}-local-strict"
    definitions = json.loads((folder / "_definitions.json").read_text())
    return folder, jsonschema_rs.Registry([("json-schema:///_definitions.json", definitions)])


@functools.cache
def _validator(version: str, kind: str, api_version: str) -> Validator:
    folder, registry = _schemas(version)
    group, _, of_group = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], of_group) if part)
    schema = json.loads((folder / f"{name}.json").read_text())
    return jsonschema_rs.Draft202012Validator(schema, registry=registry)


def _mistakes(validator: Validator, found: Object) -> list[str]:
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(found)]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(objects: list[Object], version: str) -> None:
    for found in objects:
        if found["apiVersion"] != "ray.io/v1":
            validator = _validator(version, found["kind"], found["apiVersion"])
            assert not _mistakes(validator, found), found["metadata"]["name"]

    for pod in pods(objects):
        metadata = {"name": "a", "labels": dict(pod.labels)}
        template = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": metadata,
            "template": {"metadata": metadata, "spec": dict(pod.spec)},
        }
        assert not _mistakes(_validator(version, "PodTemplate", "v1"), template), pod.name


def test_ray_kinds_have_only_fields_that_are_known_here(objects: list[Object]) -> None:
    for kind, model in KINDS.items():
        for found in of_kind(objects, kind):
            assert found["apiVersion"] == "ray.io/v1"
            model.model_validate(found["spec"])


def _closed(schema: Any) -> Any:
    """Return a schema that refuses what KubeRay's own would drop without a word."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    is_open = "additionalProperties" in schema or "x-kubernetes-preserve-unknown-fields" in schema
    if isinstance(schema.get("properties"), dict) and not is_open:
        closed["additionalProperties"] = False
    return closed


@functools.cache
def _kuberay_validator(kind: str) -> Validator:
    schema = json.loads((KUBERAY / f"{kind}.v1.schema.json").read_text())["properties"]["spec"]
    return jsonschema_rs.Draft7Validator(_closed(schema))


@needs_kuberay
def test_kuberay_knows_every_field(objects: list[Object]) -> None:
    for kind in KINDS:
        for found in of_kind(objects, kind):
            assert not _mistakes(_kuberay_validator(kind), found["spec"])


@needs_kuberay
@pytest.mark.parametrize("place", ["rayClusterSpec", "submitterPodTemplate"])
def test_field_that_kuberay_would_drop_is_noticed(place: str) -> None:
    (job,) = of_kind(copy.deepcopy(_rendered("default")), "RayJob")
    job["spec"][place]["authOption"] = {"mode": "token"}
    assert _mistakes(_kuberay_validator("RayJob"), job["spec"])


def test_names_fit_what_kuberay_and_dns_allow() -> None:
    for release in ("a", "affectune", "x" * 53):
        for found in render({}, release=release):
            # KubeRay refuses longer names: it adds to them.
            most = {"RayJob": 47, "RayService": 41}.get(found["kind"], 63)
            assert len(found["metadata"]["name"]) <= most


def test_no_two_objects_have_one_name(objects: list[Object]) -> None:
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))


# What the values may be.


@pytest.mark.parametrize(
    "values",
    [
        {"studdy": {}},
        {"study": {"arguments": ["--corpus; rm -rf /"]}},
        {"study": {"arguments": ["$(id)"]}},
        {"study": {"name": "../other"}},
        {"study": {"corpus": {"path": "../../etc"}}},
        {"study": {"workers": []}},
        {"study": {"workers": [{"name": "a", "min": 0, "max": 2}]}},
        {"image": {"tag": "latest"}},
        {"mlflow": {"database": {"image": "postgres:latest"}}},
        {"mlflow": {"database": {"password": "secret"}}},
        {"mlflow": {"database": {"existingSecret": ""}}},
        {"trackingUri": "http://user:secret@mlflow"},
        {"objectStore": {"url": "http://bucket"}},
        {"endpoint": {"settings": {"max_body": 1}}},
        {"endpoint": {"settings": {"max_body_bytes": 1}}},
        {"endpoint": {"settings": {"token": "secret"}}},
        {"endpoint": {"replicas": {"min": 0, "max": 1}}},
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError):
        render(values)


def test_without_mlflow_an_address_is_asked_for() -> None:
    with pytest.raises(helm_python.HelmError, match="Set trackingUri"):
        render({"mlflow": {"enabled": False}})


def test_most_replicas_are_not_fewer_than_the_least() -> None:
    with pytest.raises(helm_python.HelmError, match=r"endpoint\.replicas"):
        render({"endpoint": {"replicas": {"min": 3, "max": 2}}})
    with pytest.raises(helm_python.HelmError, match="cpu"):
        render({"study": {"workers": [_group(min=3, max=2)]}})


def _group(**changes: Any) -> dict[str, Any]:
    group = {"name": "cpu", "resources": {"cpu": "1", "memory": "1Gi"}, "scratch": "1Gi"}
    return group | changes


def test_schema_knows_the_settings_of_the_endpoint_and_their_bounds() -> None:
    of_chart = {"model", "tracking_uri", "host", "port", "replicas", "max_replicas", "token"}
    of_chart |= {"token_file", "token_variable"}
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = schema["properties"]["endpoint"]["properties"]["settings"]["properties"]

    expected = _bare(Settings.model_json_schema()["properties"])
    assert known == {name: each for name, each in expected.items() if name not in of_chart}


def _bare(schema: Any) -> Any:
    """Return a schema without what does not decide what fits."""
    if isinstance(schema, dict):
        left_out = ("title", "description", "default")
        return {key: _bare(value) for key, value in schema.items() if key not in left_out}
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema


def test_schema_knows_exactly_the_values_that_the_chart_has() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(part: dict[str, Any], given: dict[str, Any], place: str) -> None:
        known = part["properties"]
        # `global` is Helm's; settings have their defaults in the endpoint.
        assert set(known) - {"global"} == set(given), place
        for name, value in given.items():
            if isinstance(value, dict) and "properties" in known[name] and name != "settings":
                compare(known[name], value, f"{place}.{name}")

    compare(schema, values, "values")


def test_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert chart["appVersion"] == project["version"]
    assert f"ray=={values['rayVersion']}" in pins
    assert not helm_python.lint(CHART)["errors"]


# What no pod may do.


def test_no_pod_has_more_rights_than_it_needs() -> None:
    for pod, container in _all_pods():
        place = f"{pod.name}/{container['name']}"
        of_pod, own = pod.spec["securityContext"], container["securityContext"]

        assert of_pod["runAsNonRoot"], place
        assert of_pod["runAsUser"] >= 100, place
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, place
        assert own["readOnlyRootFilesystem"] is True, place
        assert own["allowPrivilegeEscalation"] is False, place
        assert own["capabilities"] == {"drop": ["ALL"]}, place
        for shared in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
            assert shared not in pod.spec, place
        assert all("hostPath" not in volume for volume in pod.spec["volumes"]), place


def test_read_only_containers_can_write_where_they_must() -> None:
    for pod, container in _all_pods():
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        is_database = container["name"] == "postgres"
        of_claims = {"data"} if is_database else set()
        assert set(mounts.values()) <= set(volumes) | of_claims, pod.name

        needed = {"/tmp", "/var/run/postgresql"} if is_database else {"/tmp", "/data"}
        if container["name"].startswith("ray-"):
            needed |= {"/dev/shm"}
        for path in needed:
            # Without a limit one pod could fill the disk of a node.
            assert "sizeLimit" in volumes[mounts[path]]["emptyDir"], f"{pod.name}: {path}"


def test_every_container_says_what_it_needs_and_takes_no_more_memory() -> None:
    for pod, container in _all_pods():
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert {"cpu", "memory"} <= set(requests), pod.name
        assert "memory" in limits, pod.name


def test_every_image_has_a_version() -> None:
    for pod, container in _all_pods():
        name, _, tag = container["image"].rpartition(":")
        assert name, f"{pod.name}: {container['image']}"
        assert tag not in ("", "latest"), pod.name


def test_every_container_that_stays_is_probed() -> None:
    for name in VALUES:
        for pod in pods(_rendered(name)):
            for container in pod.spec["containers"]:
                # KubeRay restarts the autoscaler's container where that ends.
                if pod.is_long and container["name"] != AUTOSCALER:
                    probes = {"startupProbe", "livenessProbe", "readinessProbe"}
                    assert probes <= set(container), pod.name


SECRET_NAMES = ("TOKEN", "PASSWORD", "SECRET", "KEY", "CREDENTIAL")


def test_secrets_come_from_secrets_alone() -> None:
    for pod, container in _all_pods():
        for variable in container.get("env", []):
            is_secret = any(part in variable["name"] for part in SECRET_NAMES)
            if is_secret and not variable["name"].endswith("_FILE"):
                assert set(variable["valueFrom"]) == {"secretKeyRef"}, pod.name
            has_password = re.search("://[^/@]*:[^/@]*@", variable.get("value", ""))
            assert not has_password, f"{pod.name}: {variable['name']}"

    for name in VALUES:
        assert not of_kind(_rendered(name), "Secret")


def test_only_the_autoscaler_can_ask_kubernetes(objects: list[Object]) -> None:
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    accounts = {found["metadata"]["name"] for found in of_kind(objects, "ServiceAccount")}

    for pod in pods(objects):
        assert pod.spec["automountServiceAccountToken"] is False
        assert pod.spec["serviceAccountName"] in accounts
        for container in pod.containers():
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            has_token = "/var/run/secrets/kubernetes.io/serviceaccount" in paths
            assert has_token == (container["name"] == AUTOSCALER), pod.name
        is_asking = any(container["name"] == AUTOSCALER for container in pod.containers())
        assert (pod.labels.get("affectune/asks-kubernetes") == "true") == is_asking


# Who reaches whom.


def _selected(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items())


def _reaches(objects: list[Object], source: str, target: str, port: int) -> bool:
    """Return whether policies let the pods of a component reach those of another at a port."""
    by_component = {pod.labels["app.kubernetes.io/component"]: pod.labels for pod in pods(objects)}

    def allows(labels: Mapping[str, str], other: Mapping[str, str], way: str, peers: str) -> bool:
        policies = [
            found["spec"]
            for found in of_kind(objects, "NetworkPolicy")
            if _selected(found["spec"]["podSelector"], labels)
        ]
        assert any(way.capitalize() in policy["policyTypes"] for policy in policies)
        return any(
            any(
                "podSelector" in peer and _selected(peer["podSelector"], other)
                for peer in rule[peers]
            )
            and (not rule.get("ports") or port in [each["port"] for each in rule["ports"]])
            for policy in policies
            for rule in policy.get(way, [])
        )

    first, second = by_component[source], by_component[target]
    return allows(first, second, "egress", "to") and allows(second, first, "ingress", "from")


def test_pods_reach_what_they_need_and_nothing_else() -> None:
    objects = _rendered("default")
    components = {"study", "submitter", "endpoint", "mlflow", "database"}
    ports = (5000, 5432, 6379, 8000, 8265)
    reached = {
        (source, target, port)
        for source in components
        for target in components
        for port in ports
        if _reaches(objects, source, target, port)
    }

    ray = {(one, one, port) for one in ("study", "endpoint") for port in ports}
    assert reached == ray | {
        ("submitter", "study", 8265),
        ("study", "mlflow", 5000),
        ("endpoint", "mlflow", 5000),
        ("mlflow", "database", 5432),
    }


def test_every_pod_is_under_a_policy_that_denies(objects: list[Object]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    if not policies:
        pytest.skip("values without policies")
    everything = next(found for found in policies if found["metadata"]["name"] == "affectune")
    assert everything["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not everything["spec"].get("ingress")
    for pod in pods(objects):
        assert _selected(everything["spec"]["podSelector"], pod.labels), pod.name


def test_services_and_budgets_find_pods(objects: list[Object]) -> None:
    labels = [pod.labels for pod in pods(objects)]
    for service in of_kind(objects, "Service"):
        assert any(_selected({"matchLabels": service["spec"]["selector"]}, each) for each in labels)
    for budget in of_kind(objects, "PodDisruptionBudget"):
        (service,) = of_kind(objects, "RayService")
        (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        num_pods = 1 + group["minReplicas"]
        # Kubernetes counts pods of kinds that have no scale in this way only.
        assert set(budget["spec"]) == {"minAvailable", "selector"}
        assert budget["spec"]["minAvailable"] == num_pods - 1
        assert any(_selected(budget["spec"]["selector"], each) for each in labels)


# What runs.


@pytest.mark.parametrize("name", [name for name in VALUES if name != "no policies"])
def test_study_is_a_command_that_begins_and_goes_on(name: str) -> None:
    (job,) = of_kind(_rendered(name), "RayJob")
    entrypoint = job["spec"]["entrypoint"]
    values = parse(entrypoint)

    assert values["resume"] is True
    assert values["out"].is_relative_to("/srv/affectune")
    # It passes through the submitter's shell and the head's.
    assert not set(entrypoint) & set("$`\\\"';&|<>(){}*?#~!\n")
    assert shlex.split(entrypoint) == entrypoint.split()

    (head,) = [pod for pod in pods([job]) if pod.name.endswith("/head")]
    mounts = [mount["mountPath"] for mount in head.spec["containers"][0]["volumeMounts"]]
    for path in (values["corpus"], values["out"]):
        assert any(path.is_relative_to(mount) for mount in mounts)
    if values["study"].startswith("/"):
        assert "/etc/affectune" in mounts
    else:
        assert (ROOT / f"tuning/studies/{values['study']}.toml").is_file()
    for container in head.spec.get("initContainers", []):
        assert parse(container["command"])["out"] == values["corpus"]


def test_wrong_option_in_the_values_is_noticed() -> None:
    (job,) = of_kind(render({"study": {"arguments": ["--time-budgett", "8h"]}}), "RayJob")
    with pytest.raises(Exception, match="time-budgett"):
        parse(job["spec"]["entrypoint"])


def test_study_and_mlflow_keep_what_lasts_in_one_place(objects: list[Object]) -> None:
    kept = set()
    for job in of_kind(objects, "RayJob"):
        kept.add(parse(job["spec"]["entrypoint"])["store"].rpartition("/")[0])
    for server in of_kind(objects, "Deployment"):
        (container,) = server["spec"]["template"]["spec"]["containers"]
        (option,) = [word for word in container["args"] if "artifacts-destination" in word]
        kept.add(option.partition("=")[2].rpartition("/")[0])
    assert len(kept) <= 1


@pytest.mark.parametrize("name", [name for name in VALUES if "further" not in name])
def test_endpoint_and_its_proxies_have_the_same_settings(name: str) -> None:
    (service,) = of_kind(_rendered(name), "RayService")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    settings = Settings.model_validate(application["args"])

    for pod in pods([service]):
        container = pod.spec["containers"][0]
        environment = {each["name"]: each.get("value", "") for each in container["env"]}
        variable, callback = CALLBACK
        assert environment[variable] == callback
        for key, value in proxy_variables(settings).items():
            assert key.startswith(PREFIX) or environment[key] == value, key
        own = {key for key in environment if key.startswith(PREFIX)}
        assert own <= {f"{PREFIX}{key.upper()}" for key in OF_PROXY}
        proxy = read_proxy_settings(environment)
        for key in OF_PROXY:
            assert getattr(proxy, key) == getattr(settings, key), key
        if settings.token_file is not None:
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert str(settings.token_file.parent) in mounts

    http = yaml.safe_load(service["spec"]["serveConfigV2"])["http_options"]
    assert http["request_timeout_s"] == settings.request_timeout_s
    assert (http["host"], http["port"]) == (settings.host, settings.port)


def test_endpoint_answers_to_the_names_of_its_service_and_its_ingress() -> None:
    service_name = "affectune-endpoint-serve-svc"
    (service,) = of_kind(_rendered("external"), "RayService")
    (ingress,) = of_kind(_rendered("external"), "Ingress")
    (rule,) = ingress["spec"]["rules"]
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    names = Settings.model_validate(application["args"]).host_names()

    assert {service_name, f"{service_name}.{NAMESPACE}.svc.cluster.local", rule["host"]} <= names
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"]["name"] == service_name
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]


def test_workers_grow_from_none_unless_a_queue_wants_all() -> None:
    def sizes(name: str) -> list[tuple[bool, int, int]]:
        (job,) = of_kind(_rendered(name), "RayJob")
        cluster = job["spec"]["rayClusterSpec"]
        grows = cluster["enableInTreeAutoscaling"]
        groups = cluster["workerGroupSpecs"]
        return [(grows, group["minReplicas"], group["maxReplicas"]) for group in groups]

    assert sizes("default") == [(True, 0, 4)]
    assert sizes("gpu-spot") == [(True, 0, 20), (True, 0, 4)]
    assert sizes("kueue") == [(False, 4, 4)]
    assert sizes("everything") == [(True, 0, 4)]
    (job,) = of_kind(_rendered("kueue"), "RayJob")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "emotion"


def test_gpus_and_places_reach_the_workers() -> None:
    spot, gpu = (pod for pod in pods(_rendered("gpu-spot")) if pod.name.endswith(("spot", "gpu")))
    (container,) = gpu.spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"].endswith("cuda")
    assert spot.spec["tolerations"][0]["value"] == "spot"
    assert "nvidia.com/gpu" not in spot.spec["containers"][0]["resources"]["limits"]


def test_notes_say_what_is_still_to_be_done() -> None:
    assert "Secret 'affectune-database'" in notes({})
    assert "whoever reaches the endpoint" in notes({"endpoint": {"tokenSecret": ""}})
    assert "no network policy" in notes({"networkPolicy": {"enabled": False}})


def test_readme_shows_every_example() -> None:
    text = (CHART / "README.md").read_text()
    for path in EXAMPLES.glob("*.yaml"):
        assert f"examples/{path.name}" in text
