"""The winners of all targets, from the store, as one fused model."""

from __future__ import annotations

from typing import Any

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.model.assemble import TargetEnsembles, assemble_model
from pipeline.model.fused_model import FusedModel
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.ensemble import Ensemble
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import StageKeys
from pipeline.stages.trained_stage import TrainedStage
from pipeline.stages.unimodal import UnimodalTask
from pipeline.storage.stage_store import StageStore
from tuning.journal.events import Finalist
from tuning.planning.finalists import comparison_keys
from tuning.planning.planner import StudyPlanner


def winning_model(planner: StudyPlanner, corpus: Corpus, store: StageStore) -> FusedModel:
    """Put the winners of a study together.

    Raises:
        AffectuneError: the store has lost one of their stages.
    """
    targets = {target: _winning_ensembles(planner, store, target) for target in corpus.targets}
    return assemble_model(corpus, planner.study.base, targets, _search_record(planner))


def _winning_ensembles(planner: StudyPlanner, store: StageStore, target: str) -> TargetEnsembles:
    """Load the winning fusion of a target, and the upstream finalists that it reads."""
    task = FusionTask(target=target)
    configurations = planner.configurations
    winner = configurations.finalist(task, 1)

    encoders, regressors, regressor_encoders = {}, {}, {}
    for modality, rank in winner.upstream_ranks.items():
        encoder_rank = configurations.encoder_rank(task, winner.configuration, modality)
        encoder = configurations.finalist(AutoEncoderTask(modality), encoder_rank)
        regressor = configurations.finalist(UnimodalTask(modality, target), rank)
        encoders[modality] = _ensemble(planner, store, encoder.keys)
        regressors[modality] = _ensemble(planner, store, regressor.keys)
        if regressor.members:
            regressor_encoders[modality] = _member_encoders(
                planner, store, modality, regressor, encoders[modality]
            )

    plan = planner.fit_plan
    reads_difficulty = any(plan.reads_difficulty(part.configuration) for part in winner.parts)
    comparison = (
        comparison_keys(planner.fit_plan, planner.history, task)
        if reads_difficulty
        else winner.keys
    )
    return TargetEnsembles(
        auto_encoders=encoders,
        regressors=regressors,
        fusion=_ensemble(planner, store, winner.keys),
        without_difficulty=_ensemble(planner, store, comparison) if comparison else None,
        regressor_encoders=regressor_encoders,
    )


def _member_encoders(
    planner: StudyPlanner, store: StageStore, modality: str, regressor: Finalist, own: Ensemble
) -> tuple[Ensemble, ...]:
    """Return for each model of a regressors' ensemble the auto-encoders that it reads.

    Args:
        planner: knows the finalists.
        store: holds the trained stages.
        modality: of the regressors.
        regressor: the ensemble.
        own: the auto-encoders of the modality, for members that read no difficulty.
    """
    by_rank: dict[int, Ensemble] = {}
    encoders = []
    for part in regressor.parts:
        rank = part.upstream_ranks.get("auto_encoder")
        if rank is not None and rank not in by_rank:
            encoder = planner.configurations.finalist(AutoEncoderTask(modality), rank)
            by_rank[rank] = _ensemble(planner, store, encoder.keys)
        encoders.append(own if rank is None else by_rank[rank])

    # As the keys: for each fold, one seed after the other, all members of a seed.
    num_models = len(planner.cross_fit_plan.inference_models(regressor.keys))
    return tuple(encoders * (num_models // len(encoders)))


def _ensemble(planner: StudyPlanner, store: StageStore, keys: StageKeys) -> Ensemble:
    inference_keys = planner.cross_fit_plan.inference_models(keys)
    by_key = {key: _load_stage(store, key) for key in dict.fromkeys(inference_keys)}
    models = tuple(by_key[key] for key in inference_keys)
    return Ensemble(keys, models, planner.upstream_predictions.stage_outputs(keys))


def _load_stage(store: StageStore, key: str) -> TrainedStage:
    stage = store.get(key)
    if stage is None:
        raise AffectuneError(
            f"The store '{store.uri}' no longer has the stage {key[:12]} of the winner. "
            "Restore it, or start the study anew in another --out."
        )
    return stage


def _search_record(planner: StudyPlanner) -> dict[str, Any]:
    """Return what the model card says of the search."""
    trials = planner.history.trials.values()
    completed = planner.history.completed

    seeds = {}
    for target in planner.study.targets or ():
        winner = completed[FusionTask(target=target)][0]
        seeds[target] = {"scores": list(winner.devel), "deciding": list(winner.deciding)}

    stopped = [t for t in trials if t.ended is not None and t.ended.reason == "asha"]
    return {
        "name": planner.study.name,
        "trials": len(trials),
        "configurations": sum(trial.proposed.purpose == "search" for trial in trials),
        "stopped_early": len(stopped),
        "seeds": seeds,
        "configuration": {
            str(task): completed[task][0].configuration for task in planner.fit_plan.tasks
        },
        "ensembles": {
            str(task): [member.model_dump() for member in finalists[0].members]
            for task, finalists in completed.items()
            if finalists[0].members
        },
    }
