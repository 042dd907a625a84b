"""Requests with timestamps: rows of another rate give what a caller and a file get."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.corpus import Corpus, Resampling, Session
from serving.models.predictor import Predictor
from serving.requests.arrow import read_arrow
from serving.requests.request_error import RequestError
from serving.requests.schema import SessionFeatures, SessionResponse, read_json
from serving.settings import Limits
from tests.serving_tests.sessions import Request, as_json, columns_of

ROWS_PER_FRAME = 5
STEP_MS = 100
PERIOD_MS = 500


def fast_tables(session: Session) -> dict[str, pd.DataFrame]:
    """Return tables of a session whose voice has several noisy rows per frame."""
    random = np.random.default_rng(3)
    columns = columns_of(session)
    tables = {}
    for modality, values in session.features.items():
        step_ms, table = PERIOD_MS, pd.DataFrame(values, columns=columns[modality])
        if modality == "voice":
            step_ms = STEP_MS
            rows = np.repeat(values, ROWS_PER_FRAME, axis=0)
            noise = random.normal(size=rows.shape).astype(np.float32)
            table = pd.DataFrame(rows + noise, columns=columns[modality])
            table.iloc[20:29] = 0
        table.insert(0, "timestamp", step_ms * np.arange(len(table)))
        tables[modality] = table
    return tables


def to_request(tables: dict[str, pd.DataFrame]) -> Request:
    """Return a request of feature sets with timestamps of their own."""
    features = {
        name: {
            "columns": list(table.columns[1:]),
            "data": table.iloc[:, 1:].to_numpy(np.float64).tolist(),
            "timestamps_ms": table["timestamp"].tolist(),
        }
        for name, table in tables.items()
    }
    return {"features": features}


def to_arrow(tables: dict[str, pd.DataFrame]) -> bytes:
    """Return the same as Arrow."""
    sink = io.BytesIO()
    for name, table in tables.items():
        columns = {c: table[c].to_numpy() for c in table.columns}
        columns["timestamp_ms"] = columns.pop("timestamp")
        batch = pa.record_batch(columns).replace_schema_metadata({"feature_set": name})
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
    return sink.getvalue()


def read(request: Request) -> SessionFeatures:
    """Read a request as the endpoint does."""
    return read_json(json.dumps(request).encode(), Limits())


def resampling(predictor: Predictor, kind: Resampling) -> Predictor:
    """Return a predictor whose model puts the voice on frames so."""
    return replace(predictor, model=replace(predictor.model, resampling={"voice": kind}))


@pytest.mark.parametrize("kind", ["nearest", "mean"])
def test_python_json_and_arrow_put_the_same_rows_on_the_same_frames(
    predictor: Predictor, corpus: Corpus, kind: Resampling
) -> None:
    session = corpus.partition("devel")[0]
    tables = fast_tables(session)
    predictor = resampling(predictor, kind)

    offline = predictor.model.predict(tables)
    by_json = predictor.predict(read(to_request(tables)))
    by_arrow = predictor.predict(read_arrow(to_arrow(tables), Limits()))

    assert by_json.timestamps_ms.tolist() == session.timestamps_ms.tolist()
    for response in (by_json, by_arrow):
        np.testing.assert_array_equal(response.timestamps_ms, offline.timestamps_ms)
        for target, values in offline.values.items():
            np.testing.assert_array_equal(response.predictions[target], values)
    assert ("resampled", "features.voice") in {(w.code, w.where) for w in by_json.warnings}


def test_means_are_those_of_the_rows_nearest_to_a_frame(
    predictor: Predictor, corpus: Corpus
) -> None:
    session = corpus.partition("devel")[0]
    tables = fast_tables(session)
    rows = tables["voice"][tables["voice"].iloc[:, 1] != 0]
    frames = np.floor(rows["timestamp"] / PERIOD_MS + 0.5).astype(int)
    means = rows.drop(columns="timestamp").astype(np.float64).groupby(frames).mean()
    means = means.reindex(range(session.num_frames))

    expected = predictor.model.predict({"voice": means, "face": session.features["face"]})
    response = resampling(predictor, "mean").predict(read(to_request(tables)))

    for target, values in expected.values.items():
        np.testing.assert_allclose(response.predictions[target], values, atol=1e-5)


def test_rows_slower_than_frames_are_put_on_them_as_from_files(
    predictor: Predictor, corpus: Corpus
) -> None:
    tables = {
        name: table[table["timestamp"] % (3 * PERIOD_MS) == 0]
        for name, table in fast_tables(corpus.partition("devel")[0]).items()
    }
    offline = predictor.model.predict(tables)
    response = predictor.predict(read(to_request(tables)))
    assert np.median(np.diff(response.timestamps_ms)) == PERIOD_MS
    for target, values in offline.values.items():
        np.testing.assert_array_equal(response.predictions[target], values)


def test_rows_may_come_beside_sets_whose_rows_are_frames(
    predictor: Predictor, corpus: Corpus
) -> None:
    predictor = resampling(predictor, "mean")
    tables = fast_tables(corpus.partition("devel")[0])
    request = to_request(tables)
    expected = predictor.predict(read(request))
    times = request["features"]["face"].pop("timestamps_ms")

    assert_same(predictor.predict(read(request)), expected)
    assert_same(predictor.predict(read({**request, "timestamps_ms": times})), expected)


def assert_same(one: SessionResponse, other: SessionResponse) -> None:
    """Compare predictions."""
    for target, values in one.predictions.items():
        np.testing.assert_array_equal(values, other.predictions[target])


def _scaled(factor: float) -> Callable[[list[float]], list[float]]:
    return lambda times: [time * factor for time in times]


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        (_scaled(0.001), "wrong_unit", "features.voice.timestamps_ms"),
        (_scaled(1000), "wrong_unit", "features.voice.timestamps_ms"),
        (lambda times: times[::-1], "timestamps_descend", "features.voice.timestamps_ms[1]"),
        (lambda times: times[1:], "wrong_timestamps", "features.voice.timestamps_ms"),
        (lambda times: [t + 10**9 for t in times], "wrong_timestamps", "features.voice"),
        (lambda times: [*times[:-1], 1e300], "wrong_timestamps", "features.voice.timestamps_ms"),
    ],
)
def test_own_timestamps_that_do_not_fit_are_named(
    predictor: Predictor, corpus: Corpus, change: Callable[[Any], Any], code: str, where: str
) -> None:
    request = to_request(fast_tables(corpus.partition("devel")[0]))
    request["timestamps_ms"] = request["features"]["face"].pop("timestamps_ms")
    voice = request["features"]["voice"]
    voice["timestamps_ms"] = change(voice["timestamps_ms"])

    with pytest.raises(RequestError) as error:
        predictor.predict(read(request))
    assert (error.value.code, error.value.where) == (code, where)


def test_a_jump_to_another_origin_does_not_fill_the_memory(
    predictor: Predictor, corpus: Corpus
) -> None:
    request = to_request(fast_tables(corpus.partition("devel")[0]))
    request["features"]["face"]["timestamps_ms"][-1] = 2**52

    with pytest.raises(RequestError) as error:
        predictor.predict(read(request))
    assert error.value.code == "too_many_frames"


@pytest.mark.parametrize(
    ("factor", "unit"), [(0.001, "seconds"), (1000, "microseconds"), (10**6, "nanoseconds")]
)
def test_frames_in_another_unit_are_said_to_be_so(
    predictor: Predictor, corpus: Corpus, factor: float, unit: str
) -> None:
    session = corpus.partition("devel")[0]
    request = as_json(session, columns_of(session))
    request["timestamps_ms"] = [time * factor for time in request["timestamps_ms"]]

    with pytest.raises(RequestError, match=unit) as error:
        predictor.predict(read(request))
    assert (error.value.code, error.value.where) == ("wrong_unit", "timestamps_ms")


def test_fractions_of_a_millisecond_come_back_as_they_were_sent(
    predictor: Predictor, corpus: Corpus
) -> None:
    session = corpus.partition("devel")[0]
    request = as_json(session, columns_of(session))
    request["timestamps_ms"] = [time + 0.25 for time in request["timestamps_ms"]]

    response = json.loads(predictor.predict(read(request)).to_json())
    assert response["timestamps_ms"] == request["timestamps_ms"]


def test_a_byte_order_mark_is_read_over(corpus: Corpus) -> None:
    session = corpus.partition("devel")[0]
    body = json.dumps(as_json(session, columns_of(session))).encode()

    marked = read_json(b"\xef\xbb\xbf" + body, Limits())
    assert marked.feature_sets.keys() == read_json(body, Limits()).feature_sets.keys()
    with pytest.raises(RequestError, match="UTF-16"):
        read_json(body.decode().encode("utf-16"), Limits())
