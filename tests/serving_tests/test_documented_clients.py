"""The programs in docs/serving.md, run word for word against an endpoint."""

from __future__ import annotations

import io
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.corpus import Corpus
from serving.models.predictor import Predictor
from tests.markdown import Document
from tests.serving_tests.conftest import Client
from tests.serving_tests.sessions import as_json, columns_of

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture
def programs(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Python programs of the page; what they ask is answered by an endpoint in this process."""

    def answer(request: urllib.request.Request) -> io.BytesIO:
        path = request.full_url.removeprefix("http://127.0.0.1:8000")
        headers = {name.lower(): value for name, value in request.header_items()}
        response = client.send(request.get_method(), path, content=request.data, headers=headers)
        assert response.status_code == 200, response.text
        return io.BytesIO(response.content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return [block.text for block in Document.read(PAGE).blocks("python")]


def test_the_program_that_sends_json_prints_a_prediction(
    programs: list[str],
    corpus: Corpus,
    predictor: Predictor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = corpus.partition("devel")[0]
    sent = as_json(session, columns_of(session))["features"]["voice"]
    names: dict[str, Any] = {"names": sent["columns"], "rows": sent["data"]}
    exec(programs[0], names)

    expected = predictor.model.predict({"voice": session.features["voice"]})
    np.testing.assert_allclose(
        names["response"]["predictions"]["arousal"], expected.values["arousal"], atol=1e-5
    )
    assert names["response"]["model"]["version"] in capsys.readouterr().out


def test_the_program_that_sends_arrow_gets_a_table(
    programs: list[str], corpus: Corpus, predictor: Predictor
) -> None:
    session = corpus.partition("devel")[0]
    columns = columns_of(session)
    names: dict[str, Any] = {
        modality: pd.DataFrame(
            np.where(session.present[modality][:, None], values, np.nan), columns=columns[modality]
        )
        for modality, values in session.features.items()
    }
    exec(programs[1], names)

    table = names["table"]
    assert isinstance(table, pa.Table)
    assert {"timestamp_ms", "arousal", "valence", "voice.error"} <= set(table.column_names)
    [expected] = predictor.model.predict_sessions([session])
    np.testing.assert_allclose(table["arousal"].to_numpy(), expected.values["arousal"], atol=1e-5)
