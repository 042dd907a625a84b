"""A study file: what to search in each stage, read from TOML and proven possible before anything starts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from pipeline.errors import InputError
from pipeline.spec import Count, FitSpec, NetworkSpec, Settings, Spec, UnimodalSpec, say
from tuning.space import (
    MODALITIES,
    STAGES,
    UPSTREAM,
    Choice,
    Dimension,
    Domain,
    FloatRange,
    IntRange,
    Space,
    Stage,
    Value,
    regressor,
)

Name = Annotated[str, Field(pattern=r"^\w[\w .-]*$", max_length=100)]
Names = Annotated[tuple[Annotated[str, Field(pattern=r"^[^,]+$")], ...], Field(min_length=1, strict=False)]
WholeNumber = Annotated[int, Field(ge=-(2**53), le=2**53)]
Processors = Annotated[float, Field(ge=0, le=1024)]
V = TypeVar("V", bound=Value)


def _plain(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """One message for a union, not one for each of its members."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError("a value is text, a finite number, true or false") from None


Plain = Annotated[Value, WrapValidator(_plain)]
PlainOrNames = Annotated[Value | tuple[str, ...], WrapValidator(_plain)]
KINDS = ("choice", "uniform", "loguniform", "int", "top", "subsets")
"""How a domain may be written."""
MOST_SUBSET_MODALITIES = 10
"""More have too many subsets to list."""


class DimensionTable(Settings):
    """One dimension, as written: exactly one kind of domain, and the conditions under which it applies."""

    model_config = ConfigDict(serialize_by_alias=True, strict=False)  # TOML has lists where a frozen table has tuples

    choice: tuple[PlainOrNames, ...] | None = None
    """One of these; for "modalities": one of these lists of names."""
    uniform: tuple[float, float] | None = None
    loguniform: tuple[float, float] | None = None
    whole: tuple[WholeNumber, WholeNumber] | None = Field(None, alias="int")
    """Both ends included."""
    log: bool = False
    """With int: equal ratios are equally likely."""
    top: Count | None = None
    """For a stage above: which of its best so many."""
    subsets: Annotated[int, Field(ge=1, le=MOST_SUBSET_MODALITIES)] | None = None
    """For "modalities": any subset of at least so many of the study's modalities."""
    when: dict[str, tuple[Plain, ...]] = Field(default_factory=dict)
    """Path of a setting that is searched further up -> values; all must hold for the dimension to apply."""

    @property
    def kind(self) -> str:
        """How its domain is written."""
        return next(name for name, value in self._kinds().items() if value is not None)

    def _kinds(self) -> dict[str, object]:
        return {kind: self.whole if kind == "int" else getattr(self, kind) for kind in KINDS}

    @model_validator(mode="after")
    def _one_possible_domain(self) -> Self:
        if sum(value is not None for value in self._kinds().values()) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        if self.choice == ():
            raise ValueError("an empty choice: list its values, or remove the dimension")
        if self.log and not self.whole:
            raise ValueError("'log' belongs to int; for real numbers write loguniform")
        for low, high in (ends for ends in (self.uniform, self.loguniform, self.whole) if ends):
            if low >= high:
                raise ValueError(f"{low:g} to {high:g} is empty: the lower end comes first, and the ends differ")
            if low <= 0 and (self.loguniform or self.log):
                raise ValueError(f"a logarithmic range begins above 0, not at {low:g}: raise it, or use uniform or int")
        return self


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
            raise ValueError(f"a grid cannot hold the continuous {', '.join(endless)}: use choice, or another sampler")
        if self.sampler != "grid" and self.trials is None:
            raise ValueError(f"sampler '{self.sampler}' needs 'trials', the number per task")
        if self.trials is not None and self.finalists > self.trials:
            raise ValueError(f"{self.finalists} finalists of {self.trials} trials: lower finalists, or raise trials")
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
                for dimension in _dimensions(space, path, tables, available or {}):
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


KEYS = {name for model in (StudySpec, SearchTable, UnimodalSpec, NetworkSpec, FitSpec) for name in model.model_fields}


def read_study(path: Path | str) -> StudySpec:
    """Read a study file, and prove that every configuration of its spaces has valid settings.

    What only a corpus can tell is left to `for_corpus`.

    Raises:
        InputError: no such file, not TOML, an unknown key, a space that is empty or not possible.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the study '{path}': {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The study '{path}' is not TOML: {error}.") from error
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
            StudySpec.model_validate(study.model_dump() | {k: value for k, value in given.items() if value is not None})
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
    for kind, named, known in (("modality", study.modalities, modalities), ("target", study.targets, targets)):
        for name in named or ():
            if name not in known:
                raise InputError(
                    f"The study '{study.name}' names the {kind} '{name}'; the corpus has {', '.join(known)}."
                    f"{_guess(name, known)}"
                )
    return override(
        study,
        modalities=[name for name in modalities if name in (study.modalities or modalities)],
        targets=[name for name in targets if name in (study.targets or targets)],
    )


def _checked(study: StudySpec) -> StudySpec:
    """What pydantic cannot see: spaces against settings, and stages against each other."""
    known = study if study.modalities else study.model_copy(update={"modalities": _stand_ins(study)})
    for stage in STAGES:
        table, space, upstream = study.table(stage), known.space(stage), UPSTREAM[stage]
        max_epochs = [d.domain for d in space.dimensions if d.path == "fit.max_epochs"]
        most = max([_largest(domain) for domain in max_epochs], default=space.defaults["fit.max_epochs"])
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
    return tuple(dict.fromkeys(named)) or tuple(f"modality {number + 1}" for number in range(subsets))


def _largest(domain: Domain) -> float:
    return max(float(v) for v in (domain.values if isinstance(domain, Choice) else (domain.low, domain.high)))


def _dimensions(
    space: Space, path: str, tables: Mapping[str, DimensionTable], available: Mapping[str, int]
) -> list[Dimension]:
    """The dimensions that a table stands for; upstream regressors are chosen for each modality by itself."""
    table = tables[path]
    when = {name: _allowed(space, path, name, tables) for name in table.when}
    if path == MODALITIES and space.stage == "fusion":
        if when:
            raise InputError("'modalities' always apply. Remove 'when'.")
        return [Dimension(path, Choice(_subsets(table, space.modalities)), {})]
    if path != UPSTREAM[space.stage]:
        return [Dimension(path, _domain(path, table, space.defaults), when)]
    if table.top is None:
        raise InputError("which of the best stages feeds this one is written { top = N }.")
    if path == "auto_encoder":
        if not any(dimension.path == "difficulty" for dimension in space.dimensions):
            if not space.defaults["difficulty"]:
                raise InputError("difficulty = false in [unimodal], so no auto-encoder is read. Remove one of the two.")
        else:
            when["difficulty"] = tuple(value for value in when.get("difficulty", (True,)) if value)
        return [Dimension(path, IntRange(1, min(table.top, available.get(path, table.top))), when)]
    subsets = next((dimension.domain.values for dimension in space.dimensions if dimension.path == MODALITIES), None)
    found = []
    for modality in space.modalities:
        rank = IntRange(1, min(table.top, available.get(regressor(modality), table.top)))
        if subsets is None:
            found.append(Dimension(regressor(modality), rank, when))
        elif uses := tuple(subset for subset in subsets if modality in str(subset).split(",")):
            found.append(Dimension(regressor(modality), rank, when | {MODALITIES: uses}))
    return found


def _domain(path: str, table: DimensionTable, settings: Mapping[str, Value]) -> Domain:
    """The values of a setting.

    Raises:
        InputError: there is no such setting, or it cannot be searched so.
    """
    if path not in settings:
        inner = [name for name in settings if name.startswith(f"{path}.")]
        if inner:
            raise InputError(f"this is a table. Name a setting in it: {', '.join(inner)}.")
        raise InputError(f"there is no such setting.{_guess(path, settings)} There are {', '.join(settings)}.")
    if table.choice is not None:
        values = tuple(value for value in table.choice if not isinstance(value, tuple))
        if len(values) < len(table.choice):
            raise InputError("each choice is one value, not a list.")
        return Choice(_different(values))
    if table.uniform:
        return FloatRange(*table.uniform)
    if table.loguniform:
        return FloatRange(*table.loguniform, log=True)
    if table.whole:
        return IntRange(*table.whole, log=table.log)
    raise InputError(f"'{table.kind}' is not for a setting. Use choice, uniform, loguniform or int.")


def _subsets(table: DimensionTable, modalities: Sequence[str]) -> tuple[str, ...]:
    """The subsets of modalities, each as names with commas, in the order of the modalities."""
    if table.subsets:
        if not table.subsets <= len(modalities) <= MOST_SUBSET_MODALITIES:
            raise InputError(
                f"subsets = {table.subsets} needs {table.subsets} to {MOST_SUBSET_MODALITIES} modalities; there are "
                f"{len(modalities)}. List subsets with choice."
            )
        sizes = range(table.subsets, len(modalities) + 1)
        return tuple(",".join(names) for size in sizes for names in combinations(modalities, size))
    if table.choice is None or not all(isinstance(subset, tuple) and subset for subset in table.choice):
        raise InputError('write { subsets = N } for all of at least N, or { choice = [["a", "b"], ["a"]] }.')
    subsets = [_different(subset) for subset in table.choice if isinstance(subset, tuple)]
    for name in (name for names in subsets for name in names):
        if name not in modalities:
            raise InputError(
                f"'{name}' is not a modality of the study, which has {', '.join(modalities)}.{_guess(name, modalities)}"
            )
    return _different([",".join(name for name in modalities if name in names) for names in subsets])


def _allowed(space: Space, path: str, other: str, tables: Mapping[str, DimensionTable]) -> tuple[Value, ...]:
    """The values in `when` that let the dimension at `path` look at the one at `other`."""
    dimension = next((dimension for dimension in space.dimensions if dimension.path == other), None)
    if dimension is None or other not in space.defaults:
        if other in tables and path in _looks_at(other, tables):
            raise InputError(f"'when' is circular: '{other}' looks back at '{path}'. Remove one of the two.")
        if other in (MODALITIES, UPSTREAM[space.stage]):
            raise InputError(f"'when' looks at settings, not at '{other}'.")
        if other in tables:
            raise InputError(f"'when' looks at '{other}', which comes later. Move it further up.")
        if other in space.defaults:
            raise InputError(f"'when' looks at '{other}', which is not searched. Remove it, or search that too.")
        raise InputError(f"'when' looks at '{other}': there is no such setting.{_guess(other, tables)}")
    if dimension.domain.values is None:
        raise InputError(f"'when' looks at '{other}', which is continuous. Make that a choice or an int.")
    allowed = []
    for value in tables[path].when[other]:
        own = dimension.domain.member(value)
        if own is None:
            raise InputError(f"'when' waits until '{other}' is {value!r}, but it is {dimension.domain}. Correct it.")
        allowed.append(own)
    if not allowed:
        raise InputError(f"'when' lists no value of '{other}'. List one, or remove '{other}' there.")
    return tuple(allowed)


def _looks_at(path: str, tables: Mapping[str, DimensionTable], seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """All that a dimension's conditions depend on, at any distance."""
    for name in tables[path].when.keys() - seen if path in tables else ():
        seen = _looks_at(name, tables, seen | {name})
    return seen


def _different(values: Sequence[V]) -> tuple[V, ...]:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise InputError(f"{value!r} stands there twice. Remove one.")
    return tuple(values)


def _guess(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" Did you mean '{close[0]}'?" if close else ""


def _say(error: ValidationError) -> str:
    """What pydantic found, in the words of TOML, and what to do about keys that are unknown or missing."""
    found = re.sub(r"a valid dictionary or instance of \w+", "a table", say(error)).replace("a valid tuple", "a list")
    mends = []
    for detail in error.errors():
        key = str(detail["loc"][-1]) if detail["loc"] else ""
        if detail["type"] == "missing":
            mends.append("Add it.")
        elif detail["type"] == "extra_forbidden" and "space" in detail["loc"]:
            mends.append(_guess(key, KINDS) or 'A path is one key, in quotes: "network.cell" = { choice = ["gru"] }.')
        elif detail["type"] == "extra_forbidden":
            mends.append(_guess(key, KEYS) or "Remove it.")
    return " ".join([found, *(mend.strip() for mend in dict.fromkeys(mends))])
