"""A tracking server in a file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tuning.mlflow_backend.tracking.study_runs import raise_if_not_recordable


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without a run; made once, because that takes MLflow seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    raise_if_not_recordable(f"sqlite:///{path}", "first")
    return path


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    """The URI of a tracking server of the test's own."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"
