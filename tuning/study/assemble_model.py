"""What was chosen for every target, from the store, as one fused model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pipeline.corpus import Corpus
from pipeline.model.assemble import TargetEnsembles, assemble_model
from pipeline.model.fused_model import FusedModel
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.ensemble import Ensemble
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import StageKeys, Task
from pipeline.stages.trained_stage import TrainedStage
from pipeline.stages.unimodal import UnimodalTask
from pipeline.storage.stage_store import StageStore
from tuning.fitting.lost_stage import StageLost
from tuning.journal.events import Candidate, Finalist
from tuning.planning.finalists import comparison_keys
from tuning.planning.judgement import verdict
from tuning.planning.outstanding_fits import default_keys
from tuning.planning.planner import StudyPlanner


def winning_model(planner: StudyPlanner, corpus: Corpus, store: StageStore) -> FusedModel:
    """Put together what the judgement of a study chose for each target.

    Raises:
        StageLost: the store has lost one of their stages.
    """
    judged = planner.history.judged
    assert judged is not None
    targets = {
        target: _chosen_ensembles(planner, store, target, judged.targets[target].chosen)
        for target in corpus.targets
    }
    return assemble_model(corpus, planner.study.base, targets, _search_record(planner))


def _chosen_ensembles(
    planner: StudyPlanner, store: StageStore, target: str, chosen: Candidate
) -> TargetEnsembles:
    """Load the candidate that was chosen for a target, and all that it reads."""
    finalists = planner.history.completed[FusionTask(target=target)]
    match chosen.kind:
        case "winner":
            return _fusion_ensembles(planner, store, target, finalists[0])
        case "single":
            single = next(finalist for finalist in finalists if not finalist.members)
            return _fusion_ensembles(planner, store, target, single)
        case "default":
            return _default_ensembles(planner, store, target)
        case "mean" | "weighted_mean":
            ensembles = _fusion_ensembles(planner, store, target, finalists[0])
            return replace(ensembles, fusion=None, without_difficulty=None, floor=chosen.kind)
        case "modality":
            return _regressor_ensembles(planner, store, target, {chosen.modality: 1})


def _fusion_ensembles(
    planner: StudyPlanner, store: StageStore, target: str, fusion: Finalist
) -> TargetEnsembles:
    """Load a finalist of a target's fusion, and the upstream finalists that it reads."""
    task, plan = FusionTask(target=target), planner.fit_plan
    ensembles = _regressor_ensembles(planner, store, target, fusion.upstream_ranks)

    comparison = None
    if not any(plan.reads_difficulty(part.configuration) for part in fusion.parts):
        comparison = fusion.keys
    elif fusion == planner.configurations.finalist(task, 1):
        comparison = comparison_keys(plan, planner.history, task)
    return replace(
        ensembles,
        fusion=_ensemble(planner, store, fusion.keys),
        without_difficulty=_ensemble(planner, store, comparison) if comparison else None,
    )


def _default_ensembles(planner: StudyPlanner, store: StageStore, target: str) -> TargetEnsembles:
    """Load the untuned default of a target."""

    def load(task: Task) -> Ensemble:
        keys = default_keys(planner.history, task, planner.fit_plan.num_folds)
        assert keys is not None
        return _ensemble(planner, store, keys)

    modalities = planner.study.modalities or ()
    fusion = load(FusionTask(target=target))
    return TargetEnsembles(
        auto_encoders={modality: load(AutoEncoderTask(modality)) for modality in modalities},
        regressors={modality: load(UnimodalTask(modality, target)) for modality in modalities},
        fusion=fusion,
        without_difficulty=None if planner.study.fusion.difficulty else fusion,
    )


def _regressor_ensembles(
    planner: StudyPlanner, store: StageStore, target: str, ranks: Mapping[str, int]
) -> TargetEnsembles:
    """Load regressors and their auto-encoders, without a fusion.

    Args:
        planner: knows the finalists.
        store: holds the trained stages.
        target: what the regressors predict.
        ranks: modality -> rank of its regressor.
    """
    configurations = planner.configurations
    encoders, regressors, regressor_encoders = {}, {}, {}
    for modality, rank in ranks.items():
        regressor = configurations.finalist(UnimodalTask(modality, target), rank)
        encoder_rank = regressor.upstream_ranks.get("auto_encoder", 1)
        encoder = configurations.finalist(AutoEncoderTask(modality), encoder_rank)
        encoders[modality] = _ensemble(planner, store, encoder.keys)
        regressors[modality] = _ensemble(planner, store, regressor.keys)
        if regressor.members:
            regressor_encoders[modality] = _member_encoders(
                planner, store, modality, regressor, encoders[modality]
            )

    return TargetEnsembles(
        auto_encoders=encoders,
        regressors=regressors,
        fusion=None,
        without_difficulty=None,
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
    upstream = planner.upstream_predictions
    return Ensemble(
        keys, models, upstream.stage_outputs(keys), partial(upstream.stage_outputs, keys)
    )


def _load_stage(store: StageStore, key: str) -> TrainedStage:
    stage = store.get(key)
    if stage is None:
        raise StageLost(key)
    return stage


def _search_record(planner: StudyPlanner) -> dict[str, Any]:
    """Return what the model card says of the search."""
    trials = planner.history.trials.values()
    completed = planner.history.completed

    judged = planner.history.judged
    assert judged is not None

    seeds = {}
    for target in planner.study.targets or ():
        if judged.targets[target].chosen.kind != "winner":
            continue
        winner = completed[FusionTask(target=target)][0]
        seeds[target] = {"scores": list(winner.devel), "deciding": list(winner.deciding)}

    stopped = [t for t in trials if t.ended is not None and t.ended.reason == "asha"]
    return {
        "name": planner.study.name,
        "trials": len(trials),
        "configurations": sum(trial.proposed.purpose == "search" for trial in trials),
        "stopped_early": len(stopped),
        "seeds": seeds,
        "verdicts": {target: verdict(target, each) for target, each in judged.targets.items()},
        "configuration": {
            str(task): completed[task][0].configuration for task in planner.fit_plan.tasks
        },
        "ensembles": {
            str(task): [member.model_dump() for member in finalists[0].members]
            for task, finalists in completed.items()
            if finalists[0].members
        },
    }
