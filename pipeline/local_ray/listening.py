"""Where this process, and those that it started, listen for others. Reads /proc; knows no Ray."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import AffectuneError

PROC = Path("/proc")
LISTENS = "0A"
"""Linux's number of the state of a socket that waits for connections."""
TABLES = {"tcp": 4, "tcp6": 16}
"""The tables of a process's network, with the number of bytes of an address."""


@dataclass(frozen=True, order=True)
class Listener:
    """A TCP port at which somebody can connect to a process.

    Attributes:
        address: an IP address without brackets; 0.0.0.0 or :: for all of this machine's.
        port: its number.
        process: of the process that listens, its id.
    """

    address: str
    port: int
    process: int

    def is_on_loopback(self) -> bool:
        """Return whether only this machine reaches it."""
        return is_loopback(self.address)


def is_loopback(host: str) -> bool:
    """Return whether a host, by its name or its IP address, is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def raise_if_reachable(*, before: Iterable[Listener] = (), port: int | None = None) -> None:
    """Refuse to go on where this process, or one that it started, listens beyond loopback.

    A library's new version could open a port that lets whoever reaches it run code.

    Args:
        before: what listened before, for other reasons.
        port: of the one service that is meant for others.

    Raises:
        AffectuneError: a process listens at another port.
    """
    for listener in sorted({*own_listeners()} - {*before}):
        if listener.port != port and not listener.is_on_loopback():
            name = _command(listener.process)
            raise AffectuneError(
                f"'{name}' (process {listener.process}) listens at {listener.address}, port "
                f"{listener.port}, where other machines may reach it, and must not. Unset what you "
                "have set of RAY_*, and use the pinned version of Ray."
            )


def own_listeners() -> list[Listener]:
    """Return where this process, and those that it started, listen; nothing without /proc."""
    return listeners_of(_descendants(os.getpid()))


def listeners_of(processes: Iterable[int]) -> list[Listener]:
    """Return where processes listen, as far as this user may know; nothing without /proc."""
    return [listener for process in processes for listener in _listeners(process)]


def commands_of_user() -> dict[int, str]:
    """Return the command line of every process of this user, by its id."""
    commands = {}
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            if folder.stat().st_uid == os.geteuid():
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                commands[int(folder.name)] = words.decode(errors="replace").strip()
    return commands


def _descendants(process: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        parent = _parent(folder)
        if parent is not None:
            children.setdefault(parent, []).append(int(folder.name))

    found = [process]
    for member in found:
        found += children.get(member, [])
    return found


def _listeners(process: int) -> Iterator[Listener]:
    """Yield where a process listens; nothing where it has just ended."""
    folder = PROC / str(process)
    inodes = set(_socket_inodes(folder / "fd"))
    for table, num_bytes in TABLES.items():
        try:
            lines = (folder / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and inode in inodes:
                address, _, port = local.partition(":")
                yield Listener(_address(address, num_bytes), int(port, 16), process)


def _socket_inodes(folder: Path) -> Iterator[str]:
    try:
        descriptors = list(folder.iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # it has just been closed
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target.removeprefix("socket:[").removesuffix("]")


def _address(text: str, num_bytes: int) -> str:
    """Read an address as the kernel prints it: words of 32 bits in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, num_bytes * 2, 8)]
    address = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _parent(folder: Path) -> int | None:
    try:
        stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])  # a name may have brackets of its own


def _command(process: int) -> str:
    try:
        text = (PROC / str(process) / "cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return "a process"
    return text.decode(errors="replace").strip()[:80]
