"""A model with the paper's network for the endpoint's measurements, and a request for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.model_card import model_card
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import save_model
from pipeline.model.fused_model import FusedModel
from pipeline.spec import Spec
from pipeline.storage.stage_store import StageStore
from pipeline.train import train

MODALITIES = ("face", "physio", "voice")


def write_paper_bundle(folder: Path) -> Path:
    """Write a bundle for two targets and three modalities, one model of each, and return its path.

    It is trained for one epoch only: its predictions are bad, and cost as much as good ones.
    """
    one_epoch = {"fit": {"max_epochs": 1}}
    spec = Spec.model_validate(
        {
            "auto_encoder": one_epoch,
            "unimodal": one_epoch,
            "fusion": one_epoch,
            "inference": "refit",
            "folds": 2,
        }
    )
    root = synthesize(folder / "corpus", subjects=9, minutes=0.5)
    corpus = read_corpus(root, modalities=MODALITIES)

    with WorkerPool(corpus, StageStore(folder / "store")) as pool:
        model = train(corpus, spec, pool)

    evaluation = evaluate(model, corpus, "devel")
    card = model_card(model, evaluation, [])
    summary = json.dumps(evaluation.to_json("bench")).encode()
    save_model(model, folder / "model", card=card, extra_files={"summary.json": summary})
    return folder / "model"


def random_features(model: FusedModel, num_frames: int) -> dict[str, np.ndarray]:
    """Return a session of noise: for each modality an array of shape (frames, columns)."""
    random = np.random.default_rng(0)
    return {
        modality: random.normal(size=(num_frames, len(columns))).round(5)
        for modality, columns in model.columns.items()
    }


def request_body(model: FusedModel, num_frames: int) -> bytes:
    """Return the same session as a request in JSON."""
    feature_sets = {
        modality: {"columns": list(model.columns[modality]), "data": values.tolist()}
        for modality, values in random_features(model, num_frames).items()
    }
    return json.dumps({"features": feature_sets}).encode()
