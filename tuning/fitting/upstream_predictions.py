"""What upstream stages output for every train and devel session, put together from the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.preprocessing.corruption import column_std
from pipeline.spec import CorruptionKind, Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import StageKeys, UpstreamKeys, UpstreamOutputs
from pipeline.stages.trained_stage import Columns, mean_of
from pipeline.stages.upstream import COPY_KINDS, StageOutputs, corrupt_session, join_upstream
from pipeline.storage.stage_store import StageStore
from tuning.fitting.held_out_predictions import read_held_out
from tuning.fitting.lost_stage import StageLost

CACHED_STAGES = 256
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
        self._cache: OrderedDict[tuple[StageKeys, CorruptionKind | None], Columns] = OrderedDict()
        self._column_std: dict[str, NDArray[np.float64]] = {}

    def outputs(
        self, upstream: UpstreamKeys, copy_kinds: Sequence[CorruptionKind] = ()
    ) -> UpstreamOutputs:
        """Return all that a task reads, modalities beside each other.

        Args:
            upstream: which trained stages.
            copy_kinds: the corruptions whose copies a fusion learns from.

        Raises:
            StageLost: the store has lost some of it.
        """

        def outputs(stages: Mapping[str, StageKeys]) -> dict[str, StageOutputs]:
            kinds = [kind for kind in copy_kinds if kind in COPY_KINDS]
            return {
                modality: StageOutputs(
                    self.stage_outputs(keys),
                    {kind: self.stage_outputs(keys, kind) for kind in kinds},
                )
                for modality, keys in stages.items()
            }

        others = upstream.other_regressors
        return join_upstream(
            self._corpus,
            self._difficulty_scale,
            auto_encoders=outputs(upstream.auto_encoders),
            regressors=outputs(upstream.regressors),
            other_regressors={target: outputs(others[target]) for target in others},
            copy_kinds=copy_kinds,
        )

    def copy_outputs(self, upstream: UpstreamKeys, kind: CorruptionKind) -> UpstreamOutputs:
        """Return what a regressor reads of copies of the sessions in which its modality is spoilt.

        Raises:
            StageLost: the store has lost it.
        """
        encoders = {
            modality: StageOutputs(self.stage_outputs(keys, kind))
            for modality, keys in upstream.auto_encoders.items()
        }
        return join_upstream(self._corpus, self._difficulty_scale, auto_encoders=encoders)

    def corrupted(self, session: Session, modality: str, kind: CorruptionKind) -> Session:
        """Return the copy of a session with a modality spoilt. A corpus of copies is not kept."""
        if modality not in self._column_std:
            train = self._corpus.partition("train")
            self._column_std[modality] = column_std(train, modality)
        return corrupt_session(session, modality, kind, self._column_std[modality], self._corpus)

    def stage_outputs(self, keys: StageKeys, kind: CorruptionKind | None = None) -> Columns:
        """Return a stage's outputs for every train and devel session, as the mean over its seeds.

        Args:
            keys: of the stage.
            kind: of the copies that are predicted; None for the sessions as they are.

        Raises:
            StageLost: the store has lost them.
        """
        if (keys, kind) not in self._cache:
            outputs = [[self._held_out(key, kind) for key in seeds] for seeds in keys]
            self._cache[keys, kind] = self._plan.average(self._corpus, outputs)
            while len(self._cache) > CACHED_STAGES:
                self._cache.popitem(last=False)

        self._cache.move_to_end((keys, kind))
        return self._cache[keys, kind]

    def outputs_so_far(self, keys: Sequence[str]) -> Columns:
        """Return what the fits on the first folds output for the people that each held out.

        And for devel, the mean of them.

        Args:
            keys: of the trained stages, one per fold, from the first.

        Raises:
            StageLost: the store has lost them.
        """
        by_fold = [self._held_out(key, None) for key in keys]
        outputs: dict[str, NDArray[np.float32]] = {}
        for fold, columns in zip(self._plan.folds, by_fold, strict=False):
            outputs |= {name: columns[name] for name in fold.held_out_ids}
        for session in self._corpus.partition("devel"):
            name = session.session_id
            outputs[name] = mean_of([columns[name] for columns in by_fold])
        return outputs

    def _held_out(self, key: str, kind: CorruptionKind | None) -> Columns:
        predictions = read_held_out(self._store, key)
        columns = None
        if predictions is not None:
            columns = predictions.outputs if kind is None else predictions.copies.get(kind)
        if columns is None:
            raise StageLost(key)
        return columns
