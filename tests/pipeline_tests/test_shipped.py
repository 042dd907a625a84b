"""Shipped files: which one a name means, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.shipped import SPECS
from pipeline.spec import read_spec
from tuning.api.studies import STUDIES
from tuning.spec.study_spec import read_study

OWN = "name = 'own'"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_shipped_files_can_be_read_from_any_folder() -> None:
    assert STUDIES.names() == ["demo", "paper", "wide"]
    assert [read_study(STUDIES.find(name)).name for name in STUDIES.names()] == STUDIES.names()
    assert SPECS.names() == ["small"]
    assert read_spec(SPECS.find("small")).unimodal.network.num_layers == 1


def test_a_name_means_the_shipped_file_also_beside_a_file_and_a_folder_of_that_name(
    folder: Path,
) -> None:
    shipped = STUDIES.path("demo")
    assert STUDIES.find("demo") == shipped
    assert STUDIES.describe("demo") == "the shipped study 'demo'"

    (folder / "demo").mkdir()
    assert STUDIES.find("demo") == shipped
    assert STUDIES.describe("demo") == "the shipped study 'demo'"

    (folder / "wide").write_text(OWN)
    assert STUDIES.find("wide") == STUDIES.path("wide")
    assert "not the file 'wide' of this folder: write ./wide" in STUDIES.describe("wide")
    assert STUDIES.find("./wide").read_text() == OWN
    assert STUDIES.describe("./wide") == "the study './wide'"

    (folder / "paper.toml").write_text(OWN)
    assert STUDIES.find("paper") == STUDIES.path("paper")
    assert "write paper.toml for that" in STUDIES.describe("paper")
    assert STUDIES.find("paper.toml").read_text() == OWN


def test_a_file_of_ones_own_needs_no_suffix(folder: Path) -> None:
    (folder / "mine").write_text(OWN)
    assert STUDIES.find("mine").read_text() == OWN


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("dmeo", "Did you mean 'demo'?"),
        ("WIDE", "Did you mean 'wide'?"),
        ("tuning/studies/wide.toml", "Did you mean 'wide'?"),
        ("paper.toml", "Did you mean 'paper'?"),
        ("mine", "Did you mean 'mine.toml'?"),
        ("nothing", "Shipped: demo, paper, wide; all else is the path of a TOML file."),
    ],
)
def test_a_study_that_is_not_there_says_which_there_are(
    given: str, meant: str, folder: Path
) -> None:
    (folder / "mine.toml").write_text(OWN)
    with pytest.raises(InputError, match=f"^There is no study '{given}'") as raised:
        STUDIES.find(given)
    assert meant in str(raised.value)


@pytest.mark.parametrize("name", ["../studies/demo", "demo.toml", ""])
def test_only_a_name_finds_a_shipped_file(name: str) -> None:
    with pytest.raises(InputError, match="There is no shipped study"):
        STUDIES.path(name)


def test_every_shipped_file_says_in_a_sentence_what_it_is() -> None:
    for files in (STUDIES, SPECS):
        for name in files.names():
            about = files.about(name)
            assert about.endswith(".")
            assert 20 < len(about) < 120


def test_a_word_is_completed_by_names_files_and_folders(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "one.toml").touch()
    (folder / "deep" / "one.csv").touch()
    names = [item if isinstance(item, str) else item[0] for item in STUDIES.complete("de")]
    assert names == ["demo", "deep/"]
    assert STUDIES.complete("deep/o") == ["deep/one.toml"]
    assert STUDIES.complete("nowhere/o") == []
