"""A registered version predicts tables, also where Affectune is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import InputError
from pipeline.model.fused_model import FusedModel
from tests.pipeline_tests.corpora import tiny_session
from tests.tuning_tests.mlflow_backend.registry.winners import example_features, register_winner
from tuning.mlflow_backend.registry.pyfunc_model import BUNDLE, frame_table, predict_table
from tuning.mlflow_backend.registry.versions import registry_names

PREDICT_WITHOUT_AFFECTUNE = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
try:
    import pipeline
    sys.exit("pipeline is installed: this proves nothing")
except ImportError:
    pass
import mlflow.pyfunc, pandas
mlflow.set_tracking_uri(sys.argv[1])
table = pandas.read_parquet(sys.argv[2])
mlflow.pyfunc.load_model("models:/affectune@challenger").predict(table).to_parquet(sys.argv[3])
"""


@pytest.mark.slow
def test_a_version_predicts_the_same_where_affectune_is_not_installed(
    model: FusedModel, bundle: Path, uri: str, tmp_path: Path
) -> None:
    register_winner(bundle, uri)
    table_path, predictions_path = tmp_path / "table.parquet", tmp_path / "predictions.parquet"
    frame_table(model.columns, example_features()).to_parquet(table_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    python = [sys.executable, "-I", "-W", "ignore", "-c", PREDICT_WITHOUT_AFFECTUNE]
    subprocess.run(
        [*python, uri, str(table_path), str(predictions_path)], cwd=elsewhere, check=True
    )

    predictions = pd.read_parquet(predictions_path)
    expected = model.predict(example_features())
    np.testing.assert_allclose(predictions["arousal"], expected.values["arousal"], atol=1e-6)
    np.testing.assert_allclose(
        predictions["difficulty.face.percentile"],
        expected.difficulty["face"].percentile,
        atol=1e-6,
    )
    assert list(elsewhere.iterdir()) == []


def test_no_file_of_a_version_is_a_pickle(bundle: Path, uri: str, tmp_path: Path) -> None:
    register_winner(bundle, uri)
    paths = [path for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in paths if path.name != "MLmodel"}
    assert suffixes == {".py", ".json", ".safetensors", ".md", ".yaml", ".txt", ".toml", ".typed"}

    assert registry_names().bundle == BUNDLE
    assert {path.parent.name for path in paths if path.name == "manifest.json"} == {BUNDLE}


def test_sessions_in_one_table_are_predicted_as_if_each_were_alone(model: FusedModel) -> None:
    sessions = {
        "a": tiny_session("a", "a", "devel", frames=20, seed=0),
        "b": tiny_session("b", "b", "devel", frames=25, seed=1),
    }
    tables = [
        frame_table(model.columns, session.features).assign(session_id=session_id)
        for session_id, session in sessions.items()
    ]
    mixed = pd.concat(tables).sample(frac=1, random_state=0).sort_index(kind="stable")

    together = predict_table(model, mixed)["valence"].to_numpy()
    for session_id, session in sessions.items():
        rows = (mixed["session_id"] == session_id).to_numpy()
        alone = model.predict(session.features).values["valence"]
        np.testing.assert_allclose(together[rows], alone, atol=1e-6)


def test_a_table_that_does_not_fit_is_an_error_that_names_the_column(model: FusedModel) -> None:
    table = frame_table(model.columns, example_features())
    with pytest.raises(InputError, match=r"lacks the column 'voice\.voice_1'"):
        predict_table(model, table.drop(columns="voice.voice_1"))
    with pytest.raises(InputError, match=r"no feature columns.*voice\.voice_0"):
        predict_table(model, pd.DataFrame({"other": [1.0]}))
    with pytest.raises(InputError, match="no rows"):
        predict_table(model, table.iloc[:0])


def test_a_table_with_one_modality_is_predicted(model: FusedModel) -> None:
    table = frame_table(model.columns, example_features())
    voice_columns = [column for column in table.columns if str(column).startswith("voice")]
    assert predict_table(model, table[voice_columns])["arousal"].notna().all()
