"""The commands `corpus check` and `corpus synthesize`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.data.cli import corpus_app
from pipeline.data.muse import read_corpus
from pipeline.data.summary import summarise
from pipeline.errors import InputError
from tests.pipeline_tests.data.muse_files import (
    feature_values,
    write_corpus,
    write_features,
    write_labels,
)


def run(*arguments: object) -> str:
    result = CliRunner(env={"COLUMNS": "120"}).invoke(
        corpus_app, [str(argument) for argument in arguments]
    )
    if result.exception:
        raise result.exception
    return result.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A corpus with rows of zeros in one session and constant labels in another."""
    root = write_corpus(tmp_path / "corpus")
    values = feature_values("1", 3)
    values[2:4] = 0
    write_features(root, "voice", "1", values)
    write_labels(root, "arousal", "2", np.full(10, 0.25))
    return root


def test_the_summary_adds_up(root: Path) -> None:
    summary = summarise(read_corpus(root))
    assert [(one.name, one.sessions, one.subjects, one.frames) for one in summary.partitions] == [
        ("train", 2, 2, 20),
        ("devel", 1, 1, 10),
        ("test", 1, 1, 10),
    ]
    assert [one.labelled_frames for one in summary.partitions] == [20, 10, 0]
    voice = next(one for one in summary.sets if one.name == "voice")
    assert (voice.columns, voice.zero_rows, voice.present_share) == (3, 2, 38 / 40)
    arousal = next(one for one in summary.targets if one.name == "arousal")
    assert (arousal.labels, arousal.constant_sessions, arousal.unlabelled_sessions) == (30, 1, 1)
    labels = np.concatenate([session.labels["arousal"] for session in read_corpus(root).sessions])
    assert (arousal.mean, arousal.std) == pytest.approx((np.nanmean(labels), np.nanstd(labels)))
    assert summary.verdict == "look"
    assert summary.findings[0].level == "warning"


def test_check_says_what_a_person_can_act_on(root: Path) -> None:
    text = run("check", root)
    for expected in (
        "train",
        "voice",
        "95.0%",
        "warning constant labels",
        "arousal: 10 of 10 in 1 sessions: '2'",
    ):
        assert expected in text
    assert text.rstrip().splitlines()[-1].startswith("look: ")


def test_check_prints_one_json_object(root: Path) -> None:
    document = json.loads(
        run("check", root, "--json", "--modalities", "voice", "--targets", "arousal, valence")
    )
    assert [one["name"] for one in document["sets"]] == ["voice"]
    assert [one["name"] for one in document["targets"]] == ["arousal", "valence"]
    assert document["digest"] == read_corpus(root, modalities=["voice"]).digest
    assert document["verdict"] == "look"


def test_a_clean_corpus_is_ready_and_one_without_labels_cannot_be_learned(tmp_path: Path) -> None:
    assert "ready: " in run("check", write_corpus(tmp_path / "clean"))
    document = json.loads(run("check", write_corpus(tmp_path / "bare", targets=()), "--json"))
    assert document["verdict"] == "cannot be learned"
    root = write_corpus(tmp_path / "unknown", targets=("arousal",))
    for session in ("1", "2", "a-3"):
        write_labels(root, "arousal", session, np.full(10, np.nan))
    document = json.loads(run("check", root, "--json"))
    assert document["targets"][0]["mean"] is None
    assert document["verdict"] == "cannot be learned"


def test_a_mistake_is_left_to_the_command_line_above(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no corpus"):
        run("check", tmp_path, "--json")


def test_synthesize_writes_what_check_reads(tmp_path: Path) -> None:
    run("synthesize", tmp_path / "out", "--subjects", 3, "--minutes", 0.2, "--seed", 5)
    document = json.loads(run("check", tmp_path / "out", "--json"))
    assert [one["frames"] for one in document["partitions"]] == [24, 24, 24]


@pytest.mark.parametrize("command", ["check", "synthesize"])
def test_help_has_an_example(command: str) -> None:
    assert f"affectune corpus {command}" in run(command, "--help")
