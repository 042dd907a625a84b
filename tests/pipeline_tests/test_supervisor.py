"""A supervised command ends when it is told to, and so does all that it started."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.process_group import End, ProcessGroup

PATIENCE_S = 60
PROLOGUE = """
import os, signal, subprocess, sys, time
from pathlib import Path
from pipeline import supervisor
supervisor.ORDERLY_END_S = 1.5
say_ended = supervisor.supervise("To go on: go-on")
"""
IN_ORDER = "supervisor.end_in_order()\n"
READY = "\nPath('ready').touch()\n"
SLEEP = f"{READY}time.sleep(60)"


def start(folder: Path, body: str, *, beginning: str = IN_ORDER) -> ProcessGroup:
    """Start a supervised program, and wait until it says that it is ready."""
    group = ProcessGroup([sys.executable, "-c", PROLOGUE + beginning + body], folder)
    deadline = time.monotonic() + PATIENCE_S
    while not (folder / "ready").exists() and group.process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return group


def waiting(on_interrupt: str) -> str:
    """Return a program that waits, and does something when it is interrupted."""
    return f"\ntry: Path('ready').touch(); time.sleep(60)\nexcept KeyboardInterrupt: {on_interrupt}"


def end_by(folder: Path, body: str, number: int) -> End:
    """Start a program, send a signal to its group, and return how it ended."""
    group = start(folder, body)
    group.send(number)
    return group.wait(PATIENCE_S)


@pytest.fixture(autouse=True)
def heeded_hangup() -> Iterator[None]:
    """Let programs heed SIGHUP, which they ignore where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_any_signal_reaches_the_command_as_an_interrupt_and_it_says_how_to_go_on(
    tmp_path: Path, number: int
) -> None:
    end = end_by(tmp_path, waiting("sys.exit(130)"), number)
    assert (end.status, end.left) == (1, [])
    assert end.output.strip() == "Error: Interrupted. To go on: go-on"


def test_a_command_that_has_said_how_it_ended_keeps_its_status(tmp_path: Path) -> None:
    body = waiting("say_ended(); sys.exit(7)")
    end = end_by(tmp_path, body, signal.SIGTERM)
    assert (end.status, end.output) == (7, "")


@pytest.mark.parametrize("status", [0, 1, 2])
def test_without_a_signal_the_status_is_the_commands(tmp_path: Path, status: int) -> None:
    end = start(tmp_path, f"say_ended(); sys.exit({status})").wait(PATIENCE_S)
    assert (end.status, end.output) == (status, "")


def test_what_the_command_started_does_not_get_the_signal_before_it(tmp_path: Path) -> None:
    body = "child = subprocess.Popen(['sleep', '60'])" + waiting(
        "time.sleep(0.3); print(child.poll()); say_ended()"
    )
    end = end_by(tmp_path, body, signal.SIGTERM)
    assert (end.status, end.output.strip(), end.left) == (0, "None", [])


def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    body = f"signal.signal(signal.SIGINT, signal.SIG_IGN); subprocess.Popen(['sleep', '60']){SLEEP}"
    end = end_by(tmp_path, body, signal.SIGTERM)
    assert (end.status, end.left) == (1, [])
    assert "did not end within" in end.output
    assert "To go on: go-on" in end.output


def test_the_same_signal_twice_at_once_is_one_and_a_later_one_ends_it(tmp_path: Path) -> None:
    body = (
        f"supervisor.allow_orderly_end(300)\nsignal.signal(signal.SIGINT, lambda *_: None){SLEEP}"
    )
    group = start(tmp_path, body)
    for _ in range(2):  # `timeout` sends it to the process, then to the group
        group.send(signal.SIGTERM)
    time.sleep(1.5)
    assert group.process.poll() is None

    group.send(signal.SIGINT)
    end = group.wait(PATIENCE_S)
    assert (end.status, end.left) == (1, [])
    assert "second signal" in end.output


def test_a_killed_command_is_told_with_the_way_to_go_on(tmp_path: Path) -> None:
    end = start(tmp_path, f"{READY}os.kill(os.getpid(), signal.SIGKILL)").wait(PATIENCE_S)
    assert end.status == 1
    assert "SIGKILL" in end.output
    assert "To go on: go-on" in end.output


def test_a_killed_parent_takes_everything_with_it(tmp_path: Path) -> None:
    group = start(tmp_path, f"subprocess.Popen(['sleep', '60']){SLEEP}")
    group.process.kill()
    group.process.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while group.members():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_signal_to_every_process_is_one_signal_to_the_command(tmp_path: Path) -> None:
    body = waiting("time.sleep(0.5); say_ended()")
    group = start(tmp_path, body)
    group.send_to_all(signal.SIGTERM)
    end = group.wait(PATIENCE_S)
    assert (end.status, end.output, end.left) == (0, "", [])


def test_a_command_that_only_reads_yet_ends_at_once_whatever_swallows_interrupts(
    tmp_path: Path,
) -> None:
    body = f"signal.signal(signal.SIGINT, signal.SIG_IGN){SLEEP}"
    group = start(tmp_path, body, beginning="")
    group.send(signal.SIGTERM)
    end = group.wait(PATIENCE_S)
    assert (end.status, end.left) == (1, [])
    assert end.output.strip() == "Error: Interrupted. To go on: go-on"


def test_with_nothing_to_finish_a_command_that_swallows_interrupts_ends_at_once(
    tmp_path: Path,
) -> None:
    body = (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "with supervisor.nothing_to_finish('Farewell.'): Path('ready').touch(); time.sleep(60)"
    )
    end = end_by(tmp_path, body, signal.SIGTERM)
    assert (end.status, end.output.strip(), end.left) == (0, "Farewell.", [])


def is_stopped(group: ProcessGroup) -> list[bool]:
    """Return for every process of a command whether it is stopped."""
    return [process.status() == psutil.STATUS_STOPPED for process in group.members()]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_suspended_command_is_stopped_wholly_goes_on_and_ends_in_order(tmp_path: Path) -> None:
    body = "subprocess.Popen(['sleep', '60'])" + waiting("say_ended(); sys.exit(7)")
    group = start(tmp_path, body)
    wait_until(lambda: len(group.members()) == 3)
    for _ in range(2):
        group.send(signal.SIGTSTP)
        wait_until(lambda: is_stopped(group) == [True] * 3)
        group.send(signal.SIGCONT)
        wait_until(lambda: is_stopped(group) == [False] * 3)

    group.send(signal.SIGTERM)
    end = group.wait(PATIENCE_S)
    assert (end.status, end.output, end.left) == (7, "", [])


def test_a_signal_to_a_suspended_command_counts_when_it_goes_on(tmp_path: Path) -> None:
    group = start(tmp_path, waiting("say_ended(); sys.exit(7)"))
    group.send(signal.SIGTSTP)
    wait_until(lambda: is_stopped(group) == [True] * 2)
    group.send(signal.SIGTERM)
    group.send(signal.SIGCONT)
    end = group.wait(PATIENCE_S)
    assert (end.status, end.output, end.left) == (7, "", [])


def test_a_suspended_command_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    group = start(tmp_path, f"subprocess.Popen(['sleep', '60']){SLEEP}")
    group.send(signal.SIGTSTP)
    wait_until(lambda: all(is_stopped(group)))
    group.process.kill()
    group.process.wait(PATIENCE_S)
    wait_until(lambda: not group.members())


def test_a_command_in_the_background_of_a_script_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """A shell without job control lets its background commands ignore SIGINT."""
    program = PROLOGUE + IN_ORDER + waiting("say_ended(); sys.exit(7)")
    (tmp_path / "program.py").write_text(program)
    group = ProcessGroup(
        ["sh", "-c", f"{sys.executable} program.py & trap '' TERM; wait $!"], tmp_path
    )
    wait_until((tmp_path / "ready").exists)
    group.send(signal.SIGTERM)
    end = group.wait(PATIENCE_S)
    assert (end.status, end.output, end.left) == (7, "", [])


AGAIN = PROLOGUE.replace(
    'supervise("To go on: go-on")',
    'supervise("To go on: go-on", on_again=lambda: sys.argv.append("again"))',
)


@pytest.mark.parametrize(
    ("ask", "end"),
    [
        ("supervisor.start_again()", "say_ended(); sys.exit(1)"),
        ("supervisor.go_on_after_loss()", "os._exit(1)"),
        ("supervisor.go_on_after_loss()", "os.abort()"),
    ],
)
def test_a_command_that_asked_for_it_is_followed_by_one_that_goes_on(
    tmp_path: Path, ask: str, end: str
) -> None:
    body = f"""
if "again" in sys.argv:
    print("gone on")
    say_ended()
    sys.exit(0)
{ask}
{end}
"""
    ended = ProcessGroup([sys.executable, "-c", AGAIN + body], tmp_path).wait(PATIENCE_S)
    assert (ended.status, ended.left) == (0, [])
    assert "gone on" in ended.output
    assert "go-on" not in ended.output


def test_a_command_is_started_again_a_bounded_number_of_times_and_not_after_a_signal(
    tmp_path: Path,
) -> None:
    limit = AGAIN.replace("ORDERLY_END_S = 1.5", "MAX_AGAIN = 2")
    body = "print('begun', flush=True); supervisor.start_again(); say_ended(); sys.exit(3)"
    ended = ProcessGroup([sys.executable, "-c", limit + body], tmp_path).wait(PATIENCE_S)
    assert (ended.status, ended.output.count("begun")) == (3, 3)

    body = "supervisor.go_on_after_loss()" + waiting("supervisor.start_again(); sys.exit(130)")
    end = end_by(tmp_path, body, signal.SIGTERM)
    assert (end.status, end.left) == (1, [])
    assert end.output.strip() == "Error: Interrupted. To go on: go-on"
