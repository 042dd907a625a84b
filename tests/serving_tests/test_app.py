"""The HTTP interface without a server: responses, and errors with status, code and place."""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus
from serving.app import OPEN_PATHS, build_app
from serving.models.predictor import Predictor
from serving.monitoring.access_log import ROUTES
from serving.requests.arrow import MEDIA_TYPE, write_arrow
from serving.requests.request_error import RequestError
from serving.requests.schema import PredictionResponse, SessionResponse, read_json
from serving.settings import Limits, Settings
from tests.serving_tests.conftest import Client
from tests.serving_tests.sessions import Request, as_arrow, as_json, columns_of


@pytest.fixture
def request_(corpus: Corpus) -> Request:
    """A request that fits, of a devel session."""
    session = corpus.partition("devel")[0]
    return as_json(session, columns_of(session))


def _error(response: httpx.Response) -> tuple[int, str, str]:
    """Return the status, the code and the place of an error."""
    error = response.json()["error"]
    assert set(error) == {"code", "message", "where"}
    assert error["message"]
    return response.status_code, error["code"], error["where"]


def _warning_codes(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [warning["code"] for warning in response.json()["warnings"]]


def test_served_predictions_are_those_of_the_model(
    client: Client, corpus: Corpus, predictor: Predictor
) -> None:
    for session in corpus.sessions:
        request = as_json(session, columns_of(session))
        as_text = client.post(request).json()
        as_table = client.post(as_arrow(request), kind=MEDIA_TYPE, accept=MEDIA_TYPE)
        table = pa.ipc.open_stream(as_table.content).read_all()

        times = session.timestamps_ms.tolist()
        assert as_text["timestamps_ms"] == times == table["timestamp_ms"].to_pylist()

        offline = predictor.model.predict_sessions([session])[0]
        for target, expected in offline.values.items():
            _assert_close(as_text["predictions"][target], expected)
            _assert_close(table[target].to_numpy(), expected)
        for modality, difficulty in offline.difficulty.items():
            for name in ("error", "percentile"):
                expected = getattr(difficulty, name)
                _assert_close(as_text["difficulty"][modality][name], expected)
                _assert_close(table[f"{modality}.{name}"].to_numpy(), expected)
        for target, weights in offline.weights.items():
            assert set(as_text["weights"][target]) == set(weights) == {"voice", "face"}
            for modality, expected in weights.items():
                _assert_close(as_text["weights"][target][modality], expected)
                _assert_close(table[f"{target}.weight.{modality}"].to_numpy(), expected)

        assert set(as_text["bands"]) == set(offline.bands) == {"arousal"}
        assert "valence.low" not in table.column_names
        for target, band in offline.bands.items():
            for name in ("low", "high"):
                expected = getattr(band, name)
                _assert_close(as_text["bands"][target][name], expected)
                _assert_close(table[f"{target}.{name}"].to_numpy(), expected)


def _assert_close(actual: Any, expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def test_a_response_names_its_session_and_its_model(client: Client, request_: Request) -> None:
    response = client.post(request_).json()
    assert response["session_id"] == request_["session_id"]
    assert response["model"] == {"name": "affectune", "version": "3"}
    assert response["warnings"] == []


def test_a_response_has_what_its_openapi_schema_declares_and_nothing_else(
    client: Client, request_: Request
) -> None:
    request_["features"]["face"]["data"][3] = [None, None, None]
    body = client.post(request_).content
    assert PredictionResponse.model_validate_json(body).model_dump() == json.loads(body)


def test_columns_may_come_in_any_order_and_time_may_be_left_out(
    client: Client, request_: Request
) -> None:
    reversed_ = copy.deepcopy(request_)
    del reversed_["timestamps_ms"], reversed_["session_id"]
    reversed_["features"]["voice"]["columns"].reverse()
    for row in reversed_["features"]["voice"]["data"]:
        row.reverse()

    response = client.post(reversed_).json()
    assert response["predictions"] == client.post(request_).json()["predictions"]
    assert response["session_id"] is None


def test_missing_frames_are_null_in_the_response_with_a_warning(
    client: Client, request_: Request
) -> None:
    request_["features"]["face"]["data"][3] = [None, None, None]
    request_["features"]["voice"]["data"][5][1] = None

    response = client.post(request_)
    assert _warning_codes(response) == ["imputed_values", "missing_modality"]
    assert response.json()["difficulty"]["face"]["error"][3] is None
    assert all(value is not None for value in response.json()["predictions"]["arousal"])


def test_a_modality_that_is_left_out_is_imputed_with_a_warning(
    client: Client, request_: Request, corpus: Corpus, predictor: Predictor
) -> None:
    voice = corpus.partition("devel")[0].features["voice"]
    del request_["features"]["face"]

    response = client.post(request_)
    assert _warning_codes(response) == ["missing_modality"]
    assert "imputed" in predictor.card
    expected = predictor.model.predict({"voice": voice}).values["valence"]
    _assert_close(response.json()["predictions"]["valence"], expected)


def test_a_stuck_sensor_is_missing_with_a_warning(
    client: Client, request_: Request, predictor: Predictor
) -> None:
    """From the first repeated row on, in JSON and in Arrow."""
    voice = request_["features"]["voice"]["data"]
    voice[8:28] = [voice[8]] * 20
    voice[20] = [None, *voice[20][1:]]

    response = client.post(request_)
    assert _warning_codes(response) == ["imputed_values", "stuck_sensor"]
    warning = response.json()["warnings"][-1]
    assert warning["where"] == "features.voice"
    assert "19 of 30 frames repeat the same row for longer than 5 s" in warning["message"]

    errors = response.json()["difficulty"]["voice"]["error"]
    assert [error is None for error in errors] == [False] * 9 + [True] * 19 + [False] * 2
    raw = {name: np.array(f["data"], np.float32) for name, f in request_["features"].items()}
    _assert_close(
        response.json()["predictions"]["arousal"], predictor.model.predict(raw).values["arousal"]
    )

    as_table = client.post(as_arrow(request_), kind=MEDIA_TYPE, accept=MEDIA_TYPE).content
    metadata = pa.ipc.open_stream(as_table).schema.metadata
    assert warning in json.loads(metadata[b"affectune"])["warnings"]


def test_a_session_whose_sensors_are_all_stuck_is_predicted_as_missing(
    client: Client, request_: Request
) -> None:
    for sent in request_["features"].values():
        sent["data"] = [sent["data"][0]] * 30

    response = client.post(request_)
    assert _warning_codes(response) == ["stuck_sensor", "stuck_sensor"]
    assert all(math.isfinite(value) for value in response.json()["predictions"]["arousal"])
    assert set(response.json()["difficulty"]["voice"]["error"]) == {None}


def test_a_stuck_sensor_counts_as_one_missing_modality(client: Client, request_: Request) -> None:
    voice = request_["features"]["voice"]["data"]
    voice[:15] = [voice[0]] * 15
    voice[20] = [None] * 4

    assert _warning_codes(client.post(request_)) == ["missing_modality", "stuck_sensor"]
    text = client.get("/metrics").text
    assert 'affectune_missing_modalities_total{modality="voice"} 1.0' in text


def test_a_sensor_that_is_stuck_across_chunks_is_missing_in_all_of_them(
    client_of: Callable[..., Client], request_: Request
) -> None:
    voice = request_["features"]["voice"]["data"]
    voice[11:23] = [voice[11]] * 12  # no more than nine of them lie in one chunk

    response = client_of(whole_frames=15, overlap_frames=5).post(request_)
    assert _warning_codes(response) == ["stuck_sensor", "chunked"]
    errors = response.json()["difficulty"]["voice"]["error"]
    assert [error is None for error in errors] == [False] * 12 + [True] * 11 + [False] * 7


def test_values_that_training_never_saw_are_warned_of_and_counted_as_difficult(
    client: Client, request_: Request
) -> None:
    request_["features"]["face"]["data"] = [[1e6, -1e6, 1e6 + i] for i in range(30)]
    assert _warning_codes(client.post(request_)) == ["outside_training_range", "difficult"]

    text = client.get("/metrics").text
    assert 'affectune_difficult_sessions_total{modality="face"} 1.0' in text


def test_gaps_in_time_are_warned_of(client: Client, request_: Request) -> None:
    request_["timestamps_ms"][-1] += 5000
    assert _warning_codes(client.post(request_)) == ["gaps"]


def _put(path: str, value: Any) -> Callable[[Request], None]:
    """Return a function that puts a value at a place such as features.face.columns."""

    def change(request: Request) -> None:
        *parents, last = path.split(".")
        container: Any = request
        for name in parents:
            container = container[int(name) if isinstance(container, list) else name]
        container[int(last) if isinstance(container, list) else last] = value

    return change


def _add_column(name: str) -> Callable[[Request], None]:
    """Return a function that gives the face a further column."""

    def change(request: Request) -> None:
        request["features"]["face"]["columns"].append(name)
        for row in request["features"]["face"]["data"]:
            row.append(1.5)

    return change


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        (_put("unknown", 1), "unknown_field", "unknown"),
        (_put("features.face.unknown", 1), "unknown_field", "features.face.unknown"),
        (
            _put("features.haed", {"columns": ["a"], "data": [[1]]}),
            "unknown_feature_set",
            "features.haed",
        ),
        (
            _put("features.face.columns", ["face_0", "face_1", "other"]),
            "missing_columns",
            "features.face.columns",
        ),
        (
            _put("features.face.columns", ["face_0", "face_1", "face_1"]),
            "repeated_columns",
            "features.face.columns",
        ),
        (_add_column("further"), "unknown_columns", "features.face.columns"),
        (_put("features.face.data.7", [1.0, 2.0]), "ragged_rows", "features.face.data[7]"),
        (_put("features.face.data.7.1", "1.5"), "wrong_type", "features.face.data[7][1]"),
        (_put("features.face.data.7.1", True), "wrong_type", "features.face.data[7][1]"),
        (_put("features.face.data.7.1", 1e39), "not_finite", "features.face"),
        (_put("features.face.data", [[1, 2, 3]]), "unequal_frames", "features.face"),
        (_put("features.face.data", "text"), "wrong_type", "features.face.data"),
        (_put("features.face", {"columns": []}), "missing_field", "features.face.data"),
        (_put("features", {}), "no_features", "features"),
        (_put("features", []), "wrong_type", "features"),
        (
            _put("features", {"face": {"columns": ["face_0", "face_1", "face_2"], "data": []}}),
            "too_few_frames",
            None,
        ),
        (
            _put(
                "features",
                {"face": {"columns": ["face_0", "face_1", "face_2"], "data": [[1, 2, 3]]}},
            ),
            "too_few_frames",
            "features",
        ),
        (_put("timestamps_ms", [0, 500]), "wrong_timestamps", "timestamps_ms"),
        (_put("timestamps_ms.5", 0), "timestamps_descend", "timestamps_ms[5]"),
        (_put("timestamps_ms", [i * 40 for i in range(30)]), "wrong_rate", "timestamps_ms"),
        (_put("timestamps_ms.29", 1e300), "wrong_timestamps", "timestamps_ms"),
        (_put("session_id", "a\u0007"), "bad_session_id", "session_id"),
        (_put("session_id", "x" * 256), "bad_session_id", "session_id"),
        (_put("session_id", 7), "wrong_type", "session_id"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_place_of_its_mistake(
    client: Client,
    request_: Request,
    change: Callable[[Request], None],
    code: str,
    where: str | None,
) -> None:
    change(request_)
    if where is None:
        del request_["timestamps_ms"]
        where = "features"

    assert _error(client.post(request_)) == (422, code, where)


def test_nothing_but_nulls_is_refused(client: Client, request_: Request) -> None:
    for sent in request_["features"].values():
        sent["data"] = [[None] * len(row) for row in sent["data"]]
    assert _error(client.post(request_)) == (422, "no_features", "features")


@pytest.mark.parametrize(
    ("cell", "status"),
    [
        ("NaN", 422),
        ("Infinity", 422),
        ("-Infinity", 422),
        ("1e999", 422),
        ('"\\ud800"', 400),
        ("[" * 100_000, 400),
        ("1" + "0" * 5000, 400),
        ("", 400),
    ],
)
def test_values_that_json_does_not_have_are_refused(
    client: Client, request_: Request, cell: str, status: int
) -> None:
    _put("features.face.data.2.1", "MARK")(request_)
    body = json.dumps(request_).replace('"MARK"', cell)

    response = client.post(body.encode())
    assert response.status_code == status
    assert _error(response)[1] in ("not_finite", "not_json", "too_many_frames")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"7", b'{"features": {}} x', b"\x00" * 64]
)
def test_a_body_that_is_no_request_is_refused(client: Client, body: bytes) -> None:
    assert client.post(body).status_code in (400, 422)


def test_no_response_repeats_what_was_sent(client: Client, request_: Request) -> None:
    secret = "Ada-Lovelace-7"
    paths = ("session_id", "features.face.data.0.0", "timestamps_ms.3", "features.face.columns")

    for path in paths:
        changed = copy.deepcopy(request_)
        _put(path, {"secret": secret})(changed)
        response = client.post(changed)
        assert response.status_code == 422
        assert secret not in response.text

    assert secret not in client.post(f'{{"{secret}": '.encode()).text


def test_a_sent_name_is_repeated_only_where_it_is_harmless(
    client: Client, request_: Request
) -> None:
    request_["features"]["<script>alert(1)</script>"] = {"columns": [], "data": []}
    assert _error(client.post(request_)) == (422, "unknown_feature_set", "features.?")


def test_too_many_frames_are_refused(client_of: Callable[..., Client], request_: Request) -> None:
    few = client_of(max_frames=29)
    assert _error(few.post(request_)) == (422, "too_many_frames", "features.voice")
    arrow = few.post(as_arrow(request_), kind=MEDIA_TYPE)
    assert _error(arrow)[1] == "too_many_frames"


def test_too_many_columns_are_refused(client_of: Callable[..., Client], request_: Request) -> None:
    narrow = client_of(max_columns=3)
    assert _error(narrow.post(request_)) == (422, "too_many_columns", "features.voice")
    assert _error(narrow.post(as_arrow(request_), kind=MEDIA_TYPE))[1] == "too_many_columns"


def test_lists_without_end_are_refused_before_they_are_read(client: Client) -> None:
    body = b'{"features":{"face":{"columns":[],"data":[' + b"[]," * 2_000_000 + b"[]]}}}"
    assert _error(client.post(body)) == (422, "too_many_frames", "features")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"features": {}, "features": {}}', "features"),
        (b'{"session_id": null, "features": {}, "session_id": "a"}', "session_id"),
        (b'{"timestamps_ms": [0], "features": {}, "timestamps_ms": [0]}', "timestamps_ms"),
        (b'{"features": {"face": {}, "face": {"columns": [], "data": []}}}', "face"),
        (b'{"features": {"face": {"columns": [], "data": [], "data": [[]]}}}', "data"),
        (b'{"features": {"face": {"columns": [], "data": [], "d\\u0061ta": [[]]}}}', "data"),
        (b'{"<b>": 1, "<b>": 2}', "?"),
    ],
)
def test_a_field_that_is_there_twice_is_refused_by_its_name(
    client: Client, body: bytes, name: str
) -> None:
    response = client.post(body)
    assert _error(response) == (422, "repeated_field", "")
    assert f"The field {name!r} is there twice (line 1" in response.json()["error"]["message"]


def test_a_second_column_of_timestamps_is_refused(client: Client, request_: Request) -> None:
    for name in ("timestamp_ms", "frame"):
        changed = copy.deepcopy(request_)
        for _ in range(2):
            _add_column(name)(changed)
        assert client.post(changed).status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{" + ",".join(f'"k{i}":1' for i in range(300_000)) + "}", 422, "too_many_fields"),
        ('{"features":{' + ",".join(f'"k{i}" :{{}}' for i in range(20_000)) + "}}", 422, None),
        (
            '{"features":{' + ",".join(f'"k{i}":{{}}' for i in range(65)) + "}}",
            422,
            "too_many_sets",
        ),
        ("{" + ",".join(f'"k{i}":1' for i in range(9_000)) + "}", 422, "missing_field"),
        ('{"features":' + '{"a":' * 9_000 + "1" + "}" * 9_001, 400, "not_json"),
        ("[" * 500_000, 400, None),
        ('{"features":{"f":{"columns":["a"],"data":[[' + "1," * 3_000_000 + "1]]}}}", 422, None),
        ('{"features":{"f":{"columns":[' + '"a",' * 1_000_000 + '"a"],"data":[]}}}', 422, None),
        ('{"session_id":"' + "a" * 10_000_000 + '","features":{}}', 422, "bad_session_id"),
        ('{"timestamps_ms":[' + "1e9999," * 500_000 + '1],"features":{}}', 422, "not_finite"),
        ("9" * 5_000_000, 400, "not_json"),
        ('{"features":{},"timestamps_ms":[' + "1," * 5_000_000 + "1]}", 422, "too_many_frames"),
        (
            '{"features":{"":{"columns":[],"data":[],"timestamps_ms":['
            + "1," * 5_000_000
            + "1]}}}",
            422,
            "too_many_frames",
        ),
        ('{"a": "' + '"\\' * 3_000_000, 400, "not_json"),
    ],
    ids=range(14),
)
def test_what_takes_long_to_parse_is_refused_in_little_time(
    body: str, status: int, code: str | None
) -> None:
    begin = time.process_time()
    with pytest.raises(RequestError) as refused:
        read_json(body.encode(), Limits())
    assert time.process_time() - begin < 2
    assert refused.value.status == status or code is None
    assert refused.value.code == (code or refused.value.code)


def test_numbers_of_all_feature_sets_are_counted(
    client_of: Callable[..., Client], request_: Request
) -> None:
    numbers = sum(
        len(each["data"]) * len(each["columns"]) for each in request_["features"].values()
    )
    assert client_of(max_numbers=numbers).post(request_).status_code == 200
    assert _error(client_of(max_numbers=numbers - 1).post(request_))[1] == "too_many_numbers"


def test_a_body_that_is_declared_too_large_is_not_read(client: Client) -> None:
    response = client.send(
        "POST",
        "/v1/predictions",
        content=b"{}",
        headers={"content-type": "application/json", "content-length": str(100 * 2**20)},
    )
    assert _error(response)[:2] == (413, "too_large")


def test_a_body_that_grows_too_large_is_given_up(client_of: Callable[..., Client]) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 4096

    response = client_of(max_body_bytes=100_000).send(
        "POST", "/v1/predictions", content=endless(), headers={"content-type": "application/json"}
    )
    assert _error(response)[:2] == (413, "too_large")


def test_a_body_that_does_not_come_is_given_up(client_of: Callable[..., Client]) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    response = client_of(body_timeout_s=0.05).send(
        "POST", "/v1/predictions", content=stalled(), headers={"content-type": "application/json"}
    )
    assert _error(response)[:2] == (408, "body_timeout")


def test_too_much_at_once_is_refused(client_of: Callable[..., Client], request_: Request) -> None:
    response = client_of(max_incoming_bytes=1024).post(request_)
    assert _error(response)[:2] == (503, "busy")
    assert response.headers["retry-after"] == "1"


def test_compressed_bodies_are_refused(client: Client, request_: Request) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    response = client.post(bomb, **{"content-encoding": "gzip"})
    assert _error(response)[:2] == (415, "content_encoding")


@pytest.mark.parametrize(
    "kind", ["text/plain", "", "application/xml", "multipart/form-data; boundary=x"]
)
def test_other_content_types_are_refused(client: Client, request_: Request, kind: str) -> None:
    assert _error(client.post(request_, kind=kind))[:2] == (415, "content_type")


def test_the_content_type_may_say_its_charset(client: Client, request_: Request) -> None:
    assert client.post(request_, kind="application/json; charset=utf-8").status_code == 200


def test_requests_need_the_token_where_one_is_set(
    client_of: Callable[..., Client], request_: Request
) -> None:
    guarded = client_of(token="correct horse")
    wrong = ("Bearer wrong", "correct horse", "Basic correct horse", "Bearer \u00e9")
    without_token = [guarded.post(request_)]
    without_token += [guarded.post(request_, authorization=value) for value in wrong]

    for response in without_token:
        assert _error(response)[:2] == (401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
    assert guarded.post(request_, authorization="Bearer correct horse").status_code == 200
    assert guarded.get("/v1/model").status_code == guarded.get("/metrics").status_code == 401
    assert guarded.get("/healthz").status_code == guarded.get("/").status_code == 200


@pytest.mark.parametrize(
    "token", ["correct horse", "voil\u00e0", "\u00a0", "\u0085\u00e0", "\u00ff\u00fe"]
)
def test_a_token_is_accepted_as_a_client_may_write_it_and_nothing_else_is(
    client_of: Callable[..., Client], token: str
) -> None:
    guarded = client_of(token=token)
    as_sent = {b"Bearer " + token.encode("latin-1"), b"bearer   " + token.encode() + b" \t"}
    for value in as_sent:
        assert guarded.get("/v1/model", authorization=value.decode("latin-1")).status_code == 200

    others = {token[:-1], token + "x", token + "\u00a0", "", "\u00ff" * 9, "Bearer", token + "\x1c"}
    for other in others:
        response = guarded.get("/v1/model", authorization=f"Bearer {other}")
        assert _error(response)[:2] == (401, "unauthorized")


def test_every_route_but_those_that_are_listed_needs_the_token(
    client_of: Callable[..., Client],
) -> None:
    guarded = client_of(token="correct horse")
    routes = [route for route in guarded.app.routes if route.path != "/openapi.json"]
    assert {route.path for route in routes} >= OPEN_PATHS | {"/metrics", "/v1/predictions"}

    for route in routes:
        for method in route.methods:
            response = guarded.send(method, route.path.format(name="page.js"))
            if route.path in OPEN_PATHS:
                assert response.status_code == 200
            else:
                assert _error(response)[:2] == (401, "unauthorized"), route.path


def test_the_document_on_security_names_every_route_that_needs_no_token() -> None:
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    section = text.partition("only these need none:")[2].partition("Keep its file")[0]
    named = set(re.findall(r"`(/[^`]*)`", section)) - {"/openapi.json", "/-/healthz", "/-/routes"}
    assert {path.replace("{name}", "*") for path in OPEN_PATHS} == named


def _get_with(client: Client, headers: list[tuple[str, str]]) -> httpx.Response:
    """Ask for the model with headers of which one may be there twice."""

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as session:
            return await session.get("/v1/model", headers=headers)

    return asyncio.run(get())


def test_the_credentials_are_sent_once(client_of: Callable[..., Client]) -> None:
    guarded = client_of(token="correct horse")
    both = [("authorization", "Bearer correct horse"), ("authorization", "Bearer wrong")]
    for headers in (both, both[::-1], both[:1] * 2):
        assert _get_with(guarded, headers).status_code == 401
    assert _get_with(guarded, both[:1]).status_code == 200


def test_without_a_model_it_lives_but_is_not_ready(request_: Request) -> None:
    client = Client(build_app(lambda: None, Settings()))

    assert client.get("/healthz").status_code == 200
    for response in (client.get("/readyz"), client.get("/v1/model"), client.post(request_)):
        assert _error(response)[:2] == (503, "no_model")
        assert response.headers["retry-after"] == "5"


def test_without_a_model_every_answer_tells_how_to_get_one(request_: Request) -> None:
    client = Client(build_app(lambda: None, Settings(), advice=lambda: "Promote version 3."))
    for response in (client.get("/readyz"), client.get("/v1/model"), client.post(request_)):
        assert "Promote version 3." in response.json()["error"]["message"]


def test_the_model_is_described_with_its_features_scores_and_card(
    client: Client, predictor: Predictor
) -> None:
    model = client.get("/v1/model").json()
    assert model["targets"] == ["arousal", "valence"]
    assert model["features"]["face"] == list(predictor.model.columns["face"])
    assert model["frame_rate_hz"] == 2.0
    parts = sorted(model[key]["arousal"] for key in ("between_ccc", "within_ccc"))
    assert -1 <= parts[0] <= model["ccc"]["arousal"] <= parts[1] <= 1
    assert model["bands"]["valence"] is None
    assert model["bands"]["arousal"]["level"] == 0.9
    assert 0 <= model["bands"]["arousal"]["coverage"] <= 1
    assert "# Affectune model" in model["card"]
    assert model["inference"] == predictor.model.composition
    assert model["distillation"] is None
    assert client.get("/readyz").json()["version"] == "3"


def test_the_example_is_predicted(client: Client) -> None:
    example = client.get("/v1/example").json()

    response = client.post(example)
    assert response.status_code == 200
    assert len(response.json()["timestamps_ms"]) > 100


def test_an_unknown_path_or_method_is_an_error_like_any_other(client: Client) -> None:
    assert _error(client.get("/nothing"))[:2] == (404, "not_found")
    assert _error(client.get("/v1/predictions"))[:2] == (405, "method")
    assert client.get("/docs").status_code == 404


def test_a_failure_of_ours_is_500_without_a_traceback(request_: Request) -> None:
    class Broken:
        version = name = "x"

        def predict(self, session: object) -> None:
            raise ZeroDivisionError("the secret cause")

    app = build_app(lambda: Broken(), Settings())  # type: ignore[arg-type,return-value]
    response = Client(app).post(request_)
    assert _error(response) == (500, "internal", "")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert len(response.headers["x-request-id"]) == 32


def test_every_response_has_a_request_id_and_takes_a_good_one(
    client: Client, request_: Request
) -> None:
    good = client.get("/healthz", **{"x-request-id": "abc-1"})
    bad = client.get("/healthz", **{"x-request-id": "a\tb" * 40})
    assert good.headers["x-request-id"] == "abc-1"
    assert len(bad.headers["x-request-id"]) == 32


def test_metrics_count_requests_errors_and_frames(client: Client, request_: Request) -> None:
    client.post(request_)
    client.post(b"{")

    text = client.get("/metrics").text
    for status in (200, 400):
        labels = f'method="POST",route="/v1/predictions",status="{status}"'
        assert f"affectune_requests_total{{{labels}}} 1.0" in text
    assert 'affectune_refusals_total{code="not_json"} 1.0' in text
    assert "affectune_frames_sum 30.0" in text
    assert "affectune_queue 0.0" in text


def test_openapi_describes_the_requests(client: Client) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/predictions"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", MEDIA_TYPE}
    assert "503" in operation["responses"]


def test_long_sessions_are_predicted_in_chunks_with_a_warning(
    client_of: Callable[..., Client], request_: Request
) -> None:
    chunked = client_of(whole_frames=20, overlap_frames=5).post(request_)
    assert _warning_codes(chunked) == ["chunked"]

    in_one_piece = client_of().post(request_).json()["predictions"]["arousal"]
    values = chunked.json()["predictions"]["arousal"]
    assert len(values) == len(in_one_piece)
    band = chunked.json()["bands"]["arousal"]
    assert all(low <= value for low, value in zip(band["low"], values, strict=True))
    assert all(value <= high for value, high in zip(values, band["high"], strict=True))
    assert all(math.isfinite(value) for value in values)


def _sums(weights: dict[str, list[float]]) -> NDArray[np.float64]:
    """Return what the weights of all modalities sum to at each frame."""
    total: NDArray[np.float64] = np.sum(list(weights.values()), axis=0)
    return total


def test_weights_sum_to_one_and_a_modality_that_is_left_out_has_none(
    client: Client, request_: Request
) -> None:
    whole = client.post(request_).json()["weights"]
    del request_["features"]["face"]
    without_face = client.post(request_).json()["weights"]

    assert set(whole) == {"arousal", "valence"}
    for target in ("arousal", "valence"):
        _assert_close(_sums(whole[target]), np.ones(30))
        assert min(whole[target]["face"]) > 0
        assert set(without_face[target]["face"]) == {0.0}
        _assert_close(without_face[target]["voice"], np.ones(30))


def test_weights_of_a_session_of_which_nothing_is_there_are_zero(
    client: Client, request_: Request
) -> None:
    for sent in request_["features"].values():
        sent["data"] = [sent["data"][0]] * 30  # stuck from its second frame on

    weights = client.post(request_).json()["weights"]["arousal"]
    _assert_close(_sums(weights), np.zeros(30))


def test_a_model_without_a_gate_has_no_weights(gateless_bundle: Path, request_: Request) -> None:
    predictor = Predictor.load(gateless_bundle, "affectune", "4", Settings())
    client = Client(build_app(lambda: predictor, Settings()))

    body = client.post(request_).content
    assert PredictionResponse.model_validate_json(body).model_dump() == json.loads(body)
    assert json.loads(body)["weights"] == {}
    table = client.post(as_arrow(request_), kind=MEDIA_TYPE, accept=MEDIA_TYPE).content
    assert pa.ipc.open_stream(table).read_all().column_names == [
        *("timestamp_ms", "arousal", "valence"),
        *("voice.error", "voice.percentile", "face.error", "face.percentile"),
    ]


def test_weights_in_chunks_sum_to_one(client_of: Callable[..., Client], request_: Request) -> None:
    chunked = client_of(whole_frames=20, overlap_frames=5).post(request_)
    assert _warning_codes(chunked) == ["chunked"]
    for weights in chunked.json()["weights"].values():
        _assert_close(_sums(weights), np.ones(30))


def test_arrow_columns_that_would_have_one_name_are_refused() -> None:
    """A target may be named as the weight of another one is."""
    series = np.zeros(3)
    response = SessionResponse(
        session_id=None,
        name="affectune",
        version="1",
        timestamps_ms=np.arange(3),
        predictions={"arousal": series, "arousal.weight.voice": series},
        difficulty={"voice": {"error": series, "percentile": series}},
        weights={"arousal": {"voice": series}},
        warnings=(),
    )
    assert json.loads(response.to_json())["weights"] == {"arousal": {"voice": [0, 0, 0]}}
    with pytest.raises(RequestError, match=r"'arousal\.weight\.voice'.*Ask for JSON") as refused:
        write_arrow(response)
    assert (refused.value.status, refused.value.code) == (406, "ambiguous_columns")


def _get_routes(client: Client) -> list[str]:
    routes = [route for route in client.app.routes if "GET" in (route.methods or ())]
    return [route.path.replace("{name}", "page.css") for route in routes]


def test_head_is_answered_as_get_without_the_body(client: Client) -> None:
    for path in _get_routes(client):
        get, head = client.get(path), client.send("HEAD", path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        if path != "/metrics":  # it counts the request between
            assert head.headers["content-length"] == get.headers["content-length"]

    head = client.send("HEAD", "/v1/predictions")
    assert (head.status_code, head.headers["allow"]) == (405, "POST")


def test_a_proxy_names_the_routes_as_the_application_does(client: Client) -> None:
    routes = {route.path for route in client.app.routes if not route.path.startswith("/page")}
    assert routes == ROUTES
