"""Search spaces: every configuration is a valid spec, counted once; every mistake in a study file is told."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.spec import Spec
from tuning.spec.space import STAGES, Choice, Dimension, Domain, IntRange, Space, Value
from tuning.spec.study_spec import StudySpec, for_corpus, override, read_study

STUDIES = Path(__file__).parents[3] / "tuning" / "studies"
SHIPPED = sorted(path.stem for path in STUDIES.glob("*.toml"))
MODALITIES = ("face", "physio", "voice")
BASE = """
name = "a study"
[search.unimodal]
trials = 10
[search.unimodal.space]
"""


def shipped(name: str) -> StudySpec:
    return for_corpus(read_study(STUDIES / f"{name}.toml"), MODALITIES, ("arousal", "valence"))


def written(folder: Path, text: str) -> StudySpec:
    path = folder / "study.toml"
    path.write_text(text)
    return read_study(path)


def unimodal_space(folder: Path, *lines: str) -> Space:
    return written(folder, BASE + "\n".join(lines)).space("unimodal")


def any_value(dimension: Dimension) -> st.SearchStrategy[Value]:
    domain = dimension.domain
    if isinstance(domain, Choice):
        return st.sampled_from(domain.values)
    if isinstance(domain, IntRange):
        return st.integers(domain.low, domain.high)
    return st.floats(domain.low, domain.high)


def setting(spec: Any, path: str) -> Any:
    for name in path.split("."):
        spec = getattr(spec, name)
    return spec


spaces = st.sampled_from([shipped(name).space(stage) for name in SHIPPED for stage in STAGES])


def test_the_shipped_studies_are_all_read() -> None:
    assert SHIPPED == ["demo", "paper", "wide"]
    for name in SHIPPED:
        assert read_study(STUDIES / f"{name}.toml").name == name


@given(space=spaces, data=st.data())
def test_every_sample_of_a_shipped_study_is_a_valid_spec_that_says_what_was_drawn(
    space: Space, data: st.DataObject
) -> None:
    values = space.sample(lambda dimension: data.draw(any_value(dimension)))
    settings = space.settings(values)
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings
    for path, default in space.defaults.items():
        assert setting(settings, path) == values.get(path, default)
    spec = space.spec(values)
    assert getattr(spec, space.stage) == settings
    assert spec.model_copy(update={space.stage: getattr(space.base, space.stage)}) == space.base
    assert set(space.subset(values)) <= set(MODALITIES)
    assert all(1 <= rank <= 3 for rank in space.ranks(values).values())


@given(space=spaces, data=st.data())
def test_what_stands_in_dimensions_that_do_not_apply_changes_nothing(
    space: Space, data: st.DataObject
) -> None:
    values = space.sample(lambda dimension: data.draw(any_value(dimension)))
    everything = {d.path: data.draw(any_value(d)) for d in space.dimensions} | values
    assert [d.path for d in space.active(everything)] == list(values)
    assert space.settle(everything) == values
    assert space.canonical(everything) == space.canonical(values)
    assert space.settings(everything) == space.settings(values)
    assert json.loads(space.canonical(dict(reversed(everything.items())))) == values


@given(space=spaces, data=st.data())
def test_one_other_value_is_another_configuration(space: Space, data: st.DataObject) -> None:
    values = space.sample(lambda dimension: data.draw(any_value(dimension)))
    several = [
        d for d in space.active(values) if d.domain.values is None or len(d.domain.values) > 1
    ]
    dimension = data.draw(st.sampled_from(several))
    other = data.draw(any_value(dimension).filter(lambda value: value != values[dimension.path]))
    everything = {d.path: data.draw(any_value(d)) for d in space.dimensions} | values
    assert space.canonical({**everything, dimension.path: other}) != space.canonical(values)


@st.composite
def finite_spaces(draw: st.DrawFn) -> Space:
    """Spaces with conditions at any depth."""
    domains: list[tuple[str, Domain]] = [
        ("network.cell", Choice(("gru", "lstm"))),
        ("network.num_layers", IntRange(1, 4)),
        ("network.skip", Choice((True, False))),
        ("fit.batch_size", Choice((2, 4, 8))),
        ("fit.loss", Choice(("mse", "l1", "ccc"))),
    ]
    space = Space("unimodal", Spec(), (), ())
    for path, domain in draw(st.permutations(domains))[: draw(st.integers(1, 5))]:
        earlier = (
            draw(st.lists(st.sampled_from(space.dimensions), max_size=2))
            if space.dimensions
            else []
        )
        when = {
            other.path: tuple(draw(st.lists(any_value(other), min_size=1, max_size=3, unique=True)))
            for other in earlier
        }
        with contextlib.suppress(InputError):  # conditions that never hold together
            space = space.with_dimension(Dimension(path, domain, when))
    return space


@given(space=finite_spaces())
def test_a_grid_holds_each_distinct_configuration_once_and_size_is_their_number(
    space: Space,
) -> None:
    grid = list(space.grid())
    # The independent count: all combinations of all dimensions, told apart by the settings that they give.
    product = itertools.product(*(d.domain.values or () for d in space.dimensions))
    paths = [d.path for d in space.dimensions]
    distinct = {
        space.settings(dict(zip(paths, values, strict=True))).model_dump_json()
        for values in product
    }
    assert {space.settings(values).model_dump_json() for values in grid} == distinct
    assert (
        len(grid)
        == len(distinct)
        == len({space.canonical(values) for values in grid})
        == space.size
    )


def test_the_papers_grid_has_the_papers_size() -> None:
    paper = shipped("paper")
    cells, rates, dropouts = 4, 3, 3
    assert paper.space("auto_encoder").size == cells * rates * dropouts * 2
    assert paper.space("unimodal").size == cells * rates * dropouts * 3 * 2
    assert paper.num_trials("unimodal") == 216
    assert (
        paper.space("fusion").size == 2 * rates * dropouts * 3 * 2 * 4
    )  # 3 pairs and all three modalities
    assert len(list(paper.space("unimodal").grid())) == 216


def test_size_counts_only_where_a_condition_holds_even_in_a_long_range(tmp_path: Path) -> None:
    space = unimodal_space(
        tmp_path,
        '"fit.batch_size" = { int = [1, 9007199254740992] }',
        '"fit.loss" = { choice = ["mse", "l1", "ccc"], when = { "fit.batch_size" = [1, 7] } }',
    )
    assert space.size == 2 * 3 + (2**53 - 2)


def test_a_continuous_space_has_no_size_and_no_grid(tmp_path: Path) -> None:
    space = unimodal_space(tmp_path, '"network.dropout" = { uniform = [0.0, 0.5] }')
    assert space.size is None
    with pytest.raises(InputError, match=r"network\.dropout"):
        space.grid()


def test_a_rank_counts_only_where_its_stage_is_read(tmp_path: Path) -> None:
    study = written(
        tmp_path,
        'name = "s"\nmodalities = ["a", "b"]\n'
        '[search.auto_encoder]\ntrials = 9\n[search.auto_encoder.space]\n"fit.batch_size" = { int = [1, 8] }\n'
        '[search.unimodal]\ntrials = 9\nsampler = "random"\n[search.unimodal.space]\n'
        '"auto_encoder" = { top = 3 }\n"difficulty" = { choice = [true, false] }\n'
        '[search.fusion]\nsampler = "grid"\n[search.fusion.space]\n'
        '"unimodal" = { top = 2 }\n"modalities" = { subsets = 1 }\n',
    )
    unimodal, fusion = study.space("unimodal"), study.space("fusion")
    assert unimodal.size == 3 + 1
    assert unimodal.ranks({"difficulty": True, "auto_encoder": 2}) == {"auto_encoder": 2}
    assert unimodal.ranks({"difficulty": False, "auto_encoder": 2}) == {}
    assert fusion.size == 2 + 2 + 2 * 2
    values: dict[str, Value] = {"modalities": "b", "unimodal.a": 1, "unimodal.b": 2}
    assert (fusion.subset(values), fusion.ranks(values)) == (("b",), {"b": 2})
    assert fusion.canonical(values) == fusion.canonical({**values, "unimodal.a": 2})
    assert study.space("fusion", available={"unimodal.a": 1}).size == 1 + 2 + 2
    assert study.space("unimodal", available={"auto_encoder": 2}).size == 2 + 1


def test_a_stage_that_is_not_searched_has_one_configuration_the_base(tmp_path: Path) -> None:
    study = written(
        tmp_path,
        BASE.replace("[search", "folds = 3\n[search", 1) + '"difficulty" = { choice = [true] }',
    )
    assert study.base == Spec(folds=3)
    for stage in ("auto_encoder", "fusion"):
        space = study.space(stage)
        assert (space.size, list(space.grid()), space.canonical({})) == (1, [{}], "{}")
        assert space.settings({}) == getattr(Spec(), stage)
        assert (study.num_trials(stage), study.num_finalists(stage), study.table(stage).seeds) == (
            1,
            1,
            1,
        )
    assert study.space("unimodal").ranks({"difficulty": True}) == {"auto_encoder": 1}
    assert study.num_finalists("unimodal") == 1


@pytest.mark.parametrize("name", ["demo", "paper", "wide"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_search_starts_with_the_base_as_far_as_the_space_holds_it(name: str, stage: Any) -> None:
    space = shipped(name).space(stage)
    start = space.start()
    assert space.settle(start) == start
    for dimension in space.dimensions:
        if dimension.path in start and dimension.path in space.defaults:
            base = space.defaults[dimension.path]
            assert start[dimension.path] == base or dimension.domain.member(base) is None


def test_where_the_space_lacks_the_bases_value_a_search_starts_with_the_nearest(
    tmp_path: Path,
) -> None:
    space = unimodal_space(
        tmp_path,
        '"fit.weight_decay" = { loguniform = [1e-6, 1e-2] }',  # the base has 0
        '"network.num_layers" = { int = [1, 2] }',  # 4
        '"network.hidden_size" = { choice = [8, 16] }',  # 64
    )
    assert space.start() == {
        "fit.weight_decay": 1e-6,
        "network.num_layers": 2,
        "network.hidden_size": 8,
    }


def test_a_fusion_search_starts_with_all_modalities_and_the_best_of_each() -> None:
    start = shipped("wide").space("fusion").start()
    assert start["modalities"] == ",".join(MODALITIES)
    assert [start[f"unimodal.{modality}"] for modality in MODALITIES] == [1] * len(MODALITIES)


def test_values_from_numpy_become_plain_ones(tmp_path: Path) -> None:
    space = unimodal_space(
        tmp_path,
        '"network.num_layers" = { int = [1, 4] }',
        '"network.dropout" = { uniform = [0, 0.5] }',
        '"fit.batch_size" = { choice = [4, 8] }',
    )
    drawn: dict[str, Any] = {
        "network.num_layers": np.int64(2),
        "network.dropout": np.float64(0.25),
        "fit.batch_size": np.int64(8),
    }
    assert (
        space.canonical(drawn)
        == '{"fit.batch_size":8,"network.dropout":0.25,"network.num_layers":2}'
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needs a value for 'network.num_layers'"),
        (
            {"network.num_layers": 5},
            "'network.num_layers' cannot be 5: it is a whole number from 1 to 4",
        ),
        ({"network.num_layers": 1, "fit.lr": 1}, "no dimension 'fit.lr'"),
        ({"network.num_layers": 2, "network.dropout": float("nan")}, "cannot be nan"),
    ],
)
def test_values_outside_the_space_are_refused(
    values: dict[str, Value], message: str, tmp_path: Path
) -> None:
    space = unimodal_space(
        tmp_path,
        '"network.num_layers" = { int = [1, 4] }',
        '"network.dropout" = { uniform = [0, 0.5], when = { "network.num_layers" = [2] } }',
    )
    with pytest.raises(InputError, match=re.escape(message)):
        space.settings(values)


def test_settings_that_cannot_stand_together_are_told_when_they_meet() -> None:
    space = Space("unimodal", Spec(), (), ())
    space = space.with_dimension(Dimension("fit.hop_frames", Choice((50, 200)), {}))
    space = space.with_dimension(Dimension("fit.window_frames", Choice((100, 300)), {}))
    assert (
        setting(space.settings({"fit.hop_frames": 200, "fit.window_frames": 300}), "fit.hop_frames")
        == 200
    )
    with pytest.raises(
        InputError,
        match=r"hop_frames is 200; it must not exceed window_frames, 100.*Together: .*100",
    ):
        space.settings({"fit.hop_frames": 200, "fit.window_frames": 100})
    # A condition that keeps them apart makes the space possible.
    apart = Dimension("fit.window_frames", Choice((100, 300)), {"fit.hop_frames": (50,)})
    Space("unimodal", space.base, (), space.dimensions[:1]).with_dimension(apart)
    with pytest.raises(InputError, match="must not exceed window_frames"):
        Space("unimodal", space.base, (), space.dimensions[:1]).with_dimension(
            Dimension("fit.window_frames", Choice((100, 300)), {"fit.hop_frames": (200,)})
        )


def test_subsets_of_modalities_are_computed_or_listed(tmp_path: Path) -> None:
    fusion = 'name = "s"\n[search.fusion]\nsampler = "grid"\n[search.fusion.space]\n"modalities" = '
    computed = for_corpus(written(tmp_path, fusion + "{ subsets = 2 }"), ["a", "b", "c"], ["t"])
    space = computed.space("fusion")
    assert [space.subset(values) for values in space.grid()] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
        ("a", "b", "c"),
    ]
    study = written(tmp_path, fusion + '{ choice = [["c", "a"], ["b"]] }')
    listed = for_corpus(study, ["a", "b", "c", "d"], ["t"]).space("fusion")
    assert [listed.subset(values) for values in listed.grid()] == [("a", "c"), ("b",)]
    for modalities, message in (
        (["a"], "needs 2 to 10"),
        ([f"m{n}" for n in range(11)], "there are 11"),
    ):
        with pytest.raises(InputError, match=message):
            for_corpus(written(tmp_path, fusion + "{ subsets = 2 }"), modalities, ["t"])
    with pytest.raises(InputError, match="'c' is not a modality of the study"):
        for_corpus(study, ["a", "b"], ["t"])


def test_a_corpus_decides_what_the_study_leaves_open_and_refuses_what_it_lacks(
    tmp_path: Path,
) -> None:
    open_study = written(tmp_path, BASE + '"difficulty" = { choice = [true, false] }')
    assert (open_study.corpus, open_study.modalities, open_study.targets) == (None, None, None)
    found = for_corpus(open_study, ["face", "voice"], ["arousal", "valence"])
    assert (found.modalities, found.targets) == (("face", "voice"), ("arousal", "valence"))
    chosen = override(open_study, corpus="here", modalities=["voice"], targets=["valence"])
    found = for_corpus(chosen, ["face", "voice"], ["arousal", "valence"])
    assert (found.corpus, found.modalities, found.targets) == ("here", ("voice",), ("valence",))
    with pytest.raises(
        InputError, match=r"modality 'voice'; the corpus has vioce.* Did you mean 'vioce'"
    ):
        for_corpus(chosen, ["vioce"], ["valence"])
    with pytest.raises(InputError, match="target 'valence'; the corpus has arousal"):
        for_corpus(chosen, ["voice"], ["arousal"])
    with pytest.raises(InputError, match="not different"):
        override(open_study, modalities=["voice", "voice"])
    with pytest.raises(InputError, match="modalities"):
        override(open_study, modalities=[])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_study_is_data(name: str) -> None:
    study = shipped(name)
    assert StudySpec.model_validate_json(study.model_dump_json()) == study
    with pytest.raises(ValidationError, match="frozen"):
        study.name = "other"


SPACE = "[search.unimodal.space] "


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ('"fit.lr" = { choice = [1] }', SPACE + "'fit.lr': there is no such setting"),
        ('"fit.learningrate" = { choice = [1] }', "Did you mean 'fit.learning_rate'?"),
        ('"fit" = { choice = [1] }', "this is a table. Name a setting in it: fit.loss"),
        ('"folds" = { choice = [3, 4] }', "no such setting"),
        ('"unimodal.difficulty" = { choice = [true] }', "no such setting"),
        ('network.cell = { choice = ["gru"] }', "A path is one key, in quotes"),
        ('"network.cell" = { choise = ["gru"] }', "Did you mean 'choice'?"),
        (
            '"network.cell" = { choice = ["gru", "rnn"] }',
            "'network.cell': Input should be 'gru' or 'lstm' (it is 'rnn')",
        ),
        (
            '"network.cell" = { choice = [] }',
            "'search.unimodal.space.network.cell': an empty choice",
        ),
        ('"network.cell" = { choice = ["gru", "gru"] }', "'gru' stands there twice"),
        ('"fit.learning_rate" = { choice = [1, 1.0] }', "1.0 stands there twice"),
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
        ('"network.skip" = { top = 2 }', "'top' is not for a setting"),
        ('"network.skip" = { subsets = 2 }', "'subsets' is not for a setting"),
        ('"modalities" = { subsets = 2 }', "'modalities': there is no such setting"),
        ('"unimodal" = { top = 2 }', "'unimodal': there is no such setting"),
        ('"auto_encoder" = { choice = [1, 2] }', "written { top = N }"),
        ('"auto_encoder" = { top = 0 }', "auto_encoder.top"),
        (
            '"auto_encoder" = { top = 2 }',
            "top = 2, but only 1 of [search.auto_encoder] reach the end",
        ),
    ],
)
def test_an_impossible_dimension_is_told_with_its_file_and_place(
    dimensions: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as told:
        unimodal_space(tmp_path, dimensions)
    assert message in str(told.value)
    assert str(tmp_path / "study.toml") in str(told.value)
    assert str(told.value).endswith((".", "?"))


CELL = '"network.cell" = { choice = ["gru", "lstm"] }\n'
LAYERS = '"network.num_layers" = { int = [1, 3] }\n'


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        (
            CELL + '"difficulty" = { choice = [true], when = { "network.sell" = ["gru"] } }',
            "no such setting. Did you mean",
        ),
        (
            CELL + '"difficulty" = { choice = [true], when = { "network.skip" = [true] } }',
            "'network.skip', which is not",
        ),
        (
            '"difficulty" = { choice = [true], when = { "network.cell" = ["gru"] } }\n' + CELL,
            "Move it further up",
        ),
        (
            CELL + '"difficulty" = { choice = [true], when = { "network.cell" = ["rnn"] } }',
            "one of 'gru', 'lstm'",
        ),
        (
            CELL + '"difficulty" = { choice = [true], when = { "network.cell" = [] } }',
            "lists no value of 'network.cell'",
        ),
        (
            LAYERS + '"difficulty" = { choice = [true], when = { "network.num_layers" = [4] } }',
            "from 1 to 3",
        ),
        (
            LAYERS + '"difficulty" = { choice = [true], when = { "network.num_layers" = ["2"] } }',
            "from 1 to 3",
        ),
        ('"difficulty" = { choice = [true], when = { "difficulty" = [true] } }', "circular"),
        (
            '"network.skip" = { choice = [true], when = { "difficulty" = [true] } }\n'
            '"difficulty" = { choice = [true], when = { "network.skip" = [true] } }',
            "'when' is circular: 'difficulty' looks back at 'network.skip'",
        ),
        (
            '"network.dropout" = { uniform = [0, 0.5] }\n'
            '"difficulty" = { choice = [true], when = { "network.dropout" = [0.1] } }',
            "which is continuous",
        ),
        (
            CELL
            + '"fit.batch_size" = { choice = [4, 16], when = { "network.cell" = ["lstm"] } }\n'
            + '"difficulty" = { choice = [true], when = { "network.cell" = ["gru"], "fit.batch_size" = [16] } }',
            "never hold together",
        ),
        (
            '"auto_encoder" = { top = 1 }\n"difficulty" = { choice = [true], when = { "auto_encoder" = [1] } }',
            "settings",
        ),
        (
            '"difficulty" = { choice = [false] }\n"auto_encoder" = { top = 1 }',
            "never hold together",
        ),
    ],
)
def test_a_condition_that_cannot_hold_is_told(
    dimensions: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as told:
        unimodal_space(tmp_path, dimensions)
    assert message in str(told.value)
    assert SPACE in str(told.value)


GOOD = '[search.unimodal.space]\n"difficulty" = { choice = [true, false] }\n'
FUSION = '[search.fusion]\ntrials = 4\n[search.fusion.space]\n"modalities" = '


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[search", "is not TOML"),
        (f"[search.unimodal]\ntrials = 9\n{GOOD}", "'name': Field required. Add it."),
        ('name = "s"', "'search': Field required"),
        ('name = "s"\n[search]', "nothing is searched"),
        (f'name = "a/b"\n[search.unimodal]\ntrials = 9\n{GOOD}', "'name'"),
        (
            f'name = "s"\nmodality = ["a"]\n[search.unimodal]\ntrials = 9\n{GOOD}',
            "Did you mean 'modalities'?",
        ),
        (
            f'name = "s"\nmodalities = ["a", "a"]\n[search.unimodal]\ntrials = 9\n{GOOD}',
            "not different",
        ),
        (
            f'name = "s"\nmodalities = ["a,b"]\n[search.unimodal]\ntrials = 9\n{GOOD}',
            "'modalities.0'",
        ),
        (f'name = "s"\ntargets = []\n[search.unimodal]\ntrials = 9\n{GOOD}', "'targets'"),
        (
            f'name = "s"\n[fusion.fit]\nlr = 1\n[search.unimodal]\ntrials = 9\n{GOOD}',
            "Unknown key 'fusion.fit.lr'",
        ),
        (
            f'name = "s"\n[auto_encoder.fit]\nloss = "ccc"\n[search.unimodal]\ntrials = 9\n{GOOD}',
            "rebuilds",
        ),
        ('name = "s"\n[search.unimodal]\ntrials = 9', "the space of 'unimodal' is empty"),
        (
            'name = "s"\n[search.unimodal]\ntrials = 9\n[search.unimodal.space]',
            "the space of 'unimodal' is empty",
        ),
        (
            f'name = "s"\n[search.unimodel]\ntrials = 9\n{GOOD}',
            "Unknown key 'search.unimodel'. Did you mean 'unimodal'?",
        ),
        (f'name = "s"\n[search.unimodal]\ntrial = 9\n{GOOD}', "Did you mean 'trials'?"),
        (f'name = "s"\n[search.unimodal]\n{GOOD}', "sampler 'tpe' needs 'trials'"),
        (f'name = "s"\n[search.unimodal]\ntrials = 0\n{GOOD}', "'search.unimodal.trials'"),
        (
            f'name = "s"\n[search.unimodal]\ntrials = 9\nsampler = "bayes"\n{GOOD}',
            "'tpe', 'random' or 'grid'",
        ),
        (f'name = "s"\n[search.unimodal]\ntrials = 2\n{GOOD}', "3 finalists of 2 trials"),
        (
            f'name = "s"\n[search.unimodal]\ntrials = 9\nreduction_factor = 1\n{GOOD}',
            "reduction_factor",
        ),
        (
            f'name = "s"\n[search.unimodal]\ntrials = 9\ngrace_epochs = 101\n{GOOD}',
            "fits end after 100 epochs",
        ),
        (f'name = "s"\n[search.unimodal]\ntrials = 9\ngpus = 1.5\n{GOOD}', "whole processors only"),
        (f'name = "s"\n[search.unimodal]\ntrials = 9\ncpus = -1\n{GOOD}', "'search.unimodal.cpus'"),
        (
            'name = "s"\n[search.unimodal]\nsampler = "grid"\n[search.unimodal.space]\n"network.dropout" = '
            "{ uniform = [0.0, 0.5] }",
            "a grid cannot hold the continuous network.dropout",
        ),
        (
            'name = "s"\n[search.auto_encoder]\ntrials = 9\n[search.auto_encoder.space]\n"fit.loss" = '
            '{ choice = ["mse", "ccc"] }',
            "an auto-encoder rebuilds features",
        ),
        (
            'name = "s"\n[search.auto_encoder]\ntrials = 9\n[search.auto_encoder.space]\n"auto_encoder" = { top = 2 }',
            "no such setting",
        ),
        (
            'name = "s"\n[unimodal]\ndifficulty = false\n[search.unimodal]\ntrials = 9\n[search.unimodal.space]\n'
            '"auto_encoder" = { top = 1 }',
            "no auto-encoder is read",
        ),
        (
            f'name = "s"\nmodalities = ["a"]\n{FUSION} {{ subsets = 2 }}',
            "needs 2 to 10 modalities; there are 1",
        ),
        (f'name = "s"\n{FUSION} {{ subsets = 0 }}', "modalities.subsets"),
        (
            f'name = "s"\nmodalities = ["face"]\n{FUSION} {{ choice = [["fase"]] }}',
            "Did you mean 'face'?",
        ),
        (
            f'name = "s"\n{FUSION} {{ choice = [["a", "b"], ["b", "a"]] }}',
            "'a,b' stands there twice",
        ),
        (f'name = "s"\n{FUSION} {{ choice = [["a", "a"]] }}', "'a' stands there twice"),
        (f'name = "s"\n{FUSION} {{ choice = [[]] }}', "write { subsets = N }"),
        (f'name = "s"\n{FUSION} {{ choice = ["a"] }}', "write { subsets = N }"),
        (
            f'name = "s"\n{FUSION} {{ subsets = 1, when = {{ "difficulty" = [true] }} }}',
            "'difficulty', which is not",
        ),
        (
            f'name = "s"\n{FUSION} {{ subsets = 1 }}\n"unimodal" = {{ top = 2 }}',
            "top = 2, but only 1 of [search.unimodal] reach the end",
        ),
    ],
)
def test_a_mistake_in_a_study_is_told_with_its_file(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as told:
        written(tmp_path, text)
    assert message in str(told.value)
    assert str(tmp_path / "study.toml") in str(told.value)


def test_a_missing_file_is_told() -> None:
    with pytest.raises(InputError, match=r"Cannot read the study 'nowhere\.toml': No such file"):
        read_study("nowhere.toml")
