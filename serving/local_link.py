"""Links between the processes of one endpoint on one machine: sockets that leave no file.

Their addresses are Linux's abstract ones. They need no folder, so a full one does no harm, and they
are gone with the process that listens, however it ends. Only processes of the same user may link.
"""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from threading import Thread

PARTING_S = 2.0
"""So long the links may still say something after the listener was told to end."""
MAX_LINE_BYTES = 2**24
_CREDENTIALS = struct.Struct("3i")


def new_name(purpose: str) -> str:
    """Return an address that nobody else has."""
    return f"affectune-{purpose}-{uuid.uuid4().hex}"


def connect(name: str) -> socket.socket:
    """Link this process to the one that listens.

    Raises:
        OSError: nobody listens, or it is a process of another user.
    """
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(f"\0{name}")
        if _user(link) != os.geteuid():
            raise PermissionError("another user's process listens")
    except OSError:
        link.close()
        raise
    return link


class Listener:
    """Accepts links, each of which a thread of its own serves to its end.

    Args:
        name: the address.
        serve: called with each link, in a thread.

    Raises:
        OSError: another process listens there.
    """

    def __init__(self, name: str, serve: Callable[[socket.socket], None]) -> None:
        self._threads: list[Thread] = []
        threads = self._threads

        class Server(socketserver.UnixStreamServer):
            request_queue_size = 128

            def verify_request(self, request: socket.socket, client_address: object) -> bool:  # type: ignore[override]
                return _user(request) == os.geteuid()

            def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
                threads[:] = [thread for thread in threads if thread.is_alive()]
                thread = Thread(target=_serve, args=(serve, request), daemon=True)
                threads.append(thread)
                thread.start()

        self._server = Server(f"\0{name}", socketserver.BaseRequestHandler)
        Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """Accept no more links, and serve those that are there to their end, or for some time."""
        self._server.shutdown()
        self._server.server_close()
        deadline = time.monotonic() + PARTING_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def lines(link: socket.socket) -> Iterator[bytes]:
    """Iterate over the whole lines that come over a link, without their ends.

    A line that is cut off, because its sender ended, is left out; a too long one ends the link.
    """
    with link.makefile("rb") as file, contextlib.suppress(OSError):
        while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
            yield line[:-1]


def _serve(serve: Callable[[socket.socket], None], link: socket.socket) -> None:
    with link, contextlib.suppress(OSError):
        serve(link)


def _user(link: socket.socket) -> int:
    """Return the user of the process at the other end."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user
