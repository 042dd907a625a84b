"""A corpus with names that mean something elsewhere goes all the way, and every name comes back."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

import affectune
import tuning.study.run
import tuning.study.study
from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.errors import AffectuneError
from pipeline.evaluation.plots import plot_files
from pipeline.names import unescape_key
from pipeline.storage.csv_text import csv_lines
from pipeline.storage.stage_store import StageStore
from serving.app import build_app
from serving.models.model_source import find_source
from serving.models.predictor import Predictor
from serving.settings import Settings
from tests.pipeline_tests.data.muse_files import feature_values
from tests.tuning_tests.report.pages import Page
from tests.tuning_tests.studies import as_if_chosen
from tuning.fitting.job import Job
from tuning.fitting.trial_fit import FitContext, FitReport, TrialFit
from tuning.mlflow_backend.client import connect
from tuning.planning.planner import StudyPlanner
from tuning.spec.study_spec import for_corpus, read_study
from tuning.study.run import run
from tuning.study.study import StudyOptions

SETS = ("late-fusion-egemaps+vggface", "_$x_{1}$ |[red]<b>&amp; 5%#\"'` \U0001f600=é:")
TARGETS = ("a.b ~*?é\\_x2B_", "arousal (z) & <i>1")
MODEL = "émo [v2.1] + \U0001f600, a=b&c"
STUDY = "-a%b, [c] #1 \U0001f600"
SESSIONS = {
    "007": "train",
    "a,b": "train",
    'say "x"': "train",
    "-S#1 [e\u0301]": "train",
    "#d & <1>": "devel",
    "con.": "devel",
    "\U0001f600%2F": "test",
}
SEGMENTS = ("007", "a,b", 'say "x"', "two\nlines", "NA", "", "1e5")
NUM_FRAMES = 14
STAGE = """
[{0}.network]
num_layers = 1
hidden_size = 3
dropout = 0.0
[{0}.fit]
max_epochs = 1
[search.{0}]
trials = 1
finalists = 1
seeds = 1
sampler = "random"
grace_epochs = 1
space = {{ "fit.learning_rate" = {{ choice = [0.01, 0.02] }} }}
"""


@pytest.fixture(scope="module")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a corpus whose every name has characters that mean something to some part."""
    root = tmp_path_factory.mktemp("names") / "corpus [x] #1"
    people = [("session", "participant", "stimulus")]
    for number, session in enumerate(SESSIONS):
        people.append((session, f"P/{number}|<b>, {session}", f"clip/{number % 2} [x], 100%"))
        times = [500 * frame for frame in range(NUM_FRAMES)]
        segments = [SEGMENTS[frame % len(SEGMENTS)] for frame in range(NUM_FRAMES)]

        for index, name in enumerate(SETS):
            values = np.sin(feature_values(session, 2, NUM_FRAMES) * (index + 1))
            rows = zip(times, segments, *values.T, strict=True)
            _write(root / "feature_segments" / name / f"{session}.csv", ["a|b", "c.d"], rows)
        for index, target in enumerate(TARGETS):
            labels = np.cos(np.arange(NUM_FRAMES) * 0.7 + number + index)
            rows = zip(times, segments, labels, strict=True)
            _write(root / "label_segments" / target / f"{session}.csv", ["value"], rows)

    (root / "metadata").mkdir()
    (root / "metadata/partition.csv").write_text(csv_lines([("Id", "Proposal"), *SESSIONS.items()]))
    (root / "metadata/participants.csv").write_text(csv_lines(people))
    return root


def _write(path: Path, names: list[str], rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(csv_lines([["timestamp", "segment_id", *names], *rows]))


class _OneProcess:
    """What a study asks of a cluster, where there is only this process."""

    def raise_if_too_small(self, study: object) -> None:
        """Do nothing: everything fits."""

    def fits_at_a_time(self, study: object) -> int:
        """Return 1."""
        return 1


@contextlib.contextmanager
def _no_cluster(*_: object, **options: object) -> Iterator[_OneProcess]:
    yield _OneProcess()


def _search_here(planner: StudyPlanner, corpus: Corpus, store: str, *_: object) -> bool:
    """Run a planner's fits one after the other, without Ray."""
    context = FitContext.create(corpus, planner.study.base, StageStore(store))
    while job := planner.next_job():
        fit = TrialFit(Job.from_config(job.to_config()), context)
        while planner.receive(job.trial, FitReport.from_result(fit.advance().to_result())):
            pass
    as_if_chosen(planner, "winner")  # it reads all feature sets
    return False


def _registry_is_away(*_: object, **__: object) -> tuple[str, str]:
    raise AffectuneError("The registry is away.")


@dataclass(frozen=True)
class Finished:
    """A study that ended: its folder, its tracking server, and what it printed."""

    folder: Path
    uri: str
    printed: str


@pytest.fixture(scope="module")
def finished(corpus_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Run a whole study, without Ray: searched, reported, and registered at the second attempt."""
    root = tmp_path_factory.mktemp("study")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    stages = "".join(STAGE.format(stage) for stage in ("auto_encoder", "unimodal", "fusion"))
    header = {
        "name": STUDY,
        "registered_model": MODEL,
        "modalities": SETS,
        "targets": TARGETS,
        "folds": 2,
    }
    # JSON's texts, numbers and lists are TOML's, too.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()]
    (root / "study.toml").write_text("\n".join(lines) + stages)

    spec = read_study(root / "study.toml")
    corpus = read_corpus(corpus_path, modalities=spec.modalities, targets=spec.targets)
    spec = for_corpus(spec, corpus.modalities, corpus.targets)
    options = StudyOptions(root / "out", str(root / "store"), workers=1)
    output = io.StringIO()
    terminal = Console(file=output, width=300)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning.study.study, "cluster", _no_cluster)
        patch.setattr(tuning.study.study, "search", _search_here)
        go_on = partial(run, spec, corpus, corpus_path, options, terminal, tracking_uri=uri)
        with pytest.MonkeyPatch.context() as broken:
            broken.setattr(tuning.study.run, "register", _registry_is_away)
            with pytest.raises(AffectuneError, match="away"):
                go_on()
        go_on(resume=True, promote_first=True)
    return Finished(root / "out", uri, output.getvalue())


def call(*arguments: object) -> str:
    """Call the command line in this process; return what it printed."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setattr(sys, "argv", ["affectune", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            affectune.main()
    assert not ended.value.code
    return output.getvalue()


def test_the_terminal_and_the_report_show_every_name(finished: Finished) -> None:
    page = Page((finished.folder / "report.html").read_text())
    for name in (*SETS, *TARGETS):
        assert name in finished.printed
        assert name in page.text
    assert STUDY in page.text
    assert f"registered as {MODEL}, version 1" in page.text
    assert f"{MODEL} version 1 is registered" in finished.printed


def test_the_card_shows_every_name(finished: Finished) -> None:
    card = (finished.folder / "model" / "README.md").read_text()
    rendered = MarkdownIt("commonmark").enable("table").render(card)
    text = unescape(re.sub(r"</?\w+[^>]*>", "", rendered))
    for name in (*SETS, *TARGETS, STUDY):
        assert name in text
    assert "<td>" in rendered
    assert "<script" not in rendered


def test_keys_in_mlflow_give_every_name_back(finished: Finished) -> None:
    client = connect(finished.uri)
    [version] = client.search_model_versions()
    tags = {unescape_key(key): value for key, value in version.tags.items()}
    assert version.name == MODEL
    assert tags["affectune.study_name"] == STUDY

    run = client.get_run(str(version.run_id))
    metrics = {unescape_key(key) for key in run.data.metrics}
    for target in TARGETS:
        assert f"devel_ccc.{target}" in tags
        assert {f"{target}.devel_ccc.unimodal.{name}" for name in SETS} <= metrics

    plots = {file.path for file in client.list_artifacts(run.info.run_id, "plots")}
    stages = ("auto_encoder", "unimodal", "fusion")
    curves = {f"plots/learning_curves_{stage}.png" for stage in stages}
    assert plots == {"plots/traces.png", "plots/difficulty.png", "plots/ccc.png"} | curves
    assert run.outputs is not None
    assert run.inputs is not None
    [output] = run.outputs.model_outputs
    assert version.source == f"models:/{output.model_id}"
    assert len(run.inputs.dataset_inputs) == 1

    runs = client.search_runs([run.info.experiment_id])
    names = {each.data.tags["mlflow.runName"] for each in runs}
    assert {f"unimodal/{name}/{target}" for name in SETS for target in TARGETS} <= names
    assert client.get_experiment(run.info.experiment_id).name == STUDY


def test_the_registry_is_shown_with_every_name(finished: Finished) -> None:
    shown = json.loads(call("registry", "show", MODEL, "--tracking-uri", finished.uri, "--json"))
    assert set(shown["versions"][0]["ccc"]) == set(TARGETS)
    assert call("registry", "show", MODEL, "--tracking-uri", finished.uri)
    assert MODEL in call("registry", "list", "--tracking-uri", finished.uri)
    served = Settings(model=f"models:/{MODEL}@champion", tracking_uri=finished.uri)
    assert find_source(served).newest() == "1"


def test_the_study_is_opened_from_python_with_every_name(
    finished: Finished, corpus_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = affectune.load_study(finished.folder)
    assert (result.name, result.is_finished) == (STUDY, True)
    assert result.registered == f"models:/{MODEL}/1"
    assert result.report == finished.folder / "report.html"
    assert len(repr(result)) < 500
    assert set(result.verdicts) == set(TARGETS)
    assert result.settings.keys() >= {f"fusion/{target}" for target in TARGETS}

    summary = json.loads((finished.folder / "summary.json").read_text())
    assert result.scores.evaluation.to_json("")["targets"] == summary["targets"]
    assert result.plot().to_png().startswith(b"\x89PNG")

    frame = result.to_frame()
    assert len(frame) == summary["trials"]
    assert set(frame["target"]) == {*TARGETS, ""}
    assert set(frame["modality"]) == {*SETS, ""}
    assert set(frame["state"]) == {"complete"}
    assert frame["fit.learning_rate"].isin([0.01, 0.02]).any()

    # Run again it is only opened.
    again = affectune.run_study(
        finished.folder.parent / "study.toml",
        corpus_path,
        out=finished.folder,
        store=finished.folder.parent / "store",
        tracking_uri=finished.uri,
    )
    assert again.registered == result.registered
    assert again.scores.to_frame().equals(result.scores.to_frame())
    loaded = affectune.load(str(again.registered), tracking_uri=finished.uri)
    assert loaded.data == result.model.data
    assert capsys.readouterr() == ("", "")


def test_mlflow_loads_the_model_under_its_name(finished: Finished, corpus_path: Path) -> None:
    source = connect(finished.uri).get_model_version_download_uri(MODEL, "1")
    model = mlflow.pyfunc.load_model(source)
    session = read_corpus(corpus_path, modalities=SETS, targets=[]).session("#d & <1>")
    columns = {
        f"{name}.{column}": session.features[name][:, index].astype(np.float64)
        for name in SETS
        for index, column in enumerate(("a|b", "c.d"))
    }
    predicted = model.predict(pd.DataFrame(columns))
    expected = affectune.load(finished.folder / "model").predict(session.features)
    for target in TARGETS:
        np.testing.assert_allclose(predicted[target], expected.values[target], atol=1e-6)


def test_the_endpoint_takes_and_gives_every_name(finished: Finished) -> None:
    predictor = Predictor.load(finished.folder / "model", MODEL, "1", Settings())
    app = build_app(lambda: predictor, Settings())
    session_id = next(iter(SESSIONS.keys() - {"007"}))
    columns = ["a|b", "c.d"]
    features = {name: {"columns": columns, "data": [[0.1, 0.2]] * 20} for name in SETS}

    async def ask() -> tuple[dict[str, Any], dict[str, Any], str]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            body = {"session_id": session_id, "features": features}
            answer = await client.post("/v1/predictions", json=body)
            model = await client.get("/v1/model")
            return answer.json(), model.json(), (await client.get("/metrics")).text

    answer, model, metrics = asyncio.run(ask())
    assert answer["session_id"] == session_id
    assert answer["model"]["name"] == model["name"] == MODEL
    assert set(answer["predictions"]) == set(TARGETS)
    assert set(answer["difficulty"]) == set(model["features"]) == set(SETS)

    samples = [s for family in text_string_to_metric_families(metrics) for s in family.samples]
    modalities = {s.labels["modality"] for s in samples if "modality" in s.labels}
    assert modalities == set(SETS)


def test_written_predictions_join_the_labels_on_session_and_timestamp(
    finished: Finished, corpus_path: Path, tmp_path: Path
) -> None:
    out, weights = tmp_path / "out", tmp_path / "weights"
    model = ("predict", finished.folder / "model", "--corpus", corpus_path, "--out", out)
    for partition in ("train", "devel", "test"):
        call(*model, "--partition", partition, "--weights", weights)

    corpus = read_corpus(corpus_path, modalities=SETS, targets=TARGETS, mark_stuck_rows=False)
    fused = affectune.load(finished.folder / "model")
    for session in corpus.sessions:
        expected = fused.predict_sessions([session])[0]
        for target in TARGETS:
            name = f"{target}/{session.session_id}.csv"
            with (corpus_path / "label_segments" / name).open(newline="") as file:
                labels = list(csv.DictReader(file))
            with (out / name).open(newline="") as file:
                written = list(csv.DictReader(file))
            keys = ("timestamp", "segment_id")
            assert [[row[k] for k in keys] for row in written] == [
                [row[k] for k in keys] for row in labels
            ]
            values = [float(row["value"]) for row in written]  # networks predict several at once
            np.testing.assert_allclose(values, expected.values[target], atol=1e-6)

            frames = [
                pd.read_csv(path / name, dtype={"segment_id": str}, keep_default_na=False)
                for path in (corpus_path / "label_segments", out)
            ]
            assert len(frames[0].merge(frames[1], on=list(keys))) == NUM_FRAMES
            trusted = pd.read_csv(weights / name)
            assert set(trusted.columns[2:]) == set(SETS)


def test_plots_are_drawn_whatever_the_names_are(
    finished: Finished, corpus_path: Path, tmp_path: Path
) -> None:
    options = ("--corpus", corpus_path, "--plots", tmp_path / "plots")
    corrupt = [part for name in SETS for part in ("--corrupt", f"{name}=noise:0.5")]
    printed = call("evaluate", finished.folder / "model", *options, *corrupt)
    assert {path.name for path in (tmp_path / "plots").glob("[!.]*")} == {
        *plot_files([f"{name}=noise:0.5" for name in SETS])
    }
    for target in TARGETS:
        assert target in printed
