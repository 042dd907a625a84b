"""A study is refused before anything is trained where its search does not suit the corpus."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.stages.unimodal import UnimodalTask
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session
from tests.tuning_tests.studies import Worker, as_if_chosen, tiny_study
from tuning.study.assemble_model import winning_model
from tuning.study.study import StudyOptions, git_commit, open_study


@pytest.mark.slow
def test_a_winner_predicts_with_the_timings_that_were_found(tmp_path: Path) -> None:
    space = {
        "delay_s": {"uniform": [0.5, 2.0]},
        "context_s": {"choice": ["2,4", "3"]},
        "resample_s": {"choice": [0, 1.0]},
    }
    few = {"trials": 2, "finalists": 1, "seeds": 1}
    fusion = {"trials": 1, "finalists": 1, "space": {"modalities": {"subsets": 2}}}
    study = tiny_study(auto_encoder=few, unimodal={**few, "space": space}, fusion=fusion)
    worker = Worker(tmp_path, study)
    planner = worker.run()
    as_if_chosen(planner, "winner")
    model = winning_model(planner, worker.corpus, worker.store)

    unimodal_space = worker.study.space("unimodal")
    for (target, modality), models in model.regressors.items():
        task = UnimodalTask(modality, target)
        timings = {
            task.timing(unimodal_space.spec(finalist.configuration), worker.corpus.frame_period_ms)
            for finalist in planner.history.completed[task]
        }
        assert {stage.timing for stage in models} <= timings
        assert all(stage.timing.delay_frames for stage in models)

    for session in worker.corpus.partition("test"):
        prediction = model.predict(session.features)
        assert {len(series) for series in prediction.values.values()} == {session.num_frames}


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


def test_the_commit_of_a_repository_that_only_holds_the_environment_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed wheel is not the code of the user's repository around it."""
    identity = ("-c", "user.name=a person", "-c", "user.email=a@b.c")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    commit = ["git", *identity, "commit", "--quiet", "--allow-empty", "--message", "mine"]
    subprocess.run(commit, cwd=tmp_path, check=True)

    module = tmp_path / "venv" / "lib" / "tuning" / "study" / "study.py"
    module.parent.mkdir(parents=True)
    monkeypatch.setattr("tuning.study.study.__file__", str(module))
    assert git_commit() is None

    own = tmp_path / "tuning" / "study" / "study.py"
    own.parent.mkdir(parents=True)
    monkeypatch.setattr("tuning.study.study.__file__", str(own))
    assert git_commit() is not None
