"""Hosts made as namespaces are what tests on several machines need: apart, yet on one network."""

from __future__ import annotations

import pytest

from tests.infra_tests.hosts import Hosts, wait_until

pytestmark = pytest.mark.cluster
SERVER = """
import socket
server = socket.create_server(("", 8000))
while True:
    server.accept()[0].send(b"hello")
"""
ANSWER = "exec 3<>/dev/tcp/host2/8000 && cat <&3"


def test_hosts_have_own_networks_processes_and_files(hosts: Hosts) -> None:
    first, second, _ = hosts

    assert first.shell("hostname; echo $HOME; touch /tmp/a /dev/shm/b").stdout.split() == [
        "host1",
        str(first.home),
    ]
    assert second.shell("ls -d /tmp/a /dev/shm/b 2>/dev/null || true").stdout == ""

    sleeper = first.start("sleep", "1000")
    wait_until(lambda: len(first.processes("sleep 1000")) == 1, 10, "no process")
    assert not second.processes("sleep 1000")
    assert first.end(sleeper) != 0


def test_hosts_reach_each_other_by_name_until_cut_off(hosts: Hosts) -> None:
    first, second, _ = hosts
    second.start("python", "-c", SERVER)
    wait_until(lambda: first.shell(ANSWER).stdout == "hello", 20, "no answer")

    hosts.resolve(is_known=False)
    assert first.shell(ANSWER).returncode
    hosts.resolve()

    hosts.cut_off(second)
    assert first.shell(f"timeout 3 bash -c '{ANSWER}'").returncode
    hosts.cut_off(second, is_cut_off=False)
    wait_until(lambda: first.shell(ANSWER).stdout == "hello", 20, "no answer")


def test_killed_host_leaves_no_process(hosts: Hosts) -> None:
    first, *_ = hosts
    first.start("sleep", "1000")
    wait_until(lambda: bool(first.processes("sleep 1000")), 10, "no process")
    sleeper = first.processes("sleep 1000")[-1]

    first.kill()

    wait_until(lambda: not sleeper.is_running(), 10, "it lives on")
