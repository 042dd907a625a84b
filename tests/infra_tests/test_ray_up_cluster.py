"""`ray up`, `exec` and `down` of workstations, between hosts: as a person types them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.infra_tests import remote_shell
from tests.infra_tests.hosts import Host, Hosts, wait_until
from tests.infra_tests.test_ray_up import FOLDER, NAMES, read

pytestmark = pytest.mark.cluster
FILE = "infra/ray/workstations.yaml"
TOKEN = Path(".ray/auth_token")


def _write_program(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="ascii")
    path.chmod(0o755)


def _prepare(host: Host, folder: Path) -> None:
    """Give a host what stands for ssh, rsync and the installed wheel."""
    own = Path(sys.executable).parent
    for program in ("ssh", "rsync"):
        line = f'exec {sys.executable} {remote_shell.__file__} {program} "$@"'
        _write_program(folder / program, line)
    for program in ("ray", "affectune"):
        _write_program(folder / program, f'exec {own / program} "$@"')
    # pip, which would ask an index; what it is told is kept.
    _write_program(folder / "python", f'echo "$*" >> {host.home}/pip.txt')


def _ray(laptop: Host, *words: str) -> str:
    """Run a command of Ray in the project's folder, and return what it says."""
    path = f"{laptop.home}/bin:{laptop.environment()['PATH']}"
    env = {"RAY_AUTH_MODE": "token", "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    done = laptop.shell(f"cd project && exec ray {' '.join(words)}", env=env)
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def _make_project(laptop: Host, head: Host, worker: Host) -> None:
    """Make the parts of the project that `ray up` reads, with the names of two workstations."""
    project = laptop.home / "project"
    (project / "dist").mkdir(parents=True)
    (project / "dist/affectune-0-py3-none-any.whl").touch()
    shutil.copy(FOLDER.parents[1] / "constraints.txt", project)
    values = read("workstations")
    values["provider"] |= {"head_ip": head.name, "worker_ips": [worker.name]}
    (project / FILE).parent.mkdir(parents=True)
    (project / FILE).write_text(yaml.safe_dump(values, sort_keys=False))
    key = laptop.home / ".ssh/id_ed25519"
    key.parent.mkdir()
    key.write_text("a key that nobody asks for")


def test_workstations_become_a_cluster_that_asks_for_the_token(hosts: Hosts) -> None:
    head, worker, laptop = hosts
    for host in (head, worker):
        _prepare(host, host.home / "affectune/venv/bin")
        host.start(sys.executable, remote_shell.__file__, "serve", host.address)
    _prepare(laptop, laptop.home / "bin")
    _make_project(laptop, head, worker)
    _ray(laptop, "get-auth-token", "--generate")
    (laptop.home / TOKEN).chmod(0o600)

    _ray(laptop, "up", "--yes", FILE)
    try:
        wait_until(lambda: bool(worker.processes("raylet/raylet")), 300, "the worker did not join")
    except TimeoutError as error:
        logs = head.shell("tail -n 40 /tmp/ray/session_latest/logs/monitor.*").stdout
        raise AssertionError(logs) from error

    for host in (head, worker):
        kept = host.home / TOKEN
        assert kept.read_text() == (laptop.home / TOKEN).read_text()
        assert kept.stat().st_mode & 0o077 == 0
        assert "--constraint" in (host.home / "pip.txt").read_text()
        assert (host.home / "affectune/constraints.txt").is_file()
    both = f"/{2 * (os.cpu_count() or 1)}.0 CPU"
    wait_until(lambda: both in _ray(laptop, "exec", FILE, "'ray status'"), 240, "one node only")
    stranger = worker.shell("ray status --address host1:6379", env={"RAY_AUTH_MODE": "disabled"})
    assert stranger.returncode != 0

    _ray(laptop, "down", "--yes", FILE)
    assert not head.processes("raylet/raylet")


@pytest.mark.parametrize("name", NAMES)
def test_ray_takes_the_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(read(name))
    validate_config(prepared)
    assert prepared["max_workers"] > 0
    assert all("min_workers" in each for each in prepared["available_node_types"].values())


@pytest.mark.parametrize("name", NAMES)
def test_ray_start_knows_its_options(name: str) -> None:
    from ray.scripts.scripts import start

    values = read(name)
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        *_, line = values[key]
        words = line.partition("ray start ")[2].split()
        assert start.make_context("start", words).params["head"] == key.startswith("head")
