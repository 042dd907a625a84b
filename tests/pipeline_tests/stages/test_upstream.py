"""What a fusion reads of sessions and of their corrupted copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus, Session
from pipeline.fitting.cross_fitter import CrossFitter
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.preprocessing.corruption import column_std, corrupted_copy
from pipeline.spec import CorruptionKind
from pipeline.stages.fusion import FUSION
from pipeline.stages.upstream import presence_columns
from pipeline.storage.stage_store import StageStore
from pipeline.train import fit_auto_encoders, fit_fusions, fit_regressors
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session, tiny_spec

KINDS: tuple[CorruptionKind, ...] = ("drop", "freeze", "noise", "shift")


def _relabelled(corpus: Corpus, subject: str) -> Corpus:
    def change(session: Session) -> Session:
        labels = {target: -3 * values + 1 for target, values in session.labels.items()}
        return replace(session, labels=labels) if session.subject == subject else session

    return corpus_of([change(session) for session in corpus.sessions])


def test_presence_tells_a_missing_frame_from_a_missing_modality() -> None:
    session = tiny_session("s", "s", "train", frames=4)
    voice = np.array([True, False, True, True])
    present = {"voice": voice, "face": np.zeros(4, dtype=bool)}

    columns = presence_columns([replace(session, present=present)], ["voice", "face"])
    assert columns["s"].tolist() == [[1, -1], [0, -1], [1, -1], [1, -1]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_spoils_one_modality_the_same_way_each_time(kind: CorruptionKind) -> None:
    session = tiny_session("s", "s", "train", frames=40)
    std = column_std((session,), "voice")

    copy, again = (corrupted_copy(session, "voice", kind, std) for _ in range(2))
    assert np.array_equal(copy.features["voice"], again.features["voice"])
    assert not np.array_equal(copy.features["voice"], session.features["voice"])
    assert copy.features["face"] is session.features["face"]
    assert copy.labels is session.labels


def test_the_labels_of_a_subject_do_not_reach_what_is_predicted_for_its_copies(
    tmp_path: Path,
) -> None:
    corpus, spec = tiny_corpus(), tiny_spec()

    def outputs(corpus: Corpus, folder: Path) -> dict[str, bytes]:
        with WorkerPool(corpus, StageStore(folder)) as pool:
            cross_fitter = CrossFitter(corpus, spec, pool)
            regressors = fit_regressors(cross_fitter, fit_auto_encoders(cross_fitter))
        copies = regressors["arousal"]["voice"].copies("noise")
        return {name: columns.tobytes() for name, columns in copies.items()}

    before = outputs(corpus, tmp_path / "a")
    after = outputs(_relabelled(corpus, "t2"), tmp_path / "b")
    assert before["t2_0"] == after["t2_0"]
    assert before["t2_1"] == after["t2_1"]
    assert before["t3_0"] != after["t3_0"]  # so the test can fail


@pytest.mark.slow
def test_a_fusion_that_is_in_the_store_needs_no_copies(tmp_path: Path) -> None:
    corpus, spec = tiny_corpus(), tiny_spec()
    with WorkerPool(corpus, StageStore(tmp_path)) as pool:
        cross_fitter = CrossFitter(corpus, spec, pool)
        encoders = fit_auto_encoders(cross_fitter)
        regressors = fit_regressors(cross_fitter, encoders)
        first = fit_fusions(cross_fitter, encoders, regressors)
        num_trained = len(pool.trained)

        def fail(kind: CorruptionKind) -> dict[str, np.ndarray]:
            raise AssertionError("copies were predicted")

        without_copies = {
            target: {m: replace(ensemble, copies=fail) for m, ensemble in by_modality.items()}
            for target, by_modality in regressors.items()
        }
        again = fit_fusions(cross_fitter, encoders, without_copies)

    assert len(pool.trained) == num_trained
    assert again["arousal"][FUSION].keys == first["arousal"][FUSION].keys
