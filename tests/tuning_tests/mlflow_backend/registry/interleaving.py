"""A registry in memory, and processes whose requests to it come in an order that is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from tuning.mlflow_backend.registry import turn


class Killed(BaseException):
    """A process was killed; whatever it asks for afterwards is not carried out."""


class FakeRegistry:
    """One registered model: its aliases and tags, and the tags of its versions."""

    def __init__(self, **aliases: str) -> None:
        self.aliases = dict(aliases)
        self.tags: dict[str, str] = {}
        self.version_tags: dict[str, dict[str, str]] = {str(number): {} for number in range(1, 5)}

    def get_registered_model(self, name: str) -> Any:
        return SimpleNamespace(aliases=dict(self.aliases), tags=dict(self.tags))

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self.tags[key] = value

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        del self.tags[key]

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        del self.aliases[alias]

    def get_model_version(self, name: str, version: str) -> Any:
        return SimpleNamespace(version=version, tags=dict(self.version_tags[version]))

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self.version_tags[version][key] = value

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        del self.version_tags[version][key]

    def search_model_versions(self, condition: str, **_: object) -> Any:
        found = [self.get_model_version("", version) for version in self.version_tags]
        return _Page(found)


class _Page(list[Any]):
    token = None


class Process:
    """Runs something with a client; each of its requests waits until it is let.

    Attributes:
        result: what it returned, or the error that it ended with.
    """

    def __init__(self, registry: FakeRegistry, run: Callable[[Any], object]) -> None:
        self.result: object = None
        self.has_ended = self.is_killed = False
        self._registry = registry
        self._may, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._run, args=(run,), daemon=True)
        self.thread.start()
        self._waits.acquire()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._registry, name)

        def request(*args: Any, **kwargs: Any) -> Any:
            self.pause()
            return method(*args, **kwargs)

        return request

    def step(self) -> None:
        """Let it make one request, and wait until it wants to make the next."""
        if not self.has_ended:
            self._may.release()
            self._waits.acquire()

    def kill(self) -> None:
        """End it; what it would still ask for does not happen."""
        self.is_killed = True
        while not self.has_ended:
            self.step()

    def pause(self) -> None:
        """Wait until the next step."""
        self._waits.release()
        self._may.acquire()
        if self.is_killed:
            raise Killed

    def _run(self, run: Callable[[Any], object]) -> None:
        try:
            self.result = run(self)
        except (Exception, Killed) as error:
            self.result = error
        self.has_ended = True
        self._waits.release()


def interleave(
    monkeypatch: pytest.MonkeyPatch, processes: list[Process], order: Iterable[int]
) -> None:
    """Run processes to their ends: first a request of each in turn as the order says, then evenly.

    No time passes; who waits for a turn waits for its next step.
    """
    by_thread = {process.thread: process for process in processes}

    def sleep(seconds: float) -> None:
        by_thread[threading.current_thread()].pause()

    monkeypatch.setattr(turn, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))
    for number in order:
        processes[number].step()
    for _ in range(500):
        for process in processes:
            process.step()
    assert all(process.has_ended for process in processes)
