"""infra/slurm/study.sbatch on a real Slurm of three hosts: studies side by side, and requeued."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.data.synthetic.corpus import synthesize
from tests.infra_tests.hosts import ROOT, Host, Hosts, wait_until
from tests.infra_tests.small_study import small_study
from tests.tuning_tests.command import num_ended_fits
from tuning.journal.events import StudyFinished, StudyResumed, StudyStopped
from tuning.journal.file import JOURNAL, read_journal

pytestmark = pytest.mark.cluster

SCRIPT = ROOT / "infra" / "slurm" / "study.sbatch"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONFIGURATION = """
ClusterName=test
SlurmctldHost=host1
SlurmUser=root
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
KillWait=10
SchedulerParameters=sched_interval=5
SlurmctldPidFile=/tmp/slurmctld.pid
SlurmdPidFile=/tmp/slurmd.pid
SlurmdSpoolDir=/tmp/slurmd
StateSaveLocation={shared}/state
SlurmctldLogFile={shared}/slurmctld.log
SlurmdLogFile={shared}/slurmd-%h.log
NodeName=host[1-3] CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
STUDY = small_study(epochs=10, trials=4, is_stopped_early=False)
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


class Slurm:
    """Slurm on hosts, asked from the first."""

    def __init__(self, hosts: Hosts) -> None:
        self.shared, self.login = hosts.shared, hosts[0]
        configuration = self.shared / "slurm.conf"
        configuration.write_text(CONFIGURATION.format(shared=self.shared))
        (self.shared / "state").mkdir()
        self.environment = {"SLURM_CONF": str(configuration)}
        self._start(hosts[0], "slurmctld", "-D")
        for host in hosts:
            self._start(host, "slurmd", "-D", "-N", host.name)
        wait_until(lambda: self("sinfo -h -t idle -o %D").strip() == "3", 30.0, self("sinfo -Rl"))

    def _start(self, host: Host, *command: str) -> None:
        host.start(*command, env=self.environment)

    def __call__(self, line: str) -> str:
        """Run a line as a user of Slurm does; return what it said."""
        return self.login.shell(
            f"cd {self.shared} && {line} || true", self.environment, timeout_s=60
        ).stdout

    def submit(self, name: str, *options: str) -> str:
        """Submit the script for the study; it has everything of its own in a folder."""
        folder = self.shared / name
        folder.mkdir()
        study = "study.toml --corpus corpus --out OUT --store STORE --tracking-uri sqlite:///OUT.db"
        for word in ("OUT", "STORE"):
            study = study.replace(word, f"{name}/{word.lower()}")
        line = f"sbatch --parsable --nodelist=host1,host2 --cpus-per-task=1 {' '.join(options)}"
        job = self(f"{line} --output={name}/log {SCRIPT} {study}").strip()
        assert job.isdigit(), job
        return job

    def state(self, job: str) -> str:
        """Return a job's state, such as RUNNING."""
        return self(f"scontrol -o show job {job} | grep -oP ' JobState=\\K\\w+'").strip()

    def log(self, name: str) -> str:
        """Return what a job wrote."""
        path = self.shared / name / "log"
        return path.read_text() if path.exists() else ""

    def wait(self, job: str, name: str) -> None:
        """Wait until a job has completed."""
        wait_until(lambda: self.state(job) in ENDED, 240.0, f"{self.state(job)}: {self.log(name)}")
        assert self.state(job) == "COMPLETED", self.log(name)


@pytest.fixture
def slurm(hosts: Hosts) -> Slurm:
    """Slurm on three hosts, and a corpus and a study that all of them see."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: install slurm-wlm")
    synthesize(hosts.shared / "corpus", subjects=6, minutes=0.25, seed=0, preset="small")
    (hosts.shared / "study.toml").write_text(STUDY)
    return Slurm(hosts)


def _winner(folder: Path) -> tuple[object, object]:
    """Return what the search found: the scores, and the judgement."""
    summary = json.loads((folder / "out" / "summary.json").read_text())
    return summary["targets"], summary["judgement"]


def test_a_job_before_its_time_limit_is_requeued_and_finds_the_same_winner(
    slurm: Slurm, hosts: Hosts
) -> None:
    undisturbed = slurm.submit("first")
    disturbed = slurm.submit("second")  # on the same two nodes, at the same time

    wait_until(
        lambda: num_ended_fits(slurm.shared / "second" / "out") >= 4,
        200.0,
        "no fits",
    )
    token = slurm.shared / ".affectune" / f"slurm-{disturbed}" / "token"
    before = token.read_text()
    assert len(before) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    for host in hosts:
        said = " ".join(word for process in host.processes() for word in process.cmdline())
        assert before not in said
    slurm(f"scancel --signal=USR1 --batch {disturbed}")  # as --signal does before the limit

    slurm.wait(undisturbed, "first")
    slurm.wait(disturbed, "second")
    assert "Restarts=1" in slurm(f"scontrol -o show job {disturbed}"), slurm.log("second")
    events = [event for event, _ in read_journal(slurm.shared / "second" / "out" / JOURNAL)]
    kinds = [
        type(event)
        for event in events
        if isinstance(event, StudyStopped | StudyResumed | StudyFinished)
    ]
    assert kinds == [StudyStopped, StudyResumed, StudyFinished]
    assert _winner(slurm.shared / "second") == _winner(slurm.shared / "first")

    for host in hosts:  # nothing of either job is left
        wait_until(lambda host=host: not host.processes("ray"), 20.0, "processes of Ray are left")
        assert not host.shell("ls -d /tmp/af*").stdout.startswith("/tmp")
    assert not list((slurm.shared / ".affectune").glob("slurm-*"))


def test_a_job_that_cannot_start_its_study_says_so_and_is_not_requeued(slurm: Slurm) -> None:
    options = "--nodelist=host3 --nodes=1 --cpus-per-task=1 --output=log"
    job = slurm(f"sbatch --parsable {options} {SCRIPT} absent.toml").strip()
    wait_until(lambda: slurm.state(job) in ENDED, 60.0, "it goes on")

    assert slurm.state(job) == "FAILED"
    assert "absent.toml" in (slurm.shared / "log").read_text()
    assert not list((slurm.shared / ".affectune").glob("*/token"))
