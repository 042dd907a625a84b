"""A search by a sampler without any training: scores follow from the configurations."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10

from tuning.planning.sampling.sampler import Sampler
from tuning.spec.search_table import SamplerKind
from tuning.spec.space import Configuration, Space, Value

MAX_RUNNING = 3


class SimulatedSearch:
    """Proposes configurations, up to three of which run at a time; the oldest ends first.

    Every seventh trial fails, and every fourth is stopped early.

    Attributes:
        proposals: in order.
        num_ended: so many of the proposals, from the first, have ended.
    """

    def __init__(self, space: Space, kind: SamplerKind, seed: int) -> None:
        self.proposals: list[Configuration] = []
        self.num_ended = 0
        self._space, self._kind, self._seed = space, kind, seed
        self.sampler = Sampler(space, kind, seed)

    def propose(self) -> Configuration | None:
        """Propose one more configuration, and end a trial if three are running."""
        configuration = self.sampler.propose()
        if configuration is None:
            return None

        self.proposals.append(configuration)
        if len(self.proposals) - self.num_ended == MAX_RUNNING:
            self.end_oldest()
        return configuration

    def run(self, num_proposals: int) -> list[Configuration]:
        """Propose so many more configurations, or as many as there are, and return them."""
        start = len(self.proposals)
        for _ in range(num_proposals):
            if self.propose() is None:
                break
        return self.proposals[start:]

    def restored(self) -> SimulatedSearch:
        """Make the same search with a new sampler, which learns the history at once."""
        search = SimulatedSearch(self._space, self._kind, self._seed)

        search.proposals = list(self.proposals)
        for configuration in search.proposals:
            search.sampler.restore(configuration)

        while search.num_ended < self.num_ended:
            search.end_oldest()
        return search

    def end_oldest(self) -> None:
        index = self.num_ended
        configuration = self.proposals[index]
        is_failed, is_stopped = index % 7 == 6, index % 4 == 3

        scores = [] if is_failed else [(1, -9.0), (5, score(configuration))]
        self.sampler.tell(configuration, scores, complete=not is_failed and not is_stopped)
        self.num_ended += 1


def score(configuration: Mapping[str, Value]) -> float:
    """Score a configuration: best at a learning rate of 0.003, for one GRU layer."""
    learning_rate = float(configuration.get("fit.learning_rate", 0.003))
    num_layers = float(configuration["network.num_layers"])
    is_gru = configuration["network.cell"] == "gru"

    return 0.2 * is_gru - 0.1 * num_layers - abs(log10(learning_rate / 0.003))
