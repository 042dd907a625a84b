"""One process after the other runs a study, and never two at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError, InputError
from pipeline.storage.folder_store import FolderStore
from pipeline.storage.object_store import Objects
from tests.tuning_tests import journals
from tests.tuning_tests.publication.faulty_objects import FaultyObjects
from tuning.journal.events import StudyOpened
from tuning.journal.file import JOURNAL, Journal
from tuning.publication.head import read_head
from tuning.publication.publication import Publication
from tuning.publication.publisher import HASTENED_PAUSE_S, Publisher
from tuning.publication.term import Term, begin_term, is_replaced

STUDY = "ab" * 16
SILENT_S = 0.4


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """A store of each kind."""
    return FolderStore(tmp_path / "store") if request.param == "folder" else FaultyObjects()


def _begin(objects: Objects, name: str, ended_driver: str | None = None) -> Term:
    driver = name.encode().hex().ljust(32, "0")
    return begin_term(objects, STUDY, driver, name, ended_driver=ended_driver, silent_s=SILENT_S)


def _publication(objects: Objects, term: Term, tmp_path: Path) -> Publication:
    path = tmp_path / f"{term.number}" / JOURNAL
    path.parent.mkdir()
    first, *_ = journals.events(modalities=("gaze", "head"), targets=("arousal",))
    assert isinstance(first, StudyOpened)
    with Journal(path) as journal:
        journal.append(first)
        size = journal.size
    return Publication(objects, term, ("digest", "name"), path, lambda: size)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def test_terms_follow_each_other_at_once_after_an_end_and_after_silence_without_one(
    objects: Objects, tmp_path: Path
) -> None:
    first = _begin(objects, "first")
    publication = _publication(objects, first, tmp_path)
    publication.publish(is_open=True)
    publication.publish(is_open=False)
    assert _seconds(lambda: _begin(objects, "second")) < SILENT_S

    # The second one was killed before it wrote anything.
    assert _seconds(lambda: _begin(objects, "third")) >= SILENT_S
    third = Term(STUDY, 3, "03" * 16, "third")
    _publication(objects, third, tmp_path).publish(is_open=True)
    assert _seconds(lambda: _begin(objects, "fourth")) >= SILENT_S
    assert is_replaced(objects, third)


def test_a_driver_that_is_known_to_have_ended_is_not_waited_for(
    objects: Objects, tmp_path: Path
) -> None:
    first = _begin(objects, "first")
    _publication(objects, first, tmp_path).publish(is_open=True)
    assert _seconds(lambda: _begin(objects, "second", first.driver)) < SILENT_S


def test_a_study_that_runs_elsewhere_is_refused_with_its_host(
    objects: Objects, tmp_path: Path
) -> None:
    first = _begin(objects, "first")
    publisher = Publisher(_publication(objects, first, tmp_path), beat_s=SILENT_S / 4)
    publisher.start()
    try:
        with pytest.raises(InputError, match=r"is running on first: 0 of 0 fits.*status"):
            _begin(objects, "second")
    finally:
        publisher.close(5.0)
    head = read_head(objects, STUDY)
    assert head is not None
    assert not head.is_open


def test_of_many_that_would_go_on_one_does(objects: Objects, tmp_path: Path) -> None:
    first = _begin(objects, "first")
    _publication(objects, first, tmp_path).publish(is_open=True)
    terms: list[Term] = []
    refused: list[InputError] = []

    def go_on(name: str) -> None:
        try:
            term = _begin(objects, name)
        except InputError as error:
            refused.append(error)
            return
        terms.append(term)
        publisher = Publisher(_publication(objects, term, tmp_path), beat_s=SILENT_S / 8)
        publisher.start()
        everybody_knows.wait(20)
        publisher.close(5.0)

    everybody_knows = threading.Event()
    threads = [threading.Thread(target=go_on, args=(f"host{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 20
    while len(refused) < 4 and time.monotonic() < end:
        time.sleep(0.02)
    everybody_knows.set()
    for thread in threads:
        thread.join(20)
    assert (len(terms), len(refused)) == (1, 4)


def test_who_was_replaced_stops_and_publishes_nothing_more(
    objects: Objects, tmp_path: Path
) -> None:
    first = _begin(objects, "first")
    publication = _publication(objects, first, tmp_path)
    publication.publish(is_open=True)
    _begin(objects, "second", first.driver)
    publisher = Publisher(publication, beat_s=0.05)
    publisher.start()
    publisher.close(5.0)
    with pytest.raises(AffectuneError, match="Another process has gone on with the study 'name'"):
        publisher.raise_if_replaced()
    head = read_head(objects, STUDY)
    assert head is not None
    assert head.is_open


def test_what_is_hastened_is_published_before_the_next_beat_and_not_more_often_than_bounded(
    objects: Objects, tmp_path: Path
) -> None:
    publication = _publication(objects, _begin(objects, "first"), tmp_path)
    publisher = Publisher(publication, beat_s=3600.0)
    begin = time.monotonic()
    publisher.start()
    while (head := read_head(objects, STUDY)) is None or head.beat < 4:
        publisher.hasten()
        time.sleep(0.01)
        assert time.monotonic() < begin + 20
    assert time.monotonic() >= begin + 3 * HASTENED_PAUSE_S
    publisher.close(5.0)
