"""The tasks of a study: one per stage, modality and target; and which of them feed which."""

from __future__ import annotations

from dataclasses import dataclass

from tuning.spec.space import STAGES, Stage


@dataclass(frozen=True, order=True)
class Task:
    """One thing to search: an auto-encoder of a modality, its regressor of a target, or the fusion of a target.

    Attributes:
        stage: which of the three.
        modality: "" for fusion.
        target: "" for an auto-encoder.
    """

    stage: Stage
    modality: str
    target: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.stage, self.modality, self.target) if part)

    @property
    def measure(self) -> str:
        """What its score is called by people: "CCC", or "-RE", minus the reconstruction error."""
        return "CCC" if self.target else "-RE"


def tasks(modalities: tuple[str, ...], targets: tuple[str, ...]) -> tuple[Task, ...]:
    """Every task of a study, in the order in which they could be done one after the other."""
    return (
        *(Task("auto_encoder", modality, "") for modality in modalities),
        *(Task("unimodal", modality, target) for target in targets for modality in modalities),
        *(Task("fusion", "", target) for target in targets),
    )


def feeding(task: Task, modalities: tuple[str, ...]) -> tuple[Task, ...]:
    """The tasks that must be settled before this one can start."""
    if task.stage == "auto_encoder":
        return ()
    if task.stage == "unimodal":
        return (Task("auto_encoder", task.modality, ""),)
    return tuple(Task("unimodal", modality, task.target) for modality in modalities)


def parse_task(name: str) -> Task:
    """The inverse of `str(task)`."""
    stage, *rest = name.split("/")
    known = next(own for own in STAGES if own == stage)
    if known == "fusion":
        return Task(known, "", rest[0])
    return Task(known, rest[0], rest[1] if known == "unimodal" else "")
