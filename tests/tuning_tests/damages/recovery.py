"""Whether a study gets over a damage: what the commands say, and the winner that it comes to."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from typer.testing import CliRunner

from pipeline.errors import AffectuneError
from tests.tuning_tests.damages.folders import FOLDER
from tests.tuning_tests.damages.journals import EARLIER, JOURNALS, as_earlier_version
from tests.tuning_tests.damages.place import Damage, Place
from tests.tuning_tests.damages.stores import STORE
from tests.tuning_tests.in_process import InProcess
from tuning.cli.study import study_app

DAMAGES: Mapping[str, Damage] = {**JOURNALS, **STORE, **FOLDER}
KEPT = ("targets", "judgement", "inference", "out_of_fold")
"""Of summary.json: the winner and its scores, without times and counts of fits."""


REPORTS_UNTIL_HALF = 24
"""Of some fifty."""


@dataclass(frozen=True)
class Case:
    """A damage of a study.

    Attributes:
        study: "finished"; "half", killed half-way; "earlier", the same with a journal of format 3;
            "new", which begins in a new folder with the damaged store of the finished one.
        name: of the damage.
    """

    study: Literal["finished", "half", "earlier", "new"]
    name: str

    @property
    def damage(self) -> Damage:
        """What is done to it."""
        return DAMAGES[self.name]

    def __str__(self) -> str:
        return f"{self.study}: {self.name}"


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged study.

    Attributes:
        refusals: what was said before it had its winner, in order.
        num_trained: fits that it took then.
        winner: and its scores.
    """

    refusals: tuple[str, ...]
    num_trained: int
    winner: Mapping[str, Any]


def winner_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the winner and its scores."""
    return {name: summary[name] for name in KEPT}


def look(place: Place) -> None:
    """Ask for the status; whatever is wrong, the answer is a table or a sentence."""
    for options in ([], ["--json"]):
        result = CliRunner().invoke(study_app, ["status", str(place.out), *options])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert_sentence(result.exception)


def recover(place: Place, process: InProcess) -> Outcome:
    """Resume a study; where that is refused, do what the sentence says, at most three times."""
    out, store, refusals = place.out, place.store, []
    while True:
        try:
            summary = process.run(out, store)
            break
        except AffectuneError as error:
            assert_sentence(error)
            refusals.append(str(error))
            assert len(refusals) <= 3, refusals
            out, store = _as_advised(str(error), place, out, store)
    assert summary is not None, refusals
    return Outcome(tuple(refusals), len(process.trained), winner_of(summary))


def assert_sentence(error: BaseException) -> None:
    """Check that an error is one line for people, and not a traceback."""
    assert isinstance(error, AffectuneError), repr(error)
    text = str(error)
    assert text.isprintable(), text
    assert text.endswith((".", "?")), text
    assert "Error:" not in text, text
    assert len(text) < 1500, text


def _as_advised(advice: str, place: Place, out: Path, store: Path) -> tuple[Path, Path]:
    """Do what a sentence says; return the study's folder and its store from then on."""
    moved = re.search(r"(?:Move|Remove) '([^']+)'", advice)
    if moved and os.path.lexists(moved[1]):
        Path(moved[1]).rename(place.folder / f"moved-{Path(moved[1]).name}")
        return out, store
    if "Move it away" in advice and (named := re.search(r"'(/[^']+)'", advice)):
        Path(named[1]).rename(place.folder / f"moved-{Path(named[1]).name}")
        return out, store
    if re.search(r"another --out\b", advice):
        out = place.folder / "another out"
    if re.search(r"another (folder with )?(--)?store|and --store", advice) and "same" not in advice:
        store = place.folder / "another store"
    assert (out, store) != (place.out, place.store), f"No advice: {advice}"
    return out, store


@dataclass(frozen=True)
class Studies:
    """The studies that are damaged, and what they come to undamaged.

    Attributes:
        finished: one that is done.
        half: one that was killed half-way.
        winner: of both, and its scores.
    """

    finished: Place
    half: Place
    winner: Mapping[str, Any]

    @classmethod
    def make(cls, folder: Path, process: InProcess) -> Studies:
        """Run both in a folder."""
        finished, half = Place(folder / "finished"), Place(folder / "half")
        summary = process.run(finished.out, finished.store)
        assert summary is not None
        assert process.run(half.out, half.store, num_reports=REPORTS_UNTIL_HALF) is None
        return cls(finished, half, winner_of(summary))


def get_over(studies: Studies, case: Case, folder: Path, process: InProcess, seed: int) -> Outcome:
    """Damage a copy of a study, and see what its commands say and what it comes to.

    Args:
        studies: to be copied.
        case: what is done to which.
        folder: for the copy; it must not be there.
        process: runs the study.
        seed: of the damage.

    Raises:
        AssertionError: a command ended otherwise than by a sentence, or what a sentence says does
            not lead to the same winner.
    """
    study = studies.half if case.study in ("half", "earlier") else studies.finished
    place = study.copy(folder)
    if case.study == "earlier":
        as_earlier_version(place)
    case.damage(place, np.random.default_rng([seed, *case.name.encode()]))
    if case.study == "new":
        shutil.rmtree(place.out)
    else:
        look(place)
    outcome = recover(place, process)
    assert outcome.winner == studies.winner, f"{case}: {outcome.refusals}"
    return outcome


def every_case() -> list[Case]:
    """Return each damage of each kind of study that it can happen to."""
    return [
        *(Case("finished", name) for name in {**JOURNALS, **FOLDER}),
        *(Case("half", name) for name in {**JOURNALS, **STORE}),
        *(Case("earlier", name) for name in EARLIER),
        *(Case("new", name) for name in STORE),
    ]
