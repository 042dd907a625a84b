"""On real recordings (CEAP-360VR), served predictions equal offline ones: as JSON and as Arrow."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.muse import read_corpus
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import save_model
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from serving.app import build_app
from serving.models.predictor import Predictor
from serving.requests.arrow import MEDIA_TYPE
from serving.settings import Settings
from tests.pipeline_tests.corpora import tiny_spec
from tests.serving_tests.conftest import Client
from tests.serving_tests.sessions import as_arrow, as_json

pytestmark = pytest.mark.slow


@pytest.fixture
def real_corpus_path() -> Path:
    """Where the corpus is: it is licensed, so never in the repository."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data" / "ceap360vr"
    path = Path(os.environ.get("AFFECTUNE_REAL_CORPUS") or default)
    if not (path / "feature_segments").is_dir():
        pytest.skip(
            f"NOT TESTED on real data: no corpus in {path}; set AFFECTUNE_REAL_CORPUS to its folder"
        )
    return path


def test_every_test_session_is_predicted_as_offline(real_corpus_path: Path, tmp_path: Path) -> None:
    cache = tmp_path.parent / "real-corpus-cache"
    corpus = read_corpus(real_corpus_path, modalities=("pupil", "gaze", "head"), cache_folder=cache)

    few = corpus.select([*corpus.partition("train")[::10], *corpus.partition("devel")[::12]])
    fit = {"fit": {"max_epochs": 1}, "network": {"num_layers": 2, "hidden_size": 16}}
    spec = tiny_spec(auto_encoder=fit, unimodal=fit, fusion=fit, folds=2)
    with WorkerPool(few, StageStore(tmp_path / "store")) as pool:
        save_model(train(few, spec, pool), tmp_path / "model")

    settings = Settings()
    predictor = Predictor.load(tmp_path / "model", "affectune", "1", settings)
    client = Client(build_app(lambda: predictor, settings))

    sessions = corpus.partition("test")
    columns = {modality: list(names) for modality, names in corpus.columns.items()}
    assert len(sessions) == 48
    for session, offline in zip(sessions, predictor.model.predict_sessions(sessions), strict=True):
        request = as_json(session, columns)
        as_text = client.post(request).json()
        as_table = client.post(as_arrow(request), kind=MEDIA_TYPE, accept=MEDIA_TYPE)
        table = pa.ipc.open_stream(as_table.content).read_all()

        for target, expected in offline.values.items():
            np.testing.assert_allclose(as_text["predictions"][target], expected, rtol=0, atol=1e-6)
            np.testing.assert_allclose(table[target].to_numpy(), expected, rtol=0, atol=1e-6)
