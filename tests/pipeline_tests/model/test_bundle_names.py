"""A bundle whose names could lead elsewhere, or command a terminal, is refused where it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import CARD, WEIGHTS, load_model, save_model
from pipeline.names import mistake_in_file_name, mistake_in_text
from pipeline.storage.atomic_folder import MODEL, write_folder
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_spec

PARTS = (
    "..",
    "/",
    "\\",
    "a",
    "\0",
    "\n",
    "\x1b[2J",
    "\u202e",
    "\u200b",
    ".",
    " ",
    "é",
    "%2F",
    "(z)",
)
names = st.one_of(
    st.lists(st.sampled_from(PARTS), max_size=5).map("".join),
    st.text(max_size=6),
    st.just("x" * 300),
)

Rename = Callable[[str, str, str], Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a tiny model."""
    root, corpus = tmp_path_factory.mktemp("names"), tiny_corpus()
    save_model(train(corpus, tiny_spec(), WorkerPool(corpus, StageStore(root / "s"))), root / "m")
    return root / "m"


@pytest.fixture(scope="module")
def rename(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Rename:
    """Return what writes a bundle that hangs together, with another name for something in it."""
    folder = tmp_path_factory.mktemp("renamed") / "m"
    record = json.loads((saved / MODEL).read_bytes())
    arrays = safetensors.numpy.load((saved / WEIGHTS).read_bytes())

    def place(path: str, old: str, new: str) -> str:
        # A name may be "..", or have a slash: places quote it, as a bundle's writer would.
        parts = [quote(new, safe=" ()") if part == old else part for part in path.split("/")]
        return "/".join(parts)

    def renamed(value: Any, old: str, new: str) -> Any:
        if isinstance(value, dict):
            return {
                new if key == old else place(key, old, new): renamed(each, old, new)
                for key, each in value.items()
            }
        if isinstance(value, list):
            return [renamed(each, old, new) for each in value]
        return new if value == old else value

    def write(old: str, new: str, kind: str) -> Path:
        if kind == "column":
            changed = json.loads(json.dumps(record))
            columns = next(iter(changed["modalities"].values()))
            columns[0] = new
            weights = arrays
        else:
            changed = renamed(record, old, new)
            weights = {place(path, old, new): array for path, array in arrays.items()}
        files = {
            MODEL: json.dumps(changed).encode(),
            WEIGHTS: safetensors.numpy.save(weights),
            CARD: b"",
        }
        write_folder(folder, files)
        return folder

    return write


@pytest.mark.parametrize("kind", ["target", "modality", "column"])
@given(names)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_name_in_a_bundle_is_one_by_the_rule_or_the_bundle_is_refused(
    rename: Rename, saved: Path, kind: str, name: str
) -> None:
    record = json.loads((saved / MODEL).read_bytes())
    others = [*record["targets"], *record["modalities"], *next(iter(record["modalities"].values()))]
    if name in others:
        return
    old = record["targets"][0] if kind == "target" else next(iter(record["modalities"]))
    folder = rename(old, name, kind)
    mistake = mistake_in_text(name) if kind == "column" else mistake_in_file_name(name)
    if mistake is not None:
        with pytest.raises(InputError) as refused:
            load_model(folder)
        assert str(refused.value).isprintable()
    else:
        model = load_model(folder)
        every = {
            *model.targets,
            *model.modalities,
            *(c for cs in model.columns.values() for c in cs),
        }
        assert name in every


@pytest.mark.parametrize("name", ["arousal (self)", "a%b", "a+b & <i>", "声", "\U0001f600 x"])
def test_a_name_that_a_folder_may_have_is_loaded(rename: Rename, name: str) -> None:
    model = load_model(rename("arousal", name, "target"))
    assert name in model.targets


def test_the_hashes_of_a_renamed_bundle_are_right(rename: Rename) -> None:
    """Else the test above would prove nothing."""
    folder = rename("arousal", "../x", "target")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, digest in manifest.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    with pytest.raises(InputError, match=r"target '\.\./x' has a '/'"):
        load_model(folder)
