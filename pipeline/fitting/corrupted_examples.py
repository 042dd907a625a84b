"""A fusion's examples, and their corrupted copies: in each epoch others are spoilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Session
from pipeline.fitting.examples import Example, ExampleScaling
from pipeline.spec import CorruptionKind
from pipeline.stages.task import SupervisedProblem, raw_inputs

FURTHER_MODALITY = 0.25
"""Chance that one more modality of a corrupted session is spoilt, as long as one is left."""

Columns = NDArray[np.float32]


class CorruptedExamples:
    """The examples of a fusion's sessions, and what they look like where a modality is spoilt.

    Args:
        problem: of a fusion, with the outputs of copies.
        scaling: of the examples.
        sessions: those of the examples.
        clean: their examples.
    """

    def __init__(
        self,
        problem: SupervisedProblem,
        scaling: ExampleScaling,
        sessions: Sequence[Session],
        clean: list[Example],
    ) -> None:
        self._problem, self.clean = problem, clean
        self._copies = {
            kind: [self._inputs(scaling, kind, session) for session in sessions]
            for kind in problem.upstream_outputs.copies
        }
        self._columns = [
            _columns_of_modality(problem, modality) for modality in range(problem.num_modalities)
        ]

    def epoch(self, seed: int, epoch: int) -> list[Example]:
        """Return the sessions of one epoch: some as they are, others corrupted.

        Args:
            seed, epoch: they decide which.
        """
        corruption = self._problem.corruption
        if corruption is None or not corruption.share or not self._copies:
            return self.clean

        random = np.random.default_rng([seed, epoch, 1])
        examples = []
        for place, example in enumerate(self.clean):
            if random.random() < corruption.share:
                example = self._corrupt_randomly(place, random)
            examples.append(example)
        return examples

    def every_kind(self) -> list[Example]:
        """Return one copy of each session: over the sessions every kind and modality has its turn.

        Returns:
            As many examples as there are sessions; none where nothing is learned from copies.
        """
        cases = list(product(range(len(self._columns)), self._copies))
        if not cases:
            return []
        return [
            self._corrupt(example, place, [cases[place % len(cases)]])
            for place, example in enumerate(self.clean)
        ]

    def _inputs(self, scaling: ExampleScaling, kind: CorruptionKind, session: Session) -> Columns:
        """Return a session's normalised input in which every modality is spoilt."""
        upstream = self._problem.upstream_outputs.copies[kind]
        return scaling.normalisation.apply(raw_inputs(session, "", upstream))

    def _corrupt_randomly(self, place: int, random: np.random.Generator) -> Example:
        kinds = list(self._copies)
        order = random.permutation(len(self._columns))
        num_spoilt = 1
        while num_spoilt < len(order) - 1 and random.random() < FURTHER_MODALITY:
            num_spoilt += 1

        cases = [
            (int(modality), kinds[random.integers(len(kinds))]) for modality in order[:num_spoilt]
        ]
        return self._corrupt(self.clean[place], place, cases)

    def _corrupt(
        self, example: Example, place: int, cases: Sequence[tuple[int, CorruptionKind]]
    ) -> Example:
        inputs = example.inputs.copy()
        for modality, kind in cases:
            columns = self._columns[modality]
            inputs[:, columns] = self._copies[kind][place][:, columns]
        return replace(example, inputs=inputs)


def _columns_of_modality(problem: SupervisedProblem, modality: int) -> list[int]:
    """Return which input columns are of one modality: see `raw_inputs` for their order."""
    size = problem.num_modalities
    num_other, num_difficulties = problem.num_other_predictions, problem.difficulty_size

    columns = [modality, size + modality]
    columns += range(2 * size + modality, 2 * size + num_other, size)
    if num_difficulties:
        columns.append(2 * size + num_other + modality)
    return columns
