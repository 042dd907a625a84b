"""HTTP/1.1 with bounds for uvicorn: on heads, idle time, tiny chunks and what nobody reads."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from serving.monitoring.access_log import REFUSED, new_request_id, with_own_headers
from serving.proxy.bounded_reading import MAX_HEADERS, PIECE_BYTES, BoundedConnection
from serving.proxy.connections import Connections
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON, to_json
from serving.settings import Settings

LINGER_S = 2.0
"""A client that is refused while it sends has so long to read why."""
SOCKET_BUFFER_BYTES = 256 * 2**10
"""The kernel would else keep megabytes of each connection."""
WRITE_BUFFER_BYTES = 64 * 2**10

BAD_REQUEST = RequestError(400, "bad_request", "This is no HTTP/1.1 request.")
HEAD_TIMEOUT = RequestError(408, "head_timeout", "The request's headers did not come in time.")
GAVE_WAY = RequestError(
    503, "busy", "Too many clients are connected. Send the whole request at once.", retry_after_s=1
)


class Pipelines:
    """Connections with further requests that came before the last response went.

    Of all of them together one request is begun in each turn of the event loop. So thousands of
    requests that were sent at once do not delay those of others.
    """

    def __init__(self) -> None:
        self._queue: deque[BoundedProtocol] = deque()

    def add(self, protocol: BoundedProtocol) -> None:
        """Have the next request of a connection begun when its turn comes."""
        self._queue.append(protocol)
        if len(self._queue) == 1:
            protocol.loop.call_soon(self._begin_one)

    def _begin_one(self) -> None:
        protocol = self._queue.popleft()
        if self._queue:
            protocol.loop.call_soon(self._begin_one)
        protocol.begin_pipelined()


class BoundedProtocol(H11Protocol):
    """One connection of uvicorn, with bounds.

    Args:
        config, server_state, app_state, _loop: as uvicorn gives them.
        settings: the limits.
        connections: all of this server.
        pipelines: those with more than one request.
        on_refused: called with the error of a request of which no application knows.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        connections: Connections,
        pipelines: Pipelines,
        on_refused: Callable[[RequestError], None],
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = self._bounded = BoundedConnection(settings.max_head_bytes)
        self.timeout_keep_alive = settings.idle_timeout_s  # type: ignore[assignment]  # s
        self.address = ""
        self._is_refused = False
        self._settings = settings
        self._places = connections
        self._pipelines = pipelines
        self._is_completing = False
        self._on_refused = on_refused
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, which another connection may lose for it."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(WRITE_BUFFER_BYTES)
        _bound_kernel_buffers(transport)

        self.address = self.client[0] if self.client else ""
        self._head_timer = self._after(self._settings.head_timeout_s, self._head_is_late)
        self._places.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._places.remove(self)
        self._stop_head_timer()
        self._stop_write_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came, piece by piece."""
        for begin in range(0, len(data), PIECE_BYTES):
            if self._is_ending():
                return  # what still comes is read, so that the client can read why it ends
            super().data_received(data[begin : begin + PIECE_BYTES])
        self._follow()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the response to be read."""
        self._is_completing = True
        super().on_response_complete()
        self._is_completing = False
        self._follow()

    def handle_events(self) -> None:
        """Begin what has come, unless others are to have their turn first."""
        if self._is_completing and self.conn.trailing_data[0]:
            self.flow.pause_reading()
            self._pipelines.add(self)
        else:
            super().handle_events()

    def begin_pipelined(self) -> None:
        """Begin the next request, which came before the last response went."""
        if not self._is_ending():
            self.flow.resume_reading()
            super().handle_events()
            self._follow()

    def pause_writing(self) -> None:
        """Wait for the client to read, but not for ever."""
        super().pause_writing()
        self._follow()

    def resume_writing(self) -> None:
        """Go on: the client has read something."""
        super().resume_writing()
        self._stop_write_timer()
        self._follow()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or one beyond a bound."""
        self._refuse(_protocol_error(self._bounded.error_status))

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which no further request came."""
        super().timeout_keep_alive_handler()
        self._follow()

    def give_way(self) -> None:
        """Close this connection at once, because there are too many."""
        if self._is_in_request() and not self._has_begun_response() and not self._is_ending():
            self._refuse(GAVE_WAY)
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _should_upgrade_to_ws(self) -> bool:
        return False  # the connection would leave these bounds, and no route is a WebSocket

    def _follow(self) -> None:
        """Note who is to act now, and start or stop the clocks that belong to that."""
        is_coming = self._has_partial_head() or self._has_superfluous_body()
        if self._is_ending() or not is_coming:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self._after(self._settings.head_timeout_s, self._head_is_late)

        is_unread = self.flow.write_paused or self._is_ending()
        if is_unread and self._write_timer is None:
            self._write_timer = self._after(self._settings.write_timeout_s, self.transport.abort)

        if is_unread or not self._has_whole_request():
            self._places.wait(self)
        else:
            self._places.work(self)

    def _is_ending(self) -> bool:
        return self._is_refused or self.transport.is_closing()

    def _has_whole_request(self) -> bool:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        return is_answering and self.conn.their_state is not h11.SEND_BODY

    def _has_partial_head(self) -> bool:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        waits_for_head = not is_answering and self.conn.their_state is h11.IDLE
        return waits_for_head and bool(self.conn.trailing_data[0])

    def _has_superfluous_body(self) -> bool:
        """Return whether a body still comes, though the response is complete."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        return not is_answering and self.conn.their_state is h11.SEND_BODY

    def _is_in_request(self) -> bool:
        return self._has_partial_head() or self.conn.their_state is h11.SEND_BODY

    def _has_begun_response(self) -> bool:
        return self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    def _head_is_late(self) -> None:
        if self._is_ending():
            return

        if self._has_partial_head():
            self._refuse(HEAD_TIMEOUT)
        else:
            self.transport.abort()

    def _refuse(self, error: RequestError) -> None:
        """Answer without the application, which hears that the client has left.

        The connection is closed when the client closes it, or soon.
        """
        is_known = self.cycle is not None and not self.cycle.response_complete
        if is_known:
            self.scope[REFUSED] = error  # type: ignore[literal-required]
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:
            self._on_refused(error)

        if self._has_begun_response():
            self.transport.abort()
        else:
            self.transport.write(self._response(error))
            self.transport.write_eof()
            self._after(LINGER_S, self.transport.abort)
        self._is_refused = True
        self._follow()

    def _response(self, error: RequestError) -> bytes:
        body = to_json(error.to_json())
        headers = [
            (b"content-type", JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(error.retry_after_s).encode()))

        events = (
            h11.Response(
                status_code=error.status,
                headers=with_own_headers(headers, new_request_id()),
                reason=HTTPStatus(error.status).phrase,
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        return b"".join(self.conn.send(event) or b"" for event in events)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _after(self, seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, act)


def _protocol_error(status: int) -> RequestError:
    if status == 431:
        message = f"The request's line and headers are too large, or more than {MAX_HEADERS}."
        return RequestError(431, "head_too_large", message)
    return BAD_REQUEST


def _bound_kernel_buffers(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        with contextlib.suppress(OSError, AttributeError):
            connection.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
