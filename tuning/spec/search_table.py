"""How the stages of a study are searched: the [search] tables of its file.

Knows no settings: whether a space is possible is decided in `tuning.spec.study_spec`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.spec import Count, Settings
from tuning.spec.dimension_table import DimensionTable
from tuning.spec.space import STAGES

SamplerKind = Literal["tpe", "random", "grid"]
Processors = Annotated[float, Field(ge=0, le=1024)]


class SearchTable(Settings):
    """How one stage is searched, in each of its tasks (a modality, a target, or both)."""

    space: dict[str, DimensionTable] = Field(default_factory=dict)
    """Path -> what varies there."""
    trials: Count | None = None
    """Per task; a grid needs none."""
    sampler: SamplerKind = "tpe"
    grace_epochs: Count = 10
    """No trial is stopped early before."""
    reduction_factor: Annotated[int, Field(ge=2, le=100)] = 3
    """Of so many trials that reach a rung, one continues."""
    race_folds: Count = 3
    """On so many folds the better trials of a search are tried before finalists are chosen: twice
    as many as there are finalists on the second, fewer on each further one. 1 means that the first
    fold alone decides. Stage 1 has no race."""
    finalists: Count = 3
    """So many of the best configurations are trained on every fold and seed."""
    seeds: Count = 5
    """Per finalist."""
    ensemble: Count = 4
    """At most so many configurations are averaged, where their mean beats the best one alone; one
    may count twice. 1 means none. Stage 1 has no ensembles."""
    cpus: Processors = 1
    """Per trial."""
    gpus: Processors = 0
    """Per trial."""

    @model_validator(mode="after")
    def _raise_if_impossible(self) -> Self:
        self._raise_if_impossible_sampler()

        if self.trials is not None and self.finalists > self.trials:
            raise ValueError(
                f"{self.finalists} finalists of {self.trials} trials: lower finalists, or raise "
                "trials"
            )

        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            if amount > 1 and amount != int(amount):
                raise ValueError(f"{name} = {amount:g}: above 1, whole processors only")
        return self

    def _raise_if_impossible_sampler(self) -> None:
        if self.sampler != "grid" and self.trials is None:
            raise ValueError(f"sampler '{self.sampler}' needs 'trials', the number per task")

        continuous = [
            path for path, table in self.space.items() if table.uniform or table.loguniform
        ]
        if self.sampler == "grid" and continuous:
            raise ValueError(
                f"a grid cannot hold the continuous {', '.join(continuous)}: use choice, or "
                "another sampler"
            )


NOT_SEARCHED = SearchTable(sampler="grid", finalists=1, seeds=1)
"""A grid of one configuration, the base, which is trained with one seed."""


class SearchTables(Settings):
    """A table for each stage that is searched."""

    auto_encoder: SearchTable | None = None
    unimodal: SearchTable | None = None
    fusion: SearchTable | None = None

    @model_validator(mode="after")
    def _raise_if_empty(self) -> Self:
        tables: list[SearchTable | None] = [getattr(self, stage) for stage in STAGES]
        if not any(tables):
            raise ValueError(
                "nothing is searched: add one of [search.auto_encoder], [search.unimodal], "
                "[search.fusion]"
            )

        for stage, table in zip(STAGES, tables, strict=True):
            if table is not None and not table.space:
                raise ValueError(
                    f"the space of '{stage}' is empty: name a dimension in [search.{stage}.space], "
                    f"or remove [search.{stage}], and the stage is trained as the study's "
                    f"[{stage}] says"
                )
        return self
