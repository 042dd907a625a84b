"""Which programs of this user listen where other machines reach them: Ray, MLflow, Affectune."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from pipeline.doctor.finding import Finding
from pipeline.local_ray.listening import Listener, commands_of_user, listeners_of

CHECK = "open ports"
PROGRAMS = {
    "Ray": re.compile(r"\braylet\b|\bgcs_server\b|\bray::|/ray/|\bray start\b|\bray_|ray\.util"),
    "MLflow": re.compile(r"\bmlflow\b.*\b(server|ui)\b|\bmlflow\.server\b"),
    "Affectune": re.compile(r"\baffectune\b"),
}
"""What the command lines of their processes hold; the first that fits says whose one is."""
MENDS = {
    "Ray": "In a cluster it must: let a firewall leave these ports to its nodes, and ask for a "
    "token (RAY_AUTH_MODE=token). Else start it with --node-ip-address=127.0.0.1",
    "MLflow": "Who reaches it can change models, unless it asks for a password: start it with "
    "--host 127.0.0.1, or put a server before it that asks",
    "Affectune": "Set --host 127.0.0.1, or see to it that it asks for a token (--token-file)",
}
MAX_PORTS = 6


def check_open_ports(
    commands: Callable[[], Mapping[int, str]] = commands_of_user,
    listeners: Callable[[Iterable[int]], list[Listener]] = listeners_of,
) -> Iterator[Finding]:
    """Look at which ports Ray, MLflow and Affectune of this user listen beyond loopback.

    Args:
        commands: returns the command line of every process of this user.
        listeners: returns where processes listen.
    """
    programs = {process: program_of(command) for process, command in commands().items()}
    processes = [process for process, program in programs.items() if program]
    ports: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for listener in listeners(processes):
        if not listener.is_on_loopback():
            ports[programs[listener.process]].add((listener.port, listener.address))

    for program in sorted(ports):
        found = sorted(ports[program])
        shown = ", ".join(f"{port} ({address})" for port, address in found[:MAX_PORTS])
        more = f" and {len(found) - MAX_PORTS} more" if len(found) > MAX_PORTS else ""
        said = f"{program} listens for other machines at port {shown}{more}"
        yield Finding(CHECK, "warning", said, MENDS[program])
    if not ports:
        yield Finding(CHECK, "ok", f"none of {', '.join(PROGRAMS)} listens beyond loopback")


def program_of(command: str) -> str:
    """Return which of the programs a command line is of; "" where it is of none."""
    return next((name for name, pattern in PROGRAMS.items() if pattern.search(command)), "")
