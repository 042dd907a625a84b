"""Links between the processes of one endpoint on one machine: sockets that leave no file.

Their addresses are Linux's abstract ones. They need no folder, so a full one does no harm, and they
are gone with the process that listens, however it ends. Only processes of the same user may link.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from threading import Event, Thread

POLL_S = 0.1
BACKLOG = 128
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
        self._serve = serve
        self._threads: list[Thread] = []
        self._is_closing = Event()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(f"\0{name}")
            self._socket.listen(BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self._accepting = Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self, parting_s: float = 0.0) -> None:
        """Accept no more links, and serve those that are there to their end, or for some time."""
        self._is_closing.set()
        self._accepting.join()
        self._socket.close()
        deadline = time.monotonic() + parting_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        """Accept links; also those that wait when this is told to close."""
        while True:
            if not select.select([self._socket], [], [], POLL_S)[0]:
                if self._is_closing.is_set():
                    return
                continue

            link, _ = self._socket.accept()
            if _user(link) != os.geteuid():
                link.close()
                continue
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(Thread(target=self._serve_to_end, args=(link,), daemon=True))
            self._threads[-1].start()

    def _serve_to_end(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            self._serve(link)


def lines(link: socket.socket) -> Iterator[bytes]:
    """Iterate over the whole lines that come over a link, without their ends.

    A line that is cut off, because its sender ended, is left out; a too long one ends the link.
    """
    with link.makefile("rb") as file, contextlib.suppress(OSError):
        while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
            yield line[:-1]


def _user(link: socket.socket) -> int:
    """Return the user of the process at the other end."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user
