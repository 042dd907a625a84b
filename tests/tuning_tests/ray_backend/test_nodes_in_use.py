"""Nodes come, go, and are waited for; what is waited for is said, with a bound."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.errors import AffectuneError, InputError
from tests.tuning_tests.studies import tiny_study
from tuning.ray_backend import nodes_in_use
from tuning.ray_backend.nodes_in_use import GONE_S, GONE_SAID_S, REFRESH_S, NodesInUse


class Nodes:
    """Stands for a cluster whose nodes a test gives, and for its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wait_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.cpus: list[int] = []
        self.asked_for: list[object] = []
        self.arrives_at_s = float("inf")
        monkeypatch.setattr(time, "sleep", self._sleep)
        monkeypatch.setattr(nodes_in_use, "_asked_for", self._ask)
        self.in_use = NodesInUse(wait_s=wait_s, list_nodes=self._list, seconds=lambda: self.now_s)

    def _list(self) -> list[dict[str, object]]:
        cpus = [*self.cpus, *([1] if self.now_s >= self.arrives_at_s else [])]
        nodes: list[dict[str, object]] = [{"Alive": False, "Resources": {}}]
        return nodes + [{"Alive": True, "Resources": {"CPU": float(number)}} for number in cpus]

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    @contextmanager
    def _ask(self, demands: object) -> Iterator[None]:
        self.asked_for.append(demands)
        yield
        self.asked_for.append("withdrawn")


def test_a_new_node_is_used_and_a_lost_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, study = Nodes(monkeypatch), tiny_study()
    for cpus in ([2], [2, 3], [3], [3, 1, 1]):
        nodes.cpus = cpus
        nodes.now_s += REFRESH_S + 1
        assert nodes.in_use.fits_at_a_time(study) == sum(cpus)


def test_without_a_wait_a_cluster_that_is_too_small_is_refused_with_the_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Nodes(monkeypatch)
    with pytest.raises(InputError, match=r"asks for 1 CPUs.*no node has more than 0.*--wait-for-n"):
        nodes.in_use.wait_for(tiny_study(), lambda: None)
    assert nodes.asked_for == []


def test_a_node_is_asked_for_waited_for_and_the_wait_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes(monkeypatch, wait_s=60.0)
    nodes.arrives_at_s = 30.0
    nodes.in_use.wait_for(tiny_study(), lambda: None)
    assert "Waiting for one, at most 60 s" in caplog.text
    assert nodes.asked_for[1:] == ["withdrawn"]
    assert {"CPU": 1.0} in list(nodes.asked_for[0])  # type: ignore[call-overload]

    nodes = Nodes(monkeypatch, wait_s=60.0)
    with pytest.raises(InputError, match="None came within 60 s"):
        nodes.in_use.wait_for(tiny_study(), lambda: None)
    with pytest.raises(AffectuneError, match="lost"):
        nodes.in_use.wait_for(tiny_study(), lambda: AffectuneError("lost"))


def test_a_study_whose_nodes_are_all_gone_says_so_goes_on_with_new_ones_and_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nodes, study = Nodes(monkeypatch), tiny_study()

    def pass_s(seconds: float) -> None:
        until = nodes.now_s + seconds
        while nodes.now_s < until:
            nodes.now_s += REFRESH_S + 0.1
            assert nodes.in_use.fits_at_a_time(study) >= 1

    nodes.cpus = [1]
    pass_s(60)
    nodes.cpus = []
    pass_s(2 * GONE_SAID_S)
    assert caplog.text.count("waits for nodes, at most 10 min") == 1
    nodes.cpus = [1]
    pass_s(60)
    assert "are there again" in caplog.text
    nodes.cpus = []
    pass_s(GONE_S - 60)
    assert nodes.in_use.fault is None
    pass_s(120)
    assert "--resume" in str(nodes.in_use.fault)
