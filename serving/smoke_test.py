"""Loads a bundle and predicts once: `python -m serving.smoke_test FOLDER`. In a process of its own, it may even crash."""

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

FRAMES_CHECKED = 20


def pass_trial(folder: Path, timeout_s: float) -> None:
    """Have another process load and ask a bundle.

    Raises:
        InputError: it failed there, or took too long.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "serving.smoke_test", str(folder)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"The model did not answer within {timeout_s:g} s of its trial.") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise InputError(f"The model failed its trial: {last}")


def answer_once(model: FusedModel) -> None:
    """Predict; every prediction must be a number.

    Raises:
        InputError: it predicts something else.
    """
    from serving.example_session import example_session

    sent = example_session(model)["features"]
    features = {
        name: np.array(one["data"], dtype=np.float32)[:FRAMES_CHECKED] for name, one in sent.items()
    }
    said = model.predict(features)
    for target in model.targets:
        if (
            said.values[target].shape != (FRAMES_CHECKED,)
            or not np.isfinite(said.values[target]).all()
        ):
            raise InputError(f"It does not predict a number for every frame of {target!r}.")


def main(arguments: list[str]) -> int:
    """The exit status: 0 where it answered."""
    import torch

    from pipeline.model.fused_model import FusedModel

    torch.set_num_threads(1)
    try:
        answer_once(FusedModel.load(Path(arguments[0])))
    except AffectuneError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
