"""Whatever a registry says, nothing but a bundle's files is written, and nothing else deleted."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import AffectuneError, InputError
from pipeline.model.bundle_limits import MAX_FILES
from pipeline.storage.atomic_folder import MANIFEST, read_folder
from serving.models.bundle_cache import CURRENT, BundleCache
from serving.models.bundle_download import PLACE, download_bundle
from serving.models.model_registry import ModelRegistry, RegistryUnavailable

PARTS = ("..", ".", "/", "\\", "~", "1", "7-8", "\0", "\x1b", "\u202e", "%2e%2e", "x" * 300, "٣")
words = st.one_of(st.text(max_size=8), st.lists(st.sampled_from(PARTS), max_size=6).map("".join))


@pytest.fixture
def registered(bundle: Path, tmp_path: Path) -> Path:
    """The files of a registered version, its bundle among them, in a folder of this machine."""
    (tmp_path / "version" / "artifacts").mkdir(parents=True)
    place = tmp_path / "version" / PLACE
    place.mkdir()
    for name, data in read_folder(bundle).items():
        (place / name).write_bytes(data)
    (place / MANIFEST).write_bytes((bundle / MANIFEST).read_bytes())
    return tmp_path / "version"


def write_manifest(version: Path, content: object) -> None:
    """Replace the manifest of a registered version."""
    (version / PLACE / MANIFEST).write_text(json.dumps(content))


def tree(folder: Path) -> set[str]:
    """Return everything below a folder, by its path."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@given(version=words, created=st.one_of(st.integers(), st.just(10**30)))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_cache_touches_nothing_but_entries_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, version: str, created: int
) -> None:
    root = tmp_path_factory.mktemp("cache")
    (root / "precious-1").mkdir()
    (root / "precious-1" / "thesis").touch()
    before = tree(root)

    def fetch(folder: Path) -> Path:
        raise KeyError  # so far comes only a version that is one

    cache = BundleCache(root / "a" / "b", "m")
    with pytest.raises((InputError, KeyError)):
        cache.get(version, created, fetch)
    assert {name for name in tree(root) if not name.startswith("a")} == before


@pytest.mark.parametrize("name", ["../../precious-1", "/etc", "1-2/../../x", "", ".", "1"])
def test_a_cache_reads_only_entries_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / CURRENT).write_text(json.dumps({"version": "1", "folder": name}))
    assert BundleCache(tmp_path, "m").last_verified() is None


def test_a_link_in_the_place_of_an_entry_is_removed_and_not_what_it_points_to(
    bundle: Path, tmp_path: Path
) -> None:
    cache, other = tmp_path / "cache", tmp_path / "other"
    for folder in (cache, other):
        folder.mkdir()
    (other / "thesis").touch()
    for number in range(1, 6):
        (cache / f"{number}-1").symlink_to(other)

    BundleCache(cache, "m").get("1", 1, lambda folder: bundle)
    assert (other / "thesis").exists()
    assert (cache / "1-1").is_dir()
    assert not (cache / "1-1").is_symlink()


@contextmanager
def answering(**answer: object) -> Iterator[ModelRegistry]:
    """Give a registry that answers whatever it is asked for with one version."""
    found = SimpleNamespace(**answer)
    client = SimpleNamespace(
        get_model_version_by_alias=lambda name, alias: found,
        get_model_version=lambda name, version: found,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient", lambda *uris: client)
        yield ModelRegistry("http://127.0.0.1:1")


@given(words)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_registry_whose_answer_is_no_version_is_unavailable(version: str) -> None:
    with answering(version=version, creation_timestamp=5) as registry:
        if not (version.isascii() and version.isdigit() and not version.startswith("0")):
            with pytest.raises(RegistryUnavailable, match="no number of a version"):
                registry.version_of_alias("m", "champion")
        with pytest.raises(RegistryUnavailable):
            registry.created_ms("m", "77")


@pytest.mark.parametrize("time", [None, "5", -1, 10**18, 1.5, "../x"])
def test_a_registry_whose_answer_is_no_time_is_unavailable(time: object) -> None:
    with (
        answering(version=3, creation_timestamp=time) as registry,
        pytest.raises(RegistryUnavailable, match="no time"),
    ):
        registry.created_ms("m", "3")


@given(words.filter(lambda name: name not in (MANIFEST, "1")))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_file_of_any_name_is_written_beside_the_manifest_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    root = tmp_path_factory.mktemp("files")
    (root / "version" / PLACE).mkdir(parents=True)
    (root / "here").mkdir()
    (root / "thesis").write_text("mine")
    write_manifest(root / "version", {name: "0", "1": "0"})
    with_one = root / "version" / PLACE / "1"
    with_one.touch()
    before = tree(root)
    with contextlib.suppress(InputError):
        download_bundle(str(root / "version"), "", root / "here")
    assert tree(root) - before <= {f"here/{MANIFEST}", "here/1"}
    assert (root / "thesis").read_text() == "mine"


def test_only_the_files_that_a_manifest_names_are_copied(registered: Path, tmp_path: Path) -> None:
    (registered / PLACE / "more").write_bytes(b"x")
    (tmp_path / "here").mkdir()
    download_bundle(registered.as_uri(), "", tmp_path / "here")
    assert "more" not in tree(tmp_path / "here")
    assert read_folder(tmp_path / "here")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ([1], "damaged"),
        ({MANIFEST: "0"}, "is itself"),
        ({f"f{number}": "0" for number in range(MAX_FILES + 1)}, "17 files"),
        ({"a" * 70_000: "0"}, "larger"),
    ],
)
def test_what_no_study_writes_is_no_bundle(
    registered: Path, tmp_path: Path, content: object, cause: str
) -> None:
    write_manifest(registered, content)
    (tmp_path / "here").mkdir()
    with pytest.raises(InputError, match=cause):
        download_bundle(str(registered), "", tmp_path / "here")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
@pytest.mark.parametrize("name", [MANIFEST, "weights.safetensors"])
def test_what_is_no_plain_file_is_refused_at_once(
    registered: Path, tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = registered / PLACE / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(path.parent)  # the path of a socket has a short end
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
    (tmp_path / "here").mkdir()
    with pytest.raises(InputError, match="no plain file"):
        download_bundle(str(registered), "", tmp_path / "here")


def test_a_bundle_that_is_too_large_is_not_copied(registered: Path, tmp_path: Path) -> None:
    with open(registered / PLACE / "weights.safetensors", "r+b") as file:
        file.truncate(2**40)  # takes no room
    (tmp_path / "here").mkdir()
    with pytest.raises(InputError, match="larger"):
        download_bundle(str(registered), "", tmp_path / "here")


@contextmanager
def served(handler: Any) -> Iterator[str]:
    """Serve HTTP on this machine with a function that takes a request handler; yield its URI."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Log nothing."""

        def do_GET(self) -> None:
            handler(self)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_files_of_another_machine_are_fetched_one_by_one_and_never_without_an_end(
    registered: Path, tmp_path: Path
) -> None:
    asked = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        if PLACE in request.path:
            asked.append(request.path)
        name = request.path.rpartition("/")[2]
        request.send_response(200)
        request.end_headers()
        with contextlib.suppress(OSError):  # who asked has gone
            while name == "weights.safetensors":
                request.wfile.write(bytes(2**16))
            request.wfile.write((registered / PLACE / name).read_bytes())

    (tmp_path / "here").mkdir()
    with served(answer) as uri, pytest.raises(InputError, match="larger"):
        download_bundle("mlflow-artifacts:/somewhere", uri, tmp_path / "here", max_bytes=2**22)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "here").iterdir()}
    assert sum(sizes.values()) <= 2**22
    assert set(sizes) == tree(registered / PLACE)
    for name in (MANIFEST, "model.json", "README.md"):
        assert (tmp_path / "here" / name).read_bytes() == (registered / PLACE / name).read_bytes()
    assert len(asked) == len(sizes)


def test_a_place_that_answers_drop_by_drop_is_given_up(tmp_path: Path) -> None:
    gone = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not gone.wait(0.2):
            try:
                request.wfile.write(b" ")
            except OSError:
                return

    with served(drip) as uri:
        try:
            with pytest.raises((TimeoutError, OSError)):
                download_bundle("mlflow-artifacts:/x", uri, tmp_path, timeout_s=1.5)
        finally:
            gone.set()


def test_a_place_that_is_not_there_is_unavailable_and_not_broken(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        download_bundle(str(tmp_path / "none"), "", tmp_path)
    with pytest.raises(InputError, match=MANIFEST):
        download_bundle(str(tmp_path), "", tmp_path)


def test_a_file_that_is_missing_is_said_by_who_reads_the_bundle(
    registered: Path, tmp_path: Path
) -> None:
    (registered / PLACE / "README.md").unlink()
    (tmp_path / "here").mkdir()
    download_bundle(str(registered), "", tmp_path / "here")
    with pytest.raises(AffectuneError, match=r"README.md is missing"):
        read_folder(tmp_path / "here")
