"""Every name that a corpus may have can be registered and tracked, and is read back the same."""

from __future__ import annotations

import json

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    _validate_metric,
    _validate_model_version_tag,
    _validate_param,
    _validate_tag,
)

from pipeline.names import mistake_in_label, twins, unescape_key
from tests.tuning_tests.mlflow_backend.registry.winners import (
    DISTILLATION,
    SCORES,
    comparison,
    finished_study,
)
from tuning.journal.events import StudyFinished
from tuning.mlflow_backend.registry.promotion import difference_tag
from tuning.mlflow_backend.registry.version_scores import read_scores
from tuning.mlflow_backend.registry.version_tags import MAX_TAG, version_tags
from tuning.mlflow_backend.tracking.run_metrics import summary_metrics, to_key
from tuning.mlflow_backend.tracking.run_params import MAX_TEXT, to_text

PARTS = (
    "(self)",
    " ",
    "%2F",
    "'",
    '"',
    "`",
    "\\",
    "_x2B_",
    "_",
    ":",
    "con",
    "é",
    "é",
    "声",
    "a",
    "+",
)
names = st.one_of(
    st.text(min_size=1, max_size=120),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=12).map("".join),
    st.integers(1, 115).map("x".__mul__),
).filter(lambda name: mistake_in_label(name) is None)


def raise_if_refused(tags: dict[str, str]) -> None:
    """Ask MLflow whether it takes the tags of a version, of a run, and as parameters."""
    for key, value in tags.items():
        _validate_model_version_tag(key, value)  # type: ignore[no-untyped-call]
        _validate_tag(key, value)  # type: ignore[no-untyped-call]
        _validate_param(key, value)  # type: ignore[no-untyped-call]
        assert len(value) <= MAX_TAG


@given(names, names)
@settings(max_examples=150, deadline=None, derandomize=True)
@example("arousal (self)", "voice [v2] + 50%")
@example("a.b", "a")
@example("x" * 115, "+" * 20)
def test_every_name_of_a_corpus_can_be_registered(target: str, modality: str) -> None:
    assume(not twins([target, modality]))
    history = finished_study(key="k" * 64)
    targets = {target: {**SCORES["arousal"], "floors": {"mean": 0.1}, "unimodal": {modality: 0.2}}}
    assert history.finished is not None
    distilled = {"targets": {target: DISTILLATION["targets"]["arousal"]}}
    summary = {"targets": targets, "distillation": distilled}
    history.finished = StudyFinished(at=1.0, summary=summary)
    model = {"stages": {"fusion/a/0": {"key": "k" * 64}}}

    files = {"model.json": json.dumps(model).encode()}
    tags = version_tags(files, history, "identity", promote_first=True)
    raise_if_refused(tags)
    read = {unescape_key(key) for key in tags}
    assert f"devel_ccc.{target}" in read
    for score in ("ccc", "between_ccc", "within_ccc"):
        assert read_scores(tags, score) == {target: [0.5, 0.25, None]}

    metrics = summary_metrics(history.finished)
    for metric in metrics:
        _validate_metric(metric.key, metric.value, metric.at_ms, metric.step)  # type: ignore[no-untyped-call]
    keys = {unescape_key(metric.key) for metric in metrics}
    assert f"{target}.devel_ccc.unimodal.{modality}" in keys
    assert f"{target}.devel_ccc.teacher" in keys
    assert len(keys) == len(metrics)


@given(names, names)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_two_names_have_one_key(first: str, second: str) -> None:
    assume(first != second)
    assert to_key("ccc", first) != to_key("ccc", second)
    assert to_key(first, "x", second) != to_key(second, "x", first)


@given(st.text(max_size=200), st.integers(1, 100))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_value_of_any_length_is_taken(word: str, times: int) -> None:
    value = to_text(word * times)
    assert len(value) <= MAX_TEXT
    try:
        raise_if_refused({"key": value})
    except MlflowException as error:  # pragma: no cover
        raise AssertionError(word) from error


def test_a_decision_on_many_targets_is_still_kept() -> None:
    few, many = (
        comparison(mean=0.1),
        comparison(mean=0.1, targets=[f"target {number}" for number in range(200)]),
    )
    assert json.loads(difference_tag(few))["targets"]
    assert len(difference_tag(many)) <= MAX_TAG
    assert json.loads(difference_tag(many))["mean"]["ccc"] == 0.1
    raise_if_refused({"affectune.decision.difference": difference_tag(many)})
