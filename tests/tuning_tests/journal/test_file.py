"""The journal survives what can happen to a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError, InputError
from tuning.journal.events import Event, StudyOpened, TrialEnded, TrialProgressed, TrialProposed
from tuning.journal.file import JOURNAL, Journal, read_journal
from tuning.journal.history import history, read_history


def opened() -> StudyOpened:
    return StudyOpened(
        at=1.0,
        study={"name": "s", "search": {}},
        digest="d",
        corpus={},
        folds=("fold 1",),
        versions={},
        git_commit=None,
    )


def proposed(number: int) -> TrialProposed:
    return TrialProposed(
        at=2.0 + number,
        trial=f"{number:04d}",
        task="unimodal/head/arousal",
        purpose="search",
        values={"fit.learning_rate": 0.1, "network.cell": "gru", "difficulty": True},
        fold=0,
        seed=0,
        key="k",
    )


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    events: list[Event] = [opened(), proposed(1), proposed(2)]
    with Journal(path) as journal:
        assert journal.events == []
        journal.append(*events)
    assert [event for event, _ in read_journal(path)] == events
    with Journal(path) as journal:
        assert journal.events == events


def test_values_keep_their_types(tmp_path: Path) -> None:
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(
            proposed(1).model_copy(update={"values": {"a": True, "b": 1, "c": 1.0, "d": "1"}})
        )
    [(event, _)] = read_journal(tmp_path / JOURNAL)
    assert isinstance(event, TrialProposed)
    assert [type(value) for value in event.values.values()] == [bool, int, float, str]


def test_reading_goes_on_from_a_position(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    with Journal(path) as journal:
        journal.append(opened(), proposed(1))
        *_, (_, position) = read_journal(path)
        journal.append(proposed(2))
    assert [event for event, _ in read_journal(path, position)] == [proposed(2)]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_line_that_was_cut_short_is_set_aside_and_the_rest_kept(tmp_path: Path, cut: int) -> None:
    path = tmp_path / JOURNAL
    with Journal(path) as journal:
        journal.append(opened(), proposed(1), proposed(2))
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    with Journal(path) as journal:
        assert journal.events == [opened(), proposed(1)]
        journal.append(proposed(3))
    assert [event for event, _ in read_journal(path)] == [opened(), proposed(1), proposed(3)]
    [aside] = tmp_path.glob("*.torn-*")
    assert data.endswith(aside.read_bytes() + data[-cut:])


def test_a_last_line_of_zeros_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    with Journal(path) as journal:
        journal.append(opened(), proposed(1))
    with open(path, "ab") as file:
        file.write(b"\0" * 100 + b"\n")
    with Journal(path) as journal:
        assert journal.events == [opened(), proposed(1)]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    with Journal(path) as journal:
        journal.append(opened(), proposed(1), proposed(2))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"{" + lines[1][2:]
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"byte {len(lines[0]) + len(lines[1])} is damaged"):
        Journal(path)
    assert path.read_bytes() == before
    Journal(tmp_path / "other.jsonl").__exit__(None, None, None)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / JOURNAL), pytest.raises(InputError, match="another process"):
        Journal(tmp_path / JOURNAL)
    Journal(tmp_path / JOURNAL).__exit__(None, None, None)


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="NOT TESTED: no /dev/full on this system"
)
def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    with Journal(path) as journal:
        journal.append(opened())
        before = path.read_bytes()
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, journal._descriptor)  # from here every write finds the disk full
        with pytest.raises(AffectuneError, match="No space left"):
            journal.append(proposed(1))
        os.close(full)
    assert path.read_bytes() == before


def test_epochs_that_were_trained_again_after_a_crash_count_once() -> None:
    found = history(
        [
            opened(),
            proposed(1),
            TrialProgressed(
                at=4, trial="0001", epochs=((1, 1.0, 0.1), (2, 0.9, 0.2)), cpu_s=1, wall_s=1
            ),
            TrialProgressed(
                at=5, trial="0001", epochs=((2, 0.9, 0.2), (3, 0.8, 0.1)), cpu_s=2, wall_s=2
            ),
            TrialEnded(
                at=6,
                trial="0001",
                reason="patience",
                score=0.2,
                best_epoch=2,
                epochs=3,
                cpu_s=2,
                wall_s=2,
            ),
        ]
    )
    trial = found.trials["0001"]
    assert [epoch.epoch for epoch in trial.epochs] == [1, 2, 3]
    assert trial.best == 0.2
    assert trial.complete


def test_a_folder_without_a_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        read_history(tmp_path)
