"""What h11 reads of one connection, with bounds that it has not. Knows no uvicorn."""

from __future__ import annotations

from typing import Any

import h11

PIECE_BYTES = 16 * 2**10
"""h11 looks at its bounds between two pieces."""
MAX_HEADERS = 100
MAX_TINY_CHUNKS, TINY_BYTES = 1000, 64
"""A body may have so many chunks; with more of them they are to have so many bytes on average."""


class BoundedConnection(h11.Connection):
    """What h11 reads, with bounds that it has not: on whole heads, and on tiny chunks.

    Attributes:
        error_status: what to answer to the last RemoteProtocolError.
    """

    def __init__(self, max_head_bytes: int) -> None:
        super().__init__(h11.SERVER, max_head_bytes)
        self._max_head_bytes = max_head_bytes
        self._num_chunks = self._num_bytes = 0
        self.error_status = 400

    def next_event(self) -> Any:
        """Return h11's next event.

        Raises:
            h11.RemoteProtocolError: it is no HTTP, or beyond a bound.
        """
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._num_chunks = self._num_bytes = 0
                self._check_head(event)
            elif isinstance(event, h11.Data):
                self._check_chunk(event)
        except h11.RemoteProtocolError as error:
            self.error_status = error.error_status_hint
            raise
        return event

    def _check_head(self, request: h11.Request) -> None:
        size_bytes = len(request.target) + sum(
            len(name) + len(value) for name, value in request.headers
        )
        if size_bytes > self._max_head_bytes or len(request.headers) > MAX_HEADERS:
            raise h11.RemoteProtocolError("The head is too large.", error_status_hint=431)

        # Where a body ends must not be read in two ways: a proxy before this one may have another.
        names = {name.lower() for name, _ in request.headers}
        is_ambiguous = b"content-length" in names or request.http_version != b"1.1"
        if b"transfer-encoding" in names and is_ambiguous:
            raise h11.RemoteProtocolError("The body has two ends.")

    def _check_chunk(self, data: h11.Data) -> None:
        self._num_bytes += len(data.data)
        self._num_chunks += data.chunk_start
        if self._num_chunks > max(MAX_TINY_CHUNKS, self._num_bytes // TINY_BYTES):
            raise h11.RemoteProtocolError("The chunks are too small.")
