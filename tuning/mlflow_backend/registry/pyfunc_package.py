"""Writes a bundle as an MLflow model folder: pyfunc, models from code, no pickle.

The folder counts only after it was loaded and has predicted what the bundle predicts.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

import pipeline
from pipeline.environment import set_mlflow_defaults
from pipeline.errors import AffectuneError
from pipeline.model.bundle import load_model
from pipeline.model.fused_model import FusedModel

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

EXAMPLE_FRAMES = 30
REQUIREMENTS = (
    "mlflow",
    "numpy",
    "numba",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scipy",
    "torch",
)
"""What `pipeline` needs to predict."""


def package(bundle: Path, example: Mapping[str, ArrayLike], folder: Path) -> None:
    """Write the model folder, load it, and compare its predictions with those of the bundle.

    Args:
        bundle: of the winner.
        example: modality -> shape (frames, columns) of one session.
        folder: is made.

    Raises:
        AffectuneError: the packaged model cannot be loaded, or predicts something else.
    """
    set_mlflow_defaults()
    # MLflow warns about its own parts, from its import on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tuning.mlflow_backend.registry.pyfunc_model import frame_table, predict_table

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        model = load_model(bundle)
        features = {
            modality: np.asarray(values)[:EXAMPLE_FRAMES] for modality, values in example.items()
        }
        table = frame_table(model.columns, features)

        _write_folder(bundle, model, table, folder)
        _raise_if_predictions_differ(folder, table, predict_table(model, table))
        _remove_compiled_files(folder)


def _write_folder(bundle: Path, model: FusedModel, table: pd.DataFrame, folder: Path) -> None:
    import mlflow.pyfunc

    from tuning.mlflow_backend.registry import pyfunc_model

    # MLflow copies files under the names that they have here.
    parts = folder.with_name(f"{folder.name}-parts")
    bundle_copy, code_copy = parts / pyfunc_model.BUNDLE, parts / "pipeline"
    shutil.copytree(bundle, bundle_copy)
    shutil.copytree(
        Path(pipeline.__file__).parent, code_copy, ignore=shutil.ignore_patterns("__pycache__")
    )

    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(Path(pyfunc_model.__file__)),
        artifacts={pyfunc_model.BUNDLE: str(bundle_copy)},
        code_paths=[str(code_copy)],
        signature=_signature(model),
        input_example=table,
        pip_requirements=[_pin(name) for name in REQUIREMENTS],
    )
    shutil.rmtree(parts)


def _raise_if_predictions_differ(folder: Path, table: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Load the folder and predict a table; MLflow itself only warns where an example fails."""
    import mlflow.pyfunc

    try:
        predictions = mlflow.pyfunc.load_model(str(folder)).predict(table)
    except Exception as error:
        raise AffectuneError(
            f"The packaged model cannot predict, and was not registered: {error}"
        ) from error

    is_same = list(predictions) == list(expected) and np.allclose(
        predictions, expected, rtol=0, atol=1e-6, equal_nan=True
    )
    if not is_same:
        raise AffectuneError(
            "The packaged model predicts otherwise than its bundle, and was not registered."
        )


def _remove_compiled_files(folder: Path) -> None:
    """Remove the compiled files that loading a model folder left in it."""
    for compiled in list(folder.rglob("__pycache__")):
        shutil.rmtree(compiled)


def _signature(model: FusedModel) -> ModelSignature:
    """Return the columns of both tables.

    All inputs are optional for MLflow: the model itself checks which may be missing together.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import TensorSpec

    from tuning.mlflow_backend.registry.pyfunc_model import SESSION, TIMESTAMP

    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, SESSION, required=False),
        ColSpec(DataType.long, TIMESTAMP, required=False),
    ]
    for modality, columns in model.columns.items():
        for column in columns:
            inputs.append(ColSpec(DataType.double, f"{modality}.{column}", required=False))

    output_names = [
        *model.targets,
        *(f"difficulty.{modality}.error" for modality in model.modalities),
        *(f"difficulty.{modality}.percentile" for modality in model.modalities),
    ]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.double, name) for name in output_names]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _pin(name: str) -> str:
    """Return the installed version, without a local suffix such as +cpu, which no index has."""
    return f"{name}=={metadata.version(name).partition('+')[0]}"
