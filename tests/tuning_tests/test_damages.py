"""After any damage of its files a study says a sentence, and comes to the winner it has undamaged."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuning_tests.damages import (
    DAMAGES,
    EARLIER,
    Damage,
    Place,
    as_earlier_version,
    look,
    recover,
    winner_of,
)
from tests.tuning_tests.in_process import InProcess

HALF = 24
"""So many reports of a study of some fifty."""


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Place, Mapping[str, Any]]:
    """Return a finished study, one that was killed half-way, and the winner."""
    finished, half = (Place(tmp_path_factory.mktemp(name)) for name in ("finished", "half"))
    with pytest.MonkeyPatch.context() as patch:
        process = InProcess(patch)
        summary = process.run(finished.out, finished.store)
        assert summary is not None
        assert process.run(half.out, half.store, num_reports=HALF) is None
    return finished, half, winner_of(summary)


def _get_over(
    study: Place, damage: Damage, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int = 0
) -> Any:
    place = study.copy(tmp_path / "copy")
    if seed >= 1000:
        as_earlier_version(place)
    damage(place, np.random.default_rng([seed, zlib.crc32(name.encode())]))
    look(place)
    return recover(place, InProcess(monkeypatch))
    

@pytest.mark.parametrize("name", DAMAGES)
def test_finished(studies, name, tmp_path, monkeypatch) -> None:
    finished, _, winner = studies
    outcome = _get_over(finished, DAMAGES[name], name, tmp_path, monkeypatch)
    print("\nOUT", name, outcome.num_trained, [r[:230].replace(str(tmp_path),"") for r in outcome.refusals])
    assert outcome.winner == winner

@pytest.mark.parametrize("name", DAMAGES)
def test_half(studies, name, tmp_path, monkeypatch) -> None:
    _, half, winner = studies
    outcome = _get_over(half, DAMAGES[name], name, tmp_path, monkeypatch)
    print("\nOUT", name, outcome.num_trained, [r[:230].replace(str(tmp_path),"") for r in outcome.refusals])
    assert outcome.winner == winner

@pytest.mark.parametrize("name", EARLIER)
def test_earlier(studies, name, tmp_path, monkeypatch) -> None:
    finished, half, winner = studies
    outcome = _get_over(half, EARLIER[name], name, tmp_path, monkeypatch, 1000)
    print("\nOUT", name, outcome.num_trained, [r[:230].replace(str(tmp_path),"") for r in outcome.refusals])
    assert outcome.winner == winner
