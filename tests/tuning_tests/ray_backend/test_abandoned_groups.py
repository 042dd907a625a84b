"""What studies that are gone have reserved is given back, and nobody else's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray._raylet import JobID, PlacementGroupID

from tuning.ray_backend import abandoned_groups
from tuning.ray_backend.abandoned_groups import NAMESPACE, remove_abandoned_groups


def _job(namespace: str, *, is_dead: bool) -> Any:
    return SimpleNamespace(is_dead=is_dead, config=SimpleNamespace(ray_namespace=namespace))


JOBS = {
    JobID.from_int(1): _job(NAMESPACE, is_dead=True),
    JobID.from_int(2): _job(NAMESPACE, is_dead=False),
    JobID.from_int(3): _job("somebody-else", is_dead=True),
}


class Head:
    """A head that knows the jobs above, or is away."""

    is_away = False

    def __init__(self, address: str) -> None:
        assert address == "host1:6379"

    def get_all_job_info(self, timeout: float) -> dict[Any, Any]:
        """Return job id -> what is known of it."""
        assert timeout > 0
        if self.is_away:
            raise ConnectionError("the head does not answer")
        return JOBS


@pytest.mark.parametrize("is_away", [False, True])
def test_only_what_a_study_that_is_gone_reserved_is_given_back(
    monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    groups = {job.hex(): PlacementGroupID.of(job) for job in JOBS}
    removed_before = PlacementGroupID.of(JobID.from_int(1))
    table = {group.hex(): {"state": "RESCHEDULING"} for group in groups.values()}
    table |= {removed_before.hex(): {"state": "REMOVED"}}
    removed: list[str] = []
    monkeypatch.setattr(Head, "is_away", is_away)
    monkeypatch.setattr(abandoned_groups, "GcsClient", Head)
    monkeypatch.setattr(abandoned_groups, "placement_group_table", lambda: table)
    monkeypatch.setattr(
        abandoned_groups, "remove_placement_group", lambda group: removed.append(group.id.hex())
    )

    remove_abandoned_groups("host1:6379")
    assert removed == ([] if is_away else [groups[JobID.from_int(1).hex()].hex()])
