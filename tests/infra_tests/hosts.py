"""Hosts on one machine: each has its own network, processes, /tmp, /dev/shm, home and names.

They are namespaces whose first process dies with this one, so nothing is left behind, and several
sets of hosts exist side by side with the same addresses. Only root may make them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
"""Of the project, whose code the hosts run."""
NETWORK = "10.77.0"
SETTINGS = ("RAY_", "AFFECTUNE_", "MLFLOW_", "AWS_", "TUNE_", "PYTEST_", "XDG_", "TMPDIR")
"""What the names of variables begin with that no host takes over from this process."""
PREPARE = """
set -e
mount --make-rprivate /
mkdir "$BASE/kept"
for folder in "$@"; do
  mkdir -p "$BASE/kept$folder"; mount --bind "$folder" "$BASE/kept$folder"
done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
for folder in "$@"; do
  mkdir -p "$folder"; mount --bind "$BASE/kept$folder" "$folder"
done
mount --bind "$NAMES" /etc/hosts
hostname "$NAME"
ip link set lo up
touch "$BASE/ready"
while :; do sleep 1 & wait $!; done
"""
"""What the first process of a host does: the rest of its life it reaps what others left behind."""


def reason_to_skip() -> str | None:
    """Return why no hosts can be made here; None where they can."""
    if sys.platform != "linux":
        return "hosts are namespaces of Linux"
    missing = [name for name in ("ip", "unshare", "nsenter", "setpriv") if not shutil.which(name)]
    if missing:
        return f"hosts need {', '.join(missing)}"
    probe = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "mount", "--make-rprivate"]
    if subprocess.run([*probe, "/"], capture_output=True, check=False).returncode:
        return "hosts are namespaces, which only root may make"
    return None


class Host:
    """One host of several.

    Attributes:
        name: by which the others reach it.
        address: its IP address.
        home: its own home folder.
        variables: that all of its processes get.
    """

    def __init__(self, number: int, base: Path, names: Path) -> None:
        self.name = f"host{number}"
        self.address = f"{NETWORK}.{number}"
        self._base = base / self.name
        self.home = self._base / "home"
        self.home.mkdir(parents=True)
        self.variables: dict[str, str] = {}
        self._names = names
        self._started: list[subprocess.Popen[bytes]] = []
        self._start()

    def _start(self) -> None:
        kept = [str(ROOT), sys.prefix, sys.base_prefix, str(self._base.parent)]
        self._first = subprocess.Popen(
            [
                *(
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    "unshare",
                    "--net",
                    "--mount",
                    "--pid",
                    "--uts",
                ),
                *("--ipc", "--fork", "--kill-child", "--mount-proc", "sh", "-c", PREPARE, "host"),
                *(folder for folder in dict.fromkeys(kept) if folder.startswith("/tmp/")),
            ],
            env=os.environ
            | {"BASE": str(self._base), "NAMES": str(self._names), "NAME": self.name},
        )
        wait_until((self._base / "ready").exists, 20.0, f"{self.name} is not ready")
        self.pid = psutil.Process(self._first.pid).children()[0].pid

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the variables of this host's processes; those of this process that matter."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        path = f"{Path(sys.executable).parent}:{own['PATH']}"
        inherited = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(self.home)}
        return own | inherited | {"PATH": path} | self.variables | dict(extra or {})

    def command(self, *arguments: str) -> list[str]:
        """Return a command line that runs another one in this host."""
        return [
            *("nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", "--uts", "--ipc"),
            *(f"--wd={self.home}", *arguments),
        ]

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `output.stdout` has both streams."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def shell(
        self, script: str, env: Mapping[str, str] | None = None, timeout_s: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell, as a person would type them."""
        return self.run("bash", "-ec", script, env=env, timeout_s=timeout_s)

    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None, output: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command; what it says goes to a file, or nowhere.

        The process is nsenter's: end the command itself with `end`.
        """
        stream = open(output, "ab") if output else subprocess.DEVNULL  # noqa: SIM115
        with contextlib.ExitStack() as stack:
            if not isinstance(stream, int):
                stack.enter_context(stream)
            process = subprocess.Popen(
                self.command(*arguments),
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def end(
        self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM, wait_s: float = 60.0
    ) -> int:
        """Send a signal to a started command, and return its exit status."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                child.send_signal(number)
        return process.wait(wait_s)

    def processes(self, text: str = "") -> list[psutil.Process]:
        """Return this host's processes whose command line has a text, but for its first."""
        space = _space(self.pid)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                is_here = process.pid != self.pid and _space(process.pid) == space
                if is_here and text in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill(self) -> None:
        """End all of its processes at once, as a power failure does."""
        self._first.kill()
        for process in (self._first, *self._started):
            process.wait(60)


class Hosts:
    """Some hosts on one network, and a folder that all of them see at the same path."""

    def __init__(self, count: int, base: Path) -> None:
        self.shared = base / "shared"
        self.shared.mkdir()
        self.names = base / "names"
        self.aliases: dict[str, str] = {}
        self.resolve()
        self._switch = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
        )
        wait_until(lambda: _net(self._switch.pid) != _net(os.getpid()), 20.0, "no switch")
        self._in_switch("ip link add bridge type bridge && ip link set bridge up")

        self.hosts = [Host(number + 1, base, self.names) for number in range(count)]
        for host in self.hosts:
            self._connect(host)

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts)

    def __getitem__(self, number: int) -> Host:
        return self.hosts[number]

    def resolve(self, *, is_known: bool = True) -> None:
        """Let names be resolved, or no longer."""
        lines = ["127.0.0.1 localhost"]
        if is_known:
            lines += [f"{NETWORK}.{number} host{number}" for number in range(1, 30)]
            lines += [f"{address} {alias}" for alias, address in self.aliases.items()]
        with open(self.names, "w", encoding="ascii") as file:  # in place: it is mounted
            file.write("\n".join(lines) + "\n")

    def name(self, alias: str, host: Host) -> None:
        """Give a host a further name, by which all of them reach it."""
        self.aliases[alias] = host.address
        self.resolve()

    def cut_off(self, host: Host, *, is_cut_off: bool = True) -> None:
        """Cut a host off from the others, or connect it again."""
        self._in_switch(f"ip link set {host.name} {'down' if is_cut_off else 'up'}")

    def close(self) -> None:
        """End all processes of all hosts."""
        for host in self.hosts:
            host.kill()
        self._switch.kill()
        self._switch.wait()

    def _connect(self, host: Host) -> None:
        self._in_switch(
            f"ip link add {host.name} type veth peer name eth0 netns {host.pid} && "
            f"ip link set {host.name} master bridge up"
        )
        enter = ["nsenter", "--target", str(host.pid), "--net", "sh", "-ec"]
        script = f"ip address add {host.address}/24 dev eth0; ip link set eth0 up"
        subprocess.run([*enter, script], check=True)

    def _in_switch(self, script: str) -> None:
        enter = ["nsenter", "--target", str(self._switch.pid), "--net", "sh", "-ec"]
        subprocess.run([*enter, script], check=True)


@contextlib.contextmanager
def make_hosts(count: int) -> Iterator[Hosts]:
    """Make hosts on one network: host1 is 10.77.0.1, and so on."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as base:
        hosts = Hosts(count, Path(base))
        try:
            yield hosts
        finally:
            hosts.close()


def wait_until(is_so: object, timeout_s: float, message: str) -> None:
    """Wait until a function says yes.

    Raises:
        TimeoutError: it did not in time.
    """
    assert callable(is_so)
    end = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(message)
        time.sleep(0.1)


def _space(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/pid").st_ino


def _net(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/net").st_ino
