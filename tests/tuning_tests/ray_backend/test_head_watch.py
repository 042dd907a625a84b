"""A head that is lost is told within 20 s, and no later than Ray would end the process."""

from __future__ import annotations

import logging
import pickle

import pytest

from tuning.ray_backend import head_watch
from tuning.ray_backend.head_watch import ANSWER_S, END_S, LOST_S, PROBE_S, ClusterLost, HeadWatch

ADDRESS = "127.0.0.1:6379"
RAY_ENDS_S = 60.0
"""After so long Ray ends the process: its gcs_rpc_server_reconnect_timeout_s."""


class Clock:
    """Tells a time that a test sets, and answers as a head does, or not at all."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.cluster: bytes | None = b"one"

    def ask(self, target: str, timeout_s: float) -> bytes | None:
        """Answer at once; where nothing answers, that takes its time."""
        self.now_s += 0.0 if self.cluster else timeout_s
        return self.cluster


@pytest.fixture(autouse=True)
def _no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test change how this process ends."""
    monkeypatch.setattr(head_watch, "leave_without_libraries", lambda: None)


def watched(clock: Clock, *, is_waited_for: bool = False) -> HeadWatch:
    """Return a watch that has had its first answer."""
    watch = HeadWatch(
        ADDRESS, is_waited_for=is_waited_for, ask=clock.ask, seconds=lambda: clock.now_s
    )
    assert watch.probe() is None
    return watch


def probe_for(watch: HeadWatch, clock: Clock, seconds: float) -> ClusterLost | None:
    """Probe as the thread does, for so long or until the head is lost."""
    until = clock.now_s + seconds
    while clock.now_s < until and watch.probe() is None:
        clock.now_s += PROBE_S
    return watch.fault


def test_a_silent_head_is_told_within_20_s_and_given_up_before_ray_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    watch = watched(clock)
    clock.cluster = None

    assert probe_for(watch, clock, 20 - PROBE_S - ANSWER_S) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "has not answered for" in caplog.text

    fault = probe_for(watch, clock, RAY_ENDS_S)
    assert fault is not None
    assert "--resume" in str(fault)
    assert "--wait-for-cluster" in str(fault)
    assert clock.now_s + END_S < RAY_ENDS_S
    assert len(caplog.records) == 1


def test_a_head_that_answers_again_is_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    watch = watched(clock)
    for _ in range(3):
        clock.cluster = None
        assert probe_for(watch, clock, LOST_S / 2) is None
        clock.cluster = b"one"
        assert probe_for(watch, clock, 2 * LOST_S) is None
    assert caplog.text.count("answers again") == 3


def test_a_head_that_was_started_anew_is_lost_at_once_and_may_be_waited_for() -> None:
    clock = Clock()
    watch = watched(clock, is_waited_for=True)
    clock.cluster = b"two"
    fault = watch.probe()
    assert fault is not None
    assert "started anew" in str(fault)
    assert "goes on by itself" in str(fault)
    assert str(pickle.loads(pickle.dumps(fault))) == str(fault)


def test_an_error_of_ray_is_a_loss_only_where_the_head_is_away() -> None:
    clock = Clock()
    watch = watched(clock)
    assert watch.loss_behind(RuntimeError("a mistake")) is None
    clock.cluster = None
    fault = watch.loss_behind(RuntimeError("RPC error\nmore"))
    assert fault is not None
    assert "Ray says: RPC error." in str(fault)
