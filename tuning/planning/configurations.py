"""From values to a fit: the settings of a configuration, the stages that it reads, the job of a trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from pipeline.spec import Spec
from pipeline.stages.cross_fit import CrossFitPlan
from tuning.fitting.job import Job, Keys, UpstreamKeys
from tuning.journal.events import TrialProposed
from tuning.journal.history import History
from tuning.planning.asha import rungs
from tuning.spec.space import Space, Value, regressor
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import Task, feeding, parse_task

Values = dict[str, Value]
Fit = tuple[Values, int, int]
"""(values, fold, seed)."""


class Configurations:
    """What values mean in a study whose upper tasks are settled.

    Args:
        study: its modalities and targets known.
        plan: the folds.
        history: of the study, kept up to date by its owner.
        device: "cpu" or "cuda", for stages that ask for GPUs; the others have the CPU.
    """

    def __init__(self, study: StudySpec, plan: CrossFitPlan, history: History, device: str) -> None:
        self._study, self._plan, self._history, self._device = study, plan, history, device
        self._spaces: dict[Task, Space] = {}

    def space(self, task: Task) -> Space:
        """What a task chooses from; known once the tasks above it are settled."""
        if task not in self._spaces:
            available = {
                "auto_encoder" if task.stage == "unimodal" else regressor(above.modality): len(
                    self._history.settled[above]
                )
                for above in feeding(task, self._study.modalities or ())
            }
            self._spaces[task] = self._study.space(task.stage, available)
        return self._spaces[task]

    def fits(self, values: Values, seeds: int) -> Iterator[Fit]:
        """All trainings of a finalist, one whole seed after the other."""
        for seed, fold in product(range(seeds), range(len(self._plan.folds))):
            yield values, fold, self._study.seed + seed

    def job(self, proposed: TrialProposed) -> Job:
        """What a worker needs to know of a trial."""
        task, values = parse_task(proposed.task), dict(proposed.values)
        if proposed.purpose == "comparison":
            values = self._history.settled[task][0].values
        spec = self.space(task).spec(values).model_copy(update={"seed": proposed.seed})
        sources = self._sources(task, values, spec)
        if proposed.purpose == "comparison":
            spec = spec.model_copy(
                update={"fusion": spec.fusion.model_copy(update={"difficulty": False})}
            )
            sources = UpstreamKeys({}, sources.regressors)
        table, fit = self._study.table(task.stage), getattr(spec, task.stage).fit
        judged = rungs(table.grace_epochs, table.reduction_factor, fit.max_epochs)
        return Job(
            trial=proposed.trial,
            task=task,
            spec=spec,
            fold=proposed.fold,
            sources=sources,
            rungs=judged if proposed.purpose == "search" else (),
            device=self._device if table.gpus else "cpu",
        )

    def reads_difficulty(self, task: Task, values: Values) -> bool:
        """Whether a fusion reads difficulties."""
        return self.space(task).spec(values).fusion.difficulty

    def encoder_rank(self, task: Task, values: Values, modality: str) -> int:
        """Which of the best auto-encoders says how hard a modality is to a fusion: its regressor's, else the best."""
        rank = self.space(task).ranks(values)[modality]
        finalist = self._history.settled[Task("unimodal", modality, task.target)][rank - 1]
        return finalist.reads.get("auto_encoder", 1)

    def _sources(self, task: Task, values: Values, spec: Spec) -> UpstreamKeys:
        ranks = self.space(task).ranks(values)
        if task.stage == "auto_encoder":
            return UpstreamKeys({}, {})
        if task.stage == "unimodal":
            return UpstreamKeys(
                {task.modality: self._encoder(task.modality, ranks["auto_encoder"])}
                if ranks
                else {},
                {},
            )
        encoders = {
            modality: self._encoder(modality, self.encoder_rank(task, values, modality))
            for modality in ranks
            if spec.fusion.difficulty
        }
        regressors = {
            modality: self._history.settled[Task("unimodal", modality, task.target)][rank - 1].keys
            for modality, rank in ranks.items()
        }
        return UpstreamKeys(encoders, regressors)

    def _encoder(self, modality: str, rank: int) -> Keys:
        return self._history.settled[Task("auto_encoder", modality, "")][rank - 1].keys


def fit_name(values: Mapping[str, Value], fold: int, seed: int) -> str:
    """The same text for the same fit."""
    return f"{sorted(values.items())} {fold} {seed}"
