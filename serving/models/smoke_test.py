"""Loads a bundle and predicts once: `python -m serving.models.smoke_test FOLDER`.

It runs in a process of its own, with bounded memory and time, so a model that crashes takes nothing
else with it. What it finds out about the bundle is a verdict; that it was cut off is none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import AffectuneError, InputError

if TYPE_CHECKING:
    from pipeline.model.fused_model import FusedModel, Prediction

REFUSED, CUT_OFF = 3, 4
"""Exit statuses: the bundle is broken; the surroundings were. Any other one is of Python itself."""
MEMORY_BYTES = 4 * 2**30
"""What a smoke test may take beside the weights: Python and torch need 0.5 GB, and the example
session of the largest model 1 GB."""
COPIES_OF_WEIGHTS = 5
"""The file, its tensors, the networks, and what computing with them takes."""
MAX_CAUSE = 500
"""Characters of a cause."""


class SmokeTestCutOff(AffectuneError):
    """The smoke test did not come to an end: nothing is known of the bundle."""


def run_smoke_test(folder: Path, timeout_s: float) -> None:
    """Load a bundle in another process, and predict once there.

    Raises:
        InputError: the bundle is broken.
        SmokeTestCutOff: the process could not start, was killed, ran out of memory or time.
    """
    search_path = os.pathsep.join(path for path in sys.path if path)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "serving.models.smoke_test", str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=os.environ | {"PYTHONPATH": search_path},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SmokeTestCutOff(
            f"The model did not predict within the {timeout_s:g} s of its smoke test."
        ) from None
    except OSError as error:
        raise SmokeTestCutOff(
            f"The smoke test of the model did not start: {error.strerror}."
        ) from error

    lines = process.stderr.strip().splitlines()
    cause = lines[-1][:MAX_CAUSE] if lines else f"status {process.returncode}"
    if process.returncode == REFUSED:
        raise InputError(f"The model failed its smoke test: {cause}")
    if process.returncode < 0:
        cause = f"it was killed by {_signal_name(-process.returncode)}"
    if process.returncode:
        raise SmokeTestCutOff(f"The smoke test of the model was cut off: {cause}.")


def predict_once(model: FusedModel) -> None:
    """Predict an invented session; everything that is predicted must be a number.

    Raises:
        InputError: it predicts something else.
    """
    from pipeline.model.raw_session import raw_session
    from pipeline.preprocessing.stuck import mark_stuck
    from serving.models.example_session import example_features

    features = {m: values.astype(np.float32) for m, values in example_features(model).items()}
    raw = raw_session(features, None, model.columns, model.frame_period_ms)
    session = mark_stuck(raw, model.max_held_frames)

    with np.errstate(all="ignore"):  # what overflows is no number, and told of below
        [prediction] = model.predict_sessions([session])
    for what, series in _series(prediction, session.present):
        if not np.isfinite(series).all():
            raise InputError(f"It does not predict a number for every frame of {what}.")


def _series(
    prediction: Prediction, present: Mapping[str, NDArray[np.bool_]]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield everything that must be a number, and what it is."""
    for target, values in prediction.values.items():
        yield repr(target), values
    for modality, difficulty in prediction.difficulty.items():
        is_present = present[modality]
        yield f"the difficulty of {modality!r}", difficulty.error[is_present]
        yield f"the percentile of {modality!r}", difficulty.percentile[is_present]
    for target, by_modality in prediction.unimodal.items():
        for modality, values in by_modality.items():
            if present[modality].any():
                yield f"{target!r} from {modality!r} alone", values
    for target, band in prediction.bands.items():
        yield f"the band of {target!r}", np.concatenate([band.low, band.high])
    for target, weights in prediction.weights.items():
        yield f"the weights for {target!r}", np.concatenate(list(weights.values()))
    for target, values in prediction.without_difficulty.items():
        yield f"{target!r} without difficulty", values


def main(arguments: list[str]) -> int:
    """Return the exit status: 0 where the bundle in the first argument predicts."""
    folder = Path(arguments[0])
    try:
        _bound_memory(folder)
        import torch

        from pipeline.model.bundle import load_model

        torch.set_num_threads(1)
        predict_once(load_model(folder))
    except InputError as error:
        return _end(str(error), REFUSED)
    except (AffectuneError, MemoryError, OSError) as error:
        return _end(f"{type(error).__name__}: {error}", CUT_OFF)
    except Exception as error:
        # torch has no error of its own for this.
        is_memory = "memory" in str(error)
        return _end(f"{type(error).__name__}: {error}", CUT_OFF if is_memory else REFUSED)
    return 0


def _bound_memory(folder: Path) -> None:
    """Let this process ask for so much memory and no more, where the system knows such a limit."""
    import resource

    from pipeline.model.bundle import WEIGHTS
    from pipeline.model.bundle_limits import MAX_WEIGHTS_BYTES

    num_bytes = 0
    with contextlib.suppress(OSError):  # loading says what is wrong
        num_bytes = min(os.lstat(folder / WEIGHTS).st_size, MAX_WEIGHTS_BYTES)
    limit = MEMORY_BYTES + COPIES_OF_WEIGHTS * num_bytes
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with contextlib.suppress(OSError, ValueError):  # not every system lets it be set
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _end(cause: str, status: int) -> int:
    print(" ".join(cause.split()), file=sys.stderr)
    return status


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
