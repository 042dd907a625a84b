"""One session through four doors: a corpus on disk, Python, JSON and Arrow read it alike."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Session
from pipeline.data.muse import read_corpus
from pipeline.errors import InputError
from pipeline.model.fused_model import FusedModel
from pipeline.model.raw_session import raw_session
from serving.models.model_input import ModelInput, to_model_input
from serving.models.predictor import Predictor
from serving.requests.arrow import read_arrow
from serving.requests.request_error import RequestError
from serving.requests.schema import SessionFeatures, read_json
from serving.settings import Limits
from tests.pipeline_tests.data.muse_files import write_labels, write_text

Tables = Mapping[str, pd.DataFrame]
"""Feature set -> its file, as pandas reads it."""
Change = Callable[[pd.DataFrame], pd.DataFrame]


def tables_of(session: Session, columns: Mapping[str, tuple[str, ...]], change: Change) -> Tables:
    """Return a session as files, of which the voice is changed; two of its rows are missing."""
    tables = {}
    for modality, values in session.features.items():
        table = pd.DataFrame(np.round(values, 4), columns=list(columns[modality]), dtype=float)
        if modality == "voice":
            table.iloc[[4, 11]] = 0
            table.iloc[6, 1] = np.nan
        table.insert(0, "segment_id", 1)
        table.insert(0, "timestamp", session.timestamps_ms)
        tables[modality] = change(table) if modality == "voice" else table
    return tables


def through_files(tables: Tables, model: FusedModel, folder: Path) -> Session:
    """Read the tables as a corpus of one session."""
    write_text(folder / "metadata/partition.csv", "Id,Proposal", "s,test")
    times = tables["face"]["timestamp"]
    write_labels(folder, "arousal", "s", np.full(len(times), np.nan))
    for modality, table in tables.items():
        path = folder / "feature_segments" / modality / "s.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)

    corpus = read_corpus(
        folder,
        modalities=model.modalities,
        mark_stuck_rows=False,
        model_columns=model.columns,
        model_set_aside=model.set_aside,
        cache_folder=folder / "../cache",
    )
    return corpus.session("s")


def through_python(tables: Tables, model: FusedModel) -> Session:
    """Hand the tables to Python as they are, the timestamp and the segment too."""
    times = tables["face"]["timestamp"]
    return raw_session(tables, times, model.columns, model.frame_period_ms, model.set_aside)


def as_json(tables: Tables) -> SessionFeatures:
    """Send the tables as JSON, with null for what is text."""
    features = {}
    for modality, table in tables.items():
        numbers = table.iloc[:, 2:].apply(pd.to_numeric, errors="coerce").astype(float)
        as_objects = numbers.astype(object)
        data = as_objects.where(numbers.notna(), None).to_numpy().tolist()
        features[modality] = {"columns": [str(name) for name in numbers], "data": data}
    times = tables["face"]["timestamp"].tolist()
    body = json.dumps({"timestamps_ms": times, "features": features})
    return read_json(body.encode(), Limits())


def as_arrow(tables: Tables) -> SessionFeatures:
    """Send the tables as Arrow, text as text."""
    sink = io.BytesIO()
    for modality, table in tables.items():
        renamed = table.rename(columns={"timestamp": "timestamp_ms"}).rename(columns=str)
        batch = pa.RecordBatch.from_pandas(renamed.drop(columns="segment_id"), preserve_index=False)
        batch = batch.replace_schema_metadata({"feature_set": modality})
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
    return read_arrow(sink.getvalue(), Limits())


def reverse(table: pd.DataFrame) -> pd.DataFrame:
    """Return the features in reverse order."""
    return table[[*table.columns[:2], *table.columns[:1:-1]]]


def openface(table: pd.DataFrame) -> pd.DataFrame:
    """Add what OpenFace writes: frames 8 and 9 are lost, with numbers in them."""
    table.insert(2, "frame", range(1, len(table) + 1))
    table.insert(3, "confidence", np.where(table.index == 9, 0.2, 0.98))
    table.insert(4, "success", table.index != 8)
    return table


def join(table: pd.DataFrame) -> pd.DataFrame:
    """Add what joins leave over: an index, a person, a file's name and a second clock."""
    table.insert(2, "Unnamed: 0", range(len(table)))
    seconds = table["timestamp"] / 1000
    return reverse(table.assign(Participant=3, filename="x.wav", frameTime=seconds))


CHANGES = {"in order": lambda table: table, "reversed": reverse, "openface": openface, "join": join}


@pytest.mark.parametrize("name", CHANGES)
def test_every_door_reads_the_same_bytes(
    name: str, predictor: Predictor, corpus: Corpus, tmp_path: Path
) -> None:
    model = predictor.model
    tables = tables_of(corpus.partition("devel")[0], model.columns, CHANGES[name])
    expected = through_files(tables, model, tmp_path / "corpus")
    assert (~expected.present["voice"]).sum() == (4 if name == "openface" else 2)

    python = through_python(tables, model)
    for modality, values in expected.features.items():
        assert python.features[modality].tobytes() == values.tobytes()
        assert np.array_equal(python.present[modality], expected.present[modality])

    predicted = model.predict_sessions([expected])[0].values
    for sent in (as_json(tables), as_arrow(tables)):
        model_input = to_model_input(sent, model)
        for modality in model.modalities:
            _assert_same_input(model_input, expected, modality)
        codes = {notice.code for notice in model_input.warnings}
        assert ("columns_set_aside" in codes) == (name in ("openface", "join"))
        for target, series in predictor.predict(sent).predictions.items():
            assert series.tobytes() == predicted[target].tobytes()


def test_words_mark_the_same_rows_through_files_python_and_arrow(
    predictor: Predictor, corpus: Corpus, tmp_path: Path
) -> None:
    def words(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(success=np.where(table.index == 8, "no", "Yes"))

    model = predictor.model
    tables = tables_of(corpus.partition("devel")[0], model.columns, words)
    expected = through_files(tables, model, tmp_path / "corpus")
    assert np.flatnonzero(~expected.present["voice"]).tolist() == [4, 8, 11]
    python = through_python(tables, model)
    assert np.array_equal(python.present["voice"], expected.present["voice"])
    sent = to_model_input(as_arrow(tables), model)
    assert np.isnan(sent.features["voice"][8]).all()


def _assert_same_input(model_input: ModelInput, expected: Session, modality: str) -> None:
    """Compare what a request gives with what files give, where it is not imputed later."""
    values: NDArray[np.float32] = model_input.features[modality]
    is_given = np.isfinite(values) & expected.present[modality][:, None]
    assert np.array_equal(values[is_given], expected.features[modality][is_given])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda table: table.assign(further=1.5), "column 'further' is unknown"),
        (lambda table: table.drop(columns="voice_2"), "column 'voice_2' is missing"),
        (lambda table: table.rename(columns={"voice_1": "Voice_1"}), "(nearest: 'voice_1')"),
        (
            lambda table: table.set_axis(["timestamp", "segment_id", *"0123"], axis=1),
            "columns 'voice_0', 'voice_1', 'voice_2' and 1 more are missing",
        ),
        (
            lambda table: table.rename(columns={"voice_1": "voice_0"}),
            "two columns are named 'voice_0' (pandas would name the second one 'voice_0.1')",
        ),
    ],
    ids=["further", "missing", "case", "numbers", "doubled"],
)
def test_every_door_refuses_other_columns_with_the_same_words(
    change: Change, expected: str, predictor: Predictor, corpus: Corpus, tmp_path: Path
) -> None:
    model = predictor.model
    tables = tables_of(corpus.partition("devel")[0], model.columns, change)
    with pytest.raises(InputError) as from_files:
        through_files(tables, model, tmp_path / "corpus")
    with pytest.raises(InputError) as from_python:
        through_python(tables, model)
    assert expected in str(from_files.value)
    assert "feature_segments/voice/s.csv" in str(from_files.value)
    assert expected in str(from_python.value)

    sent = as_json(tables)
    with pytest.raises(RequestError) as from_request:
        to_model_input(sent, model)
    assert expected[1:] in from_request.value.message
    assert from_request.value.where == "features.voice.columns"


def test_a_number_from_one_door_is_a_number_from_the_other(corpus: Corpus) -> None:
    """Files numbered from 1 and a model numbered from 0, as of the real sets."""
    session = corpus.partition("devel")[0]
    columns = {"voice": ("0", "1", "2", "3"), "face": ("1", "2", "3")}
    voice, face = session.features["voice"], session.features["face"]
    tables = {
        "voice": pd.DataFrame(voice, columns=range(1, 5))[[2, 4, 1, 3]],
        "face": pd.DataFrame(face),
    }
    read = raw_session(tables, session.timestamps_ms, columns, 500.0)
    assert np.array_equal(read.features["voice"], voice)
    assert np.array_equal(read.features["face"], face)


def test_text_in_a_column_that_the_model_reads_is_refused(predictor: Predictor) -> None:
    table = pd.DataFrame({f"voice_{index}": ["a", "b"] for index in range(4)})
    sink = io.BytesIO()
    batch = pa.RecordBatch.from_pandas(table, preserve_index=False)
    batch = batch.replace_schema_metadata({"feature_set": "voice"})
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(RequestError, match="must hold numbers"):
        read_arrow(sink.getvalue(), Limits())
