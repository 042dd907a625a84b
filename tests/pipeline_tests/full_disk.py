"""A disk that has no room from some write on, in a process of its own."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable

DONE, REFUSED = 0, 7


class FailingWrites:
    """Stands in the place of `os.fsync`, which every file written atomically comes to.

    Args:
        fails_at: the number of the write that fails, from 1.
        number: of the system's error.
    """

    def __init__(self, fails_at: int, number: int = errno.ENOSPC) -> None:
        self.fails_at, self.number = fails_at, number
        self.num_writes = 0
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        self.num_writes += 1
        if self.num_writes == self.fails_at:
            raise OSError(self.number, os.strerror(self.number))
        self._fsync(descriptor)


def with_small_files(size: int, call: Callable[[], object]) -> tuple[int | None, str]:
    """Run a call in a process whose files may have so many bytes; return its status and message.

    Returns:
        DONE and ""; or REFUSED and what the call raised, as its class and its message.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            call()
        except Exception as error:
            sender.send(f"{type(error).__name__}: {error}")
            sys.exit(REFUSED)
        sender.send("")

    process = context.Process(target=run)
    process.start()
    process.join(60)
    return process.exitcode, receiver.recv() if receiver.poll() else ""
