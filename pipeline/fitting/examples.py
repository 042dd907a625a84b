"""Training examples: a problem's sessions as normalised arrays, and their windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.errors import AffectuneError
from pipeline.preprocessing.normalisation import Normalisation
from pipeline.spec import FitSpec
from pipeline.stages.task import SupervisedProblem


@dataclass(frozen=True)
class Example:
    """One session of a problem, or a window of it, at the frames of the network.

    Attributes:
        inputs: normalised, shape (frames, input columns).
        truth: normalised labels, the task's own target first, NaN where one is unknown; or the
            inputs to rebuild; shape (frames, outputs). To be scored, they are at the frames of the
            session.
        mask: which frames of the truth count, shape (frames,): where at least one label is known.
    """

    inputs: NDArray[np.float32]
    truth: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Return which frames count for the task's own target, shape (frames,)."""
        return self.mask & np.isfinite(self.truth[:, 0])

    def __getitem__(self, frames: slice) -> Example:
        return Example(self.inputs[frames], self.truth[frames], self.mask[frames])


@dataclass(frozen=True)
class ExampleScaling:
    """How a problem's sessions become examples: fitted on its own training sessions alone.

    Attributes:
        normalisation: of the inputs.
        label_mean, label_std: of the label; 0 and 1 for an auto-encoder.
        other_labels: mean and standard deviation of each label that is learned beside it.
    """

    normalisation: Normalisation
    label_mean: float
    label_std: float
    other_labels: tuple[tuple[float, float], ...] = ()

    @classmethod
    def fit(cls, problem: SupervisedProblem, corpus: Corpus) -> ExampleScaling:
        """Fit on the training sessions of a problem.

        Raises:
            AffectuneError: none of them has a label, of one of the targets that are learned.
        """
        sessions = [corpus.session(session_id) for session_id in problem.train_ids]
        normalisation = Normalisation.fit(
            [problem.network_inputs(session) for session in sessions],
            difficulty_size=problem.difficulty_size,
            mode=problem.normalisation_mode,
            difficulty_scale=problem.difficulty_scale,
            # Of a fusion the presence of the modalities, which stands after their predictions.
            unscaled=slice(problem.num_modalities, 2 * problem.num_modalities),
        )

        target = problem.task.target
        if not target:
            return cls(normalisation, 0.0, 1.0)

        own, *others = (
            _label_scale(problem, sessions, name) for name in (target, *problem.other_targets)
        )
        return cls(normalisation, *own, tuple(others))

    def training_example(self, problem: SupervisedProblem, session: Session) -> Example:
        """Turn a session into an example to learn from."""
        return self._example(problem, session, problem.timing.network_labels)

    def scored_example(self, problem: SupervisedProblem, session: Session) -> Example:
        """Turn a session into an example whose labels are as they are, to be scored."""
        return self._example(problem, session, lambda labels: labels)

    def _example(
        self,
        problem: SupervisedProblem,
        session: Session,
        labels_to_match: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    ) -> Example:
        modality, target = problem.task.modality, problem.task.target
        inputs = self.normalisation.apply(problem.network_inputs(session))
        if not target:
            return Example(inputs, inputs, session.present[modality])

        targets = (target, *problem.other_targets)
        scales = ((self.label_mean, self.label_std), *self.other_labels)
        labels = [
            (labels_to_match(session.labels[name]) - mean) / std
            for name, (mean, std) in zip(targets, scales, strict=True)
        ]
        truth = np.stack(labels, axis=1).astype(np.float32)

        # Without its feature set a session has no prediction: it neither teaches nor stops.
        has_features = session.present[modality].any() if modality else True
        mask = np.asarray(np.isfinite(truth).any(axis=1) & has_features)
        return Example(inputs, truth, mask)


def _label_scale(
    problem: SupervisedProblem, sessions: Sequence[Session], target: str
) -> tuple[float, float]:
    """Return the mean and the standard deviation of a label; 1 for the latter where it is 0."""
    labels = np.concatenate([session.labels[target] for session in sessions])
    labels = labels[np.isfinite(labels)]
    if not labels.size:
        raise AffectuneError(f"{problem.name}: no training session has a label for {target!r}.")

    label_std = float(labels.std()) if np.ptp(labels) > 0 else 1.0
    return float(labels.mean()), label_std


def windows(num_frames: int, window_frames: int, hop_frames: int) -> list[tuple[int, int]]:
    """Cut a session into windows; the last one ends with the session.

    Returns:
        (start, stop) of each.
    """
    last = max(num_frames - window_frames, 0)
    starts = [*range(0, last, hop_frames), last]
    return [(start, min(start + window_frames, num_frames)) for start in starts]


def training_batches(
    examples: Sequence[Example], fit: FitSpec, seed: int, epoch: int
) -> Iterator[list[Example]]:
    """Yield the batches of one epoch: shuffled windows that have at least one frame that counts.

    Args:
        examples: whole training sessions.
        fit: lengths of windows and batches.
        seed, epoch: they decide the order.
    """
    windowed = []
    for example in examples:
        for start, stop in windows(len(example.inputs), fit.window_frames, fit.hop_frames):
            window = example[start:stop]
            if window.mask.any():
                windowed.append(window)

    order = np.random.default_rng([seed, epoch]).permutation(len(windowed))
    for first in range(0, len(order), fit.batch_size):
        yield [windowed[index] for index in order[first : first + fit.batch_size]]
