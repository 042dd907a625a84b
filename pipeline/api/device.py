"""The device to compute on, by the name that people give it."""

from __future__ import annotations

from pipeline.errors import InputError


def find_device(name: str) -> str:
    """Return the device to compute on.

    Args:
        name: "auto" (CUDA where there is a device), "cpu" or "cuda".

    Raises:
        InputError: an unknown name, or no CUDA device where one was asked for.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise InputError(f"--device is {name!r}; it must be auto, cpu or cuda.")
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device 'cuda': torch finds no CUDA device. Use --device 'cpu'.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"
