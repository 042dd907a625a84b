"""What a study on three hosts endures: SIGKILLs of workers, raylets, the head and the driver.

The store is an S3 server, and MLflow has PostgreSQL where that is installed. AFFECTUNE_BENCH_KILLS
(5) says how many of each. Needs root, as hosts do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from random import Random

from tests.benchmarks.rows import Row
from tests.infra_tests.hosts import Host, Hosts, make_hosts, reason_to_skip, wait_until
from tests.infra_tests.ray_cluster import (
    StudyOnHosts,
    fitting,
    kill,
    start_cluster,
    start_head,
    start_node,
)
from tests.infra_tests.s3_server import BUCKET, PORT, serve_s3
from tests.infra_tests.tracking_server import start_tracking_server
from tuning.journal.history import History
from tuning.mlflow_backend.tracking.study_runs import STUDY_TAG

KILLS = "AFFECTUNE_BENCH_KILLS"
EPOCHS, TRIALS = 100, 6
PARTITION_S = 60.0
MAX_REPEATED_S = 15.0
STALLED_S = 400.0
RUNS = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
experiments = [each.experiment_id for each in client.search_experiments()]
filter = "tags.`affectune.kind` = 'trial'"
runs = client.search_runs(experiments, filter, max_results=5000)
print(json.dumps([[run.data.tags[sys.argv[2]], run.info.run_name] for run in runs]))
"""
"""Prints study and name of every trial of a tracking server."""


def host_kills_rows() -> list[Row]:
    """Disturb studies on three hosts until all kills are done, and compare their winners."""
    if reason := reason_to_skip():
        print(f"HOST_KILLS IS SKIPPED: {reason}.", file=sys.stderr)
        return []
    num_kills = int(os.environ.get(KILLS, "5"))
    with make_hosts(3) as hosts:
        return _Disturbance(hosts, num_kills).rows()


class _Disturbance:
    """Studies on hosts, and what is killed meanwhile."""

    def __init__(self, hosts: Hosts, num_kills: int) -> None:
        self.hosts, self.random = hosts, Random(0)
        kinds = ("worker", "raylet", "head", "driver")
        self.plan = [kind for kind in kinds for _ in range(num_kills)]
        self.random.shuffle(self.plan)
        self.plan.insert(len(self.plan) // 2, "partition")
        self.num_kills = len(self.plan)
        self.repeated_s: dict[str, list[float]] = {}
        self.options = ["--wait-for-cluster", "10m"]
        self.tracking = start_tracking_server(hosts)
        variables = serve_s3(hosts[0])
        for host in hosts:
            host.variables = variables
        start_cluster(hosts)

    def rows(self) -> list[Row]:
        """Run an undisturbed study, then disturbed ones; return what was lost."""
        undisturbed = self._study("undisturbed")
        output = self.hosts[1].run(*undisturbed.words("--tracking-uri", self.tracking))
        if output.returncode:
            raise RuntimeError(output.stdout)
        winner = _winner(undisturbed.history())

        lost, doubled, same, number = 0, 0, 0, 0
        while self.plan:
            number += 1
            study = self._study(f"disturbed-{number}")
            self._disturb(study)
            history = study.history()
            lost += sum(
                trial.ended is None or trial.ended.reason == "error"
                for trial in history.trials.values()
            )
            doubled += _doubled(study, self.tracking, self.hosts[1])
            same += _winner(history) == winner
        repeated = [second for seconds in self.repeated_s.values() for second in seconds]
        print({kind: [round(s, 1) for s in seconds] for kind, seconds in self.repeated_s.items()})
        figures = {
            "host kills": (self.num_kills, self.num_kills, "kills"),
            "trials lost": (lost, 0, "trials"),
            "trials doubled in journal or MLflow": (doubled, 0, "trials"),
            "most training repeated after a kill": (max(repeated), MAX_REPEATED_S, "s"),
            "studies with the undisturbed winner": (same, number, "studies"),
        }
        return [
            Row(name, float(ours), float(bar), unit, float(bar) / ours if ours else 1.0)
            for name, (ours, bar, unit) in figures.items()
        ]

    def _study(self, name: str) -> StudyOnHosts:
        # What early stopping decides depends on which fit reports first.
        study = StudyOnHosts(self.hosts, name, epochs=EPOCHS, trials=TRIALS, is_stopped_early=False)
        study.store = f"s3://{BUCKET}/{name}"
        return study

    def _start(self, study: StudyOnHosts) -> subprocess.Popen[bytes]:
        options = [*self.options, "--tracking-uri", self.tracking, "--resume"]
        return study.start(self.hosts[1], *options)

    def _disturb(self, study: StudyOnHosts) -> None:
        """Run a study to its end, with the next kills of the plan at random moments."""
        process = self._start(study)
        ended_at, num_ended = time.monotonic(), 0
        next_at = float("inf")
        while (status := process.poll()) is None or status == -9:
            if status is not None:
                process = self._start(study)
            if study.num_ended != num_ended:
                ended_at, num_ended = time.monotonic(), study.num_ended
            if time.monotonic() - ended_at > STALLED_S:
                raise RuntimeError(f"The study stands still: {study.said[-3000:]}")
            is_busy = any(fitting(host) for host in self.hosts)
            if not is_busy:
                next_at = float("inf")
            elif next_at == float("inf"):
                next_at = time.monotonic() + self.random.uniform(0.5, 8.0)
            if self.plan and time.monotonic() > next_at:
                kind = self.plan.pop()
                seconds = self._since_last_state_s(study)
                self.repeated_s.setdefault(kind, []).append(seconds)
                print(f"{kind}, {num_ended} fits ended", flush=True)
                if kind == "driver":
                    self._kill_driver(study, process)
                    process = self._start(study)
                else:
                    self._kill(kind)
                next_at = float("inf")
            time.sleep(0.2)
        if status:
            raise RuntimeError(f"It ended with status {status}: {study.said[-3000:]}")

    def _since_last_state_s(self, study: StudyOnHosts) -> float:
        """Return how many seconds of training a kill costs at most: since a fit's last state.

        The S3 server says when a state was written, to the second. A fit that waits for a worker
        trains nothing.
        """
        s3 = self.hosts[0]
        workers = [worker for host in self.hosts for worker in fitting(host)]
        started_at = min((worker.create_time() for worker in workers), default=time.time())
        seconds = []
        for trial in study.history().trials.values():
            if trial.ended is None:
                begun = max(trial.proposed.at, started_at)
                entry = study.store.removeprefix("s3://") + f"/{trial.proposed.key}-checkpoint.zip"
                answer = s3.shell(f"curl -sI http://{s3.name}:{PORT}/{entry}").stdout
                if written := re.search(r"(?im)^last-modified: (.+?)\r?$", answer):
                    begun = max(begun, parsedate_to_datetime(written[1]).timestamp())
                seconds.append(time.time() - begun)
        return max(seconds, default=0.0)

    def _kill_driver(self, study: StudyOnHosts, process: subprocess.Popen[bytes]) -> None:
        kill(self.hosts[1].processes(str(study.file)))
        process.wait(60)

    def _kill(self, kind: str) -> None:
        head, *nodes = self.hosts
        if kind == "worker":
            kill(self.random.sample([w for host in nodes for w in fitting(host)][:2], 1))
        elif kind == "raylet":
            node = self.random.choice(nodes)
            kill(node.processes("raylet/raylet"))
            self._restart(node)
        elif kind == "head":
            kill(head.processes("gcs_server"))
            head.shell("ray stop --force")
            start_head(head, "--num-cpus=0")
            for node in nodes:
                self._restart(node)
        else:
            self.hosts.cut_off(nodes[1])
            time.sleep(PARTITION_S)
            self.hosts.cut_off(nodes[1], is_cut_off=False)
            self._restart(nodes[1])

    def _restart(self, node: Host) -> None:
        # A driver without a raylet beside it joins with one of its own, which may come meanwhile.
        before = {raylet.pid for raylet in node.processes("raylet/raylet")}
        node.shell("ray stop --force")

        def is_stopped() -> bool:
            return before.isdisjoint(raylet.pid for raylet in node.processes("raylet/raylet"))

        wait_until(is_stopped, 60, "a raylet stays")
        start_node(self.hosts, node, "--num-cpus=1")


def _winner(history: History) -> object:
    """Return which configurations were chosen for every task, the best first."""
    return {
        str(task): [finalist.configuration for finalist in finalists]
        for task, finalists in history.completed.items()
    }


def _doubled(study: StudyOnHosts, tracking: str, host: Host) -> int:
    """Return how many trials the journal ended twice, or MLflow has twice."""
    lines = (study.out / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    names = [line.split('"trial":"')[1][:4] for line in lines if '"event":"trial_ended"' in line]
    # On a host: this process does not reach their network.
    output = host.run("python", "-c", RUNS, tracking, STUDY_TAG)
    runs = json.loads(output.stdout.splitlines()[-1])
    counters = (Counter(names), Counter(tuple(run) for run in runs))
    return sum(number - 1 for counter in counters for number in counter.values())
