"""Which trial Ray Tune starts next, and what it makes of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict

from pipeline.fitting.shared_corpus import pack
from pipeline.stages.trained_stage import Epoch
from pipeline.storage.stage_store import StageStore
from tests.pipeline_tests.corpora import tiny_corpus
from tests.tuning_tests.studies import Killed, Worker, tiny_study
from tuning.fitting.job import Job
from tuning.fitting.scoring import FitScores
from tuning.fitting.trial_fit import FitReport
from tuning.ray_backend import trainable, tune_adapters
from tuning.ray_backend.trainable import TrialTrainable
from tuning.ray_backend.tune_adapters import PlannerScheduler, StopRequest
from tuning.ray_backend.tune_run import store_variables
from tuning.spec.study_spec import StudySpec


def next_trial(statuses: Mapping[int, str], workers: int) -> int | None:
    """Return the number of the trial that the scheduler starts.

    Args:
        statuses: number of a live trial -> its status.
        workers: fits at a time.
    """
    trials = [
        SimpleNamespace(config={"trial": f"{number:04d}"}, status=status)
        for number, status in statuses.items()
    ]
    controller = SimpleNamespace(get_live_trials=lambda: trials)
    scheduler = PlannerScheduler(
        cast(Any, None), lambda: workers, cast(Any, None), has_equal_resources=True
    )
    trial = scheduler.choose_trial_to_run(cast(Any, controller))
    return None if trial is None else int(trial.config["trial"])


def test_a_free_worker_takes_the_trial_that_waits_longest() -> None:
    statuses = {9_998: Trial.RUNNING, 9_999: Trial.PENDING, 10_000: Trial.PENDING}
    assert next_trial(statuses, workers=2) == 9_999


def test_a_free_worker_leaves_a_trial_for_which_another_worker_is_being_started() -> None:
    # The first worker has just ended trial 1; another one starts for trial 2.
    statuses = {2: Trial.PENDING, 3: Trial.PENDING}
    assert next_trial(statuses, workers=2) == 3


def test_where_nothing_waits_no_trial_is_started() -> None:
    assert next_trial({1: Trial.RUNNING}, workers=2) is None


def test_a_report_that_tune_has_flattened_is_the_same() -> None:
    report = FitReport(
        epochs=(Epoch(1, 0.9, 0.1), Epoch(2, 0.8, 0.2)),
        cpu_s=2.0,
        wall_s=3.0,
        end_reason="patience",
        devel=0.2,
        best_epoch=2,
        scores=FitScores(held_out=0.1, deciding=0.15),
    )
    failed = FitReport(end_reason="error", error="out of memory")
    for sent in (report, FitReport(), failed, FitReport(fault="The disk is full.")):
        assert FitReport.from_result(flatten_dict(sent.to_result())) == sent


class RecordingPlanner:
    """Remembers what it was told; trials that meet a fault are to be tried again."""

    failure = fault = None

    def __init__(self) -> None:
        self.received: list[str | None] = []
        self.lost: list[str] = []
        self.let_down: list[str] = []

    def receive(self, name: str, report: FitReport) -> bool:
        self.received.append(report.fault)
        return report.fault is None

    def worker_lost(self, name: str, cause: str, *, with_node: bool = False) -> None:
        self.lost.append(cause)

    def surroundings_failed(self, name: str, fault: str) -> None:
        self.let_down.append(fault)


def scheduler_of(planner: RecordingPlanner) -> tuple[PlannerScheduler, StopRequest]:
    stop_request = StopRequest(cast(Any, planner))
    scheduler = PlannerScheduler(
        cast(Any, planner), lambda: 2, stop_request, has_equal_resources=True
    )
    return scheduler, stop_request


def tune_trial(identity: str, error: Exception | None = None) -> Any:
    """Return what stands for one of Tune's trials, all of the study's trial 0001."""
    return SimpleNamespace(
        trial_id=identity,
        config={"trial": "0001"},
        get_pickled_error=lambda: error,
        get_error=lambda: None if error is None else f"Traceback ...\n{error}",
    )


def test_a_worker_that_waits_after_a_fault_says_nothing_of_the_trial_that_others_go_on_with() -> (
    None
):
    planner = RecordingPlanner()
    scheduler, stop_request = scheduler_of(planner)
    first, second = tune_trial("a"), tune_trial("b")
    controller = cast(Any, None)

    fault = FitReport(fault="Full.").to_result()
    assert not fault["done"]
    assert scheduler.on_trial_result(controller, first, fault) == "CONTINUE"
    assert scheduler.on_trial_result(controller, second, FitReport().to_result()) == "CONTINUE"
    assert scheduler.on_trial_result(controller, first, {"done": False}) == "CONTINUE"
    scheduler.on_trial_complete(controller, first, {"done": True})
    scheduler.on_trial_error(controller, first)
    assert (planner.received, planner.lost) == (["Full.", None], [])

    stop_request.interrupted.set()
    assert scheduler.on_trial_result(controller, first, {"done": False}) == "STOP"


def test_a_worker_that_ends_by_its_surroundings_costs_its_trial_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = RecordingPlanner()
    scheduler, _ = scheduler_of(planner)
    controller = cast(Any, None)

    scheduler.on_trial_error(controller, tune_trial("a", OSError(28, "No space left on device")))
    scheduler.on_trial_error(controller, tune_trial("b", RuntimeError("killed")))
    assert (len(planner.let_down), planner.lost) == (1, ["killed"])

    def fail(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    # The temporary folder is full: no worker starts.
    monkeypatch.setattr(tune_adapters, "prove_writable", fail)
    scheduler.on_trial_error(controller, tune_trial("c", RuntimeError("died at its start")))
    assert planner.lost == ["killed"]
    assert "Make room there" in planner.let_down[-1]


def first_job(folder: Path, study: StudySpec) -> Job:
    """Return the first job of a study."""

    def stop(job: Job, report: FitReport) -> FitReport:
        raise Killed

    worker = Worker(folder, study, before_report=stop)
    with pytest.raises(Killed):
        worker.run()
    return worker.jobs[0]


def test_a_worker_whose_store_cannot_be_opened_reports_it_and_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainable, "pause_s", lambda num_faults: 0.05 * num_faults)
    monkeypatch.setattr(trainable, "HOLD_STEP_S", 0.02)
    corpus, study = tiny_corpus(), tiny_study()
    head, packed = pack(corpus)
    job = first_job(tmp_path / "study", study)
    mounted = {"is": False}

    def open_store(uri: str) -> StageStore:
        if not mounted["is"]:
            raise OSError(5, "Input/output error", uri)
        return StageStore(uri)

    monkeypatch.setattr(trainable, "StageStore", open_store)
    trial = TrialTrainable.__new__(TrialTrainable)
    base = study.base.model_dump_json()
    trial.setup(
        job.to_config(),
        head=head,
        packed=packed,
        spec=base,
        store=str(tmp_path / "new"),
        variables={},
    )
    for num_faults in (1, 2):
        result = trial.step()
        assert "Input/output error" in result["fault"]
        assert not result["done"]
        held = [trial.step()["done"]]
        while not held[-1]:
            held.append(trial.step()["done"])
        assert len(held) > num_faults
        trial.reset_config(job.to_config())

    mounted["is"] = True
    assert trial.step()["fault"] is None


def test_tune_hands_no_keys_to_workers_by_their_logged_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "pear7grape")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "plum8fig")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://somewhere:9000")
    variables = store_variables("s3://bucket/store")
    assert variables == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "pear7grape",
        "AWS_SESSION_TOKEN": "plum8fig",
        "AWS_ENDPOINT_URL": "http://somewhere:9000",
    }
    assert store_variables("runs/store") == {}
    assert [name for name in class_cache.ENV_VARS_TO_PROPAGATE if "AWS" in name] == []
