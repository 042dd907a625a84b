"""Decoding in another process: the same sessions and errors; and it may end at any time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import pytest

from serving.requests.arrow import MEDIA_TYPE
from serving.requests.decoder_process import DecoderProcess
from serving.requests.decoding import decode
from serving.requests.request_error import RequestError
from serving.requests.schema import JSON, SessionFeatures
from serving.settings import Limits, Settings
from tests.pipeline_tests.corpora import tiny_session
from tests.serving_tests.arrow_bodies import columns, stream
from tests.serving_tests.sessions import as_arrow, as_json, columns_of

SESSION = tiny_session("decoder", "f", "test", frames=6)
REQUEST = as_json(SESSION, columns_of(SESSION))
SMALL = json.dumps(REQUEST).encode()


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcess]:
    """One process for all tests."""
    process = DecoderProcess(Settings())
    process.start()
    yield process
    process.close()


def _outcome(decode_: Any, *arguments: Any) -> object:
    """Return a session as plain values, or an error."""
    try:
        session: SessionFeatures = decode_(*arguments)
    except RequestError as error:
        return error
    sets = [
        (name, each.columns, each.values.shape, each.values.tobytes(), _bytes(each.timestamps_ms))
        for name, each in session.feature_sets.items()
    ]
    return session.session_id, _bytes(session.timestamps_ms), sets


def _bytes(array: Any) -> bytes | None:
    return None if array is None else np.asarray(array).tobytes()


def _child(decoder: DecoderProcess) -> psutil.Process:
    names = [each.cmdline() for each in psutil.Process().children()]
    [place] = [i for i, name in enumerate(names) if "serving.requests.decoder_process" in name]
    return psutil.Process().children()[place]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, SMALL),
        (JSON, json.dumps(REQUEST | {"session_id": "é\u4e2d", "timestamps_ms": None}).encode()),
        (JSON, b'{"features": {}}'),
        (JSON, b'{"features": {"a": {"columns": [], "data": []}}}'),
        (JSON, b'{"features": {"a": {"columns": ["x"], "data": [[null]], "timestamps_ms": [3]}}}'),
        (JSON, b"{"),
        (JSON, b""),
        (JSON, b'{"features": {"a": {"columns": ["x"], "data": [["1"]]}}}'),
        (MEDIA_TYPE, as_arrow(REQUEST)),
        (MEDIA_TYPE, as_arrow(REQUEST)[:-100]),
        (MEDIA_TYPE, stream(columns(1000))),
        (MEDIA_TYPE, b""),
        (MEDIA_TYPE, stream(columns(2), times=2)),
    ],
)
def test_another_process_decodes_as_this_one_does(
    decoder: DecoderProcess, kind: str, body: bytes
) -> None:
    assert _outcome(decoder.decode, kind, body) == _outcome(decode, Limits(), kind, body)


def test_a_process_that_was_killed_while_idle_is_started_again(decoder: DecoderProcess) -> None:
    decoder.decode(JSON, SMALL)
    child = _child(decoder)
    child.kill()
    child.wait(30)
    assert decoder.decode(JSON, SMALL).session_id == REQUEST["session_id"]


def test_a_process_that_ends_over_a_body_takes_nothing_with_it(decoder: DecoderProcess) -> None:
    decoder.decode(JSON, SMALL)
    child = _child(decoder)
    child.suspend()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(decoder.decode, JSON, SMALL)
        child.kill()
        with pytest.raises(RequestError) as refused:
            waiting.result(30)
    assert (refused.value.status, refused.value.code) == (503, "not_decoded")
    assert refused.value.retry_after_s == 1
    assert decoder.decode(JSON, SMALL).session_id == REQUEST["session_id"]


def test_a_body_that_takes_too_long_is_given_up_with_its_process() -> None:
    decoder = DecoderProcess(Limits(), timeout_s=0.01)  # it does not even start in that time
    with pytest.raises(RequestError) as refused:
        decoder.decode(JSON, SMALL)
    assert (refused.value.status, refused.value.code) == (503, "slow_body")
    assert not [each for each in psutil.Process().children() if each.status() == "zombie"]


def test_it_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFECTUNE_SERVE_TOKEN", "correct horse")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "battery staple")
    decoder = DecoderProcess(Limits())
    decoder.start()
    [child] = psutil.Process().children()[-1:]
    assert not {"correct horse", "battery staple"} & set(child.environ().values())
    decoder.close()


def test_its_memory_is_given_back(decoder: DecoderProcess) -> None:
    rows = b",".join([b"[" + b",".join([b"1.25"] * 500) + b"]"] * 2000)
    names = json.dumps([str(i) for i in range(500)]).encode()
    body = b'{"features": {"a": {"columns": ' + names + b', "data": [' + rows + b"]}}}"
    decoder.decode(JSON, SMALL)
    before = _child(decoder).memory_info().rss
    for _ in range(3):
        assert decoder.decode(JSON, body).feature_sets["a"].values.shape == (2000, 500)
    decoder.decode(JSON, SMALL)  # by then the memory of the last large body is back
    assert _child(decoder).memory_info().rss < before + 30 * 2**20


def test_it_ends_with_its_replica_however_that_ends() -> None:
    source = (
        "import os, signal, sys\n"
        "from serving.requests.decoder_process import DecoderProcess\n"
        "from serving.settings import Limits\n"
        "decoder = DecoderProcess(Limits())\n"
        "decoder.decode('application/json', b'{\"features\": {}}')\n"
        "print(decoder._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(ended.stdout)).wait(30)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.stdout), 0)


def test_a_mistake_of_ours_is_no_mistake_of_the_client(
    decoder: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "serving.requests.decoder_process._receive", lambda *_: ({"failure": "why"}, b"")
    )
    other = DecoderProcess(Limits())
    with pytest.raises(RuntimeError, match="why"):
        other.decode(JSON, SMALL)
    other.close()
