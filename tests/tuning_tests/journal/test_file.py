"""The journal survives what can happen to a file."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError, InputError
from tuning.journal.events import Event, StudyOpened, TrialEnded, TrialProgressed, TrialProposed
from tuning.journal.file import JOURNAL, Journal, read_journal
from tuning.journal.history import history_of, read_history


def opened() -> StudyOpened:
    """Return the first event of a journal."""
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
    """Return the proposal of a trial."""
    return TrialProposed(
        at=2.0 + number,
        trial=f"{number:04d}",
        task="unimodal/head/arousal",
        purpose="search",
        configuration={"fit.learning_rate": 0.1, "network.cell": "gru", "difficulty": True},
        fold=0,
        seed=0,
        key="k",
    )


def progressed(seconds: int, *epochs: tuple[int, float, float]) -> TrialProgressed:
    """Return a report of epochs of the first trial."""
    return TrialProgressed(
        at=3.0 + seconds, trial="0001", epochs=epochs, cpu_s=seconds, wall_s=seconds
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a journal that does not exist yet."""
    return tmp_path / JOURNAL


def write_journal(path: Path, *events: Event) -> bytes:
    """Write a journal, and return its content."""
    with Journal(path) as journal:
        journal.append(*events)
    return path.read_bytes()


def events_in(path: Path, start: int = 0) -> list[Event]:
    """Return the events of a journal from a position on."""
    return [event for event, _ in read_journal(path, start)]


def test_what_was_appended_is_read_back(path: Path) -> None:
    events: list[Event] = [opened(), proposed(1), proposed(2)]
    with Journal(path) as journal:
        assert journal.events == []
        journal.append(*events)

    assert events_in(path) == events
    with Journal(path) as journal:
        assert journal.events == events


def test_values_keep_their_types(path: Path) -> None:
    configuration = {"a": True, "b": 1, "c": 1.0, "d": "1"}
    trial = proposed(1).model_copy(update={"configuration": configuration})
    write_journal(path, opened(), trial)

    _, event = events_in(path)
    assert isinstance(event, TrialProposed)
    assert [type(value) for value in event.configuration.values()] == [bool, int, float, str]


def test_reading_goes_on_from_a_position(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(opened(), proposed(1))
        *_, (_, position) = read_journal(path)
        journal.append(proposed(2))
    assert events_in(path, position) == [proposed(2)]


@pytest.mark.parametrize("num_bytes", [2, 10, 60])
def test_a_line_that_was_cut_short_is_set_aside_and_the_rest_kept(
    path: Path, num_bytes: int
) -> None:
    data = write_journal(path, opened(), proposed(1), proposed(2))
    path.write_bytes(data[:-num_bytes])

    with Journal(path) as journal:
        assert journal.events == [opened(), proposed(1)]
        journal.append(proposed(3))

    assert events_in(path) == [opened(), proposed(1), proposed(3)]
    [aside] = path.parent.glob("*.torn-*")
    assert data.endswith(aside.read_bytes() + data[-num_bytes:])


def test_a_last_line_of_zeros_is_set_aside(path: Path) -> None:
    data = write_journal(path, opened(), proposed(1))
    path.write_bytes(data + b"\0" * 100 + b"\n")

    with Journal(path) as journal:
        assert journal.events == [opened(), proposed(1)]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_its_place(path: Path) -> None:
    data = write_journal(path, opened(), proposed(1), proposed(2))
    first, second, third = data.splitlines(keepends=True)
    second = b"{" + second[2:]
    damaged = first + second + third
    path.write_bytes(damaged)

    with pytest.raises(InputError, match="line 2 is no JSON, and lines follow it"):
        Journal(path)
    assert path.read_bytes() == damaged
    Journal(path.with_name("other.jsonl")).close()


def test_one_process_at_a_time_has_a_journal_open(path: Path) -> None:
    with Journal(path), pytest.raises(InputError, match="another process"):
        Journal(path)
    Journal(path).close()


def test_a_full_disk_leaves_the_journal_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(path) as journal:
        journal.append(opened())
        data = path.read_bytes()
        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(AffectuneError, match="No space left"):
            journal.append(proposed(1))
    assert path.read_bytes() == data


def test_a_journal_of_another_format_is_refused_in_a_sentence_and_left_as_it_is(
    path: Path,
) -> None:
    data = b'{"event":"opened","at":1.0,"study":{},"digest":"d"}\n'
    path.write_bytes(data)

    message = "journal format 1; this version of Affectune reads 3"
    with pytest.raises(InputError, match=message):
        Journal(path)
    with pytest.raises(InputError, match=message):
        events_in(path)
    assert path.read_bytes() == data


def test_epochs_that_were_trained_again_after_a_crash_count_once() -> None:
    ended = TrialEnded(
        at=6.0,
        trial="0001",
        reason="patience",
        devel=0.2,
        best_epoch=2,
        epochs=3,
        cpu_s=2,
        wall_s=2,
    )
    before_crash = progressed(1, (1, 1.0, 0.1), (2, 0.9, 0.2))
    after_crash = progressed(2, (2, 0.9, 0.2), (3, 0.8, 0.1))
    history = history_of([opened(), proposed(1), before_crash, after_crash, ended])

    trial = history.trials["0001"]
    assert [epoch.epoch for epoch in trial.epochs] == [1, 2, 3]
    assert trial.best_devel == 0.2
    assert trial.is_complete


def test_a_folder_without_a_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        read_history(tmp_path)
