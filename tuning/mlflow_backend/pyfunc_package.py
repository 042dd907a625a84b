"""A bundle as an MLflow model folder: pyfunc, models from code, no pickle; loaded and asked once before it counts."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

import pipeline
from pipeline.errors import AffectuneError
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
    """Write the model folder, load it, and compare what it says with what the bundle says.

    Args:
        bundle: of the winner.
        example: modality -> shape (frames, columns) of one session.
        folder: is made.

    Raises:
        AffectuneError: it cannot be loaded, or predicts something else.
    """
    os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library, about its own parts, from its import on
        import mlflow.pyfunc

        from tuning.mlflow_backend import pyfunc_model

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        model = FusedModel.load(bundle)
        features = {name: np.asarray(values)[:EXAMPLE_FRAMES] for name, values in example.items()}
        table = pyfunc_model.frame_table(model.columns, features)
        work = folder.with_name(f"{folder.name}-parts")
        # Under the names by which they are found in the model folder, and without compiled files.
        shutil.copytree(bundle, work / pyfunc_model.BUNDLE)
        code = work / "pipeline"
        shutil.copytree(
            Path(pipeline.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__")
        )
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(Path(pyfunc_model.__file__)),
            artifacts={pyfunc_model.BUNDLE: str(work / pyfunc_model.BUNDLE)},
            code_paths=[str(code)],
            signature=_signature(model),
            input_example=table,
            pip_requirements=[_pin(name) for name in REQUIREMENTS],
        )
        shutil.rmtree(work)
        _try(folder, table, pyfunc_model.predict_table(model, table))
        for compiled in list(folder.rglob("__pycache__")):  # loading it left them
            shutil.rmtree(compiled)


def _try(folder: Path, table: pd.DataFrame, expected: pd.DataFrame) -> None:
    """MLflow itself only warns where an example fails."""
    import mlflow.pyfunc

    try:
        found = mlflow.pyfunc.load_model(str(folder)).predict(table)
    except Exception as error:
        raise AffectuneError(
            f"The packaged model cannot predict, and was not registered: {error}"
        ) from error
    if list(found) != list(expected) or not np.allclose(
        found, expected, rtol=0, atol=1e-6, equal_nan=True
    ):
        raise AffectuneError(
            "The packaged model predicts otherwise than its bundle, and was not registered."
        )


def _signature(model: FusedModel) -> ModelSignature:
    """All inputs are optional for MLflow: which may be left out together, the model says better."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import TensorSpec

    from tuning.mlflow_backend.pyfunc_model import SESSION, TIMESTAMP

    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, SESSION, required=False),
        ColSpec(DataType.long, TIMESTAMP, required=False),
    ]
    inputs += [
        ColSpec(DataType.double, f"{modality}.{column}", required=False)
        for modality, columns in model.columns.items()
        for column in columns
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.double, target) for target in model.targets
    ]
    for kind in ("error", "percentile"):
        outputs += [
            ColSpec(DataType.double, f"difficulty.{modality}.{kind}")
            for modality in model.modalities
        ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _pin(name: str) -> str:
    """As installed here, without a local suffix such as torch's +cpu, which no index has."""
    return f"{name}=={metadata.version(name).partition('+')[0]}"
