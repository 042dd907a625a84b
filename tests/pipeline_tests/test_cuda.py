"""On a GPU networks give what they give on a CPU, and fits, models and studies go through.

Without a CUDA device all of this is skipped. cuDNN's dropout keeps random numbers of its own, and
its sums have no fixed order: so what is learned is close to a CPU's, and not the same bytes.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.corpus import Corpus
from pipeline.fitting.resumable_fit import ResumableFit
from pipeline.fitting.trainer import Trainer, fit
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import load_model, save_model
from pipeline.model.fused_model import FusedModel
from pipeline.networks.modality_gate import ModalityGate
from pipeline.networks.recurrent import recurrent_layers
from pipeline.spec import Cell, FusionNetworkSpec
from pipeline.stages.unimodal import UnimodalTask
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_fusion, tiny_spec
from tests.pipeline_tests.problems import pose

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NOT TESTED on a GPU: torch finds no CUDA device"
)

# Matrix products of a GPU may use TF32, which keeps ten bits; torch's default for them is float32,
# for cuDNN's recurrent layers TF32.
OUTPUT_ERROR = 5e-3
GRADIENT_ERROR = 2e-2  # relative to the largest entry
SCORE_ERROR = 0.05


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Return a small corpus."""
    return tiny_corpus()


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", ["gru", "lstm", "tcn"])
def test_recurrent_layers_give_the_states_and_gradients_of_a_cpu(
    cell: Cell, bidirectional: bool
) -> None:
    torch.manual_seed(0)
    layers = recurrent_layers(cell, 5, 16, 2, bidirectional, 0.0)
    x_BTF, lengths_B = torch.randn(3, 40, 5), torch.tensor([40, 7, 23])
    weight_BTS = torch.randn(3, 40, 32 if bidirectional else 16)

    results = []
    for device in ("cpu", DEVICE):
        copied = copy.deepcopy(layers).to(device)
        states = copied(x_BTF.to(device), lengths_B)
        (states * weight_BTS.to(device)).sum().backward()
        gradients = [parameter.grad for parameter in copied.parameters()]
        results.append((states.detach().cpu(), gradients))

    (expected, expected_gradients), (states, gradients) = results
    assert torch.allclose(states, expected, atol=OUTPUT_ERROR)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert gradient is not None
        assert expected_gradient is not None
        error = (gradient.cpu() - expected_gradient).abs().max()
        assert error <= GRADIENT_ERROR * expected_gradient.abs().max()


@pytest.mark.parametrize("kind", ["gate", "gated_recurrent"])
def test_a_gate_gives_the_outputs_and_weights_of_a_cpu(kind: str) -> None:
    torch.manual_seed(0)
    spec = FusionNetworkSpec.model_validate(tiny_fusion(kind=kind)["network"])
    gate = ModalityGate(spec, 9, 3, 3).eval()
    x_BTF, lengths_B = torch.randn(2, 30, 9), torch.tensor([30, 11])

    expected = gate(x_BTF, lengths_B)
    outputs = copy.deepcopy(gate).to(DEVICE)(x_BTF.to(DEVICE), lengths_B).cpu()

    assert torch.allclose(outputs[0], expected[0], atol=OUTPUT_ERROR)
    assert torch.allclose(outputs[1, :11], expected[1, :11], atol=OUTPUT_ERROR)


def test_a_fit_learns_what_a_cpu_learns(corpus: Corpus) -> None:
    problem = pose(UnimodalTask("voice", "arousal"), corpus, tiny_spec())

    on_gpu, on_cpu = fit(problem, corpus, device=DEVICE), fit(problem, corpus)

    assert len(on_gpu.history) == len(on_cpu.history)
    assert on_gpu.score == pytest.approx(on_cpu.score, abs=SCORE_ERROR)


def test_a_fit_leaves_the_random_numbers_of_its_caller_alone(corpus: Corpus) -> None:
    problem = pose(UnimodalTask("voice", "arousal"), corpus, tiny_spec())
    before = torch.get_rng_state(), torch.cuda.get_rng_state()

    Trainer(problem, corpus, device=DEVICE).train_epoch()

    after = torch.get_rng_state(), torch.cuda.get_rng_state()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_an_interrupted_fit_goes_on(corpus: Corpus, tmp_path: Path) -> None:
    settings = {"network": {"num_layers": 2, "hidden_size": 8, "dropout": 0.2}}
    settings["fit"] = {"max_epochs": 6, "patience": 6, "batch_size": 4}
    problem = pose(UnimodalTask("voice", "arousal"), corpus, tiny_spec(unimodal=settings))
    store = StageStore(tmp_path)

    first = ResumableFit(problem, corpus, store, device=DEVICE)
    first.advance(rungs=(3,))
    stage = ResumableFit(problem, corpus, store, device=DEVICE).run()

    assert [epoch.epoch for epoch in stage.history] == list(range(1, 7))
    assert stage.history[:3] == tuple(first.trainer.history)


@pytest.fixture(scope="module")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    """Return a distilled model that two processes trained on the GPU."""
    store = StageStore(tmp_path_factory.mktemp("store"))
    spec = tiny_spec(
        fusion=tiny_fusion(kind="gated_recurrent"),
        unimodal={
            "network": {"num_layers": 1, "hidden_size": 8, "dropout": 0.0, "cell": "tcn"},
            "fit": {"max_epochs": 3, "batch_size": 4},
        },
        inference="distilled",
    )
    with WorkerPool(corpus, store, workers=2, device=DEVICE) as pool:
        return train(corpus, spec, pool)


@pytest.mark.slow
def test_a_model_of_a_gpu_predicts_alike_on_a_cpu(
    model: FusedModel, corpus: Corpus, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "bundle")
    loaded = load_model(tmp_path / "bundle")
    sessions = corpus.partition("test")

    on_gpu = model.predict_sessions(sessions, device=DEVICE)
    on_cpu = loaded.predict_sessions(sessions)

    for gpu, cpu in zip(on_gpu, on_cpu, strict=True):
        for target in corpus.targets:
            assert np.isfinite(gpu.values[target]).all()
            assert np.allclose(gpu.values[target], cpu.values[target], atol=OUTPUT_ERROR)
