"""Which device "auto" stands for: a GPU, where there is one and a network gains from it."""

from __future__ import annotations

import pytest
import torch

from pipeline.api.device import LARGE, find_device
from pipeline.errors import InputError
from pipeline.spec import Spec

STAGES = ("auto_encoder", "unimodal", "fusion")


def spec(stage: str, hidden_size: int) -> Spec:
    """Return a spec of which one stage has networks of a size."""
    return Spec.model_validate({stage: {"network": {"hidden_size": hidden_size}}})


@pytest.fixture
def has_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch find a CUDA device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.usefixtures("has_gpu")
@pytest.mark.parametrize("stage", STAGES)
def test_auto_is_a_gpu_for_large_networks_only(stage: str) -> None:
    assert find_device("auto", Spec()) == "cpu"
    assert find_device("auto", spec(stage, LARGE - 1)) == "cpu"
    assert find_device("auto", spec(stage, LARGE)) == "cuda"
    assert find_device("auto", Spec(), spec(stage, LARGE)) == "cuda"


@pytest.mark.usefixtures("has_gpu")
def test_a_device_that_is_named_is_taken_for_networks_of_any_size() -> None:
    assert find_device("cuda", Spec()) == "cuda"
    assert find_device("cpu", spec("unimodal", LARGE)) == "cpu"


def test_without_a_gpu_auto_is_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert find_device("auto", spec("unimodal", LARGE)) == "cpu"
    with pytest.raises(InputError, match="finds no CUDA device"):
        find_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "CUDA", "cuda:0"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="auto, cpu or cuda"):
        find_device(name, Spec())
