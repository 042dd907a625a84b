"""Every name that a study logs is in the tables of mlflow/README.md, and the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.tuning_tests.journals import events
from tests.tuning_tests.mlflow_backend.documented_names import (
    documented_run_names,
    undocumented,
    unused,
)
from tests.tuning_tests.mlflow_backend.tracking.study_events import (
    finalist,
    study_opened,
    trial_progressed,
    whole_trial,
)
from tuning.journal.events import (
    Event,
    ModelRegistered,
    StudyFinished,
    StudyResumed,
    StudyStopped,
    TaskCompleted,
    TrialEnded,
)
from tuning.mlflow_backend.tracking.run_updates import FORMAT, FORMAT_TAG, STUDY, RunTree
from tuning.mlflow_backend.tracking.study_runs import identity_tags

KINDS = ("study", "task", "trial")
MEASURE = re.compile("ccc|_re(_|$)")
SCORE = re.compile("devel|held_out|deciding|out_of_fold")


def fabricated_study() -> Iterator[Event]:
    """Yield a study that was stopped and resumed, with all scores that a trial can have."""
    for event in events():
        if isinstance(event, StudyFinished):
            distilled = {"targets": {"arousal": {"teacher": {"ccc": 0.5}}}}
            yield event.model_copy(update={"summary": event.summary | {"distillation": distilled}})
        elif isinstance(event, TrialEnded) and event.held_out is not None:
            yield event.model_copy(update={"deciding": event.held_out + 0.01})
        else:
            yield event

    yield TaskCompleted(at=2e9, task="auto_encoder/gaze", finalists=(finalist(),))
    yield StudyStopped(at=2e9, reason="interrupted")
    yield StudyResumed(at=2e9)
    yield ModelRegistered(at=2e9, model="affectune", version="1")


@pytest.fixture(scope="module")
def logged() -> dict[str, dict[str, set[str]]]:
    """The names that a study logs, by "metrics" or "tags" and the kind of run."""
    tree = RunTree("1")
    kinds: dict[str, str] = {}
    names: dict[str, dict[str, set[str]]] = {"metrics": {}, "tags": {}}
    for event in fabricated_study():
        for update in tree.apply(event):
            kind = kinds.setdefault(update.name, update.tags.get("affectune.kind", "none"))
            tags = update.tags | identity_tags("id", update.name)
            metrics = {metric.key for metric in update.metrics}
            names["metrics"].setdefault(kind, set()).update(metrics)
            names["tags"].setdefault(kind, set()).update(tags)
    return names


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_is_documented_and_every_documented_metric_is_logged(
    logged: dict[str, dict[str, set[str]]], kind: str
) -> None:
    documented = documented_run_names("Metrics")[kind]
    assert undocumented(logged["metrics"][kind], documented) == set()
    assert unused(logged["metrics"][kind], documented) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_tag_is_documented_and_every_documented_tag_is_set(
    logged: dict[str, dict[str, set[str]]], kind: str
) -> None:
    documented = documented_run_names("Tags")
    mlflow_tags = {tag for tag in logged["tags"][kind] if tag.startswith("mlflow.")}
    tags = logged["tags"][kind] - mlflow_tags

    expected = documented.get(kind, []) + documented["all"]
    assert undocumented(tags, expected) == set()
    assert unused(tags, expected) == set()


def test_the_name_of_every_score_says_which_score_it_is(
    logged: dict[str, dict[str, set[str]]],
) -> None:
    for kind in KINDS:
        scores = {name for name in logged["metrics"][kind] if MEASURE.search(name)}
        assert scores
        assert {name for name in scores if not SCORE.search(name)} == set()


def test_a_metric_of_a_trial_and_one_of_its_task_mean_the_same_score() -> None:
    tree = RunTree("1")
    completed = TaskCompleted(at=1300, task="auto_encoder/head", finalists=(finalist(),))
    trial = whole_trial(0, "patience", "auto_encoder/head")

    metrics = set()
    for event in (study_opened(), *trial, completed):
        for update in tree.apply(event):
            metrics |= {(update.name, metric.key) for metric in update.metrics}

    for name in ("devel_re", "deciding_re"):
        assert {("0000", name), ("auto_encoder/head", name)} <= metrics


def test_an_epoch_that_is_reported_twice_is_logged_once() -> None:
    tree = RunTree("1")
    for event in (study_opened(), *whole_trial(0, "patience")):
        tree.apply(event)

    (update,) = tree.apply(trial_progressed(0, 3, 4, 5))
    assert [metric.step for metric in update.metrics if metric.key == "devel_ccc"] == [5]


def test_the_format_of_runs_is_a_tag_of_the_study() -> None:
    (update,) = RunTree("1").apply(study_opened())
    assert update.name == STUDY
    assert update.tags[FORMAT_TAG] == FORMAT == "3"
