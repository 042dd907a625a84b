"""A study goes on from its store, in a folder where nothing is, and nothing of it is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.errors import InputError
from tests.tuning_tests.damages.recovery import Studies, winner_of
from tests.tuning_tests.in_process import InProcess
from tuning.cli.study import study_app
from tuning.journal.history import read_history

pytestmark = pytest.mark.slow


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """What stands for Ray."""
    monkeypatch.setenv("COLUMNS", "200")
    return InProcess(monkeypatch)


def _ask(*arguments: object) -> str:
    result = CliRunner().invoke(study_app, [str(each) for each in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_a_study_goes_on_in_an_empty_folder_as_it_would_have_in_its_own(
    studies: Studies, tmp_path: Path, process: InProcess
) -> None:
    half = studies.half.copy(tmp_path / "half")
    known = read_history(half.out).trials
    process.run(studies.half.copy(tmp_path / "same").out, tmp_path / "same" / "store")
    in_its_own = len(process.trained)
    shutil.rmtree(half.out)

    [listed] = json.loads(_ask("status", half.store, "--json"))["studies"]
    assert listed["fits"] == len(known)
    summary = process.run(half.out, half.store)
    assert summary is not None
    assert winner_of(summary) == studies.winner
    assert len(process.trained) == in_its_own
    trials = read_history(half.out).trials
    assert {name: trials[name].proposed for name in known} == {
        name: trial.proposed for name, trial in known.items()
    }

    # It is the same study, in its place.
    [listed] = json.loads(_ask("status", half.store, "--json"))["studies"]
    assert (listed["state"], listed["fits"]) == ("completed", len(trials))


def test_a_folder_that_is_behind_is_brought_up_to_date_and_one_that_went_apart_is_refused(
    studies: Studies, tmp_path: Path, process: InProcess
) -> None:
    first = studies.half.copy(tmp_path / "first")
    behind, apart = tmp_path / "behind", tmp_path / "apart"
    for copy in (behind, apart):
        shutil.copytree(first.out, copy)
    shutil.copytree(first.store, tmp_path / "another store")
    # As a driver would that was cut off.
    process.run(apart, tmp_path / "another store", num_reports=6)

    process.run(first.out, first.store)
    summary = process.run(behind, first.store)
    assert summary is not None
    assert winner_of(summary) == studies.winner
    assert process.trained == []

    # A store knows the study as it went on with it, and nothing of what the other one did.
    with pytest.raises(InputError, match=r"went on elsewhere, on .* another --out"):
        process.run(apart, first.store)


def test_the_same_study_begun_twice_is_published_twice(
    studies: Studies, tmp_path: Path, process: InProcess, caplog: pytest.LogCaptureFixture
) -> None:
    half = studies.half.copy(tmp_path / "half")
    process.run(half.folder / "other", half.store, resume=False)
    assert "--resume goes on with that one" in caplog.text
    listed = json.loads(_ask("status", half.store, "--json"))["studies"]
    assert [each["state"] for each in listed] == ["completed", "stopped"]
    assert len({each["id"] for each in listed}) == 2
    assert len({each["digest"] for each in listed}) == 1

    shown = " ".join(_ask("status", half.store).split())
    assert f"small {listed[0]['id'][:12]} completed" in shown
    with pytest.raises(InputError, match="2 studies are called 'small'"):
        _ask("status", half.store, "--study", "small")


def test_status_and_report_of_a_store_say_what_those_of_the_folder_say(
    studies: Studies, tmp_path: Path
) -> None:
    finished = studies.finished
    here = json.loads(_ask("status", finished.out, "--json"))
    there = json.loads(_ask("status", finished.store, "--study", "small", "--json"))
    assert here.items() <= there.items()
    by_uri = _ask("status", f"file://{finished.store}/studies/{there['id']}")
    assert there["model"] in by_uri
    assert Path(there["model"]).is_dir()

    with pytest.raises(InputError, match="say where the report is to be"):
        _ask("report", finished.store, "--study", "small")
    _ask("report", finished.store, "--study", "small", "--out", tmp_path / "there.html")
    _ask("report", finished.out, "--out", tmp_path / "here.html")
    texts = [(tmp_path / name).read_text() for name in ("here.html", "there.html")]
    assert len(texts[0]) == len(texts[1])
    with pytest.raises(InputError, match="--study chooses among the studies of a store"):
        _ask("status", finished.out, "--study", "small")
    with pytest.raises(InputError, match="There is no folder"):
        _ask("status", f"file://{tmp_path}/nothing")
