"""A model for `mlflow models serve`: MLflow keeps this file with the model and executes it.

So it imports nothing of the benchmarks. A request is a table of one cell, which holds our JSON.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

import affectune


# The library has no types everywhere.
class JsonModel(PythonModel):  # type: ignore[misc, unused-ignore]
    """A bundle that predicts the session in a request's JSON."""

    def load_context(self, context: Any) -> None:
        """Load the bundle."""
        torch.set_num_threads(1)
        self.model = affectune.load(context.artifacts["bundle"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> dict[str, list[float]]:
        """Predict the session in the first row."""
        sent = json.loads(model_input["session"].iloc[0])["features"]
        features = {name: np.array(feature_set["data"]) for name, feature_set in sent.items()}
        prediction = self.model.predict(features)
        return {target: values.tolist() for target, values in prediction.values.items()}


set_model(JsonModel())
