"""The model as MLflow loads it for batch use: a table of frames in, a table of predictions out.

MLflow keeps this file with every registered version and executes it when a version is loaded.
Beside it lies a copy of `pipeline`, so that is all it may import of Affectune.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import InputError
from pipeline.model.bundle import load_model
from pipeline.model.fused_model import FusedModel

SESSION, TIMESTAMP = "session_id", "timestamp_ms"
"""Columns of a table that are no features."""
BUNDLE = "bundle"
"""Name of the bundle among the artefacts of a version."""


# Not every version of MLflow has types.
class PyfuncModel(PythonModel):  # type: ignore[misc, unused-ignore]
    """A FusedModel behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load the bundle; every file's hash is checked."""
        self.model = load_model(context.artifacts[BUNDLE])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Predict a table; see `predict_table`."""
        return predict_table(self.model, model_input)


def predict_table(model: FusedModel, table: pd.DataFrame) -> pd.DataFrame:
    """Predict a table with one row per frame.

    Args:
        model: what predicts.
        table: columns "<modality>.<column>", NaN where missing; a modality without columns is
            missing in all frames. "session_id" keeps sessions apart; without it, all rows are one
            session. "timestamp_ms" ascends within a session; without it, frames are a frame period
            apart.

    Returns:
        The same rows: a column per target, and "difficulty.<modality>.error" and ".percentile" for
        every modality.

    Raises:
        InputError: a modality lacks some of its columns, or there is no feature column, or no row.
    """
    if table.empty:
        raise InputError("The table has no rows: give one row per frame.")

    if SESSION in table:
        session_ids = table[SESSION].astype(str).to_numpy()
    else:
        session_ids = np.full(len(table), "")
    rows_by_session = [
        np.flatnonzero(session_ids == session_id) for session_id in dict.fromkeys(session_ids)
    ]

    predictions = pd.concat([_predict_session(model, table.iloc[rows]) for rows in rows_by_session])
    predictions.index = np.concatenate(rows_by_session)
    return predictions.sort_index().set_axis(table.index)


def frame_table(
    columns: Mapping[str, tuple[str, ...]], features: Mapping[str, ArrayLike]
) -> pd.DataFrame:
    """Return one session as the table that `predict_table` reads.

    Args:
        columns: of the model.
        features: modality -> shape (frames, columns).
    """
    tables = []
    for modality, column_names in columns.items():
        if modality in features:
            values = np.asarray(features[modality], np.float64)
            names = [f"{modality}.{column}" for column in column_names]
            tables.append(pd.DataFrame(values, columns=names))
    return pd.concat(tables, axis=1)


def _predict_session(model: FusedModel, table: pd.DataFrame) -> pd.DataFrame:
    features = _features(model, table)
    timestamps_ms = table[TIMESTAMP].to_numpy(np.int64) if TIMESTAMP in table else None
    prediction = model.predict(features, timestamps_ms=timestamps_ms)

    columns = dict(prediction.values)
    for modality, difficulty in prediction.difficulty.items():
        columns[f"difficulty.{modality}.error"] = difficulty.error
    for modality, difficulty in prediction.difficulty.items():
        columns[f"difficulty.{modality}.percentile"] = difficulty.percentile
    return pd.DataFrame(columns)


def _features(model: FusedModel, table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return the features of the modalities that a table has, by modality."""
    features = {}
    for modality, columns in model.columns.items():
        names = [f"{modality}.{column}" for column in columns]
        missing_names = [name for name in names if name not in table]
        if len(missing_names) == len(names):
            continue
        if missing_names:
            raise InputError(
                f"The table lacks the column {missing_names[0]!r}: give all {len(names)} of "
                f"{modality!r}, or none."
            )
        features[modality] = table[names].to_numpy(np.float64)

    if not features:
        modality, columns = next(iter(model.columns.items()))
        raise InputError(
            "The table has no feature columns. They are named <modality>.<column>, such as "
            f"'{modality}.{columns[0]}'."
        )
    return features


set_model(PyfuncModel())
