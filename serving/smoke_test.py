"""Loads a bundle and predicts once: `python -m serving.smoke_test FOLDER`.

It runs in a process of its own, so a model that crashes takes nothing else with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import AffectuneError, InputError

if TYPE_CHECKING:
    from pipeline.model.fused_model import FusedModel

NUM_FRAMES = 20


def run_smoke_test(folder: Path, timeout_s: float) -> None:
    """Load a bundle in another process, and predict once there.

    Raises:
        InputError: it failed there, or took too long.
    """
    search_path = os.pathsep.join(path for path in sys.path if path)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "serving.smoke_test", str(folder)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=os.environ | {"PYTHONPATH": search_path},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"The model did not predict within the {timeout_s:g} s of its smoke test."
        ) from None

    if process.returncode:
        lines = process.stderr.strip().splitlines()
        cause = lines[-1] if lines else f"it ended with status {process.returncode}"
        raise InputError(f"The model failed its smoke test: {cause}")


def predict_once(model: FusedModel) -> None:
    """Predict an invented session; every prediction must be a number.

    Raises:
        InputError: it predicts something else.
    """
    from serving.example_session import example_features

    features = {
        modality: values[:NUM_FRAMES].astype(np.float32)
        for modality, values in example_features(model).items()
    }
    prediction = model.predict(features)

    for target in model.targets:
        values = prediction.values[target]
        if values.shape != (NUM_FRAMES,) or not np.isfinite(values).all():
            raise InputError(f"It does not predict a number for every frame of {target!r}.")


def main(arguments: list[str]) -> int:
    """Return the exit status: 0 where the bundle in the first argument predicts."""
    import torch

    from pipeline.model.bundle import load_model

    torch.set_num_threads(1)
    try:
        predict_once(load_model(Path(arguments[0])))
    except AffectuneError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
