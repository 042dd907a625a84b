"""The corpus that trials share: the same, and safe from them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from tests.pipeline_tests.corpora import tiny_corpus
from tuning.ray_backend.shared_corpus import pack, unpack

WRITE = """
import torch
from tests.pipeline_tests.corpora import tiny_corpus
from tuning.ray_backend.shared_corpus import pack, unpack
shared = unpack(*pack(tiny_corpus()))
array = shared.sessions[{place}].features["voice"]
print("read", float(array.sum()), flush=True)
torch.from_numpy(array).add_(1)
print("wrote", flush=True)
"""


def test_what_is_unpacked_is_the_same_corpus() -> None:
    corpus = tiny_corpus()
    head, packed = pack(corpus)
    found = unpack(head, packed)
    assert found.columns == corpus.columns
    for one, other in zip(found.sessions, corpus.sessions, strict=True):
        assert (one.session_id, one.subject, one.partition) == (
            other.session_id,
            other.subject,
            other.partition,
        )
        for modality in corpus.modalities:
            np.testing.assert_array_equal(one.features[modality], other.features[modality])
            np.testing.assert_array_equal(one.present[modality], other.present[modality])
        for target in corpus.targets:
            np.testing.assert_array_equal(one.labels[target], other.labels[target])
    ids = [session.session_id for session in corpus.partition("train")]
    assert found.digest_of(ids, modality="voice", target="arousal") == corpus.digest_of(
        ids, modality="voice", target="arousal"
    )


def test_a_trial_that_writes_to_the_corpus_is_stopped_and_not_believed() -> None:
    """torch writes to arrays that numpy calls read-only; the first and the last array are protected like the others."""
    for place in (0, -1):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", WRITE.format(place=place)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "read" in done.stdout
        assert "wrote" not in done.stdout
        assert done.returncode == -11  # a segmentation fault
