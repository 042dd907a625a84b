"""Programs of this user that other machines reach are told by name and port, and no others."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

import pytest

from pipeline.doctor.open_ports import check_open_ports, program_of
from pipeline.local_ray.listening import Listener, commands_of_user, listeners_of

COMMANDS = {
    1: "/venv/lib/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/ray/x",
    2: "/venv/bin/python /venv/bin/mlflow server --host 0.0.0.0",
    3: "nginx: worker process",
    4: "/venv/bin/python /venv/bin/affectune serve --host 0.0.0.0",
}


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (COMMANDS[1], "Ray"),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/y", "Ray"),
        ("ray::TrialTrainable.train", "Ray"),
        (COMMANDS[2], "MLflow"),
        ("python -m uvicorn mlflow.server.fastapi_app:app", "MLflow"),
        (COMMANDS[4], "Affectune"),
        (COMMANDS[3], ""),
        ("vim array.py", ""),
        ("", ""),
    ],
)
def test_a_program_is_known_by_its_command_line(command: str, program: str) -> None:
    assert program_of(command) == program


def test_ports_beyond_loopback_are_told_by_program() -> None:
    asked: list[int] = []

    def listeners(processes: Iterable[int]) -> list[Listener]:
        asked.extend(processes)
        return [
            Listener("0.0.0.0", 6379, 1),
            Listener("127.0.0.1", 7000, 1),
            Listener("::", 5000, 2),
        ]

    mlflow, ray = check_open_ports(lambda: COMMANDS, listeners)
    assert asked == [1, 2, 4]
    assert (mlflow.status, ray.status) == ("warning", "warning")
    assert "6379 (0.0.0.0)" in ray.finding
    assert "7000" not in ray.finding
    assert "--host 127.0.0.1" in mlflow.mend


def test_on_loopback_alone_all_is_well() -> None:
    [finding] = check_open_ports(lambda: COMMANDS, lambda ids: [Listener("::1", 6379, 1)])
    assert (finding.status, finding.mend) == ("ok", "")


def test_this_process_is_among_those_of_its_user_and_its_port_is_found() -> None:
    assert "python" in commands_of_user()[os.getpid()]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert Listener("127.0.0.1", port, os.getpid()) in listeners_of([os.getpid()])
