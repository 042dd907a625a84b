"""The shipped studies, study files that tests write, and values for the dimensions of a space."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from tuning.spec.space import STAGES, Choice, Dimension, IntRange, Space, Value
from tuning.spec.study_spec import StudySpec, for_corpus, read_study

STUDIES = Path(__file__).parents[3] / "tuning" / "studies"
SHIPPED = sorted(path.stem for path in STUDIES.glob("*.toml"))
MODALITIES = ("face", "physio", "voice")
UNIMODAL_SPACE = """
name = "a study"
[search.unimodal]
trials = 10
[search.unimodal.space]
"""


def shipped_study(name: str) -> StudySpec:
    """Read a shipped study, for three modalities."""
    return for_corpus(read_study(STUDIES / f"{name}.toml"), MODALITIES, ("arousal", "valence"))


def shipped_spaces() -> st.SearchStrategy[Space]:
    """Draw one of the spaces of the shipped studies."""
    studies = [shipped_study(name) for name in SHIPPED]
    return st.sampled_from([study.space(stage) for study in studies for stage in STAGES])


def read_written(folder: Path, text: str) -> StudySpec:
    """Write a study file and read it."""
    path = folder / "study.toml"
    path.write_text(text)
    return read_study(path)


def unimodal_space(folder: Path, *lines: str) -> Space:
    """Read a space from the lines of a study file."""
    return read_written(folder, UNIMODAL_SPACE + "\n".join(lines)).space("unimodal")


def any_value(dimension: Dimension) -> st.SearchStrategy[Value]:
    """Draw a value from a dimension's domain."""
    domain = dimension.domain
    if isinstance(domain, Choice):
        return st.sampled_from(domain.values)
    if isinstance(domain, IntRange):
        return st.integers(domain.low, domain.high)
    return st.floats(domain.low, domain.high)
