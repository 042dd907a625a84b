"""What the stages above say of every train and devel session, put together from the store and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import difficulty_columns
from pipeline.stages.fusion import side_by_side
from pipeline.stages.stage import Columns
from pipeline.storage.stage_store import StageStore
from tuning.fitting.held_out_predictions import HeldOutPredictions, held_out_name
from tuning.fitting.job import Keys, UpstreamKeys

REMEMBERED = 64
"""So many stages' words at most are kept in memory; each is a number per frame."""


class UpstreamPredictions:
    """Reads from the store what stages said when they were trained; trains and predicts nothing.

    Args:
        store: where the words of every stage lie beside it.
        corpus: of the study.
        plan: its folds.
        spec: the study's base: how difficulty is scaled.
    """

    def __init__(self, store: StageStore, corpus: Corpus, plan: CrossFitPlan, spec: Spec) -> None:
        self._store, self._corpus, self._plan, self._scale = (
            store,
            corpus,
            plan,
            spec.difficulty_scale,
        )
        self._remembered: OrderedDict[Keys, Columns] = OrderedDict()

    def words(self, keys: Keys) -> Columns:
        """What a stage says of every train and devel session, the mean over its seeds: errors or predictions.

        Raises:
            AffectuneError: the store has lost them.
        """
        if keys not in self._remembered:
            said = [[self._said(key).columns for key in fold] for fold in keys]
            self._remembered[keys] = self._plan.compose(self._corpus, said)
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(keys)
        return self._remembered[keys]

    def difficulty(self, sources: UpstreamKeys) -> Columns | None:
        """The difficulty columns of a job, modalities side by side; None where it reads none."""
        if not sources.encoders:
            return None
        return side_by_side(
            [
                difficulty_columns(self.words(keys), self._scale)
                for keys in sources.encoders.values()
            ]
        )

    def predictions(self, sources: UpstreamKeys) -> Columns | None:
        """The unimodal predictions of a fusion, side by side; None for other stages."""
        return side_by_side(self._each(sources.regressors)) if sources.regressors else None

    def _each(self, named: Mapping[str, Keys]) -> list[Columns]:
        return [self.words(keys) for keys in named.values()]

    def _said(self, key: str) -> HeldOutPredictions:
        found = self._store.read(held_out_name(key), HeldOutPredictions.from_files)
        if found is None:
            raise AffectuneError(
                f"The store '{self._store.uri}' no longer has the stage {key[:12]} that later ones read. "
                "Restore it, or start the study anew in another --out."
            )
        return found
