"""Whatever happens to the lines of a journal is found; what the seals prove harmless is mended."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import AffectuneError, InputError
from tests.tuning_tests.damages.journals import SEALED
from tests.tuning_tests.journal.test_file import opened, proposed, write_journal
from tests.tuning_tests.journals import STUDY
from tuning.journal.events import FORMAT, Event
from tuning.journal.file import JOURNAL, Journal, read_journal

NUM_LINES = 12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a journal that does not exist yet."""
    return tmp_path / JOURNAL


@pytest.fixture
def lines(path: Path) -> list[bytes]:
    """Return the lines of a journal that is there."""
    events: list[Event] = [opened(), *(proposed(number) for number in range(1, NUM_LINES))]
    return write_journal(path, *events).splitlines(keepends=True)


def events_in(path: Path) -> list[Event]:
    """Return the events of a journal."""
    return [event for event, _ in read_journal(path)]


def bare(lines: list[bytes]) -> list[bytes]:
    """Return lines as format 3 had them, without seals."""
    first, *others = [SEALED.sub(b"}", line.strip()) + b"\n" for line in lines]
    study = {**STUDY, "modalities": ["head", "gaze"], "targets": ["arousal"]}
    record = json.loads(first) | {"format": 3, "study": study}
    of_first_stage = [
        each.replace(b"unimodal/head/arousal", b"auto_encoder/head") for each in others
    ]
    return [json.dumps(record).encode() + b"\n", *of_first_stage]


def test_every_line_has_its_number_and_is_an_event_without_its_seal(lines: list[bytes]) -> None:
    records = [json.loads(line) for line in lines]
    assert [record["line"] for record in records] == list(range(1, NUM_LINES + 1))
    assert len({record["sum"] for record in records}) == NUM_LINES
    assert records[0]["format"] == FORMAT


@pytest.mark.parametrize("lost", range(NUM_LINES - 1))
def test_any_lost_line_is_found_and_named_and_nothing_is_written(
    path: Path, lines: list[bytes], lost: int
) -> None:
    data = b"".join(lines[:lost] + lines[lost + 1 :])
    path.write_bytes(data)

    for read in (Journal, events_in):
        with pytest.raises(InputError, match=rf"line {lost + 1} is missing.*another --out"):
            read(path)
    assert path.read_bytes() == data


def test_lines_in_any_order_with_any_repeated_are_mended_to_what_was_written(
    path: Path, lines: list[bytes]
) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        order = [*random.permutation(NUM_LINES), *random.integers(NUM_LINES, size=4)]
        damaged = b"".join(lines[place] for place in order)
        path.write_bytes(damaged)
        expected = [opened(), *(proposed(number) for number in range(1, NUM_LINES))]

        assert events_in(path) == expected
        assert path.read_bytes() == damaged  # who only reads changes nothing
        with Journal(path) as journal:
            assert journal.events == expected
            assert journal.is_mended
        assert path.read_bytes() == b"".join(lines)

    kept = {aside.read_bytes() for aside in path.parent.glob("*.damaged-*")}
    assert damaged in kept


def test_any_flipped_bit_is_found_or_cut_off_as_the_torn_end(
    path: Path, lines: list[bytes]
) -> None:
    """A flip in the last line may leave no JSON, which is what a crash leaves, too."""
    data, random = b"".join(lines), np.random.default_rng(1)
    for place in random.integers(len(data), size=150):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            events = events_in(path)
        except InputError:
            continue
        expected = [opened(), *(proposed(number) for number in range(1, NUM_LINES))]
        is_torn = place >= len(data) - len(lines[-1]) - 1
        assert events == expected or (is_torn and events == expected[:-1])


def test_what_is_appended_after_the_mending_fits(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join([*lines, lines[3]]))
    with Journal(path) as journal:
        journal.append(proposed(NUM_LINES))
    assert len(events_in(path)) == NUM_LINES + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\n\n \t\n"),
        lambda text: text[:-1],
    ],
)
def test_white_space_of_editors_changes_nothing(
    path: Path, lines: list[bytes], change: object
) -> None:
    assert callable(change)
    path.write_bytes(change(b"".join(lines)))
    with Journal(path) as journal:
        assert len(journal.events) == NUM_LINES
        journal.append(proposed(NUM_LINES))
    assert len(events_in(path)) == NUM_LINES + 1


@pytest.mark.parametrize(
    "newer", [b'{"at":9.0,"event":"a_newer_one"}\n', b'{"at":9.0,"event":"study_resumed","n":1}\n']
)
@pytest.mark.parametrize("place", [1, NUM_LINES])
@pytest.mark.parametrize("is_sealed", [True, False])
def test_what_a_newer_version_wrote_is_refused_and_never_cut_off(
    path: Path, lines: list[bytes], newer: bytes, place: int, is_sealed: bool
) -> None:
    whole = lines if is_sealed else bare(lines)
    data = b"".join([*whole[:place], newer, *whole[place:]])
    path.write_bytes(data)

    for read in (Journal, events_in):
        with pytest.raises(InputError, match=rf"line {place + 1}: .* A newer version wrote it"):
            read(path)
    assert path.read_bytes() == data
    assert not list(path.parent.glob("*torn*"))


def test_a_journal_of_format_3_is_read_and_what_follows_seals_all_of_it(
    path: Path, lines: list[bytes]
) -> None:
    old = bare(lines)
    path.write_bytes(b"".join(old))

    with Journal(path) as journal:
        assert len(journal.events) == NUM_LINES
        journal.append(proposed(NUM_LINES))
    data = path.read_bytes()
    assert data.startswith(b"".join(old))
    assert len(events_in(path)) == NUM_LINES + 1

    # Its last line was lost before: now that is found.
    path.write_bytes(b"".join(old[:-1]) + data.splitlines(keepends=True)[-1])
    with pytest.raises(InputError, match=f"line {NUM_LINES} is missing"):
        events_in(path)
    # Nothing but what may follow what protects it before.
    path.write_bytes(b"".join(old[:4] + old[5:]))
    with pytest.raises(InputError, match="proposes trial 0005, and the next one is 0004"):
        events_in(path)
    path.write_bytes(b"".join([*old[:4], *old[3:]]))
    with Journal(path) as journal:
        assert len(journal.events) == NUM_LINES


def test_what_is_no_file_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path)
    for read in (Journal, events_in):
        with pytest.raises(InputError, match=r"is no file.*Move it away"):
            read(path)
    path.unlink()
    path.mkdir()
    for read in (Journal, events_in):
        with pytest.raises(InputError, match=r"is no file.*Move it away"):
            read(path)


def test_a_large_file_of_zeros_is_set_aside_without_filling_memory(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open(path, "wb") as file:
        file.truncate(66 * 1024**2)  # sparse
    with caplog.at_level(logging.WARNING), Journal(path) as journal:
        assert journal.events == []
        journal.append(opened())
    assert events_in(path) == [opened()]
    assert "set aside" in caplog.text


def test_a_journal_that_was_cut_while_the_study_runs_is_not_written_to(
    path: Path, lines: list[bytes]
) -> None:
    with Journal(path) as journal:
        path.write_bytes(b"".join(lines[:5]))
        with pytest.raises(AffectuneError, match=r"cut short by another program.*--resume"):
            journal.append(proposed(NUM_LINES))
    assert path.read_bytes() == b"".join(lines[:5])


def test_what_a_failed_append_left_is_cut_off_by_the_next(path: Path, lines: list[bytes]) -> None:
    with Journal(path) as journal:
        with open(path, "ab") as file:
            file.write(b'{"at":1.0,"half')
        journal.append(proposed(NUM_LINES))
    assert len(events_in(path)) == NUM_LINES + 1
