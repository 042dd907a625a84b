"""Of several that change a champion at once, one does, wherever they are interrupted."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import AffectuneError
from tests.tuning_tests.mlflow_backend.registry.interleaving import (
    FakeRegistry,
    Process,
    interleave,
)
from tests.tuning_tests.mlflow_backend.registry.winners import comparison, register_winner
from tuning.mlflow_backend.client import connect
from tuning.mlflow_backend.registry import turn
from tuning.mlflow_backend.registry.promotion import promote, rollback
from tuning.mlflow_backend.registry.registration import give_first_alias
from tuning.mlflow_backend.registry.versions import aliases_of

MAX_STEPS = 22
"""More requests than a promotion makes."""


def promotion(version: str, against: str | None = "1") -> Any:
    """Return what promotes a version that was compared with another."""
    compared = comparison(mean=0.1) if against else None
    return lambda client: promote(client, "m", version, compared, against=against, force=False)


def raise_if_not_one_winner(registry: FakeRegistry, results: list[object]) -> None:
    """Check that one of the versions 2, 3 ... was promoted, and the others were told."""
    assert sum(result is True for result in results) == 1
    assert sum(isinstance(result, AffectuneError) for result in results) == len(results) - 1
    winner = str(2 + results.index(True))
    assert registry.aliases == {"champion": winner, "previous": "1"}
    assert not registry.tags
    for version, tags in registry.version_tags.items():
        decided = (tags.get("affectune.decision"), tags.get("affectune.decision.against"))
        assert decided == (("promoted", "1") if version == winner else (None, None))


def race(monkeypatch: pytest.MonkeyPatch, order: Iterable[int], num_processes: int = 2) -> None:
    """Let several versions be promoted at once, in an order of requests, and check who won."""
    registry = FakeRegistry(champion="1")
    processes = [Process(registry, promotion(str(2 + n))) for n in range(num_processes)]
    interleave(monkeypatch, processes, order)
    raise_if_not_one_winner(registry, [process.result for process in processes])


def test_one_of_two_promotions_wins_wherever_the_other_comes_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for first in range(MAX_STEPS):
        for second in range(MAX_STEPS):
            race(monkeypatch, [0] * first + [1] * second + [0] * MAX_STEPS)


@given(st.lists(st.integers(0, 2), max_size=70))
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_one_of_three_promotions_wins_in_any_order_of_requests(
    monkeypatch: pytest.MonkeyPatch, order: list[int]
) -> None:
    race(monkeypatch, order, num_processes=3)


def test_a_first_champion_is_registered_or_promoted_and_not_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for first in range(MAX_STEPS):
        for second in range(0, MAX_STEPS, 2):
            registry = FakeRegistry()
            registry.version_tags["3"]["affectune.promote_first"] = "true"
            place = partial(give_first_alias, name="m", version="3", identity="r")
            processes = [
                Process(registry, promotion("2", None)),
                Process(registry, lambda client: place(client, promote_first=True)),  # noqa: B023
            ]
            interleave(monkeypatch, processes, [0] * first + [1] * second + [0] * MAX_STEPS)
            if processes[0].result is True:
                assert registry.aliases == {"champion": "2", "challenger": "3"}
            else:
                assert isinstance(processes[0].result, AffectuneError)
                assert registry.aliases == {"champion": "3"}
            assert not registry.tags


def test_a_rollback_and_a_promotion_at_once_are_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for first in range(MAX_STEPS):
        for second in range(0, MAX_STEPS, 2):
            registry = FakeRegistry(champion="2", previous="1")
            processes = [
                Process(registry, promotion("3", "2")),
                Process(registry, lambda client: rollback(client, "m")),
            ]
            interleave(monkeypatch, processes, [0] * first + [1] * second)
            if processes[0].result is True:
                assert processes[1].result == ("2", "3")
                assert registry.aliases == {"champion": "2", "previous": "3"}
            else:
                assert processes[1].result == ("1", "2")
                assert registry.aliases == {"champion": "1", "previous": "2"}


def test_a_process_that_was_killed_keeps_the_others_for_a_minute_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for steps in range(MAX_STEPS):
        registry = FakeRegistry(champion="1")
        killed = Process(registry, promotion("2"))
        for _ in range(steps):
            killed.step()
        killed.kill()
        had_changed = registry.aliases["champion"] == "2"

        now = [0.0]

        def sleep(seconds: float, now: list[float] = now) -> None:
            now[0] += seconds

        clock = SimpleNamespace(monotonic=lambda now=now: now[0], sleep=sleep)
        monkeypatch.setattr(turn, "time", clock)
        if had_changed:
            with pytest.raises(AffectuneError, match="version 2 became it"):
                promotion("3")(registry)
        else:
            assert promotion("3")(registry)
        assert now[0] < turn.ABANDONED_S + 2
        assert not registry.tags


def test_a_turn_that_lasted_too_long_changes_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = FakeRegistry(champion="1")
    now = [0.0]

    def slow(*args: Any) -> None:
        now[0] += turn.TURN_S + 1
        FakeRegistry.set_model_version_tag(registry, *args)

    registry.set_model_version_tag = slow  # type: ignore[method-assign,assignment]
    monkeypatch.setattr(turn, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with pytest.raises(AffectuneError, match="run the command again"):
        promotion("2")(registry)
    assert registry.aliases == {"champion": "1"}


def test_who_was_taken_for_dead_while_it_waited_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = FakeRegistry(champion="1")
    registry.tags[turn.TURN_TAG + "a"] = "1"

    def sleep(seconds: float) -> None:
        registry.tags.clear()

    monkeypatch.setattr(turn, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))
    with pytest.raises(AffectuneError, match="run the command again"):
        promotion("2")(registry)
    assert registry.aliases == {"champion": "1"}


@pytest.mark.parametrize("value", ["", "x", "9" * 5000, "-1", "٣", "1.5"])
def test_a_tag_of_somebody_else_that_is_no_turn_is_removed_in_time(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    registry = FakeRegistry(champion="1")
    registry.tags[turn.TURN_TAG + "a"] = value
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += 1

    monkeypatch.setattr(turn, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    assert promotion("2")(registry)
    assert not registry.tags


def test_another_program_that_takes_no_turns_is_noticed() -> None:
    registry = FakeRegistry(champion="1", challenger="2")

    def set_another(name: str, alias: str) -> None:
        registry.aliases["champion"] = "4"

    registry.delete_registered_model_alias = set_another  # type: ignore[method-assign]
    with pytest.raises(AffectuneError, match="another program made it version 4"):
        promotion("2")(registry)


def test_threads_that_promote_at_once_in_a_database_give_one_champion(
    bundle: Path, uri: str
) -> None:
    register_winner(bundle, uri, "a", promote_first=True)
    client = connect(uri)
    source = client.get_model_version_download_uri("affectune", "1")
    for _ in range(3):
        client.create_model_version("affectune", source, await_creation_for=0)

    def run(version: str) -> object:
        try:
            return promote(
                connect(uri), "affectune", version, comparison(mean=0.1), against="1", force=False
            )
        except AffectuneError as error:
            return error

    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(run, ["2", "3", "4"]))
    assert results.count(True) == 1
    winner = str(2 + results.index(True))
    assert aliases_of(client, "affectune") == {"champion": winner, "previous": "1"}
    assert all("again" in str(error) for error in results if error is not True)
    assert not [key for key in client.get_registered_model("affectune").tags if "turn" in key]
