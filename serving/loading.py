"""Models by the name that people give them: a folder, a URI in an object store, the registry."""

from __future__ import annotations

from pathlib import Path

from pipeline.api.python_errors import in_python
from pipeline.model.bundle import load_model
from pipeline.model.fused_model import FusedModel


@in_python
def load(model: Path | str, *, tracking_uri: str | None = None) -> FusedModel:
    """Load a trained model, and check the hash of every file of its bundle. Nothing is unpickled.

    Args:
        model: the folder that `train` or `affectune train --out` wrote; its URI in an object store;
            or, as text, a registered model, "models:/affectune@champion" or "models:/affectune/3".
        tracking_uri: the registry, for a registered model; default: MLFLOW_TRACKING_URI, else
            sqlite:///mlflow.db in the current folder.

    Returns:
        The model; its `predict` takes raw features.

    Raises:
        InputError: there is no such bundle or version, or a file was changed.
        AffectuneError: the registry or the store gives no answer.

    Example:
        >>> model = affectune.load("models:/affectune@champion")  # doctest: +SKIP
        >>> prediction = model.predict({"voice": voice, "face": face})  # doctest: +SKIP
        >>> prediction.values["arousal"]  # doctest: +SKIP
    """
    return load_model(find_bundle(model, tracking_uri) if isinstance(model, str) else model)


def find_bundle(model: str, tracking_uri: str | None = None) -> Path:
    """Return the folder of a model: its own, or a verified copy from the registry or a store.

    Raises:
        InputError: there is no such model, or it is broken.
        AffectuneError: the registry or the store gives no answer.
    """
    if not model.startswith("models:") and "://" not in model:
        return Path(model)

    from serving.models.model_source import find_source  # MLflow takes seconds to import
    from serving.settings import Settings

    source = find_source(Settings(model=model, tracking_uri=tracking_uri))
    return source.fetch(source.newest()).folder
