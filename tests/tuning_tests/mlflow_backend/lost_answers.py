"""A client whose requests are carried out, but whose answers are lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from mlflow import MlflowClient

BEFORE, AFTER = "before", "after"
"""When a request fails: before it is carried out, or afterwards, so that its answer is lost."""


class UnreliableClient:
    """MLflow's client, some of whose requests fail.

    Args:
        uri: of the server.
        failure: says of each request, by name, whether it fails `BEFORE` or `AFTER` it was carried
            out; None where it succeeds.
        lost: counts the requests that failed.
    """

    def __init__(self, uri: str, failure: Callable[[str], str | None], lost: Counter[str]) -> None:
        self._client = MlflowClient(uri, uri)
        self._failure = failure
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def request(*args: Any, **kwargs: Any) -> Any:
            failure = self._failure(name)
            if failure is None:
                return method(*args, **kwargs)

            if failure == AFTER:
                method(*args, **kwargs)
            self._lost[name] += 1
            raise ConnectionError("the answer was lost")

        return request
