"""Whatever fails, whoever reads a published study sees a whole beginning of its journal."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import AffectuneError, InputError, SurroundingsError
from tests.tuning_tests import journals
from tests.tuning_tests.publication.faulty_objects import FaultyObjects
from tuning.journal.events import Event, StudyOpened, StudyStopped
from tuning.journal.file import JOURNAL, Journal
from tuning.journal.lines import read_lines
from tuning.publication.head import HEAD, place_of
from tuning.publication.publication import Publication
from tuning.publication.published import choose, find_heads, read_study
from tuning.publication.term import Term
from tuning.publication.transcript import transcribe

EVENTS = journals.events(modalities=("gaze", "head"), targets=("arousal",))
SMALL_PART_BYTES = 1500


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the journals have many parts, and no pauses between attempts."""
    for module in ("published", "publication"):
        monkeypatch.setattr(f"tuning.publication.{module}.PART_BYTES", SMALL_PART_BYTES)
    monkeypatch.setattr("tuning.publication.published.ATTEMPT_PAUSE_S", 0.0)


def _opened(events: Iterable[Event]) -> StudyOpened:
    first = next(iter(events))
    assert isinstance(first, StudyOpened)
    return first


def _publication(objects: FaultyObjects, journal: Journal, *, number: int = 1) -> Publication:
    opened = _opened(EVENTS)
    term = Term(opened.id, number, f"{number:032x}", f"host{number}")
    identity = opened.digest, opened.study["name"]
    return Publication(objects, term, identity, journal.path, lambda: journal.size)


def _beginnings(events: list[Event]) -> Iterator[bytes]:
    lines = transcribe(events).splitlines(keepends=True)
    return itertools.accumulate(lines, initial=b"")


@settings(max_examples=12)
@given(
    steps=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_readers_see_a_whole_beginning_whatever_fails_and_in_the_end_everything(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], seed: int, share: float
) -> None:
    objects, written = FaultyObjects(seed, share), list(EVENTS[:1])
    whole = set(_beginnings(EVENTS))
    study = _opened(EVENTS).id
    path = tmp_path_factory.mktemp("study") / JOURNAL

    with Journal(path) as journal:
        journal.append(*written)
        publication = _publication(objects, journal)
        for step in steps:
            new = EVENTS[len(written) : len(written) + step]
            if new:
                journal.append(*new)
                written += new
            try:
                publication.publish(is_open=True)
            except SurroundingsError:
                assert share
            else:
                assert publication.position == journal.size
            if place_of(study, HEAD) in objects.content:
                objects.share = 0.0
                published = read_study(objects, study)
                assert published.journal in whole
                assert len(published.journal) >= publication.position
                objects.share = share

        objects.share = 0.0
        publication.publish(is_open=False)
        published = read_study(objects, study)
        assert published.journal == transcribe(written)
        assert published.events() == written
        assert not published.head.is_open


def test_readers_are_not_kept_from_a_study_whose_driver_is_replaced_while_they_read(
    tmp_path: Path,
) -> None:
    objects, study = FaultyObjects(), _opened(EVENTS).id
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(*EVENTS[:40])
        first, second = (_publication(objects, journal, number=number) for number in (1, 2))
        first.publish(is_open=True)
        before = set(objects.content)
        objects.content[place_of(study, "term-000002")] = b"{}"
        second.publish(is_open=True)

        assert read_study(objects, study).events() == EVENTS[:40]
        assert read_study(objects, study).head.host == "host2"
        first.publish(is_open=True)
        assert first.is_replaced
        assert read_study(objects, study).head.host == "host2"
        # What the first one wrote is no longer there.
        assert before & set(objects.content) == {place_of(study, HEAD)}


def test_parts_that_were_changed_are_never_read_as_a_journal(tmp_path: Path) -> None:
    objects, study = FaultyObjects(), _opened(EVENTS).id
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(*EVENTS[:60])
        _publication(objects, journal).publish(is_open=True)
    parts = [name for name in objects.content if "/journal-" in name]
    assert len(parts) > 3
    for name in parts:
        data = objects.content[name]
        for damaged in (data[:-1], data[:100] + b"X" + data[101:], None):
            if damaged is None:
                del objects.content[name]
            else:
                objects.content[name] = damaged
            with pytest.raises(InputError, match="is damaged"):
                read_study(objects, study)
        objects.content[name] = data
    assert read_study(objects, study).events() == EVENTS[:60]


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"format": 2}',
        b"{" * 10_000,
        b'{"driver": "../../../etc/passwd"}',
    ],
)
def test_heads_that_are_none_are_a_sentence(tmp_path: Path, head: bytes) -> None:
    objects, study = FaultyObjects(), _opened(EVENTS).id
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(*EVENTS[:2])
        publication = _publication(objects, journal)
        objects.content[place_of(study, HEAD)] = head
        with pytest.raises(InputError, match="is damaged, or of a later version"):
            read_study(objects, study)
        assert find_heads(objects) == []
        publication.publish(is_open=True)
    assert [each.id for each in find_heads(objects)] == [study]


def test_a_line_that_is_not_written_for_good_is_not_published(tmp_path: Path) -> None:
    objects, study = FaultyObjects(), _opened(EVENTS).id
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(*EVENTS[:5])
        with open(journal.path, "ab") as file:
            file.write(b'{"event":"trial_proposed", "half of a line that a full disk')
        _publication(objects, journal).publish(is_open=True)
        assert read_study(objects, study).events() == EVENTS[:5]


def test_credentials_that_an_earlier_version_wrote_down_are_not_published(tmp_path: Path) -> None:
    objects = FaultyObjects()
    stopped = StudyStopped(at=1.0, reason="failed").model_dump_json()
    line = stopped.replace("failed", "postgresql://me:hunter22@database/mlflow is away")
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(*EVENTS[:1])
        before = journal.path.read_bytes()
    [first] = read_lines(BytesIO(before), "journal")
    (tmp_path / JOURNAL).write_bytes(before + first.chain.seal(line.encode())[0])
    with Journal(tmp_path / JOURNAL) as journal:
        assert b"hunter22" in journal.path.read_bytes()
        _publication(objects, journal).publish(is_open=False)
    assert not any(b"hunter22" in data for data in objects.content.values())
    assert len(read_study(objects, _opened(EVENTS).id).events()) == 2


def test_a_study_is_chosen_by_its_name_or_the_begin_of_its_id(tmp_path: Path) -> None:
    objects = FaultyObjects()
    with Journal(tmp_path / JOURNAL) as journal:
        journal.append(*EVENTS[:2])
        _publication(objects, journal).publish(is_open=False)
    heads = find_heads(objects)
    study = heads[0].id
    for which in ("", "fabricated", study, study[:8]):
        assert choose(heads, which, "s3://b/p").id == study
    twin = heads[0].model_copy(update={"id": "f" * 32})
    with pytest.raises(InputError, match=r"2 studies are called 'fabricated'.*--study"):
        choose([*heads, twin], "fabricated", "s3://b/p")
    with pytest.raises(InputError, match="No study is called 'other'"):
        choose(heads, "other", "s3://b/p")
    with pytest.raises(AffectuneError, match="No study is published in the store"):
        choose([], "", "s3://b/p")
