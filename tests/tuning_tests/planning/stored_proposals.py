"""Proposals of every kind of sampler, as they were when `proposals.json` was written.

A study that a later version resumes must go on with the proposals of the version that began it. So
write the file anew only if proposals are meant to change, or if a new version of Optuna changes
them: `python -m tests.tuning_tests.planning.stored_proposals`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple, get_args

import optuna

from tests.tuning_tests.planning.simulated_search import SimulatedSearch
from tests.tuning_tests.planning.spaces import endless_space, finite_space
from tuning.spec.search_table import SamplerKind
from tuning.spec.space import Configuration

PATH = Path(__file__).with_name("proposals.json")
SPACES = {"finite": finite_space, "endless": endless_space}
NUM_PROPOSALS = 20


class StoredSearch(NamedTuple):
    """A search whose proposals are stored: the kind of sampler, the name of its space, the seed."""

    kind: SamplerKind
    space: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind} {self.space} {self.seed}"


SEARCHES = [
    StoredSearch(kind, space, seed)
    for kind in get_args(SamplerKind)
    for space in SPACES
    if (kind, space) != ("grid", "endless")
    for seed in (0, 1)
]


def run_search(stored: StoredSearch) -> list[Configuration]:
    """Return the proposals that today's code makes."""
    space = SPACES[stored.space]()
    return SimulatedSearch(space, stored.kind, stored.seed).run(NUM_PROPOSALS)


def read_proposals(stored: StoredSearch) -> list[Configuration]:
    """Read the stored proposals of a search."""
    proposals: list[Configuration] = json.loads(PATH.read_text(encoding="utf-8"))[str(stored)]
    return proposals


def write_proposals() -> None:
    """Write the proposals that today's code makes, one configuration per line."""
    sections = [f'"optuna": "{optuna.__version__}"']
    for stored in SEARCHES:
        lines = ",\n".join(f"  {json.dumps(proposal)}" for proposal in run_search(stored))
        sections.append(f'"{stored}": [\n{lines}\n]')

    PATH.write_text("{\n" + ",\n".join(sections) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write_proposals()
