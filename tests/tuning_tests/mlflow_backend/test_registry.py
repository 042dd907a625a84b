"""A study's winner becomes a version: one, loadable anywhere, and the champion only where it deserves to be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from numpy.typing import NDArray

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import FusedModel
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import tiny_corpus, tiny_session, tiny_spec
from tuning.journal.events import StudyFinished, StudyOpened, TrialProposed
from tuning.journal.history import History, history
from tuning.mlflow_backend.client import connect, experiment_id
from tuning.mlflow_backend.promotion import Comparison, compare
from tuning.mlflow_backend.pyfunc_model import BUNDLE, frame_table, predict_table
from tuning.mlflow_backend.registry import (
    aliases_of,
    fetch,
    promote,
    register,
    registry_names,
    rollback,
    versions_of,
)
from tuning.mlflow_backend.tracker import check, find_runs

SEARCH = {"trials": 1, "finalists": 1, "space": {"difficulty": {"choice": [True]}}}
SCORE = {"arousal": {"ccc": 0.5, "ccc_low": 0.25, "ccc_high": None}}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return tiny_corpus()


@pytest.fixture(scope="module")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> FusedModel:
    return train(
        corpus, tiny_spec(), WorkerPool(corpus, StageStore(tmp_path_factory.mktemp("store")))
    )


@pytest.fixture(scope="module")
def bundle(model: FusedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("winner") / "model"
    model.save(folder, card="# The card\n" + "A sentence of the card.\n" * 400)
    return folder


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    check(f"sqlite:///{path}", "first")
    return path


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def example() -> Mapping[str, NDArray[np.float32]]:
    return tiny_session("d0", "d0", "devel", seed=100).features


def study(digest: str = "d" * 64, *, key: str = "none") -> History:
    """A finished study whose one trial trained the stage of this key."""
    opened = StudyOpened(
        at=1000.0,
        study={"name": "registered", "search": {"fusion": SEARCH}},
        digest=digest,
        corpus={"name": "tiny", "path": "/corpora/tiny", "digest": "c" * 64},
        folds=("fold 1",),
        versions={},
        git_commit="abc123",
    )
    proposed = TrialProposed(
        at=1001.0,
        trial="0001",
        task="fusion/arousal",
        purpose="search",
        values={},
        fold=0,
        seed=0,
        key=key,
    )
    return history([opened, proposed, StudyFinished(at=1002.0, summary={"targets": SCORE})])


def put(bundle: Path, uri: str, digest: str = "d", *, promote_first: bool = False) -> str:
    _, version = register(
        bundle, study(digest * 64), uri, example=example(), promote_first=promote_first
    )
    return version


def test_a_version_says_where_it_comes_from(bundle: Path, uri: str) -> None:
    key = next(iter(json.loads((bundle / "model.json").read_text())["stages"].values()))["key"]
    assert register(bundle, study(key=key), uri, example=example()) == ("affectune", "1")
    client = connect(uri)
    version = client.get_model_version("affectune", "1")
    assert version.description is not None
    assert version.description.startswith("# The card")
    assert version.description.endswith("The whole card is README.md in the bundle.")
    assert version.tags["ccc.arousal"] == "0.5000 0.2500 undefined"
    assert version.tags["affectune.study_name"] == "registered"
    assert version.tags["affectune.trials"] == "1"
    assert version.tags["affectune.corpus"] == "/corpora/tiny"
    assert version.tags["affectune.corpus_digest"] == "c" * 64
    assert version.tags["stages.fusion/arousal"] == f"0001 {key[:16]}"
    runs = find_runs(
        client, experiment_id(client, uri, "registered"), version.tags["affectune.study"]
    )
    assert [run.info.run_id for run in runs["study"]] == [version.run_id]


def test_registering_again_gives_no_second_version_and_undoes_no_decision(
    bundle: Path, uri: str
) -> None:
    assert [put(bundle, uri, "a", promote_first=True), put(bundle, uri, "b")] == ["1", "2"]
    client = connect(uri)
    client.set_registered_model_alias("affectune", "champion", "2")
    client.delete_registered_model_alias("affectune", "challenger")
    assert [put(bundle, uri, "a", promote_first=True), put(bundle, uri, "b")] == ["1", "2"]
    assert aliases_of(client, "affectune") == {"champion": "2"}


def test_only_a_first_version_that_asks_for_it_is_the_champion_unasked(
    bundle: Path, uri: str
) -> None:
    put(bundle, uri, "a")
    client = connect(uri)
    assert aliases_of(client, "affectune") == {"challenger": "1"}
    put(bundle, uri, "b", promote_first=True)
    assert aliases_of(client, "affectune") == {"challenger": "1", "champion": "2"}
    put(bundle, uri, "c", promote_first=True)
    assert aliases_of(client, "affectune") == {"challenger": "3", "champion": "2"}


LOAD = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
try:
    import pipeline
    sys.exit("pipeline is installed: this proves nothing")
except ImportError:
    pass
import mlflow.pyfunc, pandas
mlflow.set_tracking_uri(sys.argv[1])
table = pandas.read_parquet(sys.argv[2])
mlflow.pyfunc.load_model("models:/affectune@challenger").predict(table).to_parquet(sys.argv[3])
"""


def test_a_version_predicts_the_same_where_affectune_is_not_installed(
    model: FusedModel, bundle: Path, uri: str, tmp_path: Path
) -> None:
    put(bundle, uri)
    table = frame_table(model.columns, example())
    table.to_parquet(tmp_path / "table.parquet")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(
        [
            sys.executable,
            "-I",
            "-W",
            "ignore",
            "-c",
            LOAD,
            uri,
            str(tmp_path / "table.parquet"),
            str(tmp_path / "out"),
        ],
        cwd=elsewhere,
        check=True,
    )
    found, said = pd.read_parquet(tmp_path / "out"), model.predict(example())
    np.testing.assert_allclose(found["arousal"], said.values["arousal"], atol=1e-6)
    np.testing.assert_allclose(
        found["difficulty.face.percentile"], said.difficulty["face"].percentile, atol=1e-6
    )
    assert list(elsewhere.iterdir()) == []


def test_no_file_of_a_version_is_a_pickle(bundle: Path, uri: str, tmp_path: Path) -> None:
    put(bundle, uri)
    kept = [path for path in (tmp_path / "mlruns").rglob("*") if path.is_file()]
    kinds = {path.suffix for path in kept if path.name != "MLmodel"}
    assert kinds == {".py", ".json", ".safetensors", ".md", ".yaml", ".txt", ".toml"}
    assert registry_names().bundle == BUNDLE
    assert {path.parent.name for path in kept if path.name == "manifest.json"} == {BUNDLE}


def test_sessions_in_one_table_are_predicted_as_if_each_were_alone(model: FusedModel) -> None:
    sessions = {
        name: tiny_session(name, name, "devel", frames=20 + 5 * i, seed=i)
        for i, name in enumerate("ab")
    }
    tables = {
        name: frame_table(model.columns, session.features).assign(session_id=name)
        for name, session in sessions.items()
    }
    mixed = pd.concat(tables.values()).sample(frac=1, random_state=0).sort_index(kind="stable")
    together = predict_table(model, mixed)
    for name, session in sessions.items():
        rows = (mixed["session_id"] == name).to_numpy()
        alone = model.predict(session.features).values["valence"]
        np.testing.assert_allclose(together["valence"].to_numpy()[rows], alone, atol=1e-6)


def test_a_table_that_does_not_fit_is_an_error_that_names_the_column(model: FusedModel) -> None:
    table = frame_table(model.columns, example())
    with pytest.raises(InputError, match=r"lacks the column 'voice\.voice_1'"):
        predict_table(model, table.drop(columns="voice.voice_1"))
    with pytest.raises(InputError, match=r"no feature columns.*voice\.voice_0"):
        predict_table(model, pd.DataFrame({"other": [1.0]}))
    with pytest.raises(InputError, match="no rows"):
        predict_table(model, table.iloc[:0])
    voice = [column for column in table.columns if str(column).startswith("voice")]
    assert predict_table(model, table[voice])["arousal"].notna().all()


def test_a_damaged_bundle_is_not_registered(bundle: Path, uri: str, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "damaged")
    (tmp_path / "damaged" / "README.md").write_text("another card")
    with pytest.raises(InputError, match="was changed"):
        put(tmp_path / "damaged", uri)


def test_lost_answers_give_no_second_version(
    bundle: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []

    class Forgetful:
        """Does what it is told; the first answer to each is lost."""

        def __init__(self, uri: str) -> None:
            self._client = MlflowClient(uri, uri)

        def __getattr__(self, name: str) -> object:
            real = getattr(self._client, name)

            def call(*args: object, **kwargs: object) -> object:
                answer = real(*args, **kwargs)
                if name not in lost:
                    lost.append(name)
                    raise ConnectionError("the answer was lost")
                return answer

            return call

    monkeypatch.setattr("tuning.mlflow_backend.registry.connect", Forgetful)
    assert put(bundle, uri, promote_first=True) == "1"
    assert {"create_registered_model", "create_model_version", "set_registered_model_alias"} <= set(
        lost
    )
    client = connect(uri)
    assert len(versions_of(client, "affectune")) == 1
    assert aliases_of(client, "affectune") == {"champion": "1"}


def test_a_registry_that_is_away_is_an_error_that_says_how_to_go_on(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.mlflow_backend.registry.PATIENCE_S", 0.0)
    with pytest.raises(AffectuneError, match="--resume") as raised:
        put(bundle, "http://me:secret@127.0.0.1:9")
    assert "secret" not in str(raised.value)


def _put_two(bundle: Path, uri: str, number: int) -> list[str]:
    return [
        register(
            bundle, study(f"{number:032d}{i:032d}"), uri, example=example(), promote_first=True
        )[1]
        for i in range(2)
    ]


def test_several_processes_register_at_once_distinct_versions_and_one_champion(
    bundle: Path, uri: str
) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        found = [
            v for each in processes.map(_put_two, [bundle] * 2, [uri] * 2, range(2)) for v in each
        ]
    assert sorted(map(int, found)) == [1, 2, 3, 4]
    client = connect(uri)
    assert len(versions_of(client, "affectune")) == 4
    aliases = aliases_of(client, "affectune")
    assert set(aliases) == {"champion", "challenger"}
    placed = [version.tags["affectune.placed"] for version in versions_of(client, "affectune")]
    assert placed.count("champion") == 1


def spoilt(model: FusedModel, *targets: str) -> FusedModel:
    """The model with its fusions of these targets turned upside down."""
    fusions = dict(model.fusions)
    for target in targets:
        fusions[target] = tuple(
            replace(stage, label_std=-stage.label_std) for stage in fusions[target]
        )
    return replace(model, fusions=fusions)


def test_a_worse_challenger_is_refused_unless_forced_and_the_decision_is_kept(
    model: FusedModel, corpus: Corpus, bundle: Path, uri: str
) -> None:
    put(bundle, uri, "a", promote_first=True)
    put(bundle, uri, "b")
    client = connect(uri)
    worse = compare(spoilt(model, "arousal", "valence"), model, corpus)
    assert not promote(client, "affectune", "2", worse, force=False)
    assert aliases_of(client, "affectune") == {"champion": "1", "challenger": "2"}
    tags = client.get_model_version("affectune", "2").tags
    assert (tags["affectune.decision"], tags["affectune.decision.against"]) == ("refused", "1")
    assert json.loads(tags["affectune.decision.difference"])["mean"]["ccc"] == worse.mean.ccc
    assert promote(client, "affectune", "2", worse, force=True)
    assert aliases_of(client, "affectune") == {"champion": "2", "previous": "1"}
    assert client.get_model_version("affectune", "2").tags["affectune.decision"] == "forced"


def test_a_rollback_undoes_a_promotion_and_a_second_one_undoes_the_first(
    model: FusedModel, corpus: Corpus, bundle: Path, uri: str
) -> None:
    put(bundle, uri, "a", promote_first=True)
    put(bundle, uri, "b")
    client = connect(uri)
    with pytest.raises(InputError, match="no previous champion"):
        rollback(client, "affectune")
    assert promote(client, "affectune", "2", compare(model, model, corpus), force=False)
    assert rollback(client, "affectune") == ("1", "2")
    assert aliases_of(client, "affectune") == {"champion": "1", "previous": "2"}
    assert client.get_model_version("affectune", "2").tags["affectune.decision"] == "rolled back"
    assert rollback(client, "affectune") == ("2", "1")


def test_the_same_model_is_no_worse_than_itself(model: FusedModel, corpus: Corpus) -> None:
    found = compare(model, model, corpus)
    assert found.mean == found.targets["arousal"] == found.targets["valence"]
    assert (found.mean.ccc, found.mean.low, found.mean.high) == (0, 0, 0)
    assert found.subjects == 3
    assert found.acceptable


def test_a_gain_on_one_target_does_not_hide_a_certain_loss_on_another() -> None:
    gain, certain, noise = Score(0.3, 0.1, 0.5), Score(-0.1, -0.2, -0.05), Score(-0.1, -0.2, 0.05)
    hidden = Comparison(
        {"arousal": gain, "valence": certain}, mean=Score(0.1, 0.0, 0.2), subjects=3, lost=()
    )
    assert hidden.reasons == ["valence gets worse: -0.100 [-0.200, -0.050]"]
    assert Comparison(
        {"arousal": gain, "valence": noise}, mean=Score(0.1, 0.0, 0.2), subjects=3, lost=()
    ).acceptable


@pytest.mark.parametrize("mean", [-0.001, float("nan")])
def test_a_lower_mean_is_refused_however_uncertain_it_is(mean: float) -> None:
    found = Comparison(
        {"arousal": Score(0.1, 0.0, 0.2)}, mean=Score(mean, -0.5, 0.5), subjects=3, lost=()
    )
    assert not found.acceptable


def test_the_mean_difference_is_the_mean_of_the_differences(
    model: FusedModel, corpus: Corpus
) -> None:
    found = compare(model, spoilt(model, "arousal"), corpus)
    assert found.mean.ccc == pytest.approx(sum(score.ccc for score in found.targets.values()) / 2)
    # One of the two differs by nothing, so each draw's mean is half of the other's.
    assert found.mean.low == pytest.approx(found.targets["arousal"].low / 2)


def only(model: FusedModel, target: str) -> FusedModel:
    """The model without the other target."""
    return replace(
        model,
        targets=(target,),
        encoder_of={place: name for place, name in model.encoder_of.items() if place[0] == target},
        regressors={
            place: stages for place, stages in model.regressors.items() if place[0] == target
        },
        fusions={target: model.fusions[target]},
        fusions_without_difficulty={},
    )


def test_a_challenger_that_predicts_less_is_refused(model: FusedModel, corpus: Corpus) -> None:
    assert compare(only(model, "arousal"), model, corpus).reasons == ["it does not predict valence"]
    with pytest.raises(InputError, match="no target in common"):
        compare(only(model, "arousal"), only(model, "valence"), corpus)


def test_what_is_fetched_is_what_was_registered(
    model: FusedModel, bundle: Path, uri: str, tmp_path: Path
) -> None:
    put(bundle, uri)
    found = fetch(connect(uri), uri, "affectune", "1", tmp_path / "fetched")
    np.testing.assert_array_equal(
        found.predict(example()).values["arousal"], model.predict(example()).values["arousal"]
    )


def test_the_names_are_those_that_the_endpoint_reads() -> None:
    names = registry_names()
    assert (names.model, names.bundle) == ("affectune", "bundle")
    assert names.aliases.model_dump() == {
        key: key for key in ("champion", "challenger", "previous")
    }
