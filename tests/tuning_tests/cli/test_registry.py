"""The commands of the registry: what a person or a program gets from them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.errors import AffectuneError, InputError
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import save_model
from pipeline.names import escape_key
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from serving.models.model_source import find_source
from serving.settings import Settings
from tests.pipeline_tests.corpora import tiny_spec
from tuning.cli.registry import registry_app
from tuning.journal.events import StudyFinished, StudyOpened
from tuning.journal.history import History, history_of
from tuning.mlflow_backend.client import connect
from tuning.mlflow_backend.registry.registration import register
from tuning.mlflow_backend.tracking.study_runs import raise_if_not_recordable

Run = Callable[..., str]
SEARCH = {"fusion": {"trials": 1, "finalists": 1, "space": {"difficulty": {"choice": [True]}}}}


def finished_study(number: int, corpus_folder: Path, corpus_digest: str) -> History:
    """Return a study whose winner has a CCC of half plus a tenth of its number."""
    opened = StudyOpened(
        at=1.0,
        study={"name": "commands", "search": SEARCH},
        digest=f"{number}",
        corpus={"name": "synthetic", "path": str(corpus_folder), "digest": corpus_digest},
        folds=("fold 1",),
        versions={},
        git_commit=None,
    )
    score: dict[str, float | None] = {"ccc": 0.5 + number / 10, "ccc_low": 0.25, "ccc_high": 0.75}
    score |= {"between_ccc": 0.625, "between_ccc_low": 0.5, "between_ccc_high": None}
    score |= {"within_ccc": None, "within_ccc_low": None, "within_ccc_high": None}
    return history_of([opened, StudyFinished(at=2.0, summary={"targets": {"arousal": score}})])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a registry with one model in two versions."""
    root = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    raise_if_not_recordable(uri, "commands")

    synthesize(root / "corpus", subjects=9, minutes=0.3)
    corpus = read_corpus(root / "corpus")
    model = train(corpus, tiny_spec(), WorkerPool(corpus, StageStore(root / "store")))
    save_model(model, root / "model")

    example = corpus.partition("devel")[0].features
    for number in range(2):
        study = finished_study(number, root / "corpus", corpus.digest)
        register(root / "model", study, uri, example=example, promote_first=True)
    return uri


def find_bundle(model: str, tracking_uri: str) -> Path:
    """Return the bundle of a version, as the command line's root does, without its smoke test."""
    source = find_source(
        Settings(model=model, tracking_uri=tracking_uri), smoke_test=lambda folder, timeout_s: None
    )
    return source.fetch(source.newest()).folder


@pytest.fixture
def run(registry: str) -> Run:
    """Run a command; its standard output, or the error that it ended with."""

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(
            registry_app, [*arguments, "--tracking-uri", registry], obj=find_bundle
        )
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return call


def test_the_life_of_a_challenger(run: Run) -> None:
    assert json.loads(run("list", "--json")) == {
        "models": [{"name": "affectune", "aliases": {"champion": "1", "challenger": "2"}}]
    }

    first, second = json.loads(run("show", "affectune", "--json"))["versions"]
    assert (first["aliases"], second["aliases"]) == (["champion"], ["challenger"])
    assert first["ccc"] == {"arousal": [0.5, 0.25, 0.75]}
    assert second["ccc"] == {"arousal": [0.6, 0.25, 0.75]}
    assert first["between_ccc"] == {"arousal": [0.625, 0.5, None]}
    assert first["within_ccc"] == {"arousal": [None, None, None]}
    assert "between 0.625" in run("show", "affectune")

    promotion = json.loads(run("promote", "affectune", "challenger", "--json"))
    assert list(promotion) == ["name", "version", "against", "promoted", "difference"]
    assert (promotion["version"], promotion["against"]) == ("2", "1")
    assert promotion["promoted"]
    assert promotion["difference"]["mean"] == {"ccc": 0, "ccc_low": 0, "ccc_high": 0}

    second = json.loads(run("show", "affectune", "--json"))["versions"][1]
    assert second["aliases"] == ["champion"]
    assert (second["decision"], second["against"]) == ("promoted", "1")
    with pytest.raises(InputError, match="is the champion already"):
        run("promote", "affectune", "2")

    assert json.loads(run("rollback", "affectune", "--json")) == {
        "name": "affectune",
        "champion": "1",
        "previous": "2",
    }
    assert "champion" in run("list")
    assert "rolled back" in run("show", "affectune")


def test_a_version_is_one_json_object_with_these_keys(run: Run) -> None:
    version = json.loads(run("show", "affectune", "--json"))["versions"][0]
    assert list(version) == [
        "version",
        "aliases",
        "study",
        "trials",
        "ccc",
        "between_ccc",
        "within_ccc",
        "made_at",
        "run_id",
        "decision",
        "against",
    ]


def test_what_is_missing_is_an_error_that_says_what_to_do(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--corpus"):
        run("promote", "affectune", "2", "--corpus", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="not found"):
        run("promote", "affectune", "17")
    with pytest.raises(InputError, match="registry list"):
        run("show", "other")
    with pytest.raises(InputError, match="names hold no quotes"):
        run("show", "it's")
    with pytest.raises(InputError, match="not found"):
        run("rollback", "other")


FOREIGN = {
    "ccc.arousal": "high",
    "ccc.": "1 2 3",
    "ccc." + escape_key("a\x1b[2J"): "0.5000 0.2500 0.7500",
    "between_ccc.arousal": "0.5",
    "within_ccc.arousal": "nan inf 1e999999",
    "ccc." + escape_key("\u202earousal"): "0." + "5" * 5000 + " 0.1 0.2",
    "ccc._x110000_": "0.1000 0.1000 0.1000",
    "affectune.study_name": "a\nError: gone [red]\x1b]0;owned\x07" + "x" * 4000,
    "affectune.trials": "\u202emany",
    "affectune.decision": "{",
    "affectune.decision.against": "\x9b31m",
    "affectune.corpus": "\x1b/",
}


def test_tags_that_no_study_writes_are_said_and_the_rest_is_shown(
    registry: str, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    client = connect(registry)
    client.create_registered_model("foreign")
    source = client.get_model_version_download_uri("affectune", "1")
    for tags in ({}, FOREIGN, {f"ccc.{n}": "x" for n in range(90)}):
        client.create_model_version("foreign", source, tags=tags, await_creation_for=0)

    versions = json.loads(run("show", "foreign", "--json"))["versions"]
    assert [version["version"] for version in versions] == ["1", "2", "3"]
    assert versions[1]["ccc"]["a\x1b[2J"] == [0.5, 0.25, 0.75]
    assert "arousal" not in versions[1]["ccc"]
    assert versions[1]["decision"] == "{"

    shown = run("show", "foreign") + run("list") + capfd.readouterr().err
    assert not set(shown) & set("\x1b\x07\x9b\u202e\x00\r")
    assert "\nError" not in shown


def test_tags_of_any_kind_end_no_command(registry: str, run: Run) -> None:
    client = connect(registry)
    client.create_registered_model("random")
    source = client.get_model_version_download_uri("affectune", "1")
    generator = random.Random(0)
    for _ in range(30):
        tags = {
            generator.choice([*FOREIGN, "ccc.x", "stages.a", "affectune.bundle"]): "".join(
                generator.choices([*'0123456789. -"{[]}\n\x1b', "undefined", "\u202e", "声"], k=12)
            )
            for _ in range(4)
        }
        client.create_model_version("random", source, tags=tags, await_creation_for=0)
    assert len(json.loads(run("show", "random", "--json"))["versions"]) == 30
    assert run("show", "random")


def test_a_registry_that_is_missing_is_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"
    result = CliRunner().invoke(registry_app, ["list", "--tracking-uri", f"sqlite:///{missing}"])
    assert isinstance(result.exception, InputError)
    assert not missing.exists()


def test_a_server_that_is_away_is_an_error_without_its_password() -> None:
    uri = "http://me:secret@127.0.0.1:9"
    result = CliRunner().invoke(registry_app, ["list", "--tracking-uri", uri])
    assert isinstance(result.exception, AffectuneError)
    assert "secret" not in str(result.exception)
