"""Events hold no credentials, whoever wrote them."""

from __future__ import annotations

import json

import pytest

from tests.tuning_tests.journals import STUDY, events
from tuning.journal.events import EVENT, StudyOpened, StudyStopped, TrialEnded
from tuning.journal.history import history_of
from tuning.mlflow_backend.tracking.run_updates import RunTree

SECRET = "S3cretKey"
URI = f"s3://AKIAX:{SECRET}@bucket/x?region=eu"


def test_what_an_earlier_version_wrote_is_masked_when_it_is_read() -> None:
    lines = [
        {"event": "study_stopped", "at": 1, "reason": f"AffectuneError: Cannot write to '{URI}'"},
        {
            **{"event": "trial_ended", "at": 1, "trial": "0001", "reason": "error", "devel": None},
            **{"best_epoch": 0, "epochs": 0, "cpu_s": 0, "wall_s": 0, "error": f"No answer: {URI}"},
        },
    ]
    for line in lines:
        event = EVENT.validate_json(json.dumps(line))
        assert SECRET not in event.model_dump_json()
        assert "s3://***@bucket/x?region=eu" in event.model_dump_json()


def test_neither_the_journal_nor_mlflow_has_the_credentials_of_a_study() -> None:
    opened = next(event for event in events() if isinstance(event, StudyOpened))
    study = {**opened.study, "corpus": URI}
    opened = StudyOpened(**{**opened.model_dump(), "study": study})
    stopped = StudyStopped(at=opened.at, reason=f"OSError: {URI}")

    tree = RunTree("1")
    updates = [*tree.apply(opened), *tree.apply(stopped)]
    assert SECRET not in opened.model_dump_json() + repr(updates)
    assert updates[0].params["corpus"] == "s3://***@bucket/x?region=eu"
    assert history_of([opened]).study.name == STUDY["name"]


@pytest.mark.parametrize("name", ["P05:V3@x", "token=5", "voice?password=2", "a://b:c@d"])
def test_names_of_a_corpus_and_a_study_are_never_masked(name: str) -> None:
    opened = next(event for event in events() if isinstance(event, StudyOpened))
    assert StudyOpened(**{**opened.model_dump(), "folds": (name,)}).folds == (name,)


def test_an_error_without_credentials_is_as_it_was() -> None:
    ended = TrialEnded(
        at=1.0, trial="0001", reason="error", devel=None, best_epoch=0, epochs=0, cpu_s=0, wall_s=0,
        error="The loss of 'voice@2' is NaN after epoch 3, lr=0.1.",
    )  # fmt: skip
    assert ended.error == "The loss of 'voice@2' is NaN after epoch 3, lr=0.1."
