"""A study is followed from other hosts, and goes on on another one after its own has gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.synthetic.corpus import synthesize
from tests.infra_tests.hosts import Host, Hosts, wait_until
from tests.infra_tests.s3_server import BUCKET, json_of, serve_s3
from tests.infra_tests.small_study import small_study
from tests.tuning_tests.command import num_ended_fits
from tests.tuning_tests.damages.recovery import winner_of
from tuning.journal.history import read_history
from tuning.publication.head import SILENT_S

pytestmark = pytest.mark.cluster
STORE = f"s3://{BUCKET}/lab/store"
STUDY = small_study("travelling", epochs=30, trials=4, is_stopped_early=False)

NUM_ENDED = 6
"""Fits after which the first host goes down; some thirty are to come."""
LAG_S = 30.0


def _run(folder: Path, out: str, store: str, *options: str) -> list[str]:
    return [
        *("affectune", "study", "run", str(folder / "study.toml"), "--workers", "1"),
        *("--corpus", str(folder / "corpus"), "--modalities", "voice,face"),
        *("--targets", "arousal", "--out", out, "--store", store, *options),
    ]


def _status(host: Host, where: str, env: dict[str, str], *options: str) -> dict[str, Any]:
    """Ask for the status on a host; {} where there is none to tell of yet."""
    asked = host.run("affectune", "study", "status", where, *options, "--json", env=env)
    return json_of(asked.stdout) if asked.returncode == 0 else {}


def test_study_of_a_host_that_goes_down_is_seen_from_a_second_one_and_goes_on_on_a_third(
    hosts: Hosts,
) -> None:
    first, second, third = hosts
    folder = hosts.shared
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    synthesize(folder / "corpus", subjects=5, minutes=1, seed=0, preset="small")
    env = serve_s3(second)
    one = ("--study", "travelling")

    # An undisturbed one, whose folder all hosts see.
    undisturbed = folder / "undisturbed"
    other = third.start(*_run(folder, str(undisturbed), "store"), output=folder / "other.log")
    first.start(*_run(folder, "study", STORE), env=env, output=folder / "first.log")

    def num_ended() -> int:
        return min(num_ended_fits(path) for path in (undisturbed, first.home / "study"))

    try:
        wait_until(lambda: num_ended() >= 2, 240, "no fits")
    except TimeoutError as error:
        raise AssertionError((folder / "first.log").read_text()) from error
    # Asked for while the study goes on, and is killed meanwhile: a slow machine takes its time.
    asked = [
        second.start("affectune", "study", "status", *words, "--json", env=env, output=output)
        for words, output in (
            ((STORE, *one), folder / "there.json"),
            ((str(undisturbed),), folder / "here.json"),
        )
    ]
    wait_until(lambda: num_ended() >= NUM_ENDED, 240, "no more fits")
    there = read_history(first.home / "study")
    first.kill()
    for process in asked:
        assert process.wait(120) == 0
    seen = json_of((folder / "there.json").read_text())
    assert (seen["host"], seen["finished"]) == ("host1", False)
    assert (seen["state"] == "running") == (seen["heard_s"] <= SILENT_S)
    # It is completed, or another host's lock is seen; else it would be called killed.
    assert json_of((folder / "here.json").read_text())["state"] in ("running", "completed")

    assert other.wait(240) == 0, (folder / "other.log").read_text()
    wait_until(
        lambda: _status(second, STORE, env, *one)["state"] == "silent", 6 * SILENT_S, "it speaks"
    )
    last_word = _status(second, STORE, env, *one)
    assert last_word["heard_s"] > SILENT_S
    told = second.run("affectune", "study", "status", STORE, *one, env=env).stdout
    assert "It is not running any more, or is cut off from its store" in told
    assert "--resume" in told
    [listed] = _status(second, STORE, env)["studies"]
    # What the others were told lags a beat or two behind; on a machine with much to do, some more.
    ended = [trial.ended for trial in there.ended if trial.ended is not None]
    long_ago = [each for each in ended if each.at < there.last_at - LAG_S]
    assert len(long_ago) <= listed["ended"] <= len(ended)

    resumed = third.run(*_run(folder, "study", STORE, "--resume", "--json"), env=env)
    assert resumed.returncode == 0, resumed.stdout
    assert "whose-secret-nobody-prints" not in resumed.stdout
    here = third.home / "study"
    assert read_history(here).completed == read_history(undisturbed).completed
    expected = json.loads((undisturbed / "summary.json").read_text())
    assert winner_of(json.loads((here / "summary.json").read_text())) == winner_of(expected)
    known = {trial.proposed.key for trial in there.ended}
    again = read_history(here).trials.values()
    trained = [t.proposed.key for t in again if t.ended and t.ended.reason != "store"]
    assert len(trained) == len(set(trained))
    assert known <= {trial.proposed.key for trial in again}

    end = _status(second, STORE, env, *one)
    assert (end["state"], end["host"], end["finished"]) == ("completed", "host3", True)
    evaluated = second.run(
        *("affectune", "evaluate", str(end["model"]), "--corpus", str(folder / "corpus")),
        *("--json", "--plots", "plots"),
        env=env,
    )
    assert evaluated.returncode == 0, evaluated.stdout
    scores = json_of(evaluated.stdout)["targets"]
    assert scores == expected["targets"]
    report = second.run(
        *("affectune", "study", "report", STORE, *one, "--out", "report.html"), env=env
    )
    assert report.returncode == 0, report.stdout
    assert "travelling" in (second.home / "report.html").read_text()
