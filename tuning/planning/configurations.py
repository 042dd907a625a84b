"""From a configuration to a fit: its settings, the stages that it reads, its job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.spec import Spec
from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.task import StageKeys, Task, UpstreamKeys
from pipeline.stages.unimodal import UnimodalTask
from tuning.fitting.job import Job
from tuning.journal.events import Finalist, Purpose, TrialProposed
from tuning.journal.history import History
from tuning.planning.asha import rungs
from tuning.planning.outstanding_fits import Fit, default_keys
from tuning.spec.space import Configuration, Space, regressor_path
from tuning.spec.study_spec import StudySpec
from tuning.spec.tasks import parse_task


class Configurations:
    """What configurations mean in a study whose upstream tasks are completed.

    Args:
        study: its modalities and targets known.
        corpus: of the study.
        plan: its folds.
        history: of the study, kept up to date by its owner.
        device: "cpu" or "cuda", for stages that ask for GPUs; the others have the CPU.
    """

    def __init__(
        self,
        study: StudySpec,
        corpus: Corpus,
        plan: CrossFitPlan,
        history: History,
        device: str = "cpu",
    ) -> None:
        self._study, self._corpus, self._plan = study, corpus, plan
        self._history, self._device = history, device
        self._spaces: dict[Task, Space] = {}

    def space(self, task: Task) -> Space:
        """Return what a task chooses from; known once its upstream tasks are completed."""
        if task not in self._spaces:
            available = {}
            for upstream in task.upstream_tasks(self._study.modalities or ()):
                path = (
                    regressor_path(upstream.modality)
                    if upstream.stage == "unimodal"
                    else upstream.stage
                )
                available[path] = len(self._history.completed[upstream])
            self._spaces[task] = self._study.space(task.stage, available)
        return self._spaces[task]

    def job(self, trial: str, task: Task, purpose: Purpose, fit: Fit) -> Job:
        """Make the job of a new trial; its key says what it will train."""
        spec, upstream = self._spec_and_upstream(task, purpose, fit)
        table = self._study.table(task.stage)
        device = self._device if table.gpus else "cpu"

        max_epochs = task.settings(spec).fit.max_epochs
        trial_rungs = rungs(table.grace_epochs, table.reduction_factor, max_epochs)
        return Job(
            trial=trial,
            task=task,
            spec=spec,
            fold=fit.fold,
            upstream_keys=upstream,
            rungs=trial_rungs if purpose == "search" else (),
            device=device,
            key=task.key(self._corpus, spec, self._plan.folds[fit.fold], upstream, device),
        )

    def job_of(self, proposed: TrialProposed) -> Job:
        """Make the job of a trial that was proposed before.

        Raises:
            InputError: it would train something else than it began to.
        """
        task = parse_task(proposed.task)
        fit = Fit(proposed.configuration, proposed.fold, proposed.seed)
        job = self.job(proposed.trial, task, proposed.purpose, fit)

        if job.key != proposed.key:
            raise InputError(
                f"Trial {proposed.trial} of the study would not go on as it began: on another "
                "device, or in another version. Resume with the --device that it began with, or "
                "begin a study in another folder with --out."
            )
        return job

    def raise_if_changed(self) -> None:
        """Raise an InputError where a trial that has not ended would not go on as it began."""
        for trial in self._history.trials.values():
            if trial.ended is None:
                self.job_of(trial.proposed)

    def encoder_rank(self, task: Task, configuration: Configuration, modality: str) -> int:
        """Return the rank of a modality's auto-encoder that a fusion reads: its regressor's."""
        rank = self.space(task).ranks(configuration)[modality]
        regressor = self.finalist(UnimodalTask(modality, task.target), rank)
        return regressor.upstream_ranks.get("auto_encoder", 1)

    def finalist(self, task: Task, rank: int) -> Finalist:
        """Return a finalist of a completed task; 1 is the best."""
        return self._history.completed[task][rank - 1]

    def _spec_and_upstream(
        self, task: Task, purpose: Purpose, fit: Fit
    ) -> tuple[Spec, UpstreamKeys]:
        """Return a fit's settings, and the trained stages that it reads."""
        if purpose == "default":
            spec = self._study.base.model_copy(update={"seed": fit.seed})
            return spec, self._default_upstream(task, spec)
        if purpose != "comparison":
            spec = self._spec(task, fit.configuration, fit.seed)
            return spec, self._upstream(task, fit.configuration, spec)

        # The winning fusion as it is, but for difficulty, which it neither reads nor searches.
        winner = next(
            part.configuration
            for part in self.finalist(task, 1).parts
            if {**part.configuration, "difficulty": False} == fit.configuration
        )
        spec = self._spec(task, winner, fit.seed)
        upstream = replace(self._upstream(task, winner, spec), auto_encoders={})
        fusion = spec.fusion.model_copy(update={"difficulty": False})
        return spec.model_copy(update={"fusion": fusion}), upstream

    def _spec(self, task: Task, configuration: Configuration, seed: int) -> Spec:
        return self.space(task).spec(configuration).model_copy(update={"seed": seed})

    def _upstream(self, task: Task, configuration: Configuration, spec: Spec) -> UpstreamKeys:
        ranks = self.space(task).ranks(configuration)
        if task.stage == "auto_encoder":
            return UpstreamKeys()
        if task.stage == "unimodal":
            encoders = {}
            if ranks:
                encoders[task.modality] = self._encoder_keys(task.modality, ranks["auto_encoder"])
            return UpstreamKeys(auto_encoders=encoders)

        encoders, regressors = {}, {}
        for modality, rank in ranks.items():
            regressor = self.finalist(UnimodalTask(modality, task.target), rank)
            regressors[modality] = regressor.keys
            if spec.fusion.difficulty:
                encoder_rank = self.encoder_rank(task, configuration, modality)
                encoders[modality] = self._encoder_keys(modality, encoder_rank)
        return UpstreamKeys(encoders, regressors, self._other_regressors(task, spec, ranks))

    def _other_regressors(
        self, task: Task, spec: Spec, modalities: Iterable[str]
    ) -> dict[str, dict[str, StageKeys]]:
        """Return the best regressors of other targets, if the fusion reads them."""
        if spec.fusion.reads == "own":
            return {}
        others = [target for target in self._study.targets or () if target != task.target]
        return {
            target: {
                modality: self.finalist(UnimodalTask(modality, target), 1).keys
                for modality in modalities
            }
            for target in others
        }

    def _default_upstream(self, task: Task, spec: Spec) -> UpstreamKeys:
        """Return what the untuned default of a task reads: that of the stages before it."""
        modalities = self._study.modalities or ()
        read = [task.modality] if task.stage == "unimodal" else list(modalities)

        encoders, regressors = {}, {}
        if task.stage == "fusion":
            for modality in read:
                regressors[modality] = self._default_keys(UnimodalTask(modality, task.target))
        if task.stage != "auto_encoder" and getattr(spec, task.stage).difficulty:
            for modality in read:
                encoders[modality] = self._default_keys(AutoEncoderTask(modality))
        return UpstreamKeys(encoders, regressors)

    def _default_keys(self, task: Task) -> StageKeys:
        keys = default_keys(self._history, task, len(self._plan.folds))
        assert keys is not None
        return keys

    def _encoder_keys(self, modality: str, rank: int) -> StageKeys:
        return self.finalist(AutoEncoderTask(modality), rank).keys
