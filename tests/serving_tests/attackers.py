"""Clients that take what others need: connections, memory, time. `python -m ... NAME PORT SECONDS`.

Each attacks one endpoint of this machine until it is cancelled, and begins again where it is cut
off. Tests run them beside a server; the benchmark of attacks runs them in a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

HOST = "127.0.0.1"
PAUSE_S = 0.2
"""Between being cut off and the next try."""
DRIP_S = 0.5
HOLD_S = 15.0
HEAD = b"POST /v1/predictions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
LARGE_BYTES = 16_000_000
Attack: TypeAlias = Callable[[int], Awaitable[None]]
"""Attacks a port once, until it is cut off."""


async def silent(port: int) -> None:
    """Connect, and say nothing."""
    async with _connected(port) as (reader, _):
        await reader.read()


async def slow_head(port: int) -> None:
    """Send headers a byte at a time, without end."""
    async with _connected(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        await _drip(reader, writer)


async def slow_body(port: int) -> None:
    """Announce a small body, and send a byte of it at a time."""
    async with _connected(port) as (reader, writer):
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n{")
        await _drip(reader, writer)


async def stalled_large_body(port: int) -> None:
    """Send nearly all of a large body, and wait."""
    async with _connected(port) as (reader, writer):
        writer.write(HEAD + f"Content-Length: {LARGE_BYTES}\r\n\r\n".encode())
        await _send_large(writer, LARGE_BYTES - 1000)
        await reader.read()


async def large_body(port: int) -> None:
    """Send a large body at once, and read the response."""
    async with _connected(port) as (reader, writer):
        writer.write(HEAD + f"Content-Length: {LARGE_BYTES}\r\nConnection: close\r\n\r\n".encode())
        await _send_large(writer, LARGE_BYTES)
        await reader.read()


async def huge_head(port: int) -> None:
    """Send one header of 250 MB."""
    async with _connected(port) as (_, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: ")
        for _ in range(250):
            writer.write(b"a" * 2**20)
            await writer.drain()


async def many_headers(port: int) -> None:
    """Send header after header, without end."""
    async with _connected(port) as (_, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        while True:
            writer.write(b"a: b\r\n" * 10_000)
            await writer.drain()


async def tiny_chunks(port: int) -> None:
    """Send a body in chunks of one byte."""
    async with _connected(port) as (_, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\na\r\n" * 10_000)
            await writer.drain()


async def unread_file(port: int) -> None:
    """Ask for the largest file of the page, and read nothing."""
    async with _connected(port, receive_bytes=4096) as (_, writer):
        writer.write(b"GET /page/plotly.js HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(HOLD_S)


async def unread_pipeline(port: int) -> None:
    """Ask for the page again and again on one connection, and read nothing."""
    async with _connected(port, receive_bytes=4096) as (_, writer):
        while True:
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
            await writer.drain()


async def idle(port: int) -> None:
    """Send one good request, and keep the connection."""
    async with _connected(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.read()


async def upgrade(port: int) -> None:
    """Ask for a WebSocket, and keep the connection."""
    async with _connected(port) as (reader, writer):
        writer.write(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await reader.read()


ATTACKS: dict[str, tuple[Attack, int]] = {
    "silent": (silent, 1100),
    "slow_head": (slow_head, 1100),
    "slow_body": (slow_body, 800),
    "stalled_large_body": (stalled_large_body, 100),
    "large_body": (large_body, 200),
    "huge_head": (huge_head, 2),
    "many_headers": (many_headers, 4),
    "tiny_chunks": (tiny_chunks, 4),
    "unread_file": (unread_file, 300),
    "unread_pipeline": (unread_pipeline, 300),
    "idle": (idle, 1100),
    "upgrade": (upgrade, 1100),
}
"""Each attack, and how many clients the benchmark has attack at once."""


async def attack(act: Attack, port: int, num_clients: int) -> None:
    """Attack a port with several clients, until this is cancelled."""
    await asyncio.gather(*(_repeat(act, port) for _ in range(num_clients)))


async def _repeat(act: Attack, port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            await act(port)
        await asyncio.sleep(PAUSE_S)


@contextlib.asynccontextmanager
async def _connected(
    port: int, receive_bytes: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    connection = socket.socket()
    try:
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (HOST, port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=4096)
    except BaseException:
        connection.close()
        raise
    try:
        if receive_bytes is not None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # of sockets it has it
        yield reader, writer
    finally:
        writer.transport.abort()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not reader.at_eof():
        writer.write(b"a")
        await writer.drain()
        await asyncio.sleep(DRIP_S)


async def _send_large(writer: asyncio.StreamWriter, size_bytes: int) -> None:
    """Send the beginning of a JSON array of numbers."""
    number = b"0.123456,"
    body = b'{"features":{"a":{"columns":["b"],"data":[['
    for begin in range(0, size_bytes, 900_000):
        part = (body + number * 100_000)[: min(900_000, size_bytes - begin)]
        body = b""
        writer.write(part)
        await writer.drain()


def main(name: str, port: str, seconds: str) -> None:
    """Run one attack for so many seconds."""
    act, num_clients = ATTACKS[name]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(attack(act, int(port), num_clients), float(seconds))

    asyncio.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
