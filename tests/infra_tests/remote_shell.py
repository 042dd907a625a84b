"""Stands for an SSH server, ssh and rsync, which hosts made as namespaces do not have.

As a program on a host it takes command lines from others and runs them in a shell; under the names
`ssh` and `rsync` it sends one. It guards nothing, and is for tests alone.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import socket
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

PORT = 2222
OPTIONS_WITH_VALUE = ("-i", "-o", "-L", "--rsh", "--exclude", "--filter")


def serve(address: str) -> None:
    """Run what comes, until this process ends."""
    with socket.create_server((address, PORT)) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    """Run one command with what it is to read, and send back output and status."""
    with connection:
        stream = connection.makefile("rb")
        command, size = json.loads(stream.readline())
        output = subprocess.run(
            ["bash", "-c", command],
            input=stream.read(size),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=Path.home(),
            check=False,
        )
        connection.sendall(struct.pack("!i", output.returncode) + output.stdout)


def ask(target: str, command: str, data: bytes = b"") -> int:
    """Run a command on another host; print its output, and return its status."""
    with socket.create_connection((target.rpartition("@")[2], PORT), 10) as connection:
        connection.settimeout(300)
        connection.sendall(json.dumps([command, len(data)]).encode() + b"\n" + data)
        answer = connection.makefile("rb").read()
    os.write(1, answer[4:])
    return int(struct.unpack("!i", answer[:4])[0])


def _after_options(arguments: list[str]) -> list[str]:
    """Return the arguments from the first one that is no option."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        del rest[: 2 if rest[0] in OPTIONS_WITH_VALUE else 1]
    return rest


def _copy(source: str, destination: str) -> int:
    """Copy a file, or what is in a folder whose name ends in a slash, to another host."""
    target, _, path = destination.partition(":")
    is_folder, packed = source.endswith("/"), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(source, arcname="." if is_folder else Path(path).name)
    folder = path if is_folder else str(Path(path).parent)
    place = folder.replace("~", '"$HOME"', 1) if folder.startswith("~") else shlex.quote(folder)
    command = f"mkdir -p {place} && tar --extract --no-same-owner --directory {place}"
    return ask(target, command, packed.getvalue())


if __name__ == "__main__":
    program, *given = sys.argv[1:]
    if program == "serve":
        serve(given[0])
    elif program == "ssh":
        host, *rest = _after_options(given)
        sys.exit(ask(host, " ".join(rest)))
    else:
        sys.exit(_copy(*_after_options(given)))
