"""Study files: what a corpus and the command line decide; every mistake is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.spec import Spec, StageName
from tests.tuning_tests.spec.study_files import (
    SHIPPED,
    STUDIES,
    UNIMODAL_SPACE,
    read_written,
    shipped_study,
)
from tuning.spec.study_spec import StudySpec, for_corpus, override, read_study

NAME = 'name = "s"\n'
UNIMODAL = "[search.unimodal]\ntrials = 9\n"
AUTO_ENCODER = "[search.auto_encoder]\ntrials = 9\n[search.auto_encoder.space]\n"
GOOD = '[search.unimodal.space]\n"difficulty" = { choice = [true, false] }\n'
MODALITIES = '[search.fusion]\ntrials = 4\n[search.fusion.space]\n"modalities" = '


def open_study(folder: Path) -> StudySpec:
    """Read a study that leaves corpus, modalities and targets open."""
    return read_written(folder, UNIMODAL_SPACE + '"difficulty" = { choice = [true, false] }')


def test_the_shipped_studies_are_read() -> None:
    assert SHIPPED == ["demo", "paper", "wide"]
    for name in SHIPPED:
        assert read_study(STUDIES / f"{name}.toml").name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_a_study_is_frozen_and_survives_json(name: str) -> None:
    study = shipped_study(name)

    assert StudySpec.model_validate_json(study.model_dump_json()) == study
    with pytest.raises(ValidationError, match="frozen"):
        study.name = "other"


@pytest.mark.parametrize("stage", ["auto_encoder", "fusion"])
def test_a_stage_that_is_not_searched_has_one_configuration_the_base(
    stage: StageName, tmp_path: Path
) -> None:
    study = read_written(
        tmp_path, f'folds = 3\n{UNIMODAL_SPACE}"difficulty" = {{ choice = [true] }}'
    )
    assert study.base == Spec(folds=3)

    space = study.space(stage)

    assert space.size == 1
    assert list(space.grid()) == [{}]
    assert space.canonical_json({}) == "{}"
    assert space.settings({}) == getattr(Spec(), stage)
    assert study.num_trials(stage) == 1
    assert study.num_finalists(stage) == 1
    assert study.table(stage).seeds == 1


def test_a_search_of_one_configuration_has_one_finalist_that_reads_the_best(tmp_path: Path) -> None:
    study = read_written(tmp_path, UNIMODAL_SPACE + '"difficulty" = { choice = [true] }')

    assert study.num_finalists("unimodal") == 1
    assert study.space("unimodal").ranks({"difficulty": True}) == {"auto_encoder": 1}


# What a corpus and the command line decide


def test_a_corpus_decides_what_the_study_leaves_open(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    assert (study.corpus, study.modalities, study.targets) == (None, None, None)

    decided = for_corpus(study, ["face", "voice"], ["arousal", "valence"])

    assert decided.modalities == ("face", "voice")
    assert decided.targets == ("arousal", "valence")


def test_the_command_line_decides_before_the_corpus(tmp_path: Path) -> None:
    study = override(open_study(tmp_path), corpus="here", modalities=["voice"], targets=["valence"])

    decided = for_corpus(study, ["face", "voice"], ["arousal", "valence"])

    assert decided.split == "subject"
    assert override(study, split="both").base.split == "both"
    with pytest.raises(InputError, match=r"'split'.*'subject', 'stimulus' or 'both'"):
        override(study, split="room")
    assert decided.corpus == "here"
    assert decided.modalities == ("voice",)
    assert decided.targets == ("valence",)


@pytest.mark.parametrize(
    ("modalities", "targets", "message"),
    [
        (["vioce"], ["valence"], r"modality 'voice'; the corpus has vioce.* Did you mean 'vioce'"),
        (["voice"], ["arousal"], "target 'valence'; the corpus has arousal"),
    ],
)
def test_a_study_names_only_what_the_corpus_has(
    modalities: list[str], targets: list[str], message: str, tmp_path: Path
) -> None:
    study = override(open_study(tmp_path), modalities=["voice"], targets=["valence"])

    with pytest.raises(InputError, match=message):
        for_corpus(study, modalities, targets)


def test_overriding_names_must_be_different_and_not_empty(tmp_path: Path) -> None:
    study = open_study(tmp_path)

    with pytest.raises(InputError, match="not different"):
        override(study, modalities=["voice", "voice"])
    with pytest.raises(InputError, match="modalities"):
        override(study, modalities=[])


# Mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[search", "is not TOML"),
        (f"{UNIMODAL}{GOOD}", "'name': Field required. Add it."),
        ('name = "s"', "'search': Field required"),
        ('name = "s"\n[search]', "nothing is searched"),
        (f'name = "a/b"\n{UNIMODAL}{GOOD}', "'name': the name has a '/'"),
        (f'name = ".."\n{UNIMODAL}{GOOD}', "'name': the name begins with '.'"),
        (
            f'{NAME}registered_model = "a:b"\n{UNIMODAL}{GOOD}',
            "the name has ':'",
        ),
        (
            f'{NAME}registered_model = "a@b"\n{UNIMODAL}{GOOD}',
            "the name has '@'",
        ),
        (f'{NAME}registered_model = "a#b"\n{UNIMODAL}{GOOD}', "models:/<name>@<alias> takes none"),
        (f'{NAME}registered_model = ""\n{UNIMODAL}{GOOD}', "the name is empty"),
        (f'{NAME}targets = ["fusion"]\n{UNIMODAL}{GOOD}', "'targets.0': the name is what results"),
        (f'{NAME}modality = ["a"]\n{UNIMODAL}{GOOD}', "Did you mean 'modalities'?"),
        (f'{NAME}modalities = ["a", "a"]\n{UNIMODAL}{GOOD}', "not different"),
        (f'{NAME}modalities = ["a,b"]\n{UNIMODAL}{GOOD}', "'modalities.0': the name has a comma"),
        (f"{NAME}targets = []\n{UNIMODAL}{GOOD}", "'targets'"),
        (f"{NAME}[fusion.fit]\nlr = 1\n{UNIMODAL}{GOOD}", "Unknown key 'fusion.fit.lr'"),
        (f'{NAME}[auto_encoder.fit]\nloss = "ccc"\n{UNIMODAL}{GOOD}', "rebuilds"),
        (NAME + UNIMODAL, "the space of 'unimodal' is empty"),
        (NAME + UNIMODAL + "[search.unimodal.space]", "the space of 'unimodal' is empty"),
        (
            f"{NAME}[search.unimodel]\ntrials = 9\n{GOOD}",
            "Unknown key 'search.unimodel'. Did you mean 'unimodal'?",
        ),
        (f"{NAME}[search.unimodal]\ntrial = 9\n{GOOD}", "Did you mean 'trials'?"),
        (f"{NAME}[search.unimodal]\n{GOOD}", "sampler 'tpe' needs 'trials'"),
        (f"{NAME}[search.unimodal]\ntrials = 0\n{GOOD}", "'search.unimodal.trials'"),
        (f'{NAME}{UNIMODAL}sampler = "bayes"\n{GOOD}', "'tpe', 'random' or 'grid'"),
        (f"{NAME}[search.unimodal]\ntrials = 2\n{GOOD}", "3 finalists of 2 trials"),
        (f"{NAME}{UNIMODAL}reduction_factor = 1\n{GOOD}", "reduction_factor"),
        (f"{NAME}{UNIMODAL}grace_epochs = 101\n{GOOD}", "fits end after 100 epochs"),
        (f"{NAME}{UNIMODAL}gpus = 1.5\n{GOOD}", "whole processors only"),
        (f"{NAME}{UNIMODAL}cpus = -1\n{GOOD}", "'search.unimodal.cpus'"),
        (
            NAME + '[search.unimodal]\nsampler = "grid"\n'
            '[search.unimodal.space]\n"network.dropout" = { uniform = [0.0, 0.5] }',
            "a grid cannot hold the continuous network.dropout",
        ),
        (
            NAME + AUTO_ENCODER + '"fit.loss" = { choice = ["mse", "ccc"] }',
            "an auto-encoder rebuilds features",
        ),
        (NAME + AUTO_ENCODER + '"auto_encoder" = { top = 2 }', "no such setting"),
        (
            f"{NAME}[unimodal]\ndifficulty = false\n{UNIMODAL}[search.unimodal.space]\n"
            '"auto_encoder" = { top = 1 }',
            "no auto-encoder is read",
        ),
        (
            f'{NAME}modalities = ["a"]\n{MODALITIES} {{ subsets = 2 }}',
            "needs 2 to 10 modalities; there are 1",
        ),
        (f"{NAME}{MODALITIES} {{ subsets = 0 }}", "modalities.subsets"),
        (
            f'{NAME}modalities = ["face"]\n{MODALITIES} {{ choice = [["fase"]] }}',
            "Did you mean 'face'?",
        ),
        (f'{NAME}{MODALITIES} {{ choice = [["a", "b"], ["b", "a"]] }}', "'a,b' is listed twice"),
        (f'{NAME}{MODALITIES} {{ choice = [["a", "a"]] }}', "'a' is listed twice"),
        (f"{NAME}{MODALITIES} {{ choice = [[]] }}", "write { subsets = N }"),
        (f'{NAME}{MODALITIES} {{ choice = ["a"] }}', "write { subsets = N }"),
        (
            f'{NAME}{MODALITIES} {{ subsets = 1, when = {{ "difficulty" = [true] }} }}',
            "'difficulty', which is not",
        ),
        (
            f'{NAME}{MODALITIES} {{ subsets = 1 }}\n"unimodal" = {{ top = 2 }}',
            "the number of finalists of [search.unimodal] is only 1",
        ),
    ],
)
def test_a_mistake_in_a_study_is_reported_with_its_file(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as raised:
        read_written(tmp_path, text)

    assert message in str(raised.value)
    assert str(tmp_path / "study.toml") in str(raised.value)


def test_a_missing_file_is_reported() -> None:
    with pytest.raises(InputError, match=r"Cannot read the study 'nowhere\.toml': No such file"):
        read_study("nowhere.toml")
