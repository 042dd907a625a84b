"""The folders and files of a study and of a model that is served, for those who look at them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.local_ray.session import FOLDER
from tuning.mlflow_backend.client import sqlite_path


def study_places(out: Path, store: str) -> dict[str, Path]:
    """Return what a study writes to on this machine: what it is for -> the folder.

    Args:
        out: of its results.
        store: a folder or a URI.
    """
    places = {"results": out.absolute()}
    if "://" not in store:
        places["store"] = Path(store)
    places["temporary files"] = Path(tempfile.gettempdir())
    if os.environ.get(FOLDER):
        places["Ray"] = Path(os.environ[FOLDER]).absolute()
    return places


def trusted_places(store: str, tracking_uri: str) -> Iterator[Path]:
    """Yield what models are read from: whoever can change it decides what they predict.

    Args:
        store: a folder or a URI.
        tracking_uri: of the registry.
    """
    if "://" not in store:
        yield Path(store)
    path = sqlite_path(tracking_uri)
    if path is not None:
        yield path.absolute()
        yield path.absolute().parent / "mlruns"
