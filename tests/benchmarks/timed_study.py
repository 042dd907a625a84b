"""A study run in a folder of its own, and where its wall time went.

The start of Ray is measured apart.
"""

from __future__ import annotations

import dataclasses
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.networks.recurrent import recurrent_layers
from pipeline.stages.task import Task
from tuning.journal.events import TrialEnded
from tuning.journal.history import History
from tuning.mlflow_backend.tracking.tracker import Tracker
from tuning.monitoring.live_table import LiveTable
from tuning.ray_backend.cluster import cluster
from tuning.spec.study_spec import StudySpec, for_corpus
from tuning.study.study import StudyOptions, open_study, run_study

NUM_WORKERS = 2


@dataclass(frozen=True)
class TimedStudy:
    """What a study did, and how long it took.

    Attributes:
        history: its journal.
        wall_s: from the study's opening to its winner's bundle; Ray was running before.
        tracking_delay_s: how long after its end the tracking server had all events.
    """

    history: History
    wall_s: float
    tracking_delay_s: float

    @property
    def span_s(self) -> float:
        """Seconds from the first proposal to the last end of a fit."""
        proposed = [trial.proposed.at for trial in self.history.trials.values()]
        return max(ended.at for ended in self.ended) - min(proposed)

    @property
    def ended(self) -> list[TrialEnded]:
        """The ends of all fits; with an empty store, each was trained."""
        return [trial.ended for trial in self.history.trials.values() if trial.ended is not None]

    @property
    def busy_share(self) -> float:
        """Share of the workers' time within fits, from the first proposal to the last end."""
        return sum(ended.wall_s for ended in self.ended) / (NUM_WORKERS * self.span_s)

    @property
    def training_share(self) -> float:
        """Share of the time within fits that the processor trained; less on a busy machine."""
        return sum(ended.cpu_s for ended in self.ended) / sum(ended.wall_s for ended in self.ended)

    def mean_cost_s(self) -> dict[Task, float]:
        """Return for each task the mean time within a fit that was trained to the end."""
        durations_s: dict[Task, list[float]] = {}
        for trial in self.history.trials.values():
            if trial.is_complete and trial.ended is not None:
                durations_s.setdefault(trial.task, []).append(trial.ended.wall_s)

        return {task: sum(seconds) / len(seconds) for task, seconds in durations_s.items()}


def timed_study(
    study: StudySpec, corpus: Corpus, folder: Path, *, tracking_uri: str | None = None
) -> TimedStudy:
    """Run a study with an empty store as `affectune study run` does.

    Args:
        study: see `study_of`. Ray must be running, see `started_ray`.
        corpus: what it learns from.
        folder: empty.
        tracking_uri: where it is recorded; None: nowhere.

    Raises:
        RuntimeError: the tracking server did not take all events.
    """
    begin = time.perf_counter()
    place = StudyOptions(folder / "study", str(folder / "store"), workers=NUM_WORKERS)
    opened = open_study(study, corpus, folder, place, resume=False)

    with opened.journal, LiveTable(Console(stderr=True)) as table:
        tracker = Tracker(place.folder, tracking_uri).start() if tracking_uri else None
        opened.on_event = lambda event: table.update(opened.history)
        run_study(opened, on_tick=lambda: table.update(opened.history))
        wall_s = time.perf_counter() - begin

        num_unsent = tracker.close(timeout_s=300.0) if tracker else 0
        if num_unsent:
            raise RuntimeError(f"{num_unsent} events did not reach the tracking server.")

    return TimedStudy(opened.history, wall_s, time.perf_counter() - begin - wall_s)


@contextmanager
def started_ray() -> Iterator[float]:
    """Start Ray as a study does, with NUM_WORKERS cores; yield the seconds that this took."""
    begin = time.perf_counter()
    with cluster(None, NUM_WORKERS):
        yield time.perf_counter() - begin


def study_of(toml: str, corpus: Corpus) -> StudySpec:
    """Return the study of a TOML text, for the modalities and targets of a corpus."""
    spec = StudySpec.model_validate(tomllib.loads(toml))
    return for_corpus(spec, corpus.modalities, corpus.targets)


def synthetic_corpus(
    folder: Path, *, subjects: int, minutes: float, modalities: tuple[str, ...]
) -> Corpus:
    """Write and read a synthetic corpus of one target."""
    synthesize(folder, subjects=subjects, minutes=minutes)
    cache = folder.with_name("cache")
    corpus = read_corpus(folder, modalities=modalities, targets=("arousal",), cache_folder=cache)
    return dataclasses.replace(corpus, findings=())


def prepare_process() -> None:
    """Use one thread, as every worker does, and compile the GRU, so that no study pays for it."""
    torch.set_num_threads(1)
    layers = recurrent_layers("gru", 2, 2, 1, bidirectional=True, dropout=0.0)
    layers(torch.zeros(1, 2, 2), torch.tensor([2])).sum().backward()
