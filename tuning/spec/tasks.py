"""The tasks of a study: one per stage, modality and target."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.stages.auto_encoder import AutoEncoderTask
from pipeline.stages.fusion import FusionTask
from pipeline.stages.task import Task
from pipeline.stages.unimodal import UnimodalTask

KINDS: tuple[type[Task], ...] = (AutoEncoderTask, UnimodalTask, FusionTask)


def study_tasks(modalities: Sequence[str], targets: Sequence[str]) -> tuple[Task, ...]:
    """Return every task of a study, in an order in which they could be done one after the other."""
    return (
        *(AutoEncoderTask(modality) for modality in modalities),
        *(UnimodalTask(modality, target) for target in targets for modality in modalities),
        *(FusionTask(target=target) for target in targets),
    )


def parse_task(name: str) -> Task:
    """Return the task whose `str` this is, such as "unimodal/head/arousal"."""
    stage, *names = name.split("/")
    kind = next(kind for kind in KINDS if kind.stage == stage)
    if kind is FusionTask:
        return FusionTask(target=names[0])
    return kind(*names)


def measure(task: Task) -> str:
    """Return what people call a task's score: "CCC", or "-RE", minus the reconstruction error."""
    return "CCC" if task.target else "-RE"
