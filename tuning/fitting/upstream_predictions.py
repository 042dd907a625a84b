"""What upstream stages output for every train and devel session, put together from the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import difficulty_columns
from pipeline.stages.fusion import join_columns
from pipeline.stages.task import StageKeys, UpstreamKeys, UpstreamOutputs
from pipeline.stages.trained_stage import Columns, mean_of
from pipeline.storage.stage_store import StageStore
from tuning.fitting.held_out_predictions import HeldOutPredictions, held_out_name

CACHED_STAGES = 64
"""So many stages' outputs at most are kept in memory; each is a number per frame."""


class UpstreamPredictions:
    """Reads from the store what stages output when they were trained; trains and predicts nothing.

    Args:
        store: keeps the held-out predictions of every stage.
        corpus: of the study.
        plan: its folds.
        spec: the study's base, which says how difficulty is scaled.
    """

    def __init__(self, store: StageStore, corpus: Corpus, plan: CrossFitPlan, spec: Spec) -> None:
        self._store, self._corpus, self._plan = store, corpus, plan
        self._difficulty_scale = spec.difficulty_scale
        self._cache: OrderedDict[StageKeys, Columns] = OrderedDict()

    def outputs(self, upstream: UpstreamKeys) -> UpstreamOutputs:
        """Return all that a task reads, modalities beside each other.

        Raises:
            AffectuneError: the store has lost some of it.
        """
        predictions = difficulty = None
        if upstream.regressors:
            regressors = [self.stage_outputs(keys) for keys in upstream.regressors.values()]
            predictions = join_columns(regressors)

        if upstream.auto_encoders:
            errors = [self.stage_outputs(keys) for keys in upstream.auto_encoders.values()]
            difficulty = join_columns(
                [difficulty_columns(error, self._difficulty_scale) for error in errors]
            )
        return UpstreamOutputs(predictions, difficulty)

    def stage_outputs(self, keys: StageKeys) -> Columns:
        """Return a stage's outputs for every train and devel session, as the mean over its seeds.

        Raises:
            AffectuneError: the store has lost them.
        """
        if keys not in self._cache:
            outputs = [[self._held_out(key) for key in seeds] for seeds in keys]
            self._cache[keys] = self._plan.average(self._corpus, outputs)
            while len(self._cache) > CACHED_STAGES:
                self._cache.popitem(last=False)

        self._cache.move_to_end(keys)
        return self._cache[keys]

    def outputs_so_far(self, keys: Sequence[str]) -> Columns:
        """Return what the fits on the first folds output for the people that each held out.

        And for devel, the mean of them.

        Args:
            keys: of the trained stages, one per fold, from the first.

        Raises:
            AffectuneError: the store has lost them.
        """
        by_fold = [self._held_out(key) for key in keys]
        outputs: dict[str, NDArray[np.float32]] = {}
        for fold, columns in zip(self._plan.folds, by_fold, strict=False):
            outputs |= {name: columns[name] for name in fold.held_out_ids}
        for session in self._corpus.partition("devel"):
            name = session.session_id
            outputs[name] = mean_of([columns[name] for columns in by_fold])
        return outputs

    def _held_out(self, key: str) -> Columns:
        predictions = self._store.read(held_out_name(key), HeldOutPredictions.from_files)
        if predictions is None:
            raise AffectuneError(
                f"The store '{self._store.uri}' no longer has the stage {key[:12]} that later ones "
                "read. Restore it, or start the study anew in another --out."
            )
        return predictions.outputs
