"""The gate of a fusion: what it begins as, and what its weights always are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.networks.modality_gate import NO_PREDICTION, ModalityGate
from pipeline.spec import FusionKind, FusionNetworkSpec

GATES: tuple[FusionKind, ...] = ("gate", "gated_recurrent")
NUM_MODALITIES = 3
INPUT_SIZE = 3 * NUM_MODALITIES
MISSING: list[tuple[int, ...]] = [(), (0,), (1, 2)]


def _gate(kind: FusionKind, *, seed: int = 0) -> ModalityGate:
    torch.manual_seed(seed)
    spec = FusionNetworkSpec(kind=kind, num_layers=2, hidden_size=5)
    return ModalityGate(spec, INPUT_SIZE, NUM_MODALITIES, NUM_MODALITIES).eval()


def _inputs(frames: int, *, missing: tuple[int, ...] = (), seed: int = 0) -> torch.Tensor:
    """Return one sequence: predictions, presence, difficulties."""
    torch.manual_seed(seed)
    x_BTF = torch.randn(1, frames, INPUT_SIZE)
    x_BTF[..., NUM_MODALITIES : 2 * NUM_MODALITIES] = 1.0
    for modality in missing:
        x_BTF[..., modality] = 0.0
        x_BTF[..., NUM_MODALITIES + modality] = NO_PREDICTION
    return x_BTF


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("missing", [(), (1,), (0, 2)])
def test_it_begins_as_the_mean_of_the_modalities_that_have_a_prediction(
    kind: FusionKind, missing: tuple[int, ...]
) -> None:
    gate = _gate(kind)
    std_M, mean_M = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.1, -0.2, 0.3])
    gate.start_from_mean(std_M, mean_M)

    x_BTF = _inputs(7, missing=missing)
    output = gate(x_BTF, torch.tensor([7]))
    present = [modality for modality in range(NUM_MODALITIES) if modality not in missing]
    expected = (x_BTF[0, :, present] * std_M[present] + mean_M[present]).mean(dim=1)
    torch.testing.assert_close(output[0, :, 0], expected)


@pytest.mark.parametrize("kind", GATES)
@given(
    frames=st.integers(1, 9), seed=st.integers(0, 99), missing=st.sampled_from([(), (0,), (1, 2)])
)
def test_weights_are_shares_of_the_modalities_that_have_a_prediction(
    kind: FusionKind, frames: int, seed: int, missing: tuple[int, ...]
) -> None:
    weights = _gate(kind, seed=seed)(_inputs(frames, missing=missing), torch.tensor([frames]))
    weights_TM = weights[0, :, 1:]
    assert weights_TM.min() >= 0
    torch.testing.assert_close(weights_TM.sum(dim=1), torch.ones(frames))
    assert weights_TM[:, list(missing)].sum() == 0


@pytest.mark.parametrize("kind", GATES)
def test_without_any_prediction_it_says_the_mean_of_the_label(kind: FusionKind) -> None:
    gate = _gate(kind)
    with torch.no_grad():
        gate.bias.fill_(3.0)
    output = gate(_inputs(5, missing=(0, 1, 2)), torch.tensor([5]))
    assert not output.any()


@pytest.mark.parametrize("kind", GATES)
def test_padding_changes_nothing(kind: FusionKind) -> None:
    gate, short = _gate(kind), _inputs(4)
    alone = gate(short, torch.tensor([4]))

    batch_BTF = torch.full((2, 9, INPUT_SIZE), 7.0)
    batch_BTF[0, :4], batch_BTF[1] = short[0], _inputs(9, seed=1)[0]
    padded = gate(batch_BTF, torch.tensor([4, 9]))
    torch.testing.assert_close(padded[0, :4], alone[0])


def test_only_the_recurrent_gate_remembers() -> None:
    x_BTF = _inputs(6)
    other_BTF = x_BTF.clone()
    other_BTF[0, 0, -1] += 5  # the difficulty of the first frame

    def last_weights(kind: FusionKind, x_BTF: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = _gate(kind)(x_BTF, torch.tensor([6]))
        return output[0, 5, 1:]

    torch.testing.assert_close(last_weights("gate", x_BTF), last_weights("gate", other_BTF))
    changed = last_weights("gated_recurrent", other_BTF)
    assert not torch.allclose(last_weights("gated_recurrent", x_BTF), changed)
