"""The model as MLflow loads it for batch use: a table of frames in, a table of predictions out.

MLflow keeps this file with every registered version and executes it when one is loaded; `pipeline` is kept beside it.
So it knows nothing else of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from numpy.typing import ArrayLike

from pipeline.errors import InputError
from pipeline.model.fused_model import FusedModel

SESSION, TIMESTAMP = "session_id", "timestamp_ms"
BUNDLE = "bundle"


class PyfuncModel(PythonModel):  # type: ignore[misc, unused-ignore] # the library has no types everywhere
    """A FusedModel behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Read the bundle; every file's hash is checked."""
        self.model = FusedModel.load(context.artifacts[BUNDLE])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """See `predict_table`."""
        return predict_table(self.model, model_input)


def predict_table(model: FusedModel, table: pd.DataFrame) -> pd.DataFrame:
    """Predict a table with one row per frame.

    Args:
        model: what predicts.
        table: columns "<modality>.<column>", NaN where missing; a modality without columns is missing throughout.
            "session_id" keeps sessions apart (without it, all rows are one), "timestamp_ms" ascends within a session
            (without it, frames are a frame period apart).

    Returns:
        The same rows: a column per target, and "difficulty.<modality>.error" and ".percentile" for every modality.

    Raises:
        InputError: a modality lacks some of its columns, there is none at all, or no row.
    """
    if table.empty:
        raise InputError("The table has no rows: give one row per frame.")
    names = table[SESSION].astype(str).to_numpy() if SESSION in table else np.full(len(table), "")
    places = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
    found = pd.concat([_predict_session(model, table.iloc[place]) for place in places])
    found.index = np.concatenate(places)
    return found.sort_index().set_axis(table.index)


def frame_table(
    columns: Mapping[str, tuple[str, ...]], features: Mapping[str, ArrayLike]
) -> pd.DataFrame:
    """One session as the table that `predict_table` reads.

    Args:
        columns: of the model.
        features: modality -> shape (frames, columns).
    """
    parts = [
        pd.DataFrame(
            np.asarray(features[name], np.float64), columns=[f"{name}.{column}" for column in own]
        )
        for name, own in columns.items()
        if name in features
    ]
    return pd.concat(parts, axis=1)


def _predict_session(model: FusedModel, table: pd.DataFrame) -> pd.DataFrame:
    features = {}
    for modality, columns in model.columns.items():
        names = [f"{modality}.{column}" for column in columns]
        missing = [name for name in names if name not in table]
        if len(missing) == len(names):
            continue
        if missing:
            raise InputError(
                f"The table lacks the column {missing[0]!r}: give all {len(names)} of {modality!r}, or none."
            )
        features[modality] = table[names].to_numpy(np.float64)
    if not features:
        raise InputError(
            f"The table has no feature columns. They are named <modality>.<column>, such as {_first(model)!r}."
        )
    timestamps_ms = table[TIMESTAMP].to_numpy(np.int64) if TIMESTAMP in table else None
    said = model.predict(features, timestamps_ms=timestamps_ms)
    return pd.DataFrame(
        {
            **said.values,
            **{f"difficulty.{name}.error": hard.error for name, hard in said.difficulty.items()},
            **{
                f"difficulty.{name}.percentile": hard.percentile
                for name, hard in said.difficulty.items()
            },
        }
    )


def _first(model: FusedModel) -> str:
    modality, columns = next(iter(model.columns.items()))
    return f"{modality}.{columns[0]}"


set_model(PyfuncModel())
