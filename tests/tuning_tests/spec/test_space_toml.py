"""Tables of a study file become dimensions, and every mistake in them is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import InputError
from tests.tuning_tests.spec.study_files import read_written, unimodal_space
from tuning.spec.study_spec import for_corpus

PLACE = "[search.unimodal.space] "
CELL = '"network.cell" = { choice = ["gru", "lstm"] }\n'
LAYERS = '"network.num_layers" = { int = [1, 3] }\n'
SKIP_WHEN_DIFFICULT = '"network.skip" = { choice = [true], when = { "difficulty" = [true] } }\n'
SUBSETS = 'name = "s"\n[search.fusion]\nsampler = "grid"\n[search.fusion.space]\n"modalities" = '


def difficulty_when(condition: str) -> str:
    """Write a dimension that applies under a condition."""
    return f'"difficulty" = {{ choice = [true], when = {{ {condition} }} }}\n'


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ('"fit.lr" = { choice = [1] }', PLACE + "'fit.lr': there is no such setting"),
        ('"fit.learningrate" = { choice = [1] }', "Did you mean 'fit.learning_rate'?"),
        ('"fit" = { choice = [1] }', "this is a table. Name a setting in it: fit.loss"),
        ('"folds" = { choice = [3, 4] }', "no such setting"),
        ('"unimodal.difficulty" = { choice = [true] }', "no such setting"),
        ('network.cell = { choice = ["gru"] }', "A path is one key, in quotes"),
        ('"network.cell" = { choise = ["gru"] }', "Did you mean 'choice'?"),
        (
            '"network.cell" = { choice = ["gru", "rnn"] }',
            "'network.cell': Input should be 'gru', 'lstm' or 'tcn' (it is 'rnn')",
        ),
        (
            '"network.cell" = { choice = [] }',
            "'search.unimodal.space.network.cell': an empty choice",
        ),
        ('"network.cell" = { choice = ["gru", "gru"] }', "'gru' is listed twice"),
        ('"fit.learning_rate" = { choice = [1, 1.0] }', "1.0 is listed twice"),
        ('"network.cell" = { choice = [["gru"]] }', "one value, not a list"),
        (
            '"network.cell" = { choice = [nan] }',
            "'search.unimodal.space.network.cell.choice.0': a value is text, a finite",
        ),
        ('"network.cell" = { choice = "gru" }', "Input should be a list (it is 'gru')"),
        ('"network.cell" = "gru"', "Input should be a table (it is 'gru')"),
        ('"network.cell" = {}', "give exactly one of choice, uniform, loguniform, int"),
        ('"network.dropout" = { choice = [0.1], uniform = [0, 1] }', "give exactly one of"),
        ('"network.dropout" = { uniform = [0.5, 0.5] }', "0.5 to 0.5 is empty"),
        ('"network.dropout" = { uniform = [0.5, 0.1] }', "the lower end comes first"),
        ('"network.dropout" = { uniform = [0.5, nan] }', "a finite number"),
        (
            '"network.dropout" = { uniform = [0.5] }',
            "'search.unimodal.space.network.dropout.uniform",
        ),
        (
            '"network.dropout" = { uniform = [0.0, 1.0] }',
            "'network.dropout': Input should be less than 1 (it is 1.0)",
        ),
        (
            '"network.dropout" = { uniform = [0, 0.5], log = true }',
            "for real numbers write loguniform",
        ),
        ('"fit.weight_decay" = { loguniform = [0.0, 0.1] }', "begins above 0, not at 0"),
        (
            '"fit.batch_size" = { int = [0, 8] }',
            "'fit.batch_size': Input should be greater than or equal to 1",
        ),
        ('"fit.batch_size" = { int = [8, 4] }', "8 to 4 is empty"),
        ('"fit.batch_size" = { int = [1.5, 4] }', "fit.batch_size.int"),
        ('"fit.batch_size" = { int = [1, 100000000000000000000] }', "fit.batch_size.int"),
        ('"fit.input_noise" = { int = [0, 8], log = true }', "begins above 0, not at 0"),
        (
            '"fit.batch_size" = { uniform = [1, 4] }',
            "'fit.batch_size': Input should be a valid integer (it is 1.0)",
        ),
        (
            '"network.skip" = { uniform = [0, 1] }',
            "'network.skip': Input should be a valid boolean",
        ),
        ('"network.skip" = { choice = [0, 1] }', "'network.skip': Input should be a valid boolean"),
        (
            '"delay_s" = { uniform = [0, 8] }',
            "'delay_s': a delay is a number of seconds from 0 to 6",
        ),
        ('"context_s" = { choice = [[2, 5]] }', "context_s.choice"),
        ('"context_s" = { choice = [2, 5] }', "'context_s': at most 8 lengths of windows"),
        ('"network.skip" = { top = 2 }', "'top' is not for a setting"),
        ('"network.skip" = { subsets = 2 }', "'subsets' is not for a setting"),
        ('"modalities" = { subsets = 2 }', "'modalities': there is no such setting"),
        ('"unimodal" = { top = 2 }', "'unimodal': there is no such setting"),
        ('"auto_encoder" = { choice = [1, 2] }', "write { top = N }"),
        ('"auto_encoder" = { top = 0 }', "auto_encoder.top"),
        (
            '"auto_encoder" = { top = 2 }',
            "the number of finalists of [search.auto_encoder] is only 1",
        ),
    ],
)
def test_an_impossible_dimension_is_reported_with_its_file_and_place(
    dimensions: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as raised:
        unimodal_space(tmp_path, dimensions)

    assert message in str(raised.value)
    assert str(tmp_path / "study.toml") in str(raised.value)
    assert str(raised.value).endswith((".", "?"))


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        (CELL + difficulty_when('"network.sell" = ["gru"]'), "no such setting. Did you mean"),
        (CELL + difficulty_when('"network.skip" = [true]'), "'network.skip', which is not"),
        (difficulty_when('"network.cell" = ["gru"]') + CELL, "Move it further up"),
        (CELL + difficulty_when('"network.cell" = ["rnn"]'), "one of 'gru', 'lstm'"),
        (CELL + difficulty_when('"network.cell" = []'), "lists no value of 'network.cell'"),
        (LAYERS + difficulty_when('"network.num_layers" = [4]'), "from 1 to 3"),
        (LAYERS + difficulty_when('"network.num_layers" = ["2"]'), "from 1 to 3"),
        (difficulty_when('"difficulty" = [true]'), "circular"),
        (
            SKIP_WHEN_DIFFICULT + difficulty_when('"network.skip" = [true]'),
            "'when' is circular: 'difficulty' depends on 'network.skip'",
        ),
        (
            '"network.dropout" = { uniform = [0, 0.5] }\n'
            + difficulty_when('"network.dropout" = [0.1]'),
            "which is continuous",
        ),
        (
            CELL
            + '"fit.batch_size" = { choice = [4, 16], when = { "network.cell" = ["lstm"] } }\n'
            + difficulty_when('"network.cell" = ["gru"], "fit.batch_size" = [16]'),
            "never hold together",
        ),
        ('"auto_encoder" = { top = 1 }\n' + difficulty_when('"auto_encoder" = [1]'), "settings"),
        (
            '"difficulty" = { choice = [false] }\n"auto_encoder" = { top = 1 }',
            "never hold together",
        ),
    ],
)
def test_a_condition_that_cannot_hold_is_reported_with_its_place(
    dimensions: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as raised:
        unimodal_space(tmp_path, dimensions)

    assert message in str(raised.value)
    assert PLACE in str(raised.value)


def test_all_subsets_of_at_least_some_size_are_listed(tmp_path: Path) -> None:
    study = for_corpus(read_written(tmp_path, SUBSETS + "{ subsets = 2 }"), ["a", "b", "c"], ["t"])

    space = study.space("fusion")

    assert [space.used_modalities(configuration) for configuration in space.grid()] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
        ("a", "b", "c"),
    ]


@pytest.mark.parametrize(
    ("num_modalities", "message"), [(1, "needs 2 to 10"), (11, "there are 11")]
)
def test_too_few_or_too_many_modalities_have_no_computed_subsets(
    num_modalities: int, message: str, tmp_path: Path
) -> None:
    study = read_written(tmp_path, SUBSETS + "{ subsets = 2 }")
    modalities = [f"modality {number}" for number in range(num_modalities)]

    with pytest.raises(InputError, match=message):
        for_corpus(study, modalities, ["t"])


def test_listed_subsets_are_in_the_order_of_the_modalities(tmp_path: Path) -> None:
    study = read_written(tmp_path, SUBSETS + '{ choice = [["c", "a"], ["b"]] }')

    space = for_corpus(study, ["a", "b", "c", "d"], ["t"]).space("fusion")

    subsets = [space.used_modalities(configuration) for configuration in space.grid()]
    assert subsets == [("a", "c"), ("b",)]


def test_a_listed_subset_has_only_modalities_of_the_study(tmp_path: Path) -> None:
    study = read_written(tmp_path, SUBSETS + '{ choice = [["c", "a"], ["b"]] }')

    with pytest.raises(InputError, match="'c' is not a modality of the study"):
        for_corpus(study, ["a", "b"], ["t"])
