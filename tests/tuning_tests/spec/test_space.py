"""Search spaces: every configuration stands for valid settings, and for no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.spec import Spec, StageName
from tests.tuning_tests.spec.study_files import (
    MODALITIES,
    SHIPPED,
    any_value,
    read_written,
    shipped_spaces,
    shipped_study,
    unimodal_space,
)
from tests.tuning_tests.studies import tiny_study
from tuning.spec.space import (
    STAGES,
    Choice,
    Configuration,
    Dimension,
    Space,
    active_dimensions,
)


def draw_configuration(space: Space, data: st.DataObject) -> Configuration:
    """Draw any configuration of a space."""
    return space.sample(lambda dimension: data.draw(any_value(dimension)))


def draw_every_value(space: Space, data: st.DataObject) -> Configuration:
    """Draw a value for each dimension, whether it applies or not."""
    return {dimension.path: data.draw(any_value(dimension)) for dimension in space.dimensions}


def setting(spec: Any, path: str) -> Any:
    """Return the setting at a path."""
    for name in path.split("."):
        spec = getattr(spec, name)
    return spec


# Configurations and settings


@given(space=shipped_spaces(), data=st.data())
def test_every_sample_of_a_shipped_study_gives_a_valid_spec_with_the_sampled_values(
    space: Space, data: st.DataObject
) -> None:
    configuration = draw_configuration(space, data)
    settings = space.settings(configuration)

    assert type(settings).model_validate_json(settings.model_dump_json()) == settings
    for path, default in space.defaults.items():
        assert setting(settings, path) == configuration.get(path, default)

    spec = space.spec(configuration)
    assert getattr(spec, space.stage) == settings
    assert spec.model_copy(update={space.stage: getattr(space.base, space.stage)}) == space.base

    assert set(space.used_modalities(configuration)) <= set(MODALITIES)
    assert all(1 <= rank <= 3 for rank in space.ranks(configuration).values())


@given(space=shipped_spaces(), data=st.data())
def test_values_of_dimensions_that_do_not_apply_change_nothing(
    space: Space, data: st.DataObject
) -> None:
    configuration = draw_configuration(space, data)
    everything = draw_every_value(space, data) | configuration

    active = active_dimensions(space.dimensions, everything, space.defaults)
    assert [dimension.path for dimension in active] == list(configuration)
    assert space.validate(everything) == configuration
    assert space.canonical_json(everything) == space.canonical_json(configuration)
    assert space.settings(everything) == space.settings(configuration)


@given(space=shipped_spaces(), data=st.data())
def test_the_order_of_the_paths_changes_nothing(space: Space, data: st.DataObject) -> None:
    configuration = draw_configuration(space, data)
    everything = draw_every_value(space, data) | configuration

    reordered = dict(reversed(everything.items()))

    assert json.loads(space.canonical_json(reordered)) == configuration


@given(space=shipped_spaces(), data=st.data())
def test_one_different_value_makes_another_configuration(space: Space, data: st.DataObject) -> None:
    configuration = draw_configuration(space, data)
    varying = [
        dimension
        for dimension in active_dimensions(space.dimensions, configuration, space.defaults)
        if dimension.domain.values is None or len(dimension.domain.values) > 1
    ]
    dimension = data.draw(st.sampled_from(varying))
    value_before = configuration[dimension.path]
    value = data.draw(any_value(dimension).filter(lambda value: value != value_before))

    changed = draw_every_value(space, data) | configuration
    changed[dimension.path] = value

    assert space.canonical_json(changed) != space.canonical_json(configuration)


def test_what_a_regressor_learns_and_its_cell_are_searched(tmp_path: Path) -> None:
    space = unimodal_space(
        tmp_path,
        '"learns" = { choice = ["own", "all"] }',
        '"network.cell" = { choice = ["gru", "tcn"] }',
    )

    spec = space.spec({"learns": "all", "network.cell": "tcn"})
    assert (spec.unimodal.learns, spec.unimodal.network.cell) == ("all", "tcn")
    assert space.base_configuration() == {"learns": "own", "network.cell": "gru"}


def test_values_from_numpy_become_plain_ones(tmp_path: Path) -> None:
    space = unimodal_space(
        tmp_path,
        '"network.num_layers" = { int = [1, 4] }',
        '"network.dropout" = { uniform = [0, 0.5] }',
        '"fit.batch_size" = { choice = [4, 8] }',
    )
    configuration: dict[str, Any] = {
        "network.num_layers": np.int64(2),
        "network.dropout": np.float64(0.25),
        "fit.batch_size": np.int64(8),
    }

    text = space.canonical_json(configuration)

    assert text == '{"fit.batch_size":8,"network.dropout":0.25,"network.num_layers":2}'


@pytest.mark.parametrize(
    ("configuration", "message"),
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
def test_a_configuration_outside_the_space_is_an_error(
    configuration: Configuration, message: str, tmp_path: Path
) -> None:
    space = unimodal_space(
        tmp_path,
        '"network.num_layers" = { int = [1, 4] }',
        '"network.dropout" = { uniform = [0, 0.5], when = { "network.num_layers" = [2] } }',
    )

    with pytest.raises(InputError, match=re.escape(message)):
        space.settings(configuration)


def test_settings_that_contradict_each_other_are_an_error_when_they_meet() -> None:
    hop_frames = Dimension("fit.hop_frames", Choice((50, 200)), {})
    window_frames = Dimension("fit.window_frames", Choice((100, 300)), {})
    space = Space("unimodal", Spec(), (), ())
    space = space.with_dimension(hop_frames).with_dimension(window_frames)

    settings = space.settings({"fit.hop_frames": 200, "fit.window_frames": 300})
    assert setting(settings, "fit.hop_frames") == 200

    message = r"hop_frames is 200; it must not exceed window_frames, 100.*Together: .*100"
    with pytest.raises(InputError, match=message):
        space.settings({"fit.hop_frames": 200, "fit.window_frames": 100})


def test_a_condition_can_keep_contradicting_settings_apart() -> None:
    space = Space("unimodal", Spec(), (), ())
    space = space.with_dimension(Dimension("fit.hop_frames", Choice((50, 200)), {}))
    windows = Choice((100, 300))

    space.with_dimension(Dimension("fit.window_frames", windows, {"fit.hop_frames": (50,)}))

    with pytest.raises(InputError, match="must not exceed window_frames"):
        space.with_dimension(Dimension("fit.window_frames", windows, {"fit.hop_frames": (200,)}))


# The base as a configuration


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("stage", STAGES)
def test_the_base_configuration_has_the_bases_values_as_far_as_the_space_holds_them(
    name: str, stage: StageName
) -> None:
    space = shipped_study(name).space(stage)

    configuration = space.base_configuration()

    assert space.validate(configuration) == configuration
    for dimension in space.dimensions:
        path = dimension.path
        if path in configuration and path in space.defaults:
            default = space.defaults[path]
            assert configuration[path] == default or dimension.domain.coerce(default) is None


def test_where_the_space_lacks_the_bases_value_the_base_configuration_has_the_nearest(
    tmp_path: Path,
) -> None:
    space = unimodal_space(
        tmp_path,
        '"fit.weight_decay" = { loguniform = [1e-6, 1e-2] }',  # the base has 0
        '"network.num_layers" = { int = [1, 2] }',  # 4
        '"network.hidden_size" = { choice = [8, 16] }',  # 64
    )

    assert space.base_configuration() == {
        "fit.weight_decay": 1e-6,
        "network.num_layers": 2,
        "network.hidden_size": 8,
    }


def test_the_base_configuration_of_fusion_has_all_modalities_and_the_best_of_each() -> None:
    configuration = tiny_study().space("fusion").base_configuration()

    assert configuration["modalities"] == "voice,face"
    assert [configuration[f"unimodal.{modality}"] for modality in ("voice", "face")] == [1, 1]


# Timings


def test_delay_context_and_resampling_can_be_searched(tmp_path: Path) -> None:
    space = unimodal_space(
        tmp_path,
        '"delay_s" = { uniform = [0.0, 4.0] }',
        '"context_s" = { choice = ["", "2,5,15"] }',
        '"resample_s" = { choice = [0, 1, 2] }',
    )
    assert space.base_configuration() == {"delay_s": 0.0, "context_s": "", "resample_s": 0}

    configuration: Configuration = {"delay_s": 2.5, "context_s": "2,5,15", "resample_s": 1}
    unimodal = space.spec(configuration).unimodal
    assert unimodal.target_delay_s("arousal") == 2.5
    assert unimodal.context_windows_s == (2, 5, 15)
    assert unimodal.resample_s == 1
    assert json.loads(space.canonical_json(configuration)) == configuration


def test_the_delay_of_one_target_can_be_searched_where_the_base_has_a_table(
    tmp_path: Path,
) -> None:
    text = """
        name = "a study"
        [unimodal]
        delay_s = { arousal = 1.0, valence = 3.0 }
        [search.unimodal]
        trials = 2
        finalists = 1
        [search.unimodal.space]
        "delay_s.arousal" = { choice = [1.0, 2.0] }
    """
    space = read_written(tmp_path, text).space("unimodal")
    unimodal = space.spec({"delay_s.arousal": 2.0}).unimodal
    assert [unimodal.target_delay_s(target) for target in ("arousal", "valence")] == [2, 3]


def test_extreme_specs_are_the_base_with_both_ends_of_what_is_searched(tmp_path: Path) -> None:
    space = unimodal_space(
        tmp_path, '"delay_s" = { uniform = [1.0, 4.0] }', '"network.num_layers" = { int = [1, 2] }'
    )
    specs = list(space.extreme_specs("delay_s"))
    assert [spec.unimodal.delay_s for spec in specs] == [1.0, 4.0]
    assert {spec.unimodal.network.num_layers for spec in specs} == {4}
    assert not list(space.extreme_specs("context_s"))


# Upstream stages


def test_a_rank_counts_only_where_its_stage_is_read(tmp_path: Path) -> None:
    study = read_written(
        tmp_path,
        """
        name = "s"
        modalities = ["a", "b"]
        [search.auto_encoder]
        trials = 9
        [search.auto_encoder.space]
        "fit.batch_size" = { int = [1, 8] }
        [search.unimodal]
        trials = 9
        sampler = "random"
        [search.unimodal.space]
        "auto_encoder" = { top = 3 }
        "difficulty" = { choice = [true, false] }
        [search.fusion]
        sampler = "grid"
        [search.fusion.space]
        "unimodal" = { top = 2 }
        "modalities" = { subsets = 1 }
        """,
    )

    unimodal = study.space("unimodal")
    assert unimodal.size == 3 + 1
    assert unimodal.ranks({"difficulty": True, "auto_encoder": 2}) == {"auto_encoder": 2}
    assert unimodal.ranks({"difficulty": False, "auto_encoder": 2}) == {}

    fusion = study.space("fusion")
    assert fusion.size == 2 + 2 + 2 * 2
    configuration: Configuration = {"modalities": "b", "unimodal.a": 1, "unimodal.b": 2}
    assert fusion.used_modalities(configuration) == ("b",)
    assert fusion.ranks(configuration) == {"b": 2}
    other_rank = {**configuration, "unimodal.a": 2}
    assert fusion.canonical_json(configuration) == fusion.canonical_json(other_rank)

    assert study.space("fusion", available={"unimodal.a": 1}).size == 1 + 2 + 2
    assert study.space("unimodal", available={"auto_encoder": 2}).size == 2 + 1
