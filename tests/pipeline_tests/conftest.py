"""What tests of the pipeline share: a cache of their own, and the real corpus where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _cache_of_the_tests(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One cache for the whole run, so that only the first test that reads a corpus parses it."""
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path_factory.getbasetemp() / "affectune-cache"))


@pytest.fixture
def real_corpus_path() -> Path:
    """CEAP-360VR in the MuSe layout: 256 sessions of 32 people. Licensed, so never in the repository."""
    named = os.environ.get("AFFECTUNE_REAL_CORPUS")
    path = (
        Path(named)
        if named
        else Path(__file__).resolve().parents[3] / "shared" / "data" / "ceap360vr"
    )
    if not (path / "feature_segments").is_dir():
        pytest.skip(
            f"NOT TESTED on real data: no corpus in {path}; set AFFECTUNE_REAL_CORPUS to its folder"
        )
    return path
