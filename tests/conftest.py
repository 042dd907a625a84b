"""What holds for every test: one thread per process, and examples of properties that repeat."""

from __future__ import annotations

import os

from pipeline.environment import set_ray_serve_defaults, set_thread_defaults

set_thread_defaults()
set_ray_serve_defaults()  # else Ray's workers give way to the other half of the tests

import pytest  # noqa: E402
import torch  # noqa: E402 - after the number of threads is set
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

# A change that breaks nothing must never fail by chance, so the same examples are tried each time.
# `make fuzz` looks for new ones. On a busy machine an example may take any time: no deadline.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, max_examples=150
)
settings.register_profile(
    "fuzz",
    deadline=None,
    database=None,
    max_examples=int(os.environ.get("AFFECTUNE_FUZZ", "2000")),
    print_blob=True,
)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what earlier tests gave as a password: it would be masked in the texts of this one."""
    monkeypatch.setattr("pipeline.credentials.known._remembered", set())
