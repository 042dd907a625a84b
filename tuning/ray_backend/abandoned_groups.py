"""Cores that Ray still reserves for studies whose driver is gone.

Where a driver's node is lost together with the driver, Ray makes that driver's placement groups
anew on another node after it has cleaned up behind it: nobody would ever give those cores back.
"""

from __future__ import annotations

import contextlib
import logging

from ray._raylet import GcsClient, PlacementGroupID  # type: ignore[attr-defined] # in C++
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

log = logging.getLogger(__name__)

NAMESPACE = "affectune-study"
"""Ray's namespace of a study's driver. None of them means a group to outlive it."""
ANSWER_S = 5.0
JOB_DIGITS = 8
"""The id of a group ends with that of the job which made it."""


def remove_abandoned_groups(address: str) -> None:
    """Give back what is reserved for studies whose driver is gone.

    Args:
        address: of the head of the cluster that this process is connected to.
    """
    with contextlib.suppress(Exception):  # the head may be away; it is tried again
        jobs = GcsClient(address=address).get_all_job_info(timeout=ANSWER_S)
        gone = {
            job_id.hex()
            for job_id, job in jobs.items()
            if job.is_dead and job.config.ray_namespace == NAMESPACE
        }
        for name, group in placement_group_table().items():
            if group["state"] != "REMOVED" and name[-JOB_DIGITS:] in gone:
                log.debug("Removing what was reserved by a study that is gone: %s", name)
                remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(name))))
