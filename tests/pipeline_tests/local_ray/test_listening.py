"""What listens beyond loopback is found, in this process and in those that it started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from pipeline.errors import AffectuneError
from pipeline.local_ray.listening import Listener, own_listeners, raise_if_reachable

ADDRESSES = ("127.0.0.1", "127.0.0.7", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1")
CODE = """
import socket, sys
is_6 = ":" in sys.argv[1]
family = socket.AF_INET6 if is_6 else socket.AF_INET
server = socket.create_server((sys.argv[1], 0), family=family, dualstack_ipv6=is_6)
print(server.getsockname()[1], flush=True)
input()
"""


@pytest.fixture
def before() -> list[Listener]:
    """What listens already: other tests of this process may have begun it."""
    return own_listeners()


@pytest.fixture(params=ADDRESSES)
def child(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, int]]:
    """A grandchild that listens: its address, port and process."""
    shell = f'"{sys.executable}" -c "$0" {request.param}; true'
    with subprocess.Popen(
        ["sh", "-c", shell, CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.skip(f"this machine has no {request.param}")
        [listener] = psutil.Process(process.pid).children(recursive=True)
        yield request.param, int(line), listener.pid
        assert process.stdin is not None
        process.stdin.write("\n")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_listeners_are_those_that_psutil_finds_and_only_loopback_passes(
    before: list[Listener], child: tuple[str, int, int]
) -> None:
    address, port, process = child
    shown = address.removeprefix("::ffff:")
    assert {*own_listeners()} - {*before} == {Listener(shown, port, process)}

    if shown.startswith("127.") or shown == "::1":
        raise_if_reachable(before=before)
        return
    with pytest.raises(AffectuneError, match=f"process {process}.* port {port}"):
        raise_if_reachable(before=before)
    raise_if_reachable(before=before, port=port)


def test_this_process_is_looked_at_too_and_a_client_is_no_listener(before: list[Listener]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert {*own_listeners()} - {*before} == {Listener("127.0.0.1", port, os.getpid())}
    assert {*own_listeners()} <= {*before}
