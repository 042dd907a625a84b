"""A study that is refused leaves nothing behind; one that ended says what to do next."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError, InputError
from pipeline.storage import stage_store
from pipeline.storage.stage_store import raise_if_not_writable
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import tiny_study
from tuning.journal.events import ModelRegistered
from tuning.journal.file import JOURNAL
from tuning.journal.history import read_history
from tuning.mlflow_backend.tracking.record import TRACKING
from tuning.spec.study_spec import for_corpus
from tuning.study import study as study_module
from tuning.study.next_steps import next_steps, where_seen
from tuning.study.services import raise_if_unusable
from tuning.study.study import StudyOptions, open_study, run_study


def refuse(folder: Path, monkeypatch: pytest.MonkeyPatch, error: AffectuneError) -> None:
    """Run a study where Ray cannot be had."""

    @contextmanager
    def no_cluster(*_: object, **options: object) -> Iterator[None]:
        raise error
        yield

    monkeypatch.setattr(study_module, "cluster", no_cluster)
    corpus = tiny_corpus()
    spec = for_corpus(tiny_study(), corpus.modalities, corpus.targets)
    options = StudyOptions(folder / "studies" / "one", str(folder / "state" / "store"), command="x")
    resume = options.folder.exists()
    study = open_study(spec, corpus, folder, options, resume=resume)
    with study, pytest.raises(type(error)):
        run_study(study)


@pytest.mark.parametrize("error", [InputError("too few cores"), AffectuneError("Ray is ill")])
def test_a_refused_study_leaves_no_journal_no_folder_and_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: AffectuneError
) -> None:
    refuse(tmp_path, monkeypatch, error)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies" / "one").mkdir(parents=True)
    (tmp_path / "studies" / "one" / "notes.txt").write_text("mine")
    (tmp_path / "state" / "store").mkdir(parents=True)
    refuse(tmp_path, monkeypatch, InputError("too few cores"))
    assert [path.name for path in (tmp_path / "studies" / "one").iterdir()] == ["notes.txt"]
    assert (tmp_path / "state" / "store").is_dir()


def test_a_study_that_goes_on_is_not_discarded_but_says_why_it_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(tmp_path, monkeypatch, InputError("too few cores"))
    corpus = tiny_corpus()
    spec = for_corpus(tiny_study(), corpus.modalities, corpus.targets)
    options = StudyOptions(tmp_path / "studies" / "one", str(tmp_path / "state" / "store"))
    open_study(spec, corpus, tmp_path, options, resume=False).journal.close()

    refuse(tmp_path, monkeypatch, InputError("too few cores"))
    stopped = read_history(options.folder).stopped
    assert stopped is not None
    assert stopped.reason == "refused: too few cores"
    assert (options.folder / JOURNAL).exists()


def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below", "/proc/affectune"):
        with pytest.raises(InputError, match="cannot be written"):
            raise_if_not_writable(str(tmp_path / place))
        with pytest.raises(InputError, match="--out"):
            raise_if_unusable("s", tmp_path / place, str(tmp_path), None)
    raise_if_not_writable(str(tmp_path / "not" / "there"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_object_store_that_gives_no_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_store, "ANSWER_S", 0.2)
    monkeypatch.setattr(stage_store, "RETRY_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"endpoint_override=127.0.0.1:{silent.getsockname()[1]}&scheme=http"
        with pytest.raises(InputError, match=r"does not answer in time.*--store") as raised:
            raise_if_not_writable(f"s3://key:secret@bucket/store?{place}")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("uri", ["sqlite:///my runs/ml.db", "http://host:5000/"])
def test_a_finished_study_ends_with_links_into_mlflow_and_three_commands_to_paste(
    tmp_path: Path, uri: str
) -> None:
    registered = ModelRegistered(at=1, model="my model", version="7")
    folder = tmp_path / "the study"
    folder.mkdir()
    (folder / TRACKING).write_text(json.dumps({"experiment_id": "3", "run_id": "abc"}))
    lines = next_steps(folder, folder / "report.html", registered, uri, is_champion=False)
    report, promote, serve = (shlex.split(line) for line in lines[-3:])

    assert report[-3:] == ["study", "report", str(folder)]
    assert promote[-6:] == ["registry", "promote", "my model", "7", "--tracking-uri", uri]
    assert serve[-5:] == ["serve", "--model", "models:/my model@champion", "--tracking-uri", uri]
    assert f"Report: {folder / 'report.html'}" in lines

    is_server = uri.startswith("http")
    address = "http://host:5000" if is_server else "http://127.0.0.1:5000"
    mode = "?workflowType=machine_learning"
    assert f"  Results: {address}/#/experiments/3/runs/abc{mode}" in lines
    assert f"  Runs: {address}/#/experiments/3/runs{mode}" in lines
    assert f"  Model: {address}/#/models/my%20model/versions/7{mode}" in lines
    command = f"mlflow ui --backend-store-uri '{uri}'"
    assert any(command in line for line in lines) != is_server
    assert where_seen(folder, uri).endswith(f"/experiments/3/runs{mode}" if is_server else command)

    lines = next_steps(folder, folder / "report.html", registered, uri, is_champion=True)
    assert not any("promote" in line for line in lines)
    with_password = "postgresql://me:secret@host/db"
    lines = next_steps(folder, folder / "report.html", registered, with_password, is_champion=True)
    assert "secret" not in "".join([*lines, where_seen(folder, with_password)])
