"""A store on a real S3 server while the server, the network or a process fails."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import InputError, SurroundingsError
from pipeline.storage import object_store, stage_store
from pipeline.storage.atomic_folder import MANIFEST, manifest_of
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.remote.lease import Lease
from pipeline.storage.stage_store import FORMAT_ENTRY, FORMAT_FILE, StageStore
from pipeline.storage.store_address import object_address
from tests.s3 import SECRET, Proxy, free_port

pytestmark = pytest.mark.cluster


@pytest.fixture
def store(service: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageStore:
    """Return a store with the entry "a", whose service fails as it is told to."""
    monkeypatch.setattr(object_store, "ANSWER_S", 1.0)
    store = StageStore(service.uri(tmp_path.name))
    store.write("a", {"x": b"1"})
    service.requests.clear()
    return store


@pytest.mark.parametrize("fault", ["503", "429", "lost", "cut"])
def test_what_passes_is_tried_again(service: Proxy, store: StageStore, fault: str) -> None:
    service.fail(fault, fault, fault, methods="GET")
    assert store.read("a", dict) == {"x": b"1"}
    service.fail(fault, fault, fault, methods="PUT")
    store.write("a", {"x": b"2"})
    assert store.read("a", dict) == {"x": b"2"}


def test_what_does_not_pass_is_a_fault_of_the_surroundings_within_a_bound(
    service: Proxy, store: StageStore, caplog: pytest.LogCaptureFixture
) -> None:
    requests: dict[str, Callable[[], object]] = {
        "read": lambda: store.read("a", dict),
        "write to": lambda: store.write("a", {"x": b"3"}),
    }
    for verb, request in requests.items():
        service.choose = lambda method, path: "403"
        with pytest.raises(SurroundingsError) as caught:
            request()
        said = str(caught.value)
        assert said.startswith(f"Cannot {verb} the store 's3://***@bucket/")
        assert "it refuses these keys (403 Forbidden, AccessDenied)" in said
        assert SECRET not in said
        assert "\n" not in said
    service.fail()
    assert caplog.text == ""  # nothing was called damaged
    assert store.read("a", dict) == {"x": b"1"}


def test_a_service_that_stays_overloaded_or_silent_is_not_waited_for_without_end(
    service: Proxy, tmp_path: Path
) -> None:
    objects = ObjectStore(object_address(service.uri(tmp_path.name)), answer_s=0.3, retry_s=1.0)
    for fault, said in (("503", "overloaded or out of order"), ("silent", "in time")):
        service.choose = lambda method, path, fault=fault: fault  # type: ignore[misc]
        for request in (lambda: objects.read("a"), lambda: objects.put("a", b"1")):
            begin = time.monotonic()
            with pytest.raises(SurroundingsError, match=said):
                request()
            assert time.monotonic() - begin < 20


def test_a_wrong_bucket_host_or_key_is_told_within_seconds_and_before_anything_is_written(
    service: Proxy, tmp_path: Path
) -> None:
    wrong = {
        "there is no such bucket": service.uri("a", bucket="nobody-has-it"),
        "nothing listens there": f"s3://K:secret77@b/a?scheme=http"
        f"&endpoint_override=127.0.0.1:{free_port()}",
    }
    for said, uri in wrong.items():
        with pytest.raises(InputError, match=said):
            stage_store.raise_if_not_writable(uri)
    service.choose = lambda method, path: "403"
    with pytest.raises(InputError, match=r"refuses these keys.*Give its keys the right"):
        stage_store.raise_if_not_writable(service.uri("a"))
    assert {method for method, _, _ in service.requests} == {"GET"}


def test_a_conditional_write_whose_answer_was_lost_is_known_for_ones_own(
    service: Proxy, store: StageStore
) -> None:
    service.fail("lost", methods="PUT")
    assert store.objects.write("new", b"1", only_new=True)
    assert not store.objects.write("new", b"2", only_new=True)
    service.fail("lost", "lost", methods="PUT")
    with store.claim("key", timeout_s=0):
        begin = time.monotonic()
        with StageStore(store.uri).claim("key", timeout_s=1):
            assert time.monotonic() - begin >= 1  # the lease was ours all the same


@pytest.mark.parametrize("fault", ["501", "unconditional"])
def test_without_conditional_writes_it_is_said_and_work_goes_on(
    service: Proxy, store: StageStore, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    is_new = re.compile(r"/check-[0-9a-f]{32}$")

    def choose(method: str, path: str) -> str | None:
        if method == "PUT" and fault == "501" and is_new.search(path):
            return None if path not in seen and not seen.add(path) else fault  # type: ignore[func-returns-value]
        return fault if fault == "unconditional" else None

    seen: set[str] = set()
    service.choose = choose
    with caplog.at_level(logging.WARNING):
        store.raise_if_unusable()
    assert "has no conditional writes or locks" in caplog.text
    assert not store.probe().has_conditional_writes
    with store.claim("key", timeout_s=60), StageStore(store.uri).claim("key", timeout_s=60):
        store.write("key", {"x": b"1"})


def test_a_lease_that_is_not_renewed_is_taken_over_and_its_owner_learns_of_it(
    service: Proxy, tmp_path: Path
) -> None:
    objects = ObjectStore(object_address(service.uri(tmp_path.name)))
    # As if the first process were suspended for longer than its lease.
    with Lease(objects, "key", timeout_s=0, lease_s=2.0, renewed_s=8.0) as first:
        begin = time.monotonic()
        with Lease(objects, "key", timeout_s=60, lease_s=2.0, renewed_s=0.5) as second:
            assert second.is_held
            assert time.monotonic() - begin >= 2.0
            while first.is_held:
                assert time.monotonic() - begin < 60
                time.sleep(0.1)
            assert second.is_held
    # The first one did not give back what was the second one's, which is free now.
    with Lease(objects, "key", timeout_s=0) as third:
        assert third.is_held


def test_a_lease_that_is_renewed_is_kept_although_the_service_fails_now_and_then(
    service: Proxy, tmp_path: Path
) -> None:
    objects = ObjectStore(object_address(service.uri(tmp_path.name)))
    with Lease(objects, "key", timeout_s=0, lease_s=6.0, renewed_s=1.0) as first:
        service.fail("lost", "503", "lost", methods="PUT")
        with Lease(objects, "key", timeout_s=9.0, lease_s=6.0) as second:
            assert not second.is_held
        assert first.is_held


def test_the_lease_of_a_process_that_was_killed_on_this_host_is_free_at_once(
    service: Proxy, tmp_path: Path
) -> None:
    uri = service.uri(tmp_path.name)
    program = (
        "import sys, time\nfrom pipeline.storage.stage_store import StageStore\n"
        f"with StageStore({uri!r}).claim('key', timeout_s=0):\n"
        "    print('held', flush=True)\n    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    store = StageStore(uri)
    begin = time.monotonic()
    with store.claim("key", timeout_s=1):
        assert time.monotonic() - begin >= 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    begin = time.monotonic()
    with store.claim("key", timeout_s=60):
        assert time.monotonic() - begin < 10


def test_of_many_who_want_a_lease_at_once_one_at_a_time_has_it(
    service: Proxy, tmp_path: Path
) -> None:
    stores = [StageStore(service.uri(tmp_path.name)) for _ in range(5)]
    inside, most = [0], [0]

    def work(store: StageStore) -> None:
        for _ in range(2):
            with store.claim("key", timeout_s=120):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.05)
                inside[0] -= 1

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert most[0] == 1
    lease = json.loads(stores[0].objects.read("leases/key.json") or b"")
    assert lease["is_free"]
    assert lease["process"] == os.getpid()


def test_entries_of_the_earlier_format_are_read_and_replaced(
    service: Proxy, tmp_path: Path
) -> None:
    objects = ObjectStore(object_address(service.uri(tmp_path.name)))
    for name, files in (
        (FORMAT_ENTRY, {FORMAT_FILE: b"2"}),
        ("old", {"a": b"1", "b": b"2"}),
        ("torn", {"a": b"1", "b": b"2"}),
    ):
        for file, data in {**files, MANIFEST: manifest_of(files)}.items():
            objects.write(f"{name}/{file}", data)
    objects.delete("torn/b")

    store = StageStore(service.uri(tmp_path.name))
    assert store.read("old", dict) == {"a": b"1", "b": b"2"}
    assert store.read("torn", dict) is None
    assert set(store.names()) == {"old", "torn"}
    store.write("old", {"a": b"3"})
    assert StageStore(store.uri).read("old", dict) == {"a": b"3"}
    store.remove("old")
    assert StageStore(store.uri).read("old", dict) is None


def test_no_run_lists_anything(service: Proxy, store: StageStore) -> None:
    store.raise_if_unusable()
    with store.claim("key", timeout_s=1):
        store.write("key", {"a": b"1"})
        store.read("key", dict)
        store.read("missing", dict)
        store.remove("key")
        store.remove_leftovers(["key"])
    assert not [path for method, path, _ in service.requests if "list-type" in path]
    assert len({path.partition("?")[0] for _, path, _ in service.requests}) < 12
