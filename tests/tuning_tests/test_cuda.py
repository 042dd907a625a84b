"""A study whose trials share one GPU: killed, resumed, and its winner used without a GPU."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.model.bundle import load_model
from tests.tuning_tests.command import SELECTION, Command
from tuning.journal.history import read_history

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NOT TESTED on a GPU: torch finds no CUDA device"
)

STAGES = ("auto_encoder", "unimodal", "fusion")
FITS = "network = { num_layers = 1, hidden_size = 4 }\nfit = { max_epochs = 20, patience = 20 }\n"
SEARCH = 'sampler = "random"\ntrials = 3\ngrace_epochs = 5\nfinalists = 1\nseeds = 1\ngpus = 0.5\n'
SPACE = '"fit.learning_rate" = { loguniform = [0.001, 0.1] }\n'
STUDY = 'name = "gpu"\nfolds = 2\n' + "".join(
    f"[{stage}]\n{FITS}[search.{stage}]\n{SEARCH}[search.{stage}.space]\n{SPACE}"
    for stage in STAGES
)
KILLED_AFTER = 3
OUTPUT_ERROR = 5e-3  # cuDNN's recurrent layers may use TF32, which keeps ten bits


@pytest.mark.slow
def test_a_study_on_a_gpu_survives_a_kill_and_its_winner_needs_none(tmp_path: Path) -> None:
    corpus = synthesize(tmp_path / "corpus", subjects=6, minutes=1, seed=0, preset="small")
    study = tmp_path / "study.toml"
    study.write_text(STUDY, encoding="utf-8")
    command = Command(tmp_path, study, corpus, workers=2)

    process = command.start("--device", "cuda")
    while command.num_ended() < KILLED_AFTER and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    # A trial that began on the GPU is not mixed with a processor's: the first line says so.
    status, output = command.run("--resume", "--device", "cpu")
    assert status == 2, output
    assert "--device that it began with" in " ".join(output.split())
    status, output = command.run("--resume", "--device", "cuda")
    assert status == 0, output

    assert read_history(tmp_path / "out").registered is not None
    model = load_model(tmp_path / "out" / "model")
    _, modalities, _, target = SELECTION
    read = read_corpus(corpus, modalities=modalities.split(","), targets=[target])
    on_gpu, on_cpu = (
        model.predict_sessions(read.partition("test"), device=device) for device in ("cuda", "cpu")
    )
    for gpu, cpu in zip(on_gpu, on_cpu, strict=True):
        assert np.isfinite(cpu.values[target]).all()
        assert np.allclose(gpu.values[target], cpu.values[target], atol=OUTPUT_ERROR)
