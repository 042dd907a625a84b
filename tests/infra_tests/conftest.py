"""Three hosts for the tests that want some, or a word about why there are none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.infra_tests.hosts import Hosts, make_hosts, reason_to_skip


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Three hosts, host1 to host3, of this test alone."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    with make_hosts(3) as three:
        yield three
