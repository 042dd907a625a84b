"""`affectune doctor` on three hosts finds what is wrong there, and nothing where all is well."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.infra_tests.hosts import Host, Hosts
from tests.infra_tests.ray_cluster import HEAD, start_cluster

pytestmark = pytest.mark.cluster
WITH_TOKEN = {"RAY_AUTH_MODE": "token"}
DOCTOR = ("python", "-m", "affectune", "doctor", "--json")
PATIENCE = 3
Findings = list[dict[str, str]]


@pytest.fixture
def cluster(hosts: Hosts) -> Hosts:
    """A cluster with one token; host1 is its head, and has no cores."""
    start_cluster(hosts)
    (hosts.shared / "store").mkdir()
    return hosts


def examine(host: Host, *options: str, env: dict[str, str] | None = None) -> tuple[int, Findings]:
    """Run doctor in a host; return its status and what it found."""
    ended = host.run(*DOCTOR, *options, env=WITH_TOKEN | (env or {}))
    text = ended.stdout[ended.stdout.index("[\n") :]
    return ended.returncode, json.loads(text)


def wrong(findings: Findings) -> dict[str, str]:
    """Return check -> finding of what is an error; each has its mend."""
    errors = [finding for finding in findings if finding["status"] == "error"]
    assert all(finding["mend"] for finding in errors)
    return {finding["check"]: finding["finding"] for finding in errors}


def test_doctor_tells_healthy_hosts_from_others_and_a_store_that_is_not_shared_is_refused(
    cluster: Hosts,
) -> None:
    _, second, third = cluster
    store = cluster.shared / "store"
    for _ in range(PATIENCE):  # on a busy machine a node may be slow to start its first process
        status, findings = examine(second, "--address", HEAD, "--store", str(store))
        if status == 0:
            break
    assert (status, wrong(findings)) == (0, {})
    nodes = [finding["finding"] for finding in findings if finding["check"] == "nodes"]
    assert [node.split(":")[0] for node in sorted(nodes)] == ["host1", "host2", "host3"]

    third.shell(f"mount -t tmpfs tmpfs {store}")
    second.shell("chmod 644 ~/.ray/auth_token")
    mlflow = ("--tracking-uri", "http://host1:5999")
    status, findings = examine(second, "--address", HEAD, "--store", str(store), *mlflow)
    errors = wrong(findings)
    assert (status, set(errors)) == (1, {"nodes", "secrets", "MLflow"}), findings
    assert f"'{store}' on host3 is not the driver's" in errors["nodes"]
    assert "auth_token" in errors["secrets"]
    assert "refused" in errors["MLflow"]
    assert list(store.glob(".*")) == []

    status, findings = examine(
        second, "--address", HEAD, env={"RAY_AUTH_TOKEN": "another-token-of-some-length"}
    )
    assert status == 1
    assert {"Ray token", "Ray cluster"} & set(wrong(findings))
    assert "another-token" not in str(findings)

    status, findings = examine(second, "--address", "host1:6399")
    assert (status, "refused" in wrong(findings)["Ray cluster"]) == (1, True)

    refuse_study(second, cluster.shared, store)


def refuse_study(host: Host, shared: Path, store: Path) -> None:
    """See that a study is refused in one sentence, soon, and that it leaves nothing."""
    corpus = shared / "corpus"
    made = host.shell(f"python -m affectune corpus synthesize {corpus} --subjects 6 --minutes 0.5")
    assert made.returncode == 0, made.stdout
    options = f"--corpus {corpus} --address {HEAD} --store {store} --out {shared}/study"

    begin = time.monotonic()
    ended = host.shell(f"python -m affectune study run demo {options}", WITH_TOKEN)
    seconds = time.monotonic() - begin
    error = ended.stdout.splitlines()[-1]
    assert ended.returncode == 2, ended.stdout
    assert f"'{store}' on host3 is not the driver's: mount the driver's folder there" in error
    assert error.endswith("`affectune doctor` looks for more.")
    print(f"refused after {seconds:.1f} s")  # in 30 on an idle machine
    assert seconds < 120
    assert not (shared / "study").exists()
    assert list(store.glob(".marker*")) == []
