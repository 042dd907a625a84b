"""Feature sets that are faster than the frames: averaged, or dropped with a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Finding, Resampling
from pipeline.data.checks.summary import summarise
from pipeline.data.muse import read_corpus
from pipeline.errors import InputError
from tests.pipeline_tests.data.muse_files import (
    PARTITIONS,
    feature_values,
    write_corpus,
    write_features,
    write_participants,
)

STEP_MS = 20
LABELLED = ("1", "2", "a-3")
NUM_ROWS = 250  # ten frames of 500 ms


def write_fast_voice(root: Path, header: tuple[str, ...] = ("a", "b", "c")) -> Path:
    """Write a corpus whose voice has 25 rows per frame, and its face one."""
    write_corpus(root)
    for session in PARTITIONS:
        write_features(
            root, "voice", session, voice_of(session), step_ms=STEP_MS, header=list(header)
        )
    return root


def voice_of(session: str) -> NDArray[np.float64]:
    """Return a voice with a missing cell, missing rows, and a frame that is missing altogether."""
    values = feature_values(session, 3, NUM_ROWS)
    values[30, 1] = np.nan
    values[60:70] = 0
    values[113:138] = 0  # all rows of the frame at 2500 ms
    return values


def rows_by_frame(session: str) -> pd.DataFrame:
    """Return the rows that are there, with the frame that each is nearest to."""
    rows = pd.DataFrame(voice_of(session)).interpolate()
    times_ms = np.arange(NUM_ROWS) * STEP_MS
    rows["frame"] = np.floor(times_ms / 500 + 0.5).astype(int)
    return rows[rows[0] != 0]


def findings_of_kind(corpus: Corpus, kind: str) -> list[Finding]:
    """Return the findings of one kind."""
    return [finding for finding in corpus.findings if finding.kind == kind]


def test_frames_are_means_of_their_rows_by_default_where_most_would_be_dropped(
    tmp_path: Path,
) -> None:
    corpus = read_corpus(write_fast_voice(tmp_path))

    assert corpus.resampling == {"voice": "mean"}
    assert corpus.columns["voice"] == ("a", "b", "c")
    for session in map(corpus.session, LABELLED):
        means = rows_by_frame(session.session_id).groupby("frame").mean().reindex(range(10))
        present = means[0].notna().to_numpy()
        np.testing.assert_array_equal(session.present["voice"], present)
        assert not present[5]
        np.testing.assert_allclose(session.features["voice"], means.fillna(0), rtol=1e-6)
    (finding,) = findings_of_kind(corpus, "rows averaged")
    assert (finding.level, finding.where) == ("note", "voice")


def test_mean_and_deviation_double_the_columns(tmp_path: Path) -> None:
    corpus = read_corpus(write_fast_voice(tmp_path), resampling="mean+std")

    # The face has a row per frame: its deviations would all be 0.
    assert corpus.resampling == {"voice": "mean+std"}
    assert corpus.columns["voice"] == ("a", "b", "c", "a_std", "b_std", "c_std")
    assert len(corpus.columns["face"]) == 2
    rows = rows_by_frame("1").groupby("frame")
    deviations = rows.std(ddof=0).reindex(range(10)).fillna(0)
    np.testing.assert_allclose(
        corpus.session("1").features["voice"][:, 3:], deviations, rtol=1e-4, atol=1e-5
    )


def test_columns_that_would_have_one_name_are_refused(tmp_path: Path) -> None:
    root = write_fast_voice(tmp_path, ("a", "b", "a_std"))

    with pytest.raises(InputError, match="'voice' has a column 'a_std' already"):
        read_corpus(root, resampling="mean+std")
    assert read_corpus(root).resampling == {"voice": "mean"}


def test_dropping_most_rows_on_request_is_a_warning(tmp_path: Path) -> None:
    root = write_fast_voice(tmp_path)
    write_participants(root)
    corpus = read_corpus(root, resampling="nearest")

    assert corpus.resampling == {}
    findings = findings_of_kind(corpus, "rows not used")
    assert {(finding.level, finding.where) for finding in findings} == {("warning", "voice")}
    assert "--resample mean" in findings[0].message
    assert summarise(corpus).verdict == "look"
    assert summarise(read_corpus(root)).verdict == "ready"


def test_rows_outside_the_labelled_time_are_not_averaged_for_that(tmp_path: Path) -> None:
    root = write_corpus(tmp_path)
    for session in PARTITIONS:
        write_features(root, "voice", session, feature_values(session, 3, 60))
    corpus = read_corpus(root)

    assert corpus.resampling == {}
    findings = findings_of_kind(corpus, "rows not used")
    labelled = [finding for finding in findings if finding.session_id != "4"]
    assert {finding.level for finding in labelled} == {"warning"}
    assert "no frame is near" in labelled[0].message


@pytest.mark.parametrize("kind", ["nearest", "mean", "mean+std"])
def test_a_model_says_how_its_sets_are_read_whatever_their_rate(
    tmp_path: Path, kind: Resampling
) -> None:
    corpus = read_corpus(write_fast_voice(tmp_path), resampling={"voice": kind, "face": "mean"})

    assert corpus.resampling.get("voice", "nearest") == kind
    np.testing.assert_array_equal(corpus.session("1").features["face"], feature_values("1", 2))


def test_the_digest_tells_how_sets_were_read(tmp_path: Path) -> None:
    root = write_fast_voice(tmp_path)
    kinds: tuple[Resampling, ...] = ("nearest", "mean", "mean+std")
    digests = {read_corpus(root, resampling=kind).digest for kind in kinds}

    assert len(digests) == 3
    assert read_corpus(root).digest == read_corpus(root, resampling={"voice": "mean"}).digest


def test_new_recordings_are_put_on_the_period_of_a_model(tmp_path: Path) -> None:
    labelled = read_corpus(write_fast_voice(tmp_path / "labelled"))
    root = write_corpus(tmp_path / "new", targets=())
    for name in PARTITIONS:
        for feature_set, width in {"voice": 3, "face": 2}.items():
            values = voice_of(name)[:, :width]
            write_features(root, feature_set, name, values, step_ms=STEP_MS)

    corpus = read_corpus(
        root, targets=[], frame_period_ms=500, resampling={"voice": "mean", "face": "nearest"}
    )

    assert corpus.frame_period_ms == 500
    for session in map(corpus.session, LABELLED):
        np.testing.assert_array_equal(session.timestamps_ms, np.arange(10) * 500)
        np.testing.assert_array_equal(
            session.features["voice"], labelled.session(session.session_id).features["voice"][:10]
        )


@pytest.mark.parametrize(("step_ms", "num_rows"), [(40, 125), (2000, 4), (333, 16), (130, 40)])
def test_frames_of_a_model_are_its_period_apart_at_any_rate(
    tmp_path: Path, step_ms: int, num_rows: int
) -> None:
    root = write_corpus(tmp_path, partitions={"4": "test"}, sets={"voice": 3}, targets=())
    write_features(root, "voice", "4", feature_values("4", 3, num_rows), step_ms=step_ms)

    session = read_corpus(root, targets=[], frame_period_ms=500).session("4")

    assert set(np.diff(session.timestamps_ms)) == {500}
    assert abs(session.num_frames - step_ms * num_rows / 500) <= 4
