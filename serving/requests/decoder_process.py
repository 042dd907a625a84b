"""Decodes bodies in a process of its own, which a replica starts: LIMITS and a socket are given.

Whoever parses holds the interpreter, and others' requests wait; parsers take memory, and may crash
of bytes that nobody has thought of. All of that is another process's here, and ends with it.

A body goes there as a head and its bytes; its numbers come back as a head in JSON and their bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import traceback
from dataclasses import asdict
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.environment import ONE_THREAD
from serving.requests.decoding import decode
from serving.requests.memory import give_back_memory
from serving.requests.request_error import RequestError
from serving.requests.schema import FeatureSet, SessionFeatures
from serving.settings import Limits

DECODING_TIMEOUT_S = 60.0
"""The largest body takes a second or two; a machine may be busy."""
MAX_MEMORY = 2**30
"""Of the process: the largest body takes 400 MB."""
LARGE_BODY = 2**20
"""After a larger one, the memory that it took is given back."""

KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", *ONE_THREAD)
"""All that it gets of the environment: whoever parses a stranger's bytes needs no secret."""

_HEAD = struct.Struct("<qq")
"""Two sizes: of the media type and of the body, or of the head in JSON and of the numbers."""


class DecoderProcess:
    """Decodes one body at a time. The process starts with the first one, and again if it ends.

    Args:
        limits: what one request may ask for.
        timeout_s: a body that takes longer is given up.
    """

    def __init__(self, limits: Limits, timeout_s: float = DECODING_TIMEOUT_S) -> None:
        self._limits = Limits(**{name: getattr(limits, name) for name in Limits.model_fields})
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def decode(self, kind: str, body: bytes) -> SessionFeatures:
        """Decode a body, as `decode` does.

        Raises:
            RequestError: what `decode` raises; 503, the process has ended, or took too long.
            RuntimeError: decoding failed by a mistake of ours.
        """
        with self._lock:
            try:
                link = self._link()
                deadline = time.monotonic() + self._timeout_s
                head = _HEAD.pack(len(kind), len(body)) + kind.encode()
                _send(link, deadline, head, body)
                answer, numbers = _receive(link, deadline)
            except TimeoutError:
                self._end()
                message = f"It could not be read within {self._timeout_s:g} s. Cut the session."
                raise RequestError(503, "slow_body", message, retry_after_s=1) from None
            except OSError:
                self._end()
                message = "It could not be read: the process that reads ended. Try again."
                raise RequestError(503, "not_decoded", message, retry_after_s=1) from None

        if "error" in answer:
            raise RequestError(**answer["error"])
        if "failure" in answer:
            raise RuntimeError(f"A body could not be decoded. {answer['failure']}")
        return _to_session(answer, numbers)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def start(self) -> None:
        """Start the process, so that the first body need not wait for it."""
        with self._lock:
            self._link()

    def _link(self) -> socket.socket:
        """Return the connection to the process, which runs then."""
        if self._process is not None and self._process.poll() is not None:
            self._end()  # it was killed while it had nothing to do
        if self._socket is not None:
            return self._socket

        ours, theirs = socket.socketpair()
        search_path = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            arguments = [self._limits.model_dump_json(), str(theirs.fileno())]
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment() | {"PYTHONPATH": search_path},
            )
        self._socket = ours
        return ours

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    # Its own allocator would keep what a large body took.
    return kept | {"ARROW_DEFAULT_MEMORY_POOL": "system"}


def main(arguments: list[str]) -> int:
    """Decode bodies until the replica closes the connection, or ends."""
    limits = Limits.model_validate_json(arguments[0])
    with contextlib.suppress(ValueError, OSError):  # a lower limit of the system stays
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))

    with socket.socket(fileno=int(arguments[1])) as link, contextlib.suppress(ConnectionError):
        while True:
            kind_size, body_size = _HEAD.unpack(_take(link, None, _HEAD.size))
            kind = _take(link, None, kind_size).decode()
            _answer(link, kind, bytes(_take(link, None, body_size)), limits)
            if body_size > LARGE_BODY:
                give_back_memory()
    return 0


def _answer(link: socket.socket, kind: str, body: bytes, limits: Limits) -> None:
    numbers: list[NDArray[np.float64]] = []
    try:
        session = decode(limits, kind, body)
    except RequestError as error:
        answer: dict[str, Any] = {"error": asdict(error)}
    except Exception:
        answer = {"failure": traceback.format_exc()}
    else:
        answer, numbers = _to_head(session)

    parts = [np.ascontiguousarray(array).data.cast("B") for array in numbers if array.size]
    head = json.dumps(answer).encode()
    size = sum(part.nbytes for part in parts)
    _send(link, None, _HEAD.pack(len(head), size) + head, *parts)


def _to_head(session: SessionFeatures) -> tuple[dict[str, Any], list[NDArray[np.float64]]]:
    """Return what a session has beside its numbers, and these, in the order of `_to_session`."""
    times = session.timestamps_ms
    numbers = [] if times is None else [times]
    sets = []
    for name, each in session.feature_sets.items():
        num_rows, _ = each.values.shape
        num_times = None if each.timestamps_ms is None else len(each.timestamps_ms)
        sets.append([name, each.columns, num_rows, num_times])
        numbers += (
            [each.values] if each.timestamps_ms is None else [each.values, each.timestamps_ms]
        )
    num_times = None if times is None else len(times)
    return {"session_id": session.session_id, "num_times": num_times, "sets": sets}, numbers


def _to_session(head: dict[str, Any], numbers: NDArray[np.float64]) -> SessionFeatures:
    """Put a session together again."""
    start = 0

    def take(size: int | None) -> NDArray[np.float64] | None:
        nonlocal start
        if size is None:
            return None
        start += size
        return numbers[start - size : start]

    times = take(head["num_times"])
    feature_sets = {}
    for name, columns, num_rows, num_times in head["sets"]:
        values = take(num_rows * len(columns))
        assert values is not None
        shape = (num_rows, len(columns))
        feature_sets[name] = FeatureSet(tuple(columns), values.reshape(shape), take(num_times))
    return SessionFeatures(head["session_id"], times, feature_sets)


def _send(link: socket.socket, deadline: float | None, *parts: bytes | memoryview) -> None:
    for part in parts:
        link.settimeout(_left(deadline))
        link.sendall(part)


def _receive(
    link: socket.socket, deadline: float | None
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    head_size, numbers_size = _HEAD.unpack(_take(link, deadline, _HEAD.size))
    head = json.loads(_take(link, deadline, head_size))
    return head, np.frombuffer(_take(link, deadline, numbers_size), np.float64)


def _take(link: socket.socket, deadline: float | None, size: int) -> bytearray:
    """Receive so many bytes.

    Raises:
        ConnectionError: the other side has ended.
        TimeoutError: they do not come in time.
    """
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        link.settimeout(_left(deadline))
        received = link.recv_into(rest)
        if not received:
            raise ConnectionResetError
        rest = rest[received:]
    return data


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
