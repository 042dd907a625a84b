"""Nested cross-validation of a tiny study: its scores, what it goes on from, what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from types import SimpleNamespace

import audmetric
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipeline.corpus import Corpus
from pipeline.errors import InputError
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.bundle import load_model
from pipeline.model.fused_model import FusedModel
from pipeline.stages.outer_folds import OuterFold, outer_folds
from pipeline.storage.stage_store import StageStore
from pipeline.train import train
from tests.pipeline_tests.corpora import corpus_of, tiny_corpus, tiny_session
from tests.tuning_tests.studies import EARLY_STOPPING, FIT, LEARNING_RATES, NETWORK
from tuning.cli.study import study_app
from tuning.journal.file import JOURNAL
from tuning.journal.history import read_history
from tuning.report.nested_scores import NESTED, NestedScores
from tuning.spec.study_spec import StudySpec, for_corpus
from tuning.study.nested import NestedRun, run_nested
from tuning.study.study import StudyOptions
from tuning.study.study_folder import MODEL_FOLDER

NUM_FOLDS = 2
CORPUS = tiny_corpus()
CORPUS_PATH = Path("corpus")


def _spec(folds: int = 2) -> StudySpec:
    stage = {"network": NETWORK, "fit": FIT}
    search = {
        "trials": 2,
        "sampler": "random",
        "finalists": 1,
        "seeds": 1,
        **EARLY_STOPPING,
        "space": {"fit.learning_rate": LEARNING_RATES},
    }
    spec = StudySpec.model_validate(
        {
            "name": "nested",
            "folds": folds,
            "auto_encoder": stage,
            "unimodal": stage,
            "fusion": stage,
            "search": {"unimodal": search},
        }
    )
    return for_corpus(spec, CORPUS.modalities, CORPUS.targets)


@dataclass(frozen=True)
class Place:
    """A folder with `out` and `store` in it, in which a nested study can run."""

    folder: Path

    @property
    def out(self) -> Path:
        """The study's folder."""
        return self.folder / "out"

    def fold(self, number: int) -> Path:
        """Return the folder of an outer fold."""
        return self.out / "nested" / f"fold-{number}"

    def run(self, *, num_folds: int = NUM_FOLDS, resume: bool = False) -> NestedRun:
        """Run in this process, with one worker."""
        options = StudyOptions(self.out, str(self.folder / "store"), workers=1)
        return run_nested(
            _spec(),
            CORPUS,
            CORPUS_PATH,
            options,
            Console(quiet=True),
            num_folds=num_folds,
            resume=resume,
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, NestedRun]:
    """A nested study that has run to its end."""
    place = Place(tmp_path_factory.mktemp("nested"))
    return place, place.run()


@pytest.fixture
def copy(finished: tuple[Place, NestedRun], tmp_path: Path) -> Place:
    """A copy of it, to be disturbed."""
    shutil.copytree(finished[0].folder, tmp_path / "copy")
    return Place(tmp_path / "copy")


def _read(place: Place, target: str, name: str, sessions: list[str]) -> np.ndarray:
    """Return a prediction of sessions as a reader of the CSV files finds it."""
    values = []
    for session in sessions:
        with (place.out / "nested/predictions" / target / f"{session}.csv").open() as file:
            values += [float(row[name]) for row in csv.DictReader(file)]
    return np.array(values)


def _scores_without_times(place: Place) -> dict[str, object]:
    record = json.loads((place.out / NESTED).read_text())
    for fold in record["folds"]:
        del fold["search_s"], fold["default_s"]
    return dict(record)


@pytest.mark.slow
def test_every_labelled_person_is_predicted_and_the_files_give_the_scores(
    finished: tuple[Place, NestedRun],
) -> None:
    place, run = finished
    sessions = [session for session in CORPUS.sessions if session.partition != "test"]
    names = [session.session_id for session in sessions]
    written = NestedScores.from_json(json.loads((place.out / NESTED).read_text()))

    assert written == run.scores
    assert written.num_subjects == 9
    for target, scores in written.targets.items():
        files = (place.out / "nested/predictions" / target).iterdir()
        assert sorted(path.stem for path in files) == sorted(names)

        truth = np.concatenate([session.labels[target] for session in sessions])
        assert scores.scores
        for name, score in scores.scores.items():
            prediction = _read(place, target, name, names)
            assert score.ccc == pytest.approx(audmetric.concordance_cc(truth, prediction))
        difference = scores.differences["winner"]["default"].ccc
        expected = scores.scores["winner"].ccc - scores.scores["default"].ccc
        assert difference == pytest.approx(expected)

    assert written.mean is not None
    assert written.mean.scores["winner"].ccc == pytest.approx(
        np.mean([scores.scores["winner"].ccc for scores in written.targets.values()])
    )


@pytest.mark.slow
def test_winner_and_default_predict_only_people_whom_they_never_saw(
    finished: tuple[Place, NestedRun], tmp_path: Path
) -> None:
    """The winner is the bundle of the fold, the default what `train` gives without the study."""
    place, run = finished
    for number, fold in enumerate(outer_folds(CORPUS, NUM_FOLDS), 1):
        with WorkerPool(fold.corpus, StageStore(str(tmp_path / "store"))) as pool:
            default = train(fold.corpus, _spec().base, pool)
        winner = load_model(place.fold(number) / MODEL_FOLDER)

        _assert_predicted(place, fold, winner, "winner")
        _assert_predicted(place, fold, default, "default")
        assert winner.data["digest"] == fold.corpus.digest

        best = run.scores.folds[number - 1].best_modality
        for target, modality in best.items():
            scores = {name: default.out_of_fold[target][name]["ccc"] for name in ("voice", "face")}
            assert scores[modality] == max(score or -inf for score in scores.values())


def _assert_predicted(place: Place, fold: OuterFold, model: FusedModel, name: str) -> None:
    predictions = model.predict_sessions(fold.test)
    for target in CORPUS.targets:
        for session, prediction in zip(fold.test, predictions, strict=True):
            written = _read(place, target, name, [session.session_id])
            assert written == pytest.approx(prediction.values[target], abs=1e-6)
            floor = _read(place, target, f"{name} mean", [session.session_id])
            assert floor == pytest.approx(prediction.floors[target]["mean"], abs=1e-6)


def _kill_between_folds(place: Place) -> None:
    """Leave what is there when the process ends before the second fold."""
    shutil.rmtree(place.fold(2))
    (place.out / NESTED).unlink()


def _kill_in_the_search(place: Place) -> None:
    """Leave what is there when the process ends amid the second fold's search."""
    journal = place.fold(2) / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    shutil.rmtree(place.fold(2))
    place.fold(2).mkdir()
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    (place.out / NESTED).unlink()


def _kill_before_the_default(place: Place) -> None:
    """Leave what is there when the process ends after the second fold's study."""
    (place.fold(2) / "fold.json").unlink()
    (place.out / NESTED).unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kill", [_kill_between_folds, _kill_in_the_search, _kill_before_the_default]
)
def test_what_was_killed_goes_on_and_finished_folds_are_not_run_again(
    copy: Place, kill: Callable[[Place], None]
) -> None:
    expected = _scores_without_times(copy)
    kill(copy)
    journal, record = copy.fold(1) / JOURNAL, copy.fold(1) / "fold.json"
    before = (journal.read_bytes(), record.stat().st_mtime_ns)

    copy.run(resume=True)
    assert _scores_without_times(copy) == expected
    assert (journal.read_bytes(), record.stat().st_mtime_ns) == before
    assert read_history(copy.fold(2)).finished is not None


@pytest.mark.slow
def test_an_unfinished_fold_does_not_go_on_unless_it_is_asked_for(copy: Place) -> None:
    _kill_in_the_search(copy)
    with pytest.raises(InputError, match=r"fold-2' holds a study that is not finished.*--resume"):
        copy.run()


@pytest.mark.slow
def test_a_folder_with_another_number_of_folds_is_refused(copy: Place) -> None:
    with pytest.raises(InputError, match=r"holds 2 outer folds\. Pass --nested 2"):
        copy.run(num_folds=3, resume=True)


@pytest.mark.slow
def test_a_finished_one_is_only_shown(copy: Place) -> None:
    shutil.rmtree(copy.folder / "store")
    expected = (copy.out / NESTED).read_bytes()
    copy.run()
    assert (copy.out / NESTED).read_bytes() == expected


def _flip_a_digit(place: Place) -> None:
    path = sorted((place.out / "nested/predictions/arousal").iterdir())[0]
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 5))


def _lose_a_prediction(place: Place) -> None:
    sorted((place.out / "nested/predictions/valence").iterdir())[-1].unlink()


def _cut_a_record(place: Place) -> None:
    path = place.fold(1) / "fold.json"
    path.write_bytes(path.read_bytes()[:-20])


def _empty_a_record(place: Place) -> None:
    (place.fold(2) / "fold.json").write_text("{}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", [_flip_a_digit, _lose_a_prediction, _cut_a_record, _empty_a_record]
)
def test_a_damaged_fold_is_done_again_from_what_is_trained_and_scores_the_same(
    copy: Place, damage: Callable[[Place], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _scores_without_times(copy)
    damage(copy)
    ray = nullcontext(SimpleNamespace(raise_if_too_small=lambda spec: None))
    monkeypatch.setattr("tuning.study.nested.reached_cluster", lambda _: ray)  # nothing is searched
    copy.run(resume=True)
    assert _scores_without_times(copy) == expected


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "null", "[" * 100_000])
def test_a_damaged_division_is_written_anew(copy: Place, text: str) -> None:
    path, expected = copy.out / "nested" / "subjects.json", _scores_without_times(copy)
    before = path.read_bytes()
    path.write_text(text)
    copy.run(resume=True)
    assert path.read_bytes() == before
    assert _scores_without_times(copy) == expected


def _of_few_people(num_train: int) -> Corpus:
    names = [f"t{number}" for number in range(num_train)]
    sessions = [tiny_session(name, name, "train", seed=i) for i, name in enumerate(names)]
    return corpus_of([*sessions, tiny_session("d0", "d0", "devel", seed=99)])


def _constant(corpus: Corpus) -> Corpus:
    """Return the corpus with labels that only one person's differ from."""
    sessions = []
    for session in corpus.sessions:
        level = session.labels["valence"] if session.subject == "d0" else np.zeros(30)
        sessions.append(replace(session, labels={**session.labels, "valence": level}))
    return corpus.select(sessions)


@pytest.mark.parametrize(
    ("corpus", "folds", "num_folds", "message"),
    [
        (CORPUS, 2, 10, "needs at least 10 labelled people"),
        (_of_few_people(0), 2, 2, "corpus 'tiny' has 1"),
        (_of_few_people(1), 2, 2, "leaves 1 to search with"),
        (CORPUS, 4, 2, "In outer fold 1 of 2, 3 people are left to train on.*4 folds"),
        (_constant(_of_few_people(9)), 2, 5, "In outer fold 1 of 5: .*'valence' is 0.0 in every"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_written(
    tmp_path: Path, corpus: Corpus, folds: int, num_folds: int, message: str
) -> None:
    options = StudyOptions(tmp_path / "out", str(tmp_path / "store"), workers=1)
    with pytest.raises(InputError, match=message):
        run_nested(
            _spec(folds), corpus, CORPUS_PATH, options, Console(quiet=True), num_folds=num_folds
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [["--promote-first"], ["--tracking-uri", "sqlite:///m.db"]])
def test_options_that_need_a_model_are_refused_beside_nested(option: list[str]) -> None:
    result = CliRunner().invoke(study_app, ["run", "study.toml", "--nested", "2", *option])
    assert isinstance(result.exception, InputError)
    assert f"Leave {option[0]} out" in str(result.exception)
