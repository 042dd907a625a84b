"""What the store loses of a study, at any time, is trained again; no decision changes by it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.errors import AffectuneError
from pipeline.stages.fusion import FusionTask
from pipeline.storage.stage_store import StageStore
from tests.tuning_tests.damages.recovery import Studies, winner_of
from tests.tuning_tests.in_process import InProcess
from tuning.fitting.held_out_predictions import held_out_name, read_held_out, read_trained
from tuning.fitting.lost_stage import StageLost
from tuning.fitting.trial_fit import FitReport
from tuning.journal.history import History, Trial, read_history
from tuning.planning.lost_stages import MAX_TIMES, LostStages

READ_BY_NAME = ("comparison", "default")


@pytest.fixture
def history(studies: Studies) -> History:
    """Return the history of the finished study."""
    return read_history(studies.finished.out)


@pytest.fixture
def store(studies: Studies, tmp_path: Path) -> StageStore:
    """Return a copy of its store."""
    return StageStore(shutil.copytree(studies.finished.store, tmp_path / "store"))


def winners(history: History) -> list[str]:
    """Return the keys of the winning fusion."""
    finalist = history.completed[FusionTask(target="arousal")][0]
    return [key for keys in finalist.keys for key in keys]


def needed(history: History) -> list[Trial]:
    """Return the trials whose stages are finalists', the default's or a comparison's."""
    keys = {k for each in history.completed.values() for f in each for ks in f.keys for k in ks}
    return [
        trial
        for trial in history.trials.values()
        if trial.is_complete
        and (trial.proposed.key in keys or trial.proposed.purpose in READ_BY_NAME)
    ]


def test_nothing_is_lost_of_a_store_that_is_whole(store: StageStore, history: History) -> None:
    lost = LostStages(store, history)
    lost.find()
    assert lost.trials == {}


def test_all_that_is_needed_of_a_lost_store_is_found_each_stage_once_upstream_first(
    tmp_path: Path, history: History
) -> None:
    lost = LostStages(StageStore(tmp_path / "empty"), history)
    lost.find()
    keys = [trial.proposed.key for trial in lost.trials.values()]
    assert len(keys) == len(set(keys))
    assert set(keys) == {trial.proposed.key for trial in needed(history)}

    stages = []
    while (trial := lost.next(())) is not None:
        stages.append(trial.task.stage)
        del lost.trials[trial.name]
    assert stages == sorted(stages, key=("auto_encoder", "unimodal", "fusion").index)


def test_while_an_upstream_stage_is_trained_again_none_that_reads_it_begins(
    tmp_path: Path, history: History
) -> None:
    lost = LostStages(StageStore(tmp_path / "empty"), history)
    lost.find()
    encoders = {n for n, trial in lost.trials.items() if trial.task.stage == "auto_encoder"}
    assert lost.next(encoders) is None


def test_a_stage_that_is_lost_again_and_again_ends_the_study_with_a_sentence(
    store: StageStore, history: History
) -> None:
    lost = LostStages(store, history)
    for _ in range(MAX_TIMES):
        lost.find(StageLost(winners(history)[0]))
        lost.trials.clear()
    with pytest.raises(AffectuneError, match=r"again and again.*--resume"):
        lost.find(StageLost(winners(history)[0]))


def test_a_stage_of_no_trial_is_said_to_be_lost(store: StageStore, history: History) -> None:
    with pytest.raises(StageLost, match=r"no longer has the stage 000000000000.*--resume"):
        LostStages(store, history).find(StageLost("0" * 64))


def test_outputs_of_another_stage_are_none_whether_or_not_they_say_whose_they_are(
    store: StageStore, history: History
) -> None:
    one, other = winners(history)
    assert one != other
    assert read_trained(store, one) is not None

    foreign = read_held_out(store, other)
    assert foreign is not None
    assert foreign.key == other
    store.write(held_out_name(one), foreign.to_files())
    assert read_held_out(store, one) is read_trained(store, one) is None

    unnamed = foreign.to_files()  # as an earlier version wrote it
    record = unnamed["held_out_predictions.json"].replace(other.encode(), b"")
    store.write(held_out_name(one), {**unnamed, "held_out_predictions.json": record})
    assert read_held_out(store, one) is read_trained(store, one) is None
    store.write(held_out_name(other), {**unnamed, "held_out_predictions.json": record})
    assert read_held_out(store, other) is not None


def test_outputs_do_not_stand_for_a_stage_that_is_gone(store: StageStore, history: History) -> None:
    store.remove(winners(history)[0])
    assert read_held_out(store, winners(history)[0]) is not None
    assert read_trained(store, winners(history)[0]) is None


@pytest.mark.slow
def test_what_is_lost_while_the_study_runs_is_trained_again_and_no_trial_fails(
    studies: Studies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever reads the store next finds it empty: workers, races, rankings, the judgement."""
    process, place = InProcess(monkeypatch), tmp_path / "store"
    reports = 0

    def lose_all(report: FitReport) -> FitReport:
        nonlocal reports
        reports += 1
        if reports in (12, 27, 40):
            for entry in list(place.iterdir()):
                if entry.name not in ("format", ".claims"):
                    shutil.rmtree(entry)
        return report

    process.before_report = lose_all
    summary = process.run(tmp_path / "out", place)
    assert summary is not None
    assert reports > 40
    assert winner_of(summary) == studies.winner
    ends = [trial.ended for trial in read_history(tmp_path / "out").trials.values()]
    assert not [ended for ended in ends if ended is None or ended.reason == "error"]
