"""A study on several machines: the documented commands, a head that is lost, nodes that come."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.infra_tests.hosts import Host, Hosts, wait_until
from tests.infra_tests.ray_cluster import (
    HEAD,
    TOKEN,
    StudyOnHosts,
    commands,
    kill,
    start_head,
    start_node,
    wait_for_end,
)

pytestmark = pytest.mark.cluster
REFUSED_S = 10.0
SAID_S = 20.0
NEW_NODE_S = 15.0
LOCAL_STUDY = "import ray; ray.init(); ray.shutdown()"
"""What a study on one machine does to Ray's token."""


def test_the_documented_commands_run_a_study_after_one_on_a_machine_alone(hosts: Hosts) -> None:
    first, second, third = hosts
    for host in (first, second):
        host.shell(f"python -c '{LOCAL_STUDY}'")
        assert (host.home / TOKEN).exists()

    start_head(first, "--num-cpus=0")
    start_node(hosts, second, "--num-cpus=1")
    start_node(hosts, third, "--num-cpus=1")
    assert len({(host.home / TOKEN).read_text() for host in hosts}) == 1
    assert all((host.home / TOKEN).stat().st_mode & 0o077 == 0 for host in hosts)

    study = StudyOnHosts(hosts)
    # The paths of the document are those of its reader.
    line = commands("Run a study on it")[0].replace("/shared/", f"{study.shared}/")
    line = line.replace("demo/corpus", str(study.corpus)).replace("run demo ", f"run {study.file} ")
    output = first.shell(line, timeout_s=600)
    assert output.returncode == 0, output.stdout
    assert "version 1 is registered" in output.stdout
    _assert_refusals(third, StudyOnHosts(hosts, "refused"))


def _assert_refusals(third: Host, other: StudyOnHosts) -> None:
    """What is wrong with an address or a token is told in seconds, and nothing is written."""
    right = (third.home / TOKEN).read_text()
    cases = {
        "connection was refused": (right, "host1:9"),
        "there is no host of that name": (right, "nowhere:6379"),
        "No route to host": (right, "host9:6379"),
        "does not let us in": ("0" * 64, HEAD),
        "asks for a token, and there is none": (None, HEAD),
    }
    for reason, (token, address) in cases.items():
        _write(third.home / TOKEN, token)
        begin = time.monotonic()
        output = third.run(*other.words("--address", address))
        took_s = time.monotonic() - begin
        assert output.returncode == 2, output.stdout
        assert reason in output.stdout
        assert took_s < REFUSED_S, reason
        assert not other.out.exists()


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="ascii")


def test_a_head_that_is_lost_is_told_and_waited_for_and_new_nodes_are_used(hosts: Hosts) -> None:
    first, second, third = hosts
    _start(hosts, first, second)
    study = StudyOnHosts(hosts, epochs=400, trials=4)

    process = study.start(second)
    study.wait_for_fits(2)
    begin = time.monotonic()
    kill(first.processes("gcs_server"))
    wait_until(lambda: "has not answered" in study.said, SAID_S, "nothing is said")
    status, _ = wait_for_end(process, 60)
    assert time.monotonic() - begin < 60
    assert status == 1
    assert "is lost" in study.said
    assert "--resume" in study.said
    assert "terminate" not in study.said

    _start(hosts, first, second)
    process = study.start(second, "--resume", "--wait-for-cluster", "10m")
    study.wait_for_fits(study.num_ended + 1)

    start_node(hosts, third, "--num-cpus=1")
    wait_until(lambda: bool(third.processes("Trainable")), NEW_NODE_S, "the new node is not used")

    kill(first.processes("gcs_server"))
    _start(hosts, first, second)
    status, _ = wait_for_end(process, 300)
    assert status == 0, study.said
    # Ray may end the driver when its node ends, before the watch has noticed the new head.
    assert "goes on by itself" in study.said or "It is started again" in study.said
    ended = [trial.ended for trial in study.history().trials.values()]
    assert all(end is not None and end.reason != "error" for end in ended)


def _start(hosts: Hosts, head: Host, node: Host) -> None:
    """Start a cluster of two, also where another one was."""
    for host in (head, node):
        host.shell("ray stop --force")
    start_head(head, "--num-cpus=0", "--include-dashboard=false")
    start_node(hosts, node, "--num-cpus=1")


def test_a_laptop_joins_for_the_time_of_a_study_and_waits_for_a_node(hosts: Hosts) -> None:
    first, second, laptop = hosts
    start_head(first, "--num-cpus=0")
    (laptop.home / TOKEN).parent.mkdir()
    _write(laptop.home / TOKEN, (first.home / TOKEN).read_text())

    study = StudyOnHosts(hosts)
    output = study.run(laptop)
    assert output.returncode == 2
    assert "--wait-for-nodes" in output.stdout
    assert not study.out.exists()

    process = study.start(laptop, "--wait-for-nodes", "5m")
    wait_until(lambda: "Waiting for one" in study.said, 90, "it does not wait")
    start_node(hosts, second, "--num-cpus=1")
    status, _ = wait_for_end(process, 240)
    assert status == 0, study.said
    wait_until(lambda: not laptop.processes("raylet"), 20, "the node stays")
