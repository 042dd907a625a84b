"""A finished study, trained once, and a copy of it for each test."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.corpus import Corpus
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import Worker, tiny_study


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Return the corpus of the study."""
    return replace(tiny_corpus(), digest="0")


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Path:
    """Return the folder of a finished study, with its store in it; tests only read it."""
    worker = Worker(tmp_path_factory.mktemp("finished"), tiny_study(), corpus=corpus)
    assert worker.run().is_done
    return worker.folder


@pytest.fixture
def folder(finished_study: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished study to audit."""
    return Path(shutil.copytree(finished_study, tmp_path / "study"))
