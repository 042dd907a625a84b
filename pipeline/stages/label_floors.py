"""The floors that read no features: the mean training label over time, and on the same stimulus.

They say what the design of a corpus gives away: who knows only for how long a session has run, or
which stimulus is shown, and how others answered. They take no part in any choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.stages.cross_fit import CrossFitPlan

TIME, STIMULUS = "time", "stimulus"
LABEL_FLOORS = {TIME: "time alone", STIMULUS: "stimulus alone"}
"""The floors, and what people call them."""
EXPLANATIONS = {
    LABEL_FLOORS[TIME]: "the mean training label at each time since the start of a session",
    LABEL_FLOORS[STIMULUS]: "the mean label of other people on the same stimulus at each time",
}
"""What they are, in a sentence."""

FloorSeries = Mapping[str, Sequence[NDArray[np.float64]]]
"""Floor -> one series per session, each of shape (frames,), in the label's unit."""


@dataclass(frozen=True)
class Track:
    """A mean label over the time since the start of a session.

    Attributes:
        steps: shape (steps,), ascending: frame periods since the first frame of a session.
        values: shape (steps,), finite: the mean label there, in the label's unit.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the value at every step: the last one known, before the first one the first."""
        places = np.searchsorted(self.steps, steps, side="right") - 1
        return self.values[np.maximum(places, 0)]


@dataclass(frozen=True)
class LabelFloors:
    """Mean label tracks of training sessions.

    Attributes:
        frame_period_ms: length of a step.
        by_time: target -> its track over all sessions. After the longest session it keeps its last
            value.
        by_stimulus: (target, stimulus) -> its track over the sessions with that stimulus; {} where
            no stimulus is known.
    """

    frame_period_ms: float
    by_time: Mapping[str, Track]
    by_stimulus: Mapping[tuple[str, str], Track]

    @classmethod
    def from_sessions(
        cls, sessions: Sequence[Session], targets: Sequence[str], frame_period_ms: float
    ) -> LabelFloors:
        """Take the means of training sessions.

        Args:
            sessions: with a label of every target in at least one of them.
            targets: whose tracks are wanted.
            frame_period_ms: length of a step.
        """
        sessions_by_stimulus: dict[str, list[Session]] = {}
        for session in sessions:
            if session.stimulus:
                sessions_by_stimulus.setdefault(session.stimulus, []).append(session)

        by_stimulus = {}
        for stimulus, shown in sorted(sessions_by_stimulus.items()):
            for target in targets:
                track = _mean_track(shown, target, frame_period_ms)
                if track is not None:
                    by_stimulus[target, stimulus] = track

        tracks = {target: _mean_track(sessions, target, frame_period_ms) for target in targets}
        by_time = {target: track for target, track in tracks.items() if track is not None}
        return cls(frame_period_ms, by_time, by_stimulus)

    def predict(self, sessions: Sequence[Session], target: str) -> FloorSeries:
        """Return the floors of some sessions; they read of them the time and the stimulus alone.

        A session whose stimulus is unknown, or was never seen in training, has time alone in place
        of it, so that both floors know the same frames.

        Returns:
            "time" -> series, and "stimulus" -> series where any session has a stimulus that was
            seen.
        """
        steps = [_steps(session, self.frame_period_ms) for session in sessions]
        over_time = self.by_time[target]
        floors = {TIME: [over_time.at(each) for each in steps]}

        tracks = [self.by_stimulus.get((target, session.stimulus)) for session in sessions]
        if any(track is not None for track in tracks):
            pairs = zip(tracks, steps, strict=True)
            floors[STIMULUS] = [(track or over_time).at(each) for track, each in pairs]
        return floors


def held_out_label_floors(corpus: Corpus, plan: CrossFitPlan, target: str) -> FloorSeries:
    """Return the floors of every training session from the sessions that its fold learned from.

    So they know as much as the models that held the session out: labels of other people, and with
    folds by stimulus none of its stimulus.

    Returns:
        "time" -> series of the training sessions, in their order; "stimulus" -> series likewise,
        where any fold learned from a stimulus that it held out a session of.
    """
    has_stimulus = False
    series: dict[str, dict[str, NDArray[np.float64]]] = {}
    for fold in plan.folds:
        learned = [corpus.session(session_id) for session_id in fold.train_ids]
        held_out = [corpus.session(session_id) for session_id in fold.held_out_ids]
        if not held_out:
            continue

        floors = LabelFloors.from_sessions(learned, [target], corpus.frame_period_ms)
        predicted = floors.predict(held_out, target)
        has_stimulus = has_stimulus or STIMULUS in predicted
        for key in LABEL_FLOORS:
            values = predicted.get(key, predicted[TIME])
            series.setdefault(key, {}).update(zip(fold.held_out_ids, values, strict=True))

    train_ids = [session.session_id for session in corpus.partition("train")]
    return {
        key: [by_session[session_id] for session_id in train_ids]
        for key, by_session in series.items()
        if key == TIME or has_stimulus
    }


def _mean_track(sessions: Sequence[Session], target: str, frame_period_ms: float) -> Track | None:
    """Return the mean label at each step that any session has a label for; None without labels."""
    steps = np.concatenate([_steps(session, frame_period_ms) for session in sessions])
    labels = np.concatenate([session.labels[target] for session in sessions])
    is_known = np.isfinite(labels)
    if not is_known.any():
        return None

    distinct, places = np.unique(steps[is_known], return_inverse=True)
    totals = np.bincount(places, weights=labels[is_known])
    return Track(distinct, totals / np.bincount(places))


def _steps(session: Session, frame_period_ms: float) -> NDArray[np.int64]:
    """Return how many frame periods after the first frame of its session each frame lies."""
    elapsed_ms = session.timestamps_ms - session.timestamps_ms[0]
    steps: NDArray[np.int64] = np.rint(elapsed_ms / frame_period_ms).astype(np.int64)
    return steps
