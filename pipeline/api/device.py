"""The device to compute on, by the name that people give it."""

from __future__ import annotations

from pipeline.errors import InputError
from pipeline.spec import Spec

LARGE = 256
"""From so many hidden units on, "auto" takes a GPU. Measured on an H100 with 16 cores: 2 layers of
32 units trained 5 times as fast on one core, of 128 units alike, of 256 units 5 times as fast on
the GPU (`make bench BENCH=gpu`)."""


def find_device(name: str, *specs: Spec) -> str:
    """Return the device to compute on.

    Args:
        name: "auto" (CUDA where there is a device and a network that is large enough to gain from
            it), "cpu" or "cuda".
        specs: of the networks.

    Raises:
        InputError: an unknown name, or no CUDA device where one was asked for.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise InputError(f"--device is {name!r}; it must be auto, cpu or cuda.")
    if name == "cpu" or (name == "auto" and not any(map(_is_large, specs))):
        return "cpu"

    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise InputError("--device 'cuda': torch finds no CUDA device. Use --device 'cpu'.")
    return "cpu"


def _is_large(spec: Spec) -> bool:
    stages = (spec.auto_encoder, spec.unimodal, spec.fusion)
    return max(stage.network.hidden_size for stage in stages) >= LARGE
