"""What the chart's pods run, run without Kubernetes: a study, then the endpoint with its model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import InputError
from tests.infra_tests.chart import EXAMPLES, Object, Pod, example, of_kind, pods, render
from tests.infra_tests.hosts import Host, Hosts, make_hosts, reason_to_skip, wait_until
from tests.infra_tests.small_study import small_study
from tuning.journal.history import read_history

pytestmark = pytest.mark.cluster
TOKEN = "clients-token"
RAY = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5f" * 32}
"""KubeRay's part: it makes a token for each cluster, and gives it to every pod."""
STUDY = small_study()
VALUES: dict[str, Any] = {
    "study": {
        "file": STUDY,
        "arguments": ["--modalities", "voice,face", "--targets", "arousal"],
        "workers": [
            {
                "name": "cpu",
                "min": 0,
                "max": 1,
                "resources": {"cpu": "2", "memory": "4Gi"},
                "scratch": "1Gi",
            }
        ],
    },
    "endpoint": {"replicas": {"min": 1, "max": 1}, "settings": {"max_body_bytes": 100_000}},
}


class PodsOnHosts:
    """Ray's pods of a chart as processes of two hosts, a head and a worker.

    Args:
        hosts: two.
        objects: of the chart.
    """

    def __init__(self, hosts: Hosts, objects: list[Object]) -> None:
        self.hosts = hosts
        (self.job,) = of_kind(objects, "RayJob")
        (self.service,) = of_kind(objects, "RayService")
        self.pods = {pod.name.split("/", 1)[1]: pod for pod in pods([self.job, self.service])}
        self._places = {
            mount: hosts.shared / name
            for mount, name in (
                ("/srv/affectune", "kept"),
                ("/srv/corpus", "corpus"),
                ("/etc/affectune", "etc"),
            )
        }
        for place in self._places.values():
            place.mkdir()
        (hosts.shared / "etc/study.toml").write_text(STUDY)
        (hosts.shared / "etc/token").write_text(TOKEN)
        self._tracking = f"sqlite:///{hosts.shared}/mlflow.db"

    def here(self, text: str) -> str:
        """Return a text with the paths of pods replaced by those of hosts."""
        for mount, place in self._places.items():
            text = text.replace(mount, str(place))
        return text.replace("http://affectune-mlflow:5000", self._tracking)

    def environment(self, *names: str) -> dict[str, str]:
        """Return the variables of pods, all of them together."""
        environment = dict(RAY)
        for name in names:
            for variable in self.pods[name].spec["containers"][0]["env"]:
                environment[variable["name"]] = self.here(variable["value"])
        return environment

    def start(self) -> None:
        """Start Ray as KubeRay does: in a shell, with the parameters of the group."""
        head, worker = self.hosts
        cluster = self.job["spec"]["rayClusterSpec"]
        of_head = cluster["headGroupSpec"]["rayStartParams"]
        (group,) = cluster["workerGroupSpecs"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        of_worker = {"num-cpus": limits["cpu"], "address": "host1:6379"} | group["rayStartParams"]
        own = {"metrics-export-port": "8080", "dashboard-agent-listen-port": "52365"}
        environments = (
            self.environment("affectune-study/head", "affectune-endpoint/head"),
            self.environment("affectune-study/cpu", "affectune-endpoint/replicas"),
        )
        for host, first, parameters, env in (
            (head, "ray start --head", of_head, environments[0]),
            (worker, "ray start", of_worker, environments[1]),
        ):
            options = {**parameters, **own, "node-ip-address": host.address}
            words = " ".join(f"--{name}={value}" for name, value in options.items())
            # As a kubelet does, where a node was too busy for Ray to start in its time.
            line = f"ulimit -n 65536; until {first} {words} --block; do sleep 2; done"
            host.start("bash", "-c", "--", line, env=env, output=self.log(host.name))
            self._wait_for_raylet(host)

    def _wait_for_raylet(self, host: Host) -> None:
        try:
            wait_until(lambda: _status(host, 52365, RAYLET) == 200, 240, "no raylet")
        except TimeoutError as error:
            raise AssertionError(self.log(host.name).read_text()[-3000:]) from error

    def log(self, name: str) -> Path:
        """Return where the output of something is kept."""
        return self.hosts.shared / f"{name}.log"

    def submit(self, attempt: int) -> Any:
        """Submit the job as KubeRay's submitter does; the process ends with the job."""
        entrypoint = self.here(self.job["spec"]["entrypoint"])
        address = "--address http://host1:8265"
        line = f"ray job submit {address} --submission-id try-{attempt} -- {entrypoint} ;"
        submitter = self.hosts[1]
        return submitter.start(
            "bash", "-c", "--", line, env=RAY, output=self.log(f"submitter-{attempt}")
        )


RAYLET = "/api/local_raylet_healthz"


def _ask(
    host: Host, port: int, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, bytes]:
    """Ask a host from itself, as a kubelet does; (0, b"") where nobody listens."""
    script = (
        "import http.client, json, sys\n"
        "address, port, path, headers = sys.argv[1:5]\n"
        "connection = http.client.HTTPConnection(address, int(port), timeout=20)\n"
        "body = sys.stdin.buffer.read() or None\n"
        "connection.request('POST' if body else 'GET', path, body, json.loads(headers))\n"
        "answer = connection.getresponse()\n"
        "print(answer.status); sys.stdout.flush(); sys.stdout.buffer.write(answer.read())\n"
    )
    words = host.command("python", "-c", script, host.address, str(port), path, json.dumps(headers))
    answer = subprocess.run(
        words, input=body, env=host.environment(), capture_output=True, check=False
    )
    status, _, content = answer.stdout.partition(b"\n")
    return int(status or 0), content


def _status(host: Host, port: int, path: str, **headers: str) -> int:
    return _ask(host, port, path, headers)[0]


def _probe(host: Host, pod: Pod, name: str) -> int:
    """Ask what a probe of a pod's container asks; return the status."""
    of_container: Mapping[str, Any] = pod.spec["containers"][0][name]["httpGet"]
    return _status(host, of_container["port"], of_container["path"])


def test_study_of_a_rayjob_becomes_the_model_of_a_rayservice() -> None:
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    with make_hosts(2) as hosts:
        on_hosts = PodsOnHosts(hosts, render(VALUES))
        on_hosts.start()
        _check_probes_and_token(on_hosts)
        _run_study(on_hosts)
        _check_endpoint(on_hosts)


def _check_probes_and_token(on_hosts: PodsOnHosts) -> None:
    head, worker = on_hosts.hosts
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert _probe(head, on_hosts.pods["affectune-study/head"], name) == 200
        assert _probe(worker, on_hosts.pods["affectune-study/cpu"], name) == 200
    assert _status(head, 8265, "/api/jobs/") in (401, 403)


def _run_study(on_hosts: PodsOnHosts) -> None:
    """Run the study; its driver is killed, and the same command goes on."""
    head, _ = on_hosts.hosts
    (corpus,) = on_hosts.pods["affectune-study/head"].spec["initContainers"]
    made = head.run(*map(on_hosts.here, corpus["command"]))
    assert made.returncode == 0, made.stdout

    first, folder = on_hosts.submit(1), on_hosts.hosts.shared / "kept/studies/demo"
    try:
        wait_until(lambda: _num_ended(folder) >= 2, 480, "no fits")
    except TimeoutError as error:
        raise AssertionError(on_hosts.log("submitter-1").read_text()[-3000:]) from error
    for process in head.processes("affectune study run"):
        process.kill()
    assert first.wait(240) != 0
    before = _num_ended(folder)

    assert on_hosts.submit(2).wait(600) == 0, on_hosts.log("submitter-2").read_text()[-3000:]
    history = read_history(folder)
    assert history.finished is not None
    assert _num_ended(folder) > before


def _num_ended(folder: Path) -> int:
    """Return how many trials of a study have ended; 0 where there is none yet."""
    try:
        return len(read_history(folder).ended)
    except InputError:
        return 0


def _check_endpoint(on_hosts: PodsOnHosts) -> None:
    """Deploy the application as KubeRay does, and ask it as a client of its service."""
    head, worker = on_hosts.hosts
    configuration = on_hosts.hosts.shared / "serve.yaml"
    configuration.write_text(on_hosts.here(on_hosts.service["spec"]["serveConfigV2"]))
    deployed = head.shell(f"serve deploy {configuration} --address http://host1:8265", env=RAY)
    assert deployed.returncode == 0, deployed.stdout

    pod = on_hosts.pods["affectune-endpoint/replicas"]
    wait_until(lambda: _probe(worker, pod, "readinessProbe") == 200, 240, "no proxy")
    wait_until(lambda: _status(worker, 8000, "/readyz") == 200, 240, "no model")

    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert _status(worker, 8000, "/v1/model") == 401
    status, model = _ask(worker, 8000, "/v1/model", bearer)
    assert (status, list(json.loads(model)["targets"])) == (200, ["arousal"])
    by_name = bearer | {"Host": "affectune-endpoint-serve-svc.emotion.svc:8000"}
    assert _status(worker, 8000, "/v1/model", **by_name) == 200
    assert _status(worker, 8000, "/v1/model", **bearer, Host="evil.example") >= 400
    too_large = b'{"features": "' + b"x" * 120_000 + b'"}'
    assert _ask(worker, 8000, "/v1/predictions", bearer, too_large)[0] == 413


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments")  # Ray's use of pydantic
@pytest.mark.parametrize("name", ["", *(path.stem for path in sorted(EXAMPLES.glob("*.yaml")))])
def test_serve_configuration_builds_the_application(name: str) -> None:
    from ray.serve import Application
    from ray.serve.schema import ServeDeploySchema

    from serving.endpoint import build

    for service in of_kind(render(example(name)), "RayService"):
        text = service["spec"]["serveConfigV2"]
        configuration = ServeDeploySchema.model_validate(yaml.safe_load(text))
        (application,) = configuration.applications
        assert application.import_path == f"{build.__module__}:{build.__name__}"
        assert isinstance(build(application.args), Application)


@pytest.mark.parametrize("name", ["", "external"])
def test_mlflow_knows_the_options_of_its_server(name: str) -> None:
    from mlflow.cli import cli

    (server,) = of_kind(render(example(name)), "Deployment")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    command, *options = container["args"]
    given = cli.commands[command].make_context(command, options).params
    assert given["port"] == container["ports"][0]["containerPort"]
    assert given["artifacts_destination"].endswith("/mlflow")
