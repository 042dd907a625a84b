"""Studies by what a person gives: the name of a shipped one, a file, a table of settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.shipped import ShippedFiles

if TYPE_CHECKING:
    from tuning.spec.study_spec import StudySpec

STUDIES = ShippedFiles("study", "tuning", "studies")


def find_study(study: StudySpec | Mapping[str, Any] | Path | str) -> StudySpec:
    """Return the study that a person means.

    Args:
        study: a shipped study's name, a TOML file, or what such a file holds as a table.

    Raises:
        InputError: there is no such study, or its settings or spaces do not fit.
    """
    from tuning.spec.study_spec import StudySpec, parse_study, read_study

    if isinstance(study, StudySpec):
        return study
    if isinstance(study, Mapping):
        return parse_study(dict(study), f"The study '{study.get('name', '')}'")
    return read_study(STUDIES.find(str(study)))
