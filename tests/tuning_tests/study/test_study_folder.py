"""A study takes no folder in which it would replace what no study made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError, InputError
from pipeline.model.bundle import WEIGHTS
from pipeline.storage.atomic_folder import MODEL, write_folder
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import tiny_study
from tuning.journal.events import StudyFinished
from tuning.journal.file import JOURNAL
from tuning.report.page import write_report
from tuning.spec.study_spec import for_corpus
from tuning.study.study import Study, StudyOptions, open_study, write_model
from tuning.study.study_folder import (
    MODEL_FOLDER,
    SUMMARY,
    is_model_of,
    raise_if_no_nested_place,
    raise_if_no_place,
)

RESULT = {"targets": {"arousal": {"ccc": 0.5}}, "trials": 3}
NAMES = ("model", "summary.json", "report.html", "command.json", "tracking.json")


def begin(folder: Path, *, resume: bool = False) -> Study:
    """Open a study in a folder, and let go of it."""
    corpus = tiny_corpus()
    spec = for_corpus(tiny_study(), corpus.modalities, corpus.targets)
    options = StudyOptions(folder, str(folder.parent / "store"))
    study = open_study(spec, corpus, folder, options, resume=resume)
    study.journal.close()
    return study


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_no_study_made_is_in_the_way(tmp_path: Path, name: str, kind: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if kind == "file":
        (out / name).write_text("mine")
    elif kind == "folder":
        (out / name).mkdir()
        (out / name / "thesis").write_text("mine")
    else:
        (out / name).symlink_to(tmp_path / "nowhere")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=name):
        begin(out)
    assert snapshot(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_journal_that_is_no_file_is_no_journal(tmp_path: Path, kind: str) -> None:
    (tmp_path / "mine").write_text("thesis")
    out = tmp_path / "out"
    out.mkdir()
    if kind == "link":
        (out / JOURNAL).symlink_to(tmp_path / "mine")
    else:
        (out / JOURNAL).mkdir()
    with pytest.raises(InputError, match="no plain file"):
        begin(out)
    assert (tmp_path / "mine").read_text() == "thesis"


def test_the_root_and_the_home_are_no_folders_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (Path("/"), tmp_path, tmp_path / "link", tmp_path / "." / "link" / ".."):
        if folder.resolve() in (Path("/"), tmp_path):
            with pytest.raises(InputError, match="no folder for a study alone"):
                raise_if_no_place(folder)
    raise_if_no_place(tmp_path / "study")


def test_other_files_of_a_person_are_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    begin(tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["nested", "nested.json"])
def test_outer_folds_of_nobody_are_in_the_way(tmp_path: Path, name: str) -> None:
    raise_if_no_nested_place(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis").touch()
    with pytest.raises(InputError, match=name):
        raise_if_no_nested_place(tmp_path)


@pytest.mark.parametrize(("name", "content"), [(SUMMARY, "[]"), ("report.html", "<p>mine")])
def test_a_study_does_not_go_on_where_its_results_would_replace_others(
    tmp_path: Path, name: str, content: str
) -> None:
    out = tmp_path / "out"
    begin(out)
    (out / name).write_text(content)
    with pytest.raises(InputError, match=r"not what this study wrote.*--resume"):
        begin(out, resume=True)
    (out / name).unlink()
    begin(out, resume=True)

    (out / MODEL_FOLDER).mkdir()
    (out / MODEL_FOLDER / "thesis").touch()
    with pytest.raises(InputError, match="is not a model bundle"):
        begin(out, resume=True)


def test_a_finished_study_knows_its_own_model(tmp_path: Path) -> None:
    out = tmp_path / "out"
    study = begin(out)
    study.record(StudyFinished(at=1.8e9, summary=RESULT))
    assert not is_model_of(out, study.history)
    write_folder(out / MODEL_FOLDER, {MODEL: b"{}", SUMMARY: json.dumps(RESULT).encode()})
    assert is_model_of(out, study.history)
    begin(out)

    other = json.dumps({**RESULT, "trials": 4}).encode()
    write_folder(out / MODEL_FOLDER, {MODEL: b"{}", SUMMARY: other})
    assert not is_model_of(out, study.history)
    with pytest.raises(InputError, match="another model"):
        begin(out)


def test_what_appeared_while_a_study_ran_stays_and_the_model_is_kept_beside_it(
    tmp_path: Path,
) -> None:
    new = {MODEL: b"{}", WEIGHTS: b"new", SUMMARY: json.dumps(RESULT).encode()}
    (tmp_path / SUMMARY).write_text("my notes")
    with pytest.raises(AffectuneError, match=r"summary.json.*kept as.*--resume"):
        write_model(tmp_path, new)
    (tmp_path / SUMMARY).unlink()

    write_folder(tmp_path / MODEL_FOLDER, {**new, WEIGHTS: b"other"})
    before = snapshot(tmp_path / MODEL_FOLDER)
    with pytest.raises(AffectuneError, match="kept as"):
        write_model(tmp_path, new)
    assert snapshot(tmp_path / MODEL_FOLDER) == before

    # A process that was killed after it wrote the model writes it once more.
    write_folder(tmp_path / MODEL_FOLDER, {**new, SUMMARY: b"{}"})
    write_model(tmp_path, new)
    assert (tmp_path / MODEL_FOLDER / SUMMARY).read_bytes() == new[SUMMARY]


def test_a_report_replaces_reports_alone(tmp_path: Path) -> None:
    study = begin(tmp_path / "out")
    path = write_report(tmp_path / "out", study.history, None, None)
    assert write_report(tmp_path / "out", study.history, None, None) == path
    path.write_text("<p>mine</p>")
    with pytest.raises(InputError, match="no report of a study"):
        write_report(tmp_path / "out", study.history, None, None)
    assert path.read_text() == "<p>mine</p>"
