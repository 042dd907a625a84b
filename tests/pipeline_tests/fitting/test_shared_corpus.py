"""The corpus that fits share: the same in every process, and safe from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.fitting.shared_corpus import map_shared, pack, unpack, write_shared
from tests.pipeline_tests.corpora import tiny_corpus

WRITE = """
import torch
from pipeline.fitting.shared_corpus import pack, unpack
from tests.pipeline_tests.corpora import tiny_corpus
shared = unpack(*pack(tiny_corpus()))
array = shared.sessions[{index}].features["voice"]
print("read", float(array.sum()), flush=True)
torch.from_numpy(array).add_(1)
print("wrote", flush=True)
"""


def test_an_unpacked_corpus_is_the_one_that_was_packed() -> None:
    corpus = tiny_corpus()
    unpacked = unpack(*pack(corpus))
    assert unpacked.columns == corpus.columns

    for one, other in zip(unpacked.sessions, corpus.sessions, strict=True):
        assert one.session_id == other.session_id
        assert (one.subject, one.partition) == (other.subject, other.partition)
        for modality in corpus.modalities:
            np.testing.assert_array_equal(one.features[modality], other.features[modality])
            np.testing.assert_array_equal(one.present[modality], other.present[modality])
        for target in corpus.targets:
            np.testing.assert_array_equal(one.labels[target], other.labels[target])

    session_ids = [session.session_id for session in corpus.partition("train")]
    digest = unpacked.digest_of(session_ids, modality="voice", target="arousal")
    assert digest == corpus.digest_of(session_ids, modality="voice", target="arousal")


def test_a_mapped_corpus_is_the_one_that_was_written_and_read_only(tmp_path: Path) -> None:
    corpus = tiny_corpus()
    write_shared(corpus, tmp_path)
    mapped = map_shared(tmp_path)

    for one, other in zip(corpus.sessions, mapped.sessions, strict=True):
        np.testing.assert_array_equal(one.features["voice"], other.features["voice"])
        assert not other.features["voice"].flags.writeable


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, -1], ids=["first session", "last session"])
def test_a_process_that_writes_to_the_corpus_is_stopped(index: int) -> None:
    """torch writes to arrays that numpy calls read-only."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WRITE.format(index=index)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "read" in ended.stdout
    assert "wrote" not in ended.stdout
    assert ended.returncode == -11  # a segmentation fault
