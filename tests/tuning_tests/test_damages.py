"""After any damage a study says a sentence, and comes to the winner that it has undamaged.

Some of each kind; `make bench BENCH=damages` makes hundreds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tuning_tests.damages.journals import BETWEEN, CHANGED, LOST, MOVED, NEWER
from tests.tuning_tests.damages.recovery import Case, Studies, get_over
from tests.tuning_tests.in_process import InProcess

HARMLESS = [*MOVED, *(name for name in BETWEEN if name not in (
    "a line of zeros", "a line of noise", "an empty object"
))]  # fmt: skip
"""What the seals prove to have changed nothing, and what stands between lines."""
REFUSED = [
    *LOST,
    *list(NEWER)[:-1],
    *CHANGED,
    "a line of zeros",
    "a line of noise",
    "an empty object",
]
OTHERS = (
    "the journal cut short", "the journal noise", "the journal is a pipe",
    "command.json deep", "command.json a folder", "tracking.json a list", "summary.json gone",
    "foreign files", "the model gone", "a lock that is left",
)  # fmt: skip
NEW = (
    "a file a bit flipped", "a file is a pipe", "an entry is a file", "stages swapped",
    "outputs swapped", "a newer event in a whole study", "a line lost in a whole study",
    "the format flipped",
)  # fmt: skip
HALF = ("a line lost", "bits flipped in many entries", "the store gone")
EARLIER = ("a proposal lost", "a line doubled")


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Return what runs studies without Ray."""
    return InProcess(monkeypatch)


@pytest.mark.parametrize("name", HARMLESS)
def test_lines_that_were_doubled_or_moved_are_mended_and_nothing_is_done_again(
    studies: Studies, process: InProcess, tmp_path: Path, name: str
) -> None:
    before = studies.finished.journal.read_bytes()
    outcome = get_over(studies, Case("finished", name), tmp_path / "copy", process, seed=0)
    assert (outcome.refusals, outcome.num_trained) == ((), 0)

    journal = (tmp_path / "copy/out/journal.jsonl").read_bytes()
    assert journal.split() == before.replace(b"\r", b"").split() or name in BETWEEN


@pytest.mark.parametrize("name", REFUSED[::3])
def test_what_is_lost_or_changed_is_refused_and_the_way_on_trains_nothing_twice(
    studies: Studies, process: InProcess, tmp_path: Path, name: str
) -> None:
    outcome = get_over(studies, Case("finished", name), tmp_path / "copy", process, seed=0)
    [refusal] = outcome.refusals
    assert "line " in refusal
    assert "another --out and the same --store" in refusal
    assert outcome.num_trained == 0


@pytest.mark.parametrize("name", OTHERS)
def test_a_finished_study_gets_over(
    studies: Studies, process: InProcess, tmp_path: Path, name: str
) -> None:
    outcome = get_over(studies, Case("finished", name), tmp_path / "copy", process, seed=0)
    assert outcome.num_trained <= 1


@pytest.mark.parametrize("name", NEW)
def test_a_new_folder_gets_over_a_damaged_store_and_only_what_is_damaged_is_trained(
    studies: Studies, process: InProcess, tmp_path: Path, name: str
) -> None:
    outcome = get_over(studies, Case("new", name), tmp_path / "copy", process, seed=0)
    assert outcome.refusals == ()
    assert outcome.num_trained <= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", HALF)
def test_a_study_that_was_killed_half_way_gets_over(
    studies: Studies, process: InProcess, tmp_path: Path, name: str
) -> None:
    get_over(studies, Case("half", name), tmp_path / "copy", process, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", EARLIER)
def test_a_journal_without_seals_gets_over(
    studies: Studies, process: InProcess, tmp_path: Path, name: str
) -> None:
    get_over(studies, Case("earlier", name), tmp_path / "copy", process, seed=0)
