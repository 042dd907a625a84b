"""Fixtures of the pipeline's tests: a cache of their own, and the real corpus if there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEFAULT_CORPUS = Path(__file__).resolve().parents[3] / "shared" / "data" / "ceap360vr"


@pytest.fixture(autouse=True)
def _cache_of_the_tests(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Use one cache for all tests, so that only the first that reads a corpus parses it."""
    monkeypatch.setenv("AFFECTUNE_CACHE", str(tmp_path_factory.getbasetemp() / "affectune-cache"))


@pytest.fixture
def real_corpus_path() -> Path:
    """Return CEAP-360VR in the MuSe layout: 256 sessions of 32 subjects.

    Its licence does not allow a copy in the repository: without it the test is skipped.
    """
    path = Path(os.environ.get("AFFECTUNE_REAL_CORPUS") or DEFAULT_CORPUS)
    if not (path / "feature_segments").is_dir():
        pytest.skip(
            f"NOT TESTED on real data: no corpus in {path}; set AFFECTUNE_REAL_CORPUS to its folder"
        )

    return path
