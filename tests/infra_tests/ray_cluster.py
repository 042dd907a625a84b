"""A Ray cluster on hosts, made by the commands that the documentation gives, and studies on it."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from pipeline.data.synthetic.corpus import synthesize
from tests.infra_tests.hosts import ROOT, Host, Hosts, wait_until
from tests.infra_tests.small_study import small_study
from tuning.journal.history import History, read_history

DOCUMENT = ROOT / "docs" / "cluster.md"
TOKEN = Path(".ray") / "auth_token"
HEAD = "host1:6379"
NUM_TRIES = 3

SCP = """#!/bin/sh
# Stands for scp, because no host runs an ssh server: HOST:PATH to a file here.
exec cp --preserve=mode "$HOMES/${1%%:*}/home/${1#*:}" "$2"
"""


def commands(heading: str) -> list[str]:
    """Return the blocks of commands below a heading of the documentation, word for word."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def with_scp(hosts: Hosts, host: Host) -> dict[str, str]:
    """Return variables with which `scp` copies from another host."""
    folder = hosts.shared / "programs"
    folder.mkdir(exist_ok=True)
    program = folder / "scp"
    program.write_text(SCP, encoding="ascii")
    program.chmod(0o755)
    path = f"{folder}:{host.environment()['PATH']}"
    return {"PATH": path, "HOMES": str(hosts.shared.parent)}


def start_head(host: Host, *options: str) -> None:
    """Start a head with the documented commands; more options may follow the last."""
    script, _ = commands("Start the cluster")
    _run(host, script.rstrip() + " " + shlex.join(options), {})


def start_node(hosts: Hosts, host: Host, *options: str) -> None:
    """Start another node with the documented commands."""
    _, script = commands("Start the cluster")
    _run(host, script.rstrip() + " " + shlex.join(options), with_scp(hosts, host))


def start_cluster(hosts: Hosts) -> None:
    """Start a head that runs no trials on the first host, and a node of one core on the others."""
    first, *others = hosts
    start_head(first, "--num-cpus=0", "--include-dashboard=false")
    for host in others:
        start_node(hosts, host, "--num-cpus=1")


def _run(host: Host, script: str, env: dict[str, str]) -> None:
    """Run a script that starts a node, again where a busy machine took Ray's 30 s for it."""
    for _ in range(NUM_TRIES):
        output = host.shell(script, env=env, timeout_s=180)
        if not output.returncode:
            return
        host.shell("ray stop --force")
        if "timed out during startup" not in output.stdout:
            break
    raise RuntimeError(f"{host.name}: {output.stdout}")


class StudyOnHosts:
    """A study in the folder that hosts share.

    Args:
        hosts: that see the folder.
        name: of the study's folder.
        epochs: of a regressor.
        trials: of each search of regressors.
        is_stopped_early: see `small_study`.

    Attributes:
        store: of trained stages.
    """

    def __init__(
        self,
        hosts: Hosts,
        name: str = "small",
        *,
        epochs: int = 6,
        trials: int = 3,
        is_stopped_early: bool = True,
    ) -> None:
        self.shared = hosts.shared
        self.out = hosts.shared / name
        self.output = hosts.shared / f"{name}.txt"
        self.file = hosts.shared / f"{name}.toml"
        text = small_study(epochs=epochs, trials=trials, is_stopped_early=is_stopped_early)
        self.file.write_text(text, encoding="utf-8")
        self.store = str(hosts.shared / "store")
        self.corpus = hosts.shared / "corpus"
        if not self.corpus.exists():
            synthesize(self.corpus, subjects=6, minutes=1, seed=0, preset="small")

    def words(self, *options: str) -> list[str]:
        """Return the command; what options leave open is given."""
        words = ["affectune", "study", "run", str(self.file), "--corpus", str(self.corpus)]
        words += ["--out", str(self.out), "--store", self.store, *options]
        given = {"--address": HEAD, "--tracking-uri": f"sqlite:///{self.shared}/mlflow.db"}
        for option, value in given.items():
            words += [] if option in options else [option, value]
        return words

    def run(
        self, host: Host, *options: str, timeout_s: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return host.run(*self.words(*options), timeout_s=timeout_s)

    def start(self, host: Host, *options: str) -> subprocess.Popen[bytes]:
        """Start it; what it says is in `said`."""
        return host.start(*self.words(*options), output=self.output)

    @property
    def said(self) -> str:
        """What it has said until now."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""

    @property
    def num_ended(self) -> int:
        """How many fits have ended."""
        journal = self.out / "journal.jsonl"
        return journal.read_bytes().count(b'"event":"trial_ended"') if journal.exists() else 0

    def wait_for_fits(self, number: int, timeout_s: float = 120.0) -> None:
        """Wait until so many fits have ended."""
        try:
            wait_until(lambda: self.num_ended >= number, timeout_s, "")
        except TimeoutError:
            raise AssertionError(f"too few fits: {self.said}") from None

    def history(self) -> History:
        """Read the journal."""
        return read_history(self.out)


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill processes at once."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def fitting(host: Host) -> list[psutil.Process]:
    """Return the workers of a host that are in the middle of a trial."""
    return host.processes("Trainable.")


def wait_for_end(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[int, float]:
    """Return the exit status of a started command, and the seconds that it took to end."""
    begin = time.monotonic()
    return process.wait(timeout_s), time.monotonic() - begin
