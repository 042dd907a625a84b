"""The commands `corpus check` and `corpus synthesize`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.data.checks.summary import summarise
from pipeline.data.cli import corpus_app, parse_names
from pipeline.data.muse import read_corpus
from pipeline.errors import InputError
from tests.pipeline_tests.data.muse_files import (
    feature_values,
    label_values,
    write_corpus,
    write_features,
    write_labels,
    write_participants,
)


def run(*arguments: object) -> str:
    """Run a command and return what it prints, or raise its error."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(
        corpus_app, [str(argument) for argument in arguments]
    )
    if result.exception:
        raise result.exception

    return result.stdout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a corpus with rows of zeros in one session and constant labels in another."""
    root = write_corpus(tmp_path / "corpus")
    values = feature_values("1", 3)
    values[2:4] = 0
    write_features(root, "voice", "1", values)
    write_labels(root, "arousal", "2", np.full(10, 0.25))
    return root


def test_the_summary_counts_partitions(root: Path) -> None:
    train, devel, test = summarise(read_corpus(root)).partitions

    assert (train.name, train.sessions, train.subjects, train.frames) == ("train", 2, 2, 20)
    assert (devel.name, devel.sessions, devel.subjects, devel.frames) == ("devel", 1, 1, 10)
    assert (test.name, test.sessions, test.subjects, test.frames) == ("test", 1, 1, 10)
    assert (train.labelled_frames, devel.labelled_frames, test.labelled_frames) == (20, 10, 0)


def test_the_summary_adds_up_findings_per_feature_set_and_target(root: Path) -> None:
    corpus = read_corpus(root)
    summary = summarise(corpus)
    sets = {feature_set.name: feature_set for feature_set in summary.sets}
    targets = {target.name: target for target in summary.targets}

    voice = sets["voice"]
    assert (voice.columns, voice.zero_rows, voice.present_share) == (3, 2, 38 / 40)

    arousal = targets["arousal"]
    labels = np.concatenate([session.labels["arousal"] for session in corpus.sessions])
    assert (arousal.labels, arousal.constant_sessions, arousal.unlabelled_sessions) == (30, 1, 1)
    assert (arousal.mean, arousal.std) == pytest.approx((np.nanmean(labels), np.nanstd(labels)))


def test_the_summary_begins_with_warnings_and_gives_a_verdict(root: Path) -> None:
    summary = summarise(read_corpus(root))

    assert summary.verdict == "look"
    assert summary.findings[0].level == "warning"


def test_check_prints_what_a_person_can_act_on(root: Path) -> None:
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

    assert [feature_set["name"] for feature_set in document["sets"]] == ["voice"]
    assert [target["name"] for target in document["targets"]] == ["arousal", "valence"]
    assert document["digest"] == read_corpus(root, modalities=["voice"]).digest
    assert document["verdict"] == "look"


def test_check_warns_of_a_stuck_sensor_by_session_and_set(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "corpus", partitions={"1": "train", "2": "train", "3": "devel"})
    for session in ("1", "2", "3"):
        for target in ("arousal", "valence"):
            write_labels(root, target, session, label_values(session, target, 40))
        write_features(root, "face", session, feature_values(session, 2, 40))
        voice = feature_values(session, 3, 40)
        if session == "3":
            voice[20:] = voice[20]
        write_features(root, "voice", session, voice)

    text = run("check", root)
    assert "warning stuck rows" in text
    assert "voice: 19 of 40 in 1 sessions: '3'" in text
    assert text.rstrip().splitlines()[-1].startswith("look: ")

    document = json.loads(run("check", root, "--json"))
    assert {each["name"]: each["stuck_rows"] for each in document["sets"]} == {
        "face": 0,
        "voice": 19,
    }


def test_a_clean_corpus_is_ready(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "clean")
    write_participants(root)

    assert "ready: " in run("check", root)


def test_a_corpus_without_labels_cannot_be_learned(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "bare", targets=())

    assert json.loads(run("check", root, "--json"))["verdict"] == "cannot be learned"


@pytest.mark.parametrize(
    ("sessions", "where"), [(("1", "2"), "train"), (("a-3",), "devel"), (("1",), "")]
)
def test_labels_that_are_all_the_same_cannot_be_learned(
    tmp_path: Path, sessions: tuple[str, ...], where: str
) -> None:
    root = write_corpus(tmp_path / "constant", targets=("arousal",))
    for session in sessions:
        write_labels(root, "arousal", session, np.full(10, 0.5))
    summary = summarise(read_corpus(root))

    assert (summary.verdict == "cannot be learned") == bool(where)
    if where:
        assert summary.reason == f"every label of 'arousal' in {where} is the same."


def test_a_set_without_a_row_in_devel_cannot_be_learned(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "missing")
    (root / "feature_segments/voice/a-3.csv").unlink()
    summary = summarise(read_corpus(root))

    assert summary.verdict == "cannot be learned"
    assert summary.reason == "'voice' is missing from every devel frame: leave it out."


def test_a_corpus_of_unknown_labels_cannot_be_learned(tmp_path: Path) -> None:
    root = write_corpus(tmp_path / "unknown", targets=("arousal",))
    for session in ("1", "2", "a-3"):
        write_labels(root, "arousal", session, np.full(10, np.nan))
    document = json.loads(run("check", root, "--json"))

    assert document["targets"][0]["mean"] is None
    assert document["verdict"] == "cannot be learned"


def test_a_mistake_is_left_to_the_command_line_above(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no corpus"):
        run("check", tmp_path, "--json")


@pytest.mark.parametrize("option", ["--modalities", "--targets"])
def test_check_takes_only_lists_of_different_names(root: Path, option: str) -> None:
    with pytest.raises(InputError, match="Cannot read the list 'voice,,face'"):
        run("check", root, option, "voice,,face")


def test_names_are_separated_by_commas_and_stripped() -> None:
    assert parse_names("voice") == ["voice"]
    assert parse_names(" voice,face , eda 2") == ["voice", "face", "eda 2"]


def test_an_option_that_was_not_given_has_no_names() -> None:
    assert parse_names(None) is None


@pytest.mark.parametrize("text", ["", " ", ",", "a,,b", "a,b,", ",a", "a, ,b", "a,b,a", "a, a"])
def test_empty_and_doubled_names_are_an_input_error_that_quotes_the_list(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_names(text)

    assert repr(text) in str(caught.value)


def test_synthesize_writes_a_corpus_that_check_reads(tmp_path: Path) -> None:
    run("synthesize", tmp_path / "out", "--subjects", 3, "--minutes", 0.2, "--seed", 5)
    document = json.loads(run("check", tmp_path / "out", "--json"))

    assert [partition["frames"] for partition in document["partitions"]] == [24, 24, 24]


@pytest.mark.parametrize("command", ["check", "synthesize"])
def test_help_has_an_example(command: str) -> None:
    assert f"affectune corpus {command}" in run(command, "--help")
