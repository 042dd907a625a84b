"""A study run in a folder of its own, and where its wall time went; Ray's start-up is measured apart."""

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
from pipeline.data.synthetic import synthesize
from pipeline.networks.recurrent import recurrent_layers
from tuning.journal.events import TrialEnded
from tuning.journal.history import History
from tuning.mlflow_backend.tracker import Tracker
from tuning.monitoring.live_table import StudyTable
from tuning.ray_backend.cluster import cluster
from tuning.spec.study_spec import StudySpec, for_corpus
from tuning.spec.tasks import Task
from tuning.study.study import Place, open_study, run_study

WORKERS = 2


@dataclass(frozen=True)
class TimedStudy:
    """What a study did, and how long it took.

    Attributes:
        history: its journal.
        wall_s: from the study's opening to its winner's bundle; Ray was running before.
        late_s: how long the tracking server was then sent what it had not heard yet.
    """

    history: History
    wall_s: float
    late_s: float

    @property
    def span_s(self) -> float:
        """From the first proposal to the last end."""
        proposed = [trial.proposed.at for trial in self.history.trials.values()]
        return max(ended.at for ended in self.ended) - min(proposed)

    @property
    def ended(self) -> list[TrialEnded]:
        """The ends of all fits; with an empty store, each was trained."""
        return [trial.ended for trial in self.history.trials.values() if trial.ended is not None]

    @property
    def busy_share(self) -> float:
        """Of the workers' time from the first proposal to the last end, the share within fits."""
        return sum(ended.wall_s for ended in self.ended) / (WORKERS * self.span_s)

    @property
    def trained_share(self) -> float:
        """Of the time within fits, the processor's time in training; less where others use the machine."""
        return sum(ended.cpu_s for ended in self.ended) / sum(ended.wall_s for ended in self.ended)

    def mean_cost_s(self) -> dict[Task, float]:
        """Seconds within a fit that was trained to the end, the mean of each task."""
        found: dict[Task, list[float]] = {}
        for trial in self.history.trials.values():
            if trial.complete and trial.ended is not None:
                found.setdefault(trial.task, []).append(trial.ended.wall_s)
        return {task: sum(seconds) / len(seconds) for task, seconds in found.items()}


def timed_study(
    study: StudySpec, corpus: Corpus, folder: Path, *, tracking_uri: str | None = None
) -> TimedStudy:
    """Run a study with an empty store as `affectune study run` does; Ray must be running (see `started_ray`).

    Args:
        study: see `study_of`.
        corpus: what it learns from.
        folder: empty.
        tracking_uri: where it is recorded; None: nowhere.
    """
    begin = time.perf_counter()
    place = Place(folder / "study", str(folder / "store"), workers=WORKERS)
    opened = open_study(study, corpus, folder, place, resume=False)
    with opened.journal, StudyTable(Console(stderr=True)) as table:
        tracker = Tracker(place.folder, tracking_uri).start() if tracking_uri else None
        opened.on_event = lambda event: table.update(opened.history)
        run_study(opened, on_tick=lambda: table.update(opened.history))
        wall_s = time.perf_counter() - begin
        if tracker and (unsent := tracker.close(timeout_s=300.0)):
            raise RuntimeError(f"{unsent} events did not reach the tracking server.")
    return TimedStudy(opened.history, wall_s, time.perf_counter() - begin - wall_s)


@contextmanager
def started_ray() -> Iterator[float]:
    """Ray as a study starts it, with WORKERS cores; gives the seconds that took."""
    begin = time.perf_counter()
    with cluster(None, WORKERS):
        yield time.perf_counter() - begin


def study_of(text: str, corpus: Corpus) -> StudySpec:
    """A study from TOML."""
    return for_corpus(
        StudySpec.model_validate(tomllib.loads(text)), corpus.modalities, corpus.targets
    )


def synthetic_corpus(
    folder: Path, *, subjects: int, minutes: float, modalities: tuple[str, ...]
) -> Corpus:
    """A synthetic corpus of one target."""
    synthesize(folder, subjects=subjects, minutes=minutes)
    corpus = read_corpus(
        folder, modalities=modalities, targets=("arousal",), cache_folder=folder.with_name("cache")
    )
    return dataclasses.replace(corpus, findings=())


def get_ready() -> None:
    """One thread in this process, as in every worker; and the GRU compiled, once per machine: no study pays for it."""
    torch.set_num_threads(1)
    layers = recurrent_layers("gru", 2, 2, 1, bidirectional=True, dropout=0.0)
    layers(torch.zeros(1, 2, 2), torch.tensor([2])).sum().backward()
