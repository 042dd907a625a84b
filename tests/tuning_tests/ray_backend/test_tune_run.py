"""Whole studies with Ray: workers, drivers and nodes that are killed, interruptions, wrong input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import ray
from ray.cluster_utils import Cluster as Nodes

from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.data.synthetic import synthesize
from tests.tuning_tests.command import TIMEOUT_S, Command, listening, training
from tests.tuning_tests.studies import told
from tuning.journal.file import JOURNAL
from tuning.journal.history import History, read_history
from tuning.spec.study_spec import for_corpus, read_study
from tuning.study.study import Place, open_study, run_study

STUDY = """
name = "tiny"
folds = 2
[auto_encoder.network]
num_layers = 1
hidden_size = 4
[auto_encoder.fit]
max_epochs = 4
[unimodal.network]
num_layers = 1
hidden_size = 4
[unimodal.fit]
max_epochs = 6
[fusion.network]
num_layers = 1
hidden_size = 4
[fusion.fit]
max_epochs = 4

[search.auto_encoder]
sampler = "grid"
grace_epochs = 1
finalists = 1
seeds = 1
[search.auto_encoder.space]
"network.bottleneck_size" = { choice = [1, 2] }
[search.unimodal]
trials = 4
sampler = "random"
grace_epochs = 1
reduction_factor = 2
finalists = 1
seeds = 2
[search.unimodal.space]
"fit.learning_rate" = { loguniform = [0.001, 0.1] }
[search.fusion]
trials = 2
sampler = "random"
grace_epochs = 1
finalists = 1
seeds = 1
[search.fusion.space]
"fit.learning_rate" = { loguniform = [0.001, 0.1] }
"""


@pytest.fixture(scope="module")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus"
    synthesize(path, subjects=6, minutes=0.25, seed=0, preset="small")
    return path


@pytest.fixture
def study_path(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def _wait(until: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not until():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.02)  # an event of another process is awaited


def test_a_study_that_is_killed_interrupted_and_repeated_is_as_if_it_had_not_been(
    tmp_path: Path, study_path: Path, corpus_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    status, said = Command(whole, study_path, corpus_path, 1).run()
    assert status == 0, said
    command = Command(broken, study_path, corpus_path, 1)
    for fits in (3, 9):
        process = command.start("--resume")
        _wait(lambda fits=fits: command.ended() >= fits, process)  # type: ignore[misc]
        assert listening(process.pid) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        process.kill()
        process.communicate()
    status, said = command.run()
    assert status == 2
    assert "--resume" in said
    process = command.start("--resume")
    _wait(lambda: command.ended() >= 14, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1, said
    assert "--resume goes on" in said
    status, said = command.run("--resume")
    assert status == 0, said
    assert told(broken / "out") == told(whole / "out")
    summary = json.loads((broken / "out" / "summary.json").read_text())
    assert summary["targets"] == json.loads((whole / "out" / "summary.json").read_text())["targets"]
    before = (broken / "out" / JOURNAL).read_bytes()
    status, said = command.run()
    assert status == 0, said
    assert (broken / "out" / JOURNAL).read_bytes() == before


def _study(
    study: Path, corpus: Path, place: Place, begin: Callable[[], None] = lambda: None
) -> History:
    read = read_corpus(corpus, modalities=["voice", "face"], targets=["arousal"])
    opened = open_study(
        for_corpus(read_study(study), read.modalities, read.targets),
        read,
        corpus,
        place,
        resume=False,
    )
    with opened.journal:
        begin()
        run_study(opened)
    return opened.history


def test_workers_that_are_killed_cost_no_trial(
    tmp_path: Path, study_path: Path, corpus_path: Path
) -> None:
    killed: list[int] = []
    folder = tmp_path / "out"

    def kill_one() -> bool:
        for worker in training(os.getpid())[:1]:  # between two trials there is none
            worker.kill()
            killed.append(worker.pid)
            return True
        return False

    def enough_ended(fits: int) -> bool:
        return (folder / JOURNAL).read_bytes().count(b'"event":"ended"') >= fits

    def kill() -> None:
        for fits in (2, 6, 12):
            _wait(partial(enough_ended, fits))
            _wait(kill_one)

    thread = Thread(target=kill)
    history = _study(
        study_path, corpus_path, Place(folder, str(tmp_path / "store"), workers=2), thread.start
    )
    thread.join(TIMEOUT_S)
    assert len(killed) == 3
    assert history.finished is not None
    assert all(
        trial.ended is not None and trial.ended.reason != "error"
        for trial in history.trials.values()
    )


@pytest.fixture
def two_nodes() -> Iterator[Nodes]:
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()  # type: ignore[no-untyped-call]


def test_a_node_that_is_lost_costs_no_trial(
    tmp_path: Path, study_path: Path, corpus_path: Path, two_nodes: Nodes
) -> None:
    folder = tmp_path / "out"
    lost: list[str] = []

    def lose() -> None:
        _wait(lambda: (folder / JOURNAL).read_bytes().count(b'"event":"ended"') >= 4)
        [node] = two_nodes.worker_nodes
        two_nodes.remove_node(node, allow_graceful=False)
        lost.append(node.node_id)

    thread = Thread(target=lose)
    history = _study(study_path, corpus_path, Place(folder, str(tmp_path / "store")), thread.start)
    thread.join(TIMEOUT_S)
    assert lost
    assert history.finished is not None
    assert all(
        trial.ended is not None and trial.ended.reason != "error"
        for trial in history.trials.values()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("grace_epochs", "grace_epoch"), "Did you mean 'grace_epochs'"),
        (("[0.001, 0.1]", "[0.1, 0.001]"), "is empty"),
        (("choice = [1, 2]", "choice = []"), "empty choice"),
        (('name = "tiny"', 'name = "tiny"\nmodalities = ["voise"]'), "voise"),
    ],
)
def test_wrong_input_is_refused_before_ray_starts(
    tmp_path: Path, study_path: Path, corpus_path: Path, change: tuple[str, str], message: str
) -> None:
    study_path.write_text(STUDY.replace(*change), encoding="utf-8")
    process = Command(tmp_path, study_path, corpus_path, 1)
    process._arguments = process._arguments[:9]
    status, said = process.run()
    assert (status, "Traceback" in said) == (2, False), said
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_study_of_other_data_or_settings_is_not_gone_on_with(
    tmp_path: Path, study_path: Path, corpus_path: Path
) -> None:
    corpus = read_corpus(corpus_path, modalities=["voice", "face"], targets=["arousal"])
    place = Place(tmp_path / "out", str(tmp_path / "store"))
    spec = for_corpus(read_study(study_path), corpus.modalities, corpus.targets)
    open_study(spec, corpus, corpus_path, place, resume=False).journal.close()

    def refused(spec: object, corpus: Corpus, message: str) -> None:
        with pytest.raises(Exception, match=message):
            open_study(spec, corpus, corpus_path, place, resume=True)  # type: ignore[arg-type]

    refused(spec.model_copy(update={"folds": 3}), corpus, "has other settings")
    other = read_corpus(
        corpus_path, modalities=["voice", "face"], targets=["arousal"], tolerance_ms=100
    )
    refused(spec, other, "other data")
    open_study(spec, corpus, corpus_path, place, resume=True).journal.close()
    assert len(read_history(place.folder).trials) == 0
