"""Complete studies with Ray: killed workers, drivers and nodes, interruptions, wrong input."""

from __future__ import annotations

import json
import os
import re
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

import affectune
from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.data.synthetic.corpus import synthesize
from pipeline.errors import InputError
from tests.process_group import ProcessGroup
from tests.tuning_tests.command import (
    TIMEOUT_S,
    Command,
    fitting_workers,
    listening_addresses,
    num_ended_fits,
)
from tests.tuning_tests.studies import events_by_task
from tuning.journal.file import JOURNAL
from tuning.journal.history import History, read_history
from tuning.monitoring.state import study_state
from tuning.spec.study_spec import StudySpec, for_corpus, read_study
from tuning.study.study import StudyOptions, open_study, run_study

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
    """Return the path of a small corpus."""
    path = tmp_path_factory.mktemp("corpus") / "corpus"
    synthesize(path, subjects=6, minutes=0.25, seed=0, preset="small")
    return path


@pytest.fixture
def study_path(tmp_path: Path) -> Path:
    """Return the path of a small study."""
    path = tmp_path / "study.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture
def two_nodes() -> Iterator[Nodes]:
    """Start a cluster of two nodes with one processor each, and connect to it."""
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()  # type: ignore[no-untyped-call]


def _wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[str] | None = None
) -> None:
    """Wait for something that another process does, and fail where it has ended or hangs."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def _start_and_wait(command: Command, num_fits: int) -> subprocess.Popen[str]:
    """Resume a study, and return its process once so many fits have ended."""
    process = command.start("--resume")
    _wait_until(lambda: command.num_ended() >= num_fits, process)
    return process


def _resume_and_kill(command: Command, num_fits: int) -> None:
    process = _start_and_wait(command, num_fits)
    assert listening_addresses(process.pid) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert _state(command) == "running"
    process.kill()
    process.communicate()
    assert _state(command) == "killed"


def _resume_and_end(command: Command, num_fits: int, number: signal.Signals) -> None:
    """Resume a study, and send a signal to its whole group, as a terminal or `timeout` does."""
    group = ProcessGroup(command.line("--resume"), command.folder, {"MLFLOW_TRACKING_URI": ""})
    _wait_until(lambda: command.num_ended() >= num_fits or group.process.poll() is not None)
    before = len(group.output())
    group.send(number)
    end = group.wait(TIMEOUT_S)

    said = end.output[before:].strip().splitlines()
    assert (end.status, end.left) == (1, []), end.output
    assert [line for line in said if line.startswith("Error: ")] == said[-1:], end.output
    assert "--resume" in said[-1]
    assert "Traceback" not in end.output
    assert "(raylet)" not in end.output


def _state(command: Command) -> str:
    folder = command.folder / "out"
    return study_state(folder, read_history(folder)).kind


def _run_to_the_end(command: Command, *options: str) -> None:
    status, output = command.run(*options)
    assert status == 0, output


@pytest.mark.slow
def test_a_study_that_is_killed_interrupted_and_repeated_ends_like_one_that_is_not(
    tmp_path: Path, study_path: Path, corpus_path: Path
) -> None:
    undisturbed, disturbed = (
        Command(tmp_path / name, study_path, corpus_path, 1) for name in ("first", "second")
    )
    for command in (undisturbed, disturbed):
        command.folder.mkdir()
    _run_to_the_end(undisturbed)

    for num_fits in (3, 9):
        _resume_and_kill(disturbed, num_fits)
    status, output = disturbed.run()
    assert status == 2
    assert "--resume" in output
    _resume_and_end(disturbed, 12, signal.SIGTERM)
    _resume_and_end(disturbed, 14, signal.SIGINT)
    _run_to_the_end(disturbed, "--resume")

    expected, folder = undisturbed.folder / "out", disturbed.folder / "out"
    assert events_by_task(folder) == events_by_task(expected)
    expected_summary, summary = (
        json.loads((out / "summary.json").read_text()) for out in (expected, folder)
    )
    assert summary["targets"] == expected_summary["targets"]

    journal = (folder / JOURNAL).read_bytes()
    _run_to_the_end(disturbed)
    assert (folder / JOURNAL).read_bytes() == journal


@pytest.mark.slow
def test_a_study_with_inference_distilled_searches_the_same_and_says_what_became_of_its_winner(
    tmp_path: Path, study_path: Path, corpus_path: Path
) -> None:
    study_path.write_text(f'inference = "distilled"\n{STUDY}', encoding="utf-8")
    command = Command(tmp_path, study_path, corpus_path, 1)
    _run_to_the_end(command)

    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    record = json.loads((out / "model" / "model.json").read_text())["distillation"]
    card = (out / "model" / "README.md").read_text()
    assert summary["distillation"] == record
    assert set(record["targets"]) == {"arousal"}
    assert record["reason"] in card
    assert ("distilled from" in summary["inference"]) == record["is_kept"]


def _read_study(study_path: Path, corpus_path: Path) -> tuple[StudySpec, Corpus]:
    corpus = read_corpus(corpus_path, modalities=["voice", "face"], targets=["arousal"])
    return for_corpus(read_study(study_path), corpus.modalities, corpus.targets), corpus


def _run_disturbed_study(
    study_path: Path, corpus_path: Path, options: StudyOptions, disturb: Callable[[], None]
) -> History:
    """Run a study in this process while a thread disturbs it; return its history."""
    spec, corpus = _read_study(study_path, corpus_path)
    study = open_study(spec, corpus, corpus_path, options, resume=False)
    thread = Thread(target=disturb)
    with study:
        thread.start()
        run_study(study)
    thread.join(TIMEOUT_S)
    return study.history


def _assert_finished_without_error(history: History) -> None:
    assert history.finished is not None
    for trial in history.trials.values():
        assert trial.ended is not None
        assert trial.ended.reason != "error"


@pytest.mark.slow
def test_workers_that_are_killed_cost_no_trial(
    tmp_path: Path, study_path: Path, corpus_path: Path
) -> None:
    folder = tmp_path / "out"
    killed: list[int] = []

    def kill_one() -> bool:
        """Kill a worker if there is one; between two trials there is none."""
        for worker in fitting_workers(os.getpid())[:1]:
            worker.kill()
            killed.append(worker.pid)
            return True
        return False

    def has_ended(num_fits: int) -> bool:
        return num_ended_fits(folder) >= num_fits

    def kill_three() -> None:
        for num_fits in (2, 6, 12):
            _wait_until(partial(has_ended, num_fits))
            _wait_until(kill_one)

    options = StudyOptions(folder, str(tmp_path / "store"), workers=2)
    history = _run_disturbed_study(study_path, corpus_path, options, kill_three)
    assert len(killed) == 3
    _assert_finished_without_error(history)


@pytest.mark.slow
def test_a_node_that_is_lost_costs_no_trial(
    tmp_path: Path, study_path: Path, corpus_path: Path, two_nodes: Nodes
) -> None:
    folder = tmp_path / "out"
    lost: list[str] = []

    def lose_a_node() -> None:
        _wait_until(lambda: num_ended_fits(folder) >= 4)
        [node] = two_nodes.worker_nodes
        two_nodes.remove_node(node, allow_graceful=False)
        lost.append(node.node_id)

    options = StudyOptions(folder, str(tmp_path / "store"))
    history = _run_disturbed_study(study_path, corpus_path, options, lose_a_node)
    assert lost
    _assert_finished_without_error(history)


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
    with pytest.raises(InputError, match=re.escape(message)):
        affectune.run_study(
            study_path,
            corpus_path,
            out=tmp_path / "out",
            store=tmp_path / "store",
            tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        )
    assert [path.name for path in tmp_path.iterdir()] == [study_path.name]
    assert not ray.is_initialized()


def test_a_study_of_other_data_or_settings_is_not_resumed(
    tmp_path: Path, study_path: Path, corpus_path: Path
) -> None:
    spec, corpus = _read_study(study_path, corpus_path)
    options = StudyOptions(tmp_path / "out", str(tmp_path / "store"))
    open_study(spec, corpus, corpus_path, options, resume=False).journal.close()

    other_spec = spec.model_copy(update={"folds": 3})
    with pytest.raises(InputError, match="has other settings"):
        open_study(other_spec, corpus, corpus_path, options, resume=True)

    other_corpus = read_corpus(
        corpus_path, modalities=["voice", "face"], targets=["arousal"], tolerance_ms=100
    )
    with pytest.raises(InputError, match="other data"):
        open_study(spec, other_corpus, corpus_path, options, resume=True)

    open_study(spec, corpus, corpus_path, options, resume=True).journal.close()
    assert len(read_history(options.folder).trials) == 0
