"""A distilled model against one model per task, and against its ensemble: time, and CCC on devel.

One synthetic corpus of three modalities and two targets, small networks, five folds; one thread.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.distillation.distil import distil
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.benchmarks.paper_model import MODALITIES, random_features
from tests.benchmarks.rows import Row, compare_times, more_is_better

NUM_FRAMES = 600
NUM_PAIRS = 40
NETWORK = {"num_layers": 1, "hidden_size": 32}
FIT = {"max_epochs": 40, "patience": 10}
STAGE = {"network": NETWORK, "fit": FIT}


def distillation_rows() -> list[Row]:
    """Train an ensemble, distil it, and compare both with one model per task."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            return _rows(Path(temporary))
    finally:
        torch.set_num_threads(num_threads)


def latency_rows(distilled: FusedModel, ensemble: FusedModel) -> list[Row]:
    """Time the prediction of one session by each, as the endpoint predicts it.

    The bar for the distilled model is 1.3 times the time of one model per task: those of one fold,
    whose shapes are those of a refit.
    """
    models = (distilled, one_per_task(ensemble), ensemble)
    served = [replace(model, fusions_without_difficulty={}) for model in models]
    features = random_features(distilled, NUM_FRAMES)
    ours, one, many = (lambda m=model: m.predict(features) for model in served)

    return [
        compare_times("distilled_vs_one_per_task", ours, one, NUM_PAIRS),
        compare_times("distilled_vs_ensemble", ours, many, NUM_PAIRS),
    ]


def one_per_task(ensemble: FusedModel) -> FusedModel:
    """Return the model of an ensemble's first fold."""
    return replace(
        ensemble,
        auto_encoders={name: models[:1] for name, models in ensemble.auto_encoders.items()},
        regressors={path: models[:1] for path, models in ensemble.regressors.items()},
        fusions={target: models[:1] for target, models in ensemble.fusions.items()},
    )


def _rows(folder: Path) -> list[Row]:
    root = synthesize(folder / "corpus", subjects=20, minutes=1.0)
    corpus = read_corpus(root, modalities=MODALITIES)
    spec = Spec.model_validate({"auto_encoder": STAGE, "unimodal": STAGE, "fusion": STAGE})

    with WorkerPool(corpus, StageStore(folder / "store")) as pool:
        ensemble = train(corpus, spec, pool)
        # Whether it would be kept or not, its time is that of one network per task.
        distilled = distil(ensemble, corpus, pool, tolerance=2)

    scores = distilled.distillation["targets"].values()
    ccc = {name: np.mean([each[name]["ccc"] for each in scores]) for name in ("student", "teacher")}
    return [
        *latency_rows(distilled, ensemble),
        more_is_better(
            "distilled_ccc_vs_ensemble", float(ccc["student"]), float(ccc["teacher"]), "CCC"
        ),
    ]
