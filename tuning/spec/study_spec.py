"""A study file: what to search in each stage, read from TOML and proven possible before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from pipeline.errors import InputError
from pipeline.spec import Count, FitSpec, NetworkSpec, Settings, Spec, UnimodalSpec, read_toml, say
from tuning.spec.space import (
    MODALITIES,
    STAGES,
    UPSTREAM,
    Choice,
    Domain,
    Space,
    Stage,
)
from tuning.spec.space_toml import KINDS, DimensionTable, dimensions, guess

Name = Annotated[str, Field(pattern=r"^\w[\w .-]*$", max_length=100)]
Names = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[^,]+$")], ...], Field(min_length=1, strict=False)
]
Processors = Annotated[float, Field(ge=0, le=1024)]


class SearchTable(Settings):
    """How one stage is searched; each task (a modality, a target, or both) by itself."""

    space: dict[str, DimensionTable] = Field(default_factory=dict)
    trials: Count | None = None
    """Per task; a grid needs none."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    grace_epochs: Count = 10
    """No trial is stopped before."""
    reduction_factor: Annotated[int, Field(ge=2, le=100)] = 3
    """Of so many trials that reach a rung, one goes on."""
    finalists: Count = 3
    """So many of the best are trained again, on every fold and seed."""
    seeds: Count = 5
    """Seeds per finalist."""
    cpus: Processors = 1
    gpus: Processors = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        endless = [path for path, table in self.space.items() if table.uniform or table.loguniform]
        if self.sampler == "grid" and endless:
            raise ValueError(
                f"a grid cannot hold the continuous {', '.join(endless)}: use choice, or another sampler"
            )
        if self.sampler != "grid" and self.trials is None:
            raise ValueError(f"sampler '{self.sampler}' needs 'trials', the number per task")
        if self.trials is not None and self.finalists > self.trials:
            raise ValueError(
                f"{self.finalists} finalists of {self.trials} trials: lower finalists, or raise trials"
            )
        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            if amount > 1 and amount != int(amount):
                raise ValueError(f"{name} = {amount:g}: above 1, whole processors only")
        return self


class SearchTables(Settings):
    """One for each stage that is searched."""

    auto_encoder: SearchTable | None = None
    unimodal: SearchTable | None = None
    fusion: SearchTable | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not any(getattr(self, stage) for stage in STAGES):
            raise ValueError(
                "nothing is searched: add one of [search.auto_encoder], [search.unimodal], [search.fusion]"
            )
        for stage in STAGES:
            table: SearchTable | None = getattr(self, stage)
            if table is not None and not table.space:
                raise ValueError(
                    f"the space of '{stage}' is empty: name a dimension in [search.{stage}.space], or remove "
                    f"[search.{stage}], and the stage is trained as the study's [{stage}] says"
                )
        return self


NOT_SEARCHED = SearchTable(sampler="grid", finalists=1, seeds=1)


class StudySpec(Spec):
    """A study: the settings of `Spec` underneath, and what varies over them.

    `Space` objects are made from it, so that it stays data: `model_dump_json` and back gives the same study.
    """

    name: Name
    corpus: str | None = None
    targets: Names | None = None
    modalities: Names | None = None
    registered_model: Name = "affectune"
    search: SearchTables

    @model_validator(mode="after")
    def _different_names(self) -> Self:
        for names in (self.targets, self.modalities):
            if names and len(set(names)) < len(names):
                raise ValueError(f"the names {', '.join(names)} are not different: write each once")
        return self

    @property
    def base(self) -> Spec:
        """What holds for every setting that is not searched."""
        return Spec.model_validate({name: getattr(self, name) for name in Spec.model_fields})

    def table(self, stage: Stage) -> SearchTable:
        """How a stage is searched. Not at all: a grid of one configuration, trained with one seed."""
        return getattr(self.search, stage) or NOT_SEARCHED

    def space(self, stage: Stage, available: Mapping[str, int] | None = None) -> Space:
        """What a stage's search chooses from.

        Args:
            stage: for fusion, the study's modalities must be known (see `for_corpus`).
            available: path of a dimension of upstream stages -> how many of them there are, at least 1; for where
                fewer than planned came through.

        Raises:
            InputError: an unknown path, a value that a setting does not allow, a condition that never holds.
        """
        space = Space(stage, self.base, self.modalities or (), ())
        tables = self.table(stage).space
        # Upstream stages come last: whether one counts depends on the settings ("difficulty") or the modalities.
        for path in sorted(tables, key=lambda path: path == UPSTREAM[stage]):
            try:
                for dimension in dimensions(space, path, tables, available or {}):
                    space = space.with_dimension(dimension)
            except InputError as error:
                place = "" if str(error).startswith(f"'{path}'") else f"'{path}': "
                raise InputError(f"[search.{stage}.space] {place}{error}") from error
        return space

    def num_trials(self, stage: Stage) -> int:
        """Per task: the trials asked for, or all configurations if these are fewer."""
        return min(n for n in (self.table(stage).trials, self.space(stage).size) if n is not None)

    def num_finalists(self, stage: Stage) -> int:
        """Per task: the finalists asked for, or all configurations if these are fewer."""
        return min(self.table(stage).finalists, self.num_trials(stage))


KEYS = {
    name
    for model in (StudySpec, SearchTable, UnimodalSpec, NetworkSpec, FitSpec)
    for name in model.model_fields
}


def read_study(path: Path | str) -> StudySpec:
    """Read a study file, and prove that every configuration of its spaces has valid settings.

    What only a corpus can tell is left to `for_corpus`.

    Raises:
        InputError: no such file, not TOML, an unknown key, a space that is empty or not possible.
    """
    table = read_toml(path, "study")
    try:
        return _checked(StudySpec.model_validate(table))
    except ValidationError as error:
        raise InputError(f"The study '{path}' does not fit. {_say(error)}") from error
    except InputError as error:
        raise InputError(f"The study '{path}' does not fit. {error}") from error


def override(
    study: StudySpec,
    *,
    corpus: str | None = None,
    targets: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
) -> StudySpec:
    """The study with what the command line gives in place of its own, where that is not None.

    Raises:
        InputError: names that are not different, or modalities that do not fit the search.
    """
    given = {"corpus": corpus, "targets": targets, "modalities": modalities}
    try:
        return _checked(
            StudySpec.model_validate(
                study.model_dump() | {k: value for k, value in given.items() if value is not None}
            )
        )
    except ValidationError as error:
        raise InputError(f"The study '{study.name}' does not fit. {_say(error)}") from error


def for_corpus(study: StudySpec, modalities: Sequence[str], targets: Sequence[str]) -> StudySpec:
    """The study with its modalities and targets known: those it names, or all that the corpus has.

    Args:
        study: as read.
        modalities: of the corpus.
        targets: of the corpus.

    Raises:
        InputError: the corpus lacks one, or a subset of modalities that the search names is not among the study's.
    """
    for kind, named, known in (
        ("modality", study.modalities, modalities),
        ("target", study.targets, targets),
    ):
        for name in named or ():
            if name not in known:
                raise InputError(
                    f"The study '{study.name}' names the {kind} '{name}'; the corpus has {', '.join(known)}."
                    f"{guess(name, known)}"
                )
    return override(
        study,
        modalities=[name for name in modalities if name in (study.modalities or modalities)],
        targets=[name for name in targets if name in (study.targets or targets)],
    )


def _checked(study: StudySpec) -> StudySpec:
    """What pydantic cannot see: spaces against settings, and stages against each other."""
    known = (
        study if study.modalities else study.model_copy(update={"modalities": _stand_ins(study)})
    )
    for stage in STAGES:
        table, space, upstream = study.table(stage), known.space(stage), UPSTREAM[stage]
        max_epochs = [d.domain for d in space.dimensions if d.path == "fit.max_epochs"]
        most = max(
            [_largest(domain) for domain in max_epochs], default=space.defaults["fit.max_epochs"]
        )
        if table is not NOT_SEARCHED and table.grace_epochs > int(most):
            raise InputError(
                f"[search.{stage}] grace_epochs = {table.grace_epochs}, but fits end after {most} epochs. Lower it, or "
                f"raise max_epochs in [{stage}.fit]."
            )
        top = table.space[upstream].top if upstream in table.space else None
        if upstream and top and top > (finalists := known.num_finalists(upstream)):
            raise InputError(
                f"[search.{stage}.space] '{upstream}': top = {top}, but only {finalists} of [search.{upstream}] "
                "reach the end. Lower top, or raise its finalists."
            )
    return study


def _stand_ins(study: StudySpec) -> tuple[str, ...]:
    """Modalities to check the spaces with while the study's own are unknown."""
    table = study.table("fusion").space.get(MODALITIES)
    choice, subsets = (table.choice or (), table.subsets or 1) if table else ((), 1)
    named = [name for subset in choice if isinstance(subset, tuple) for name in subset]
    return tuple(dict.fromkeys(named)) or tuple(
        f"modality {number + 1}" for number in range(subsets)
    )


def _largest(domain: Domain) -> float:
    return max(
        float(v)
        for v in (domain.values if isinstance(domain, Choice) else (domain.low, domain.high))
    )


def _say(error: ValidationError) -> str:
    """What pydantic found, in the words of TOML, and what to do about keys that are unknown or missing."""
    found = re.sub(r"a valid dictionary or instance of \w+", "a table", say(error)).replace(
        "a valid tuple", "a list"
    )
    mends = []
    for detail in error.errors():
        key = str(detail["loc"][-1]) if detail["loc"] else ""
        if detail["type"] == "missing":
            mends.append("Add it.")
        elif detail["type"] == "extra_forbidden" and "space" in detail["loc"]:
            mends.append(
                guess(key, KINDS)
                or 'A path is one key, in quotes: "network.cell" = { choice = ["gru"] }.'
            )
        elif detail["type"] == "extra_forbidden":
            mends.append(guess(key, KEYS) or "Remove it.")
    return " ".join([found, *(mend.strip() for mend in dict.fromkeys(mends))])
