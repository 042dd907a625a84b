"""One trial: a fit inside a Ray worker, which goes from rung to rung and keeps its state in the store."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray import tune

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.fitting.trainer import Trainer
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.storage.stage_store import StageStore
from tuning.fitting.held_out_predictions import HeldOutPredictions, held_out_name, say
from tuning.fitting.job import Job, checkpoint_name, stage_task
from tuning.fitting.upstream_predictions import UpstreamPredictions
from tuning.planning.scoring import fit_scores
from tuning.ray_backend.shared_corpus import unpack

REPORT_S = 5.0
"""A trial reports, and keeps its state, after so many seconds at most (and the epoch that is running)."""
CLAIM_S = 3600.0
"""So long a trial waits for another study that trains the same stage."""

Report = dict[str, Any]


class TrialTrainable(tune.Trainable):
    """Ray Tune's view of a fit: each step trains until the next rung, the end, or for a few seconds.

    The worker lives on from trial to trial: what is made once (corpus, store, what stages above say) is kept.
    """

    def setup(  # type: ignore[override] # what follows config comes from tune.with_parameters
        self,
        config: dict[str, Any],
        *,
        head: bytes,
        packed: NDArray[np.uint8],
        spec: str,
        store: str,
    ) -> None:
        """Called once per worker."""
        torch.set_num_threads(1)
        base = Spec.model_validate_json(spec)
        self._corpus: Corpus = unpack(head, packed)
        self._plan = CrossFitPlan.of(self._corpus, base)
        self._store = StageStore(store)
        self._upstream = UpstreamPredictions(self._store, self._corpus, self._plan, base)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called for every further trial of the same worker."""
        self._fit = ResumableFit(
            Job.from_config(new_config), self._corpus, self._plan, self._store, self._upstream
        )
        return True

    def step(self) -> Report:
        """Train on; what is reported is all that the driver knows."""
        report = self._fit.advance()
        return report | {"done": report["ended"] is not None}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing: the state is in the store."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the state is in the store."""


class ResumableFit:
    """A job that is trained piece by piece; after any kind of end it goes on from its last report."""

    def __init__(
        self,
        job: Job,
        corpus: Corpus,
        plan: CrossFitPlan,
        store: StageStore,
        upstream: UpstreamPredictions,
    ) -> None:
        self.job = job
        self._corpus, self._plan, self._store, self._upstream = corpus, plan, store, upstream
        self._key = stage_task(job, corpus, plan).key
        self._training: Trainer | None = None
        self._reported = 0
        self._wall_s = 0.0

    def advance(self) -> Report:
        """Train until the next rung, the end, or for some seconds.

        Returns:
            "epochs": those not reported yet, as (epoch, loss, score); "cpu_s", "wall_s"; "ended": None, "patience",
            "max_epochs", "store" or "error"; then also "score", "best_epoch", "held_out", "deciding", "error".
        """
        begin = time.monotonic()
        try:
            with self._store.claim(self._key, timeout_s=CLAIM_S):
                report = self._advance(begin)
        except (AffectuneError, MemoryError) as error:
            report = {"ended": "error", "error": str(error) or "out of memory"}
        except (
            Exception
        ) as error:  # whatever a configuration breaks ends its trial, and not the study
            report = {"ended": "error", "error": f"{type(error).__name__}: {error}"}
        self._wall_s += time.monotonic() - begin
        training = self._training
        if report["ended"] == "store":
            return report
        epochs = training.history[self._reported :] if training else []
        self._reported += len(epochs)
        return {
            "epochs": [(epoch.epoch, epoch.loss, epoch.score) for epoch in epochs],
            "cpu_s": training.cpu_s if training else 0.0,
            "wall_s": self._wall_s,
            **report,
        }

    def _advance(self, begin: float) -> Report:
        if self._training is None:
            sources = self.job.sources
            self._difficulty = self._upstream.difficulty(sources)
            self._predictions = self._upstream.predictions(sources)
            if said := self._from_store():
                return said.report() | self._scores(said)
            self._training = self._begin()
            if self._training.epoch in self.job.rungs:
                return {"ended": None}  # whether it goes on may not have been said
        training = self._training
        while not training.over:
            training.step()
            if training.epoch in self.job.rungs or time.monotonic() - begin > REPORT_S:
                break
        return self._end(training) if training.over else self._keep(training, begin)

    def _begin(self) -> Trainer:
        task = stage_task(self.job, self._corpus, self._plan, self._difficulty, self._predictions)
        training = Trainer(task, self._corpus, device=self.job.device)

        def resume(files: Mapping[str, bytes]) -> float:
            training.resume(files)
            wall_s: float = json.loads(files["trial.json"])["wall_s"]
            return wall_s

        self._wall_s += self._store.read(checkpoint_name(self._key), resume) or 0.0
        return training

    def _keep(self, training: Trainer, begin: float) -> Report:
        wall_s = self._wall_s + time.monotonic() - begin
        files = training.checkpoint() | {"trial.json": json.dumps({"wall_s": wall_s}).encode()}
        self._store.write(checkpoint_name(self._key), files)
        return {"ended": None}

    def _end(self, training: Trainer) -> Report:
        stage = training.solution()
        said = say(stage, self.job, self._corpus, self._plan, self._difficulty, self._predictions)
        self._store.put(stage)
        self._store.write(held_out_name(self._key), said.to_files())
        return {
            "ended": "patience" if training.out_of_patience else "max_epochs",
            "score": stage.score,
            "best_epoch": stage.best_epoch,
            **self._scores(said),
        }

    def _from_store(self) -> HeldOutPredictions | None:
        """What the stage says, if another study or `affectune train` trained it."""
        said = self._store.read(held_out_name(self._key), HeldOutPredictions.from_files)
        if said is None and (stage := self._store.get(self._key)) is not None:
            said = say(
                stage, self.job, self._corpus, self._plan, self._difficulty, self._predictions
            )
            self._store.write(held_out_name(self._key), said.to_files())
        return said

    def _scores(self, said: HeldOutPredictions) -> dict[str, float | None]:
        fold, protocol = self._plan.folds[self.job.fold], self.job.spec.protocol
        return fit_scores(self.job.task, self._corpus, fold, said, protocol)
