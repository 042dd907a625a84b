"""The winners of all targets as one FusedModel."""

from __future__ import annotations

from typing import Any

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.model.fused_model import FusedModel, encoder_names
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.difficulty import references
from pipeline.stages.fusion import FUSION, WITHOUT, floor_weights, side_by_side
from pipeline.stages.stage import TrainedStage
from pipeline.storage.stage_store import StageStore
from pipeline.train import describe, devel_ccc, difficulty_spearman, out_of_fold_scores
from tuning.fitting.job import Keys
from tuning.journal.events import Finalist
from tuning.journal.history import History
from tuning.planning.planner import StudyPlanner
from tuning.spec.tasks import Task


class Winner:
    """What won for one target: its fusion, and the finalists above that it reads.

    Attributes:
        modalities: that its fusion reads, in order.
        fusion: its keys.
        without: the keys of the same fusion without difficulty; None where it failed.
        regressors: modality -> keys.
        encoders: modality -> keys of the auto-encoders that say how hard the modality is.
    """

    def __init__(self, planner: StudyPlanner, target: str) -> None:
        history, configurations = planner.history, planner.configurations
        task = Task("fusion", "", target)
        self.finalist = history.settled[task][0]
        ranks = self.finalist.reads
        self.modalities = tuple(ranks)
        self.fusion = self.finalist.keys
        reads = configurations.reads_difficulty(task, self.finalist.values)
        self.without = planner.comparison_keys(task) if reads else self.finalist.keys
        self.regressors = {
            m: self._of(history, Task("unimodal", m, target), ranks[m]).keys for m in ranks
        }
        self.encoders = {
            m: self._of(
                history,
                Task("auto_encoder", m, ""),
                configurations.encoder_rank(task, self.finalist.values, m),
            ).keys
            for m in ranks
        }

    @staticmethod
    def _of(history: History, task: Task, rank: int) -> Finalist:
        return history.settled[task][rank - 1]


def fused_model(planner: StudyPlanner, corpus: Corpus, store: StageStore) -> FusedModel:
    """Put the winners together, from the store.

    Raises:
        AffectuneError: the store has lost one of their stages.
    """
    study, plan = planner.study, planner.plan
    winners = {target: Winner(planner, target) for target in corpus.targets}
    words = planner.words
    paths = {
        (t, m): (winner.encoders[m], winner.regressors[m])
        for t, winner in winners.items()
        for m in winner.encoders
    }
    encoder_of = encoder_names({path: encoder for path, (encoder, _) in paths.items()})
    encoders = {encoder_of[path]: encoder for path, (encoder, _) in paths.items()}
    errors = {name: words(keys) for name, keys in encoders.items()}
    predictions = {path: words(regressor) for path, (_, regressor) in paths.items()}
    weights = {
        t: floor_weights({m: devel_ccc(corpus, t, predictions[t, m]) for m in winner.modalities})
        for t, winner in winners.items()
    }
    train = corpus.partition("train")
    return FusedModel(
        columns={
            m: corpus.columns[m]
            for m in corpus.modalities
            if any(m in w.modalities for w in winners.values())
        },
        targets=corpus.targets,
        frame_period_ms=corpus.frame_period_ms,
        spec=study.base,
        auto_encoders={name: _stages(store, plan, keys) for name, keys in encoders.items()},
        encoder_of=encoder_of,
        regressors={path: _stages(store, plan, keys) for path, (_, keys) in paths.items()},
        fusion_modalities={t: winner.modalities for t, winner in winners.items()},
        fusions={t: _stages(store, plan, winner.fusion) for t, winner in winners.items()},
        fusions_without_difficulty={
            t: _stages(store, plan, winner.without)
            for t, winner in winners.items()
            if winner.without is not None
        },
        floor_weights=weights,
        difficulty_references={
            name: references([error[s.session_id] for s in train]) for name, error in errors.items()
        },
        data=describe(corpus),
        out_of_fold={
            t: out_of_fold_scores(
                corpus,
                t,
                {FUSION: words(winner.fusion)}
                | ({WITHOUT: words(winner.without)} if winner.without else {}),
                side_by_side([predictions[t, m] for m in winner.modalities]),
                weights[t],
            )
            for t, winner in winners.items()
        }
        if study.protocol == "cross_fit"
        else {},
        difficulty_spearman={
            t: {
                m: difficulty_spearman(corpus, t, errors[encoder_of[t, m]], predictions[t, m])
                for m in w.modalities
            }
            for t, w in winners.items()
        },
        study=_record(planner, winners),
    )


def _record(planner: StudyPlanner, winners: dict[str, Winner]) -> dict[str, Any]:
    """What the card says of the search."""
    trials = planner.history.trials.values()
    return {
        "name": planner.study.name,
        "trials": len(trials),
        "configurations": sum(trial.proposed.purpose == "search" for trial in trials),
        "stopped_early": sum(
            trial.ended is not None and trial.ended.reason == "asha" for trial in trials
        ),
        "seeds": {
            target: {
                "scores": list(winner.finalist.devel),
                "deciding": list(winner.finalist.scores),
            }
            for target, winner in winners.items()
        },
        "configuration": {
            str(task): planner.history.settled[task][0].values for task in planner.tasks
        },
    }


def _stages(store: StageStore, plan: CrossFitPlan, keys: Keys) -> tuple[TrainedStage, ...]:
    return tuple(_stage(store, key) for key in plan.others(keys))


def _stage(store: StageStore, key: str) -> TrainedStage:
    stage = store.get(key)
    if stage is None:
        raise AffectuneError(
            f"The store '{store.uri}' no longer has the stage {key[:12]} of the winner. Restore it, or start the study "
            "anew in another --out."
        )
    return stage
