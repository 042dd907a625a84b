"""A study is refused before anything is trained where its search does not suit the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session
from tests.tuning_tests.studies import tiny_study
from tuning.study.study import StudyOptions, open_study


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"delay_s": {"uniform": [0.0, 6.0]}}, "delay_s is 6 s for 'arousal', and session 'short'"),
        ({"resample_s": {"choice": [0, 0.2]}}, "resample_s is 0.2 s, .* every 500 ms"),
        ({"context_s": {"choice": ["", "0.5"]}}, "context_s has a window of 0.5 s"),
    ],
)
def test_a_timing_that_is_searched_must_suit_the_corpus(
    tmp_path: Path, space: dict[str, dict[str, object]], message: str
) -> None:
    short = tiny_session("short", "t0", "train", frames=10)
    corpus = corpus_of([*tiny_corpus().sessions, short])
    options = StudyOptions(tmp_path / "out", str(tmp_path / "store"))

    with pytest.raises(InputError, match=message):
        open_study(tiny_study(unimodal={"space": space}), corpus, tmp_path, options, resume=False)
    assert not options.folder.exists()

    study = open_study(tiny_study(), corpus, tmp_path, options, resume=False)
    study.journal.close()
