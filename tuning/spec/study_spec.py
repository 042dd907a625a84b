"""A study file: what to search in each stage, read from TOML and checked before anything starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.corpus import Resampling, TimeUnit
from pipeline.errors import InputError
from pipeline.names import mistake_in_file_name, mistake_in_label
from pipeline.spec import (
    FitSpec,
    NetworkSpec,
    Settings,
    Spec,
    StageName,
    UnimodalSpec,
    read_toml,
    validation_message,
)
from tuning.spec.dimension_table import KINDS
from tuning.spec.search_table import NOT_SEARCHED, SearchTable, SearchTables
from tuning.spec.space import MODALITIES, STAGES, UPSTREAM, Space
from tuning.spec.space_toml import did_you_mean, to_dimensions

MAX_NAME = 100
"""Characters of the name of a study or a registered model."""
NOT_IN_MODELS = "/:@'\"`%?#\\"
"""Characters that models:/<name>@<alias> or a filter of MLflow would not take as a name's."""


def _check_label(name: str) -> str:
    return _checked(name, mistake_in_label(name))


def _check_study_name(name: str) -> str:
    too_long = f"has {len(name)} characters, and at most {MAX_NAME} fit"
    return _checked(name, mistake_in_file_name(name) or (len(name) > MAX_NAME and too_long))


def _check_model_name(name: str) -> str:
    forbidden = [character for character in NOT_IN_MODELS if character in name]
    return _checked(
        _check_study_name(name),
        forbidden
        and f"has {forbidden[0]!r}, and models:/<name>@<alias> takes none of {NOT_IN_MODELS}",
    )


def _checked(name: str, mistake: object) -> str:
    if mistake:
        raise ValueError(f"the name {mistake}: choose another")
    return name


StudyName = Annotated[str, AfterValidator(_check_study_name)]
ModelName = Annotated[str, AfterValidator(_check_model_name)]
Label = Annotated[str, AfterValidator(_check_label)]
Names = Annotated[tuple[Label, ...], Field(min_length=1, strict=False)]


class StudySpec(Spec):
    """A study: the settings of `Spec`, and what varies over them.

    It is data: `model_dump_json` and back gives the same study. `Space` objects are made from it.
    """

    name: StudyName
    corpus: str | None = None
    """Folder of the corpus; None: the command line names it."""
    targets: Names | None = None
    """None: all that the corpus has."""
    modalities: Names | None = None
    """None: all that the corpus has."""
    resample: Resampling | None = None
    """What a frame is of a faster feature set; None: the mean where most rows would be dropped."""
    time_unit: TimeUnit | None = None
    """Of all timestamps of the corpus; None: it is recognised."""
    registered_model: ModelName = "affectune"
    search: SearchTables

    @model_validator(mode="after")
    def _raise_if_names_repeat(self) -> Self:
        for names in (self.targets, self.modalities):
            if names and len(set(names)) < len(names):
                raise ValueError(f"the names {', '.join(names)} are not different: write each once")
        return self

    @property
    def base(self) -> Spec:
        """The spec that holds for every setting that is not searched."""
        return Spec.model_validate({name: getattr(self, name) for name in Spec.model_fields})

    def table(self, stage: StageName) -> SearchTable:
        """Return how a stage is searched; `NOT_SEARCHED` if it is not."""
        return getattr(self.search, stage) or NOT_SEARCHED

    def space(self, stage: StageName, available: Mapping[str, int] | None = None) -> Space:
        """Build the space that a stage's search chooses from.

        Args:
            stage: for fusion, the study's modalities must be known (see `for_corpus`).
            available: path of a dimension of an upstream stage -> how many configurations there are
                to choose from, at least 1; for where there are fewer finalists than planned.

        Raises:
            InputError: an unknown path, a value that a setting does not allow, a condition that
                never holds.
        """
        space = Space(stage, self.base, self.modalities or (), ())
        tables = self.table(stage).space

        # Upstream stages come last: whether one of them is read depends on "difficulty" or on the
        # modalities.
        for path in sorted(tables, key=lambda path: path == UPSTREAM[stage]):
            try:
                for dimension in to_dimensions(space, path, tables, available or {}):
                    space = space.with_dimension(dimension)
            except InputError as error:
                message = str(error)
                if not message.startswith(f"'{path}'"):
                    message = f"'{path}': {message}"
                raise InputError(f"[search.{stage}.space] {message}") from error

        return space

    @property
    def may_read_all(self) -> bool:
        """Return whether a fusion of the study may read the predictions of all targets."""
        table = self.table("fusion").space.get("reads")
        return self.fusion.reads == "all" or (table is not None and "all" in (table.choice or ()))

    def num_trials(self, stage: StageName) -> int:
        """Return the number of trials per task: as many as planned, or one per configuration."""
        limits = (self.table(stage).trials, self.space(stage).size)
        return min(limit for limit in limits if limit is not None)

    def num_finalists(self, stage: StageName) -> int:
        """Return the number of finalists per task: as many as planned, or one per configuration."""
        return min(self.table(stage).finalists, self.num_trials(stage))


def read_study(path: Path | str) -> StudySpec:
    """Read a study file, and check that every configuration of its spaces has valid settings.

    What only a corpus can tell is left to `for_corpus`.

    Raises:
        InputError: no such file, not TOML, an unknown key, a space that is empty or not possible.
    """
    return parse_study(read_toml(path, "study"), f"The study '{path}'")


def parse_study(table: Mapping[str, Any], called: str) -> StudySpec:
    """Return the study that a table describes, checked as `read_study` does.

    Args:
        table: as in a study file.
        called: how messages call it, such as "The study 'mine.toml'".

    Raises:
        InputError: an unknown key, a space that is empty or not possible.
    """
    try:
        study = StudySpec.model_validate(table)
        _raise_if_impossible(study)
    except ValidationError as error:
        raise InputError(f"{called} does not fit. {_explanation(error)}") from error
    except InputError as error:
        raise InputError(f"{called} does not fit. {error}") from error
    return study


def override(
    study: StudySpec,
    *,
    corpus: str | None = None,
    targets: Sequence[str] | None = None,
    modalities: Sequence[str] | None = None,
    split: str | None = None,
    resample: Resampling | None = None,
    time_unit: TimeUnit | None = None,
) -> StudySpec:
    """Return the study with those of these settings that are not None.

    Raises:
        InputError: names that are not different, modalities that do not fit the search, or a split
            that there is not.
    """
    settings = {
        "corpus": corpus,
        "targets": targets,
        "modalities": modalities,
        "split": split,
        "resample": resample,
        "time_unit": time_unit,
    }
    given = {name: value for name, value in settings.items() if value is not None}

    try:
        overridden = StudySpec.model_validate(study.model_dump() | given)
    except ValidationError as error:
        raise InputError(f"The study '{study.name}' does not fit. {_explanation(error)}") from error

    _raise_if_impossible(overridden)
    return overridden


def for_corpus(study: StudySpec, modalities: Sequence[str], targets: Sequence[str]) -> StudySpec:
    """Return the study with its modalities and targets: those it names, or all of the corpus.

    Args:
        study: as read.
        modalities: of the corpus.
        targets: of the corpus.

    Raises:
        InputError: the corpus lacks one, or the search names a subset of modalities that is not
            among the study's.
    """
    _raise_if_missing(study, "modality", study.modalities or (), modalities)
    _raise_if_missing(study, "target", study.targets or (), targets)

    return override(
        study,
        modalities=[name for name in modalities if name in (study.modalities or modalities)],
        targets=[name for name in targets if name in (study.targets or targets)],
    )


def _raise_if_missing(
    study: StudySpec, kind: str, names: Sequence[str], known: Sequence[str]
) -> None:
    for name in names:
        if name not in known:
            raise InputError(
                f"The study '{study.name}' names the {kind} '{name}'; the corpus has "
                f"{', '.join(known)}.{did_you_mean(name, known)}"
            )


# Checks that pydantic cannot make


def _raise_if_impossible(study: StudySpec) -> None:
    """Check spaces against settings, and stages against each other."""
    if not study.modalities:
        study = study.model_copy(update={"modalities": _placeholder_modalities(study)})

    for stage in STAGES:
        space = study.space(stage)
        if study.table(stage) is not NOT_SEARCHED:
            _raise_if_grace_is_too_long(study, space)
        _raise_if_too_few_finalists(study, stage)
    _raise_if_others_are_ambiguous(study)


def _raise_if_grace_is_too_long(study: StudySpec, space: Space) -> None:
    path = "fit.max_epochs"
    searched = [
        max(map(int, dimension.domain.extremes))
        for dimension in space.dimensions
        if dimension.path == path
    ]
    max_epochs = max(searched, default=int(space.defaults[path]))

    grace_epochs = study.table(space.stage).grace_epochs
    if grace_epochs > max_epochs:
        raise InputError(
            f"[search.{space.stage}] grace_epochs = {grace_epochs}, but fits end after "
            f"{max_epochs} epochs. Lower it, or raise max_epochs in [{space.stage}.fit]."
        )


def _raise_if_too_few_finalists(study: StudySpec, stage: StageName) -> None:
    upstream = UPSTREAM[stage]
    tables = study.table(stage).space
    if upstream is None or upstream not in tables:
        return

    top, num_finalists = tables[upstream].top, study.num_finalists(upstream)
    if top is not None and top > num_finalists:
        raise InputError(
            f"[search.{stage}.space] '{upstream}': top = {top}, but the number of finalists of "
            f"[search.{upstream}] is only {num_finalists}. Lower top, or raise its finalists."
        )


def _raise_if_others_are_ambiguous(study: StudySpec) -> None:
    """Refuse a fusion of all targets where targets could have different regressors."""
    searched = [
        path for path in study.table("fusion").space if path == MODALITIES or path == "unimodal"
    ]
    if study.may_read_all and searched:
        raise InputError(
            f"[search.fusion.space] '{searched[0]}' cannot be searched where fusions may read the "
            'best regressors of all targets (reads = "all"). Remove it, or reads = "all".'
        )


def _placeholder_modalities(study: StudySpec) -> tuple[str, ...]:
    """Return modalities to check the spaces with while those of the study are unknown."""
    table = study.table("fusion").space.get(MODALITIES)
    if table is None:
        return ("modality 1",)

    listed = [name for names in table.choice or () if isinstance(names, tuple) for name in names]
    if listed:
        return tuple(dict.fromkeys(listed))
    return tuple(f"modality {number}" for number in range(1, (table.subsets or 1) + 1))


# Messages


def _known_keys() -> set[str]:
    models: tuple[type[Settings], ...] = (
        StudySpec,
        SearchTable,
        UnimodalSpec,
        NetworkSpec,
        FitSpec,
    )
    return {name for model in models for name in model.model_fields}


def _explanation(error: ValidationError) -> str:
    """Explain pydantic's errors with TOML's words for types, and how to correct a key."""
    message = re.sub(r"a valid dictionary or instance of \w+", "a table", validation_message(error))
    message = message.replace("a valid tuple", "a list")

    corrections = [_correction(detail) for detail in error.errors()]
    distinct = dict.fromkeys(correction for correction in corrections if correction)
    return " ".join([message, *distinct])


def _correction(detail: ErrorDetails) -> str:
    """Return what to do about a key that is unknown or missing; "" for other errors."""
    if detail["type"] == "missing":
        return "Add it."
    if detail["type"] != "extra_forbidden":
        return ""

    key = str(detail["loc"][-1])
    if "space" in detail["loc"]:
        example = 'A path is one key, in quotes: "network.cell" = { choice = ["gru"] }.'
        return did_you_mean(key, KINDS).strip() or example
    return did_you_mean(key, _known_keys()).strip() or "Remove it."
