"""A study from its file to its winner: opened or resumed, searched, put together, written down.

The journal in the study's folder is the only memory. Ray Tune runs the trials; what it keeps of itself is thrown away,
because it is not written atomically, forgets ASHA's rungs and starts anew, without a word, where it is torn.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from math import inf
from pathlib import Path
from typing import Any

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError, InputError
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.evaluation.model_card import lost_to_floors, model_card
from pipeline.model.fused_model import FusedModel, versions
from pipeline.stages.stage import TRAINING_CODE
from pipeline.storage.stage_store import StageStore
from pipeline.train import check_trainable, describe
from tuning.journal.events import (
    EVENT,
    Event,
    StudyFinished,
    StudyOpened,
    StudyResumed,
    StudyStopped,
)
from tuning.journal.file import JOURNAL, Journal
from tuning.journal.history import History, history
from tuning.planning.planner import StudyPlanner
from tuning.ray_backend.cluster import cluster
from tuning.ray_backend.tune_run import search
from tuning.spec.study_spec import StudySpec
from tuning.study.assemble_model import fused_model

MODEL_FOLDER, SUMMARY = "model", "summary.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a study runs, and what it may use.

    Attributes:
        folder: of the study.
        store: trained stages; a folder that all nodes share, or a URI.
        address: of a Ray cluster; None starts Ray on this machine.
        workers: fits at a time on this machine; None: one per core.
        device: on which the driver predicts, "cpu" or "cuda".
        trial_device: the same for trials of stages that ask for GPUs; the driver may have none where workers do.
        budget_s: seconds of running, over all resumptions.
    """

    folder: Path
    store: str
    address: str | None = None
    workers: int | None = None
    device: str = "cpu"
    trial_device: str = "cuda"
    budget_s: float = inf


@dataclass
class Study:
    """A study that is open: its journal is locked, and read.

    Attributes:
        spec: its modalities and targets known.
        history: kept up to date.
        interrupted: it was left before the end.
    """

    spec: StudySpec
    corpus: Corpus
    place: Place
    journal: Journal
    history: History
    interrupted: bool = False
    on_event: Callable[[Event], None] = field(default=lambda event: None)

    def record(self, *events: Event) -> None:
        """Write events down."""
        self.journal.append(*events)
        for event in events:
            self.history.apply(event)
            self.on_event(event)


def open_study(
    spec: StudySpec, corpus: Corpus, corpus_path: Path, place: Place, *, resume: bool
) -> Study:
    """Begin a study in its folder, or go on with the one that is there.

    Args:
        spec: its modalities and targets known; the corpus has them and no others.
        corpus: to learn from.
        corpus_path: where it lies, for the record.
        place: where to run.
        resume: whether an unfinished study in the folder is to go on; a finished one is just opened.

    Raises:
        InputError: the corpus cannot be trained on, the store cannot be written, another study is in the folder, an
            unfinished one is and `resume` was not asked for, or it runs in another process.
    """
    check_trainable(corpus, spec.base)
    store = StageStore(place.store)
    store.check()
    _make(place.folder)
    journal = Journal(place.folder / JOURNAL)
    try:
        study = Study(spec, corpus, place, journal, history(journal.events))
        opened = _opened(spec, corpus, corpus_path)
        if study.history.opened is None:
            earlier = store.read(f"study-{opened.digest}", lambda files: files[JOURNAL])
            study.record(opened, *_repeated(earlier))
        else:
            _check_same(study.history, opened, place.folder)
            if study.history.finished is None and not resume:
                raise InputError(
                    f"'{place.folder}' holds a study that is not finished. Pass --resume, or another --out."
                )
            if study.history.finished is None:
                study.record(StudyResumed(at=time.time()))
    except BaseException:
        journal.close()
        raise
    return study


def run_study(study: Study, *, on_tick: Callable[[], None] = lambda: None) -> None:
    """Search, and write the winner; afterwards `study.interrupted` or `study.history.finished` says how it went.

    Raises:
        AffectuneError: too many trials failed, or something could not be written.
    """
    place, store = study.place, StageStore(study.place.store)
    planner = StudyPlanner(
        study.spec,
        study.corpus,
        store,
        study.journal,
        study.history,
        device=place.trial_device,
        budget_s=place.budget_s,
        on_event=study.on_event,
    )
    try:
        if not planner.over:
            _search(study, planner, on_tick)
    except BaseException as error:
        with contextlib.suppress(
            AffectuneError
        ):  # the journal itself may be what cannot be written
            study.record(StudyStopped(at=time.time(), why=f"{type(error).__name__}: {error}"))
        raise
    if not study.interrupted and (
        study.history.finished is None or not (place.folder / MODEL_FOLDER).is_dir()
    ):
        _finish(study, planner, store)


def _search(study: Study, planner: StudyPlanner, on_tick: Callable[[], None]) -> None:
    place = study.place
    with cluster(place.address, place.workers) as ray:
        ray.check(study.spec)
        planner.set_workers(ray.fits_at_a_time(study.spec))
        study.interrupted = search(planner, study.corpus, place.store, ray, on_tick, place.folder)
    if planner.failure:
        raise AffectuneError(
            f"{planner.failure} What was trained is kept; correct the study, and start it in a new --out."
        )
    if study.interrupted:
        study.record(StudyStopped(at=time.time(), why="interrupted"))
    elif not planner.over:
        raise AffectuneError("The search ended before its end. Please run it again with --resume.")


def _finish(study: Study, planner: StudyPlanner, store: StageStore) -> None:
    """Write the winner's bundle and summary; then say that the study is finished."""
    model = fused_model(planner, study.corpus, store)
    evaluation = evaluate(model, study.corpus, "devel", device=study.place.device)
    folder = study.place.folder
    summary = summary_of(study.history, model, evaluation, folder / MODEL_FOLDER)
    text = json.dumps(summary, indent=1)
    card = model_card(model, evaluation, lost_to_floors(evaluation))
    model.save(folder / MODEL_FOLDER, card=card, others={SUMMARY: text.encode()})
    _write(folder / SUMMARY, text)
    study.record(StudyFinished(at=time.time(), summary=summary))
    assert study.history.opened is not None
    store.write(f"study-{study.history.opened.digest}", {JOURNAL: (folder / JOURNAL).read_bytes()})


def summary_of(
    found: History, model: FusedModel, evaluation: Evaluation, bundle: Path
) -> dict[str, Any]:
    """summary.json: what `affectune evaluate --json` prints of devel, and what the search took."""
    ended = [trial.ended for trial in found.trials.values() if trial.ended is not None]
    trained = [end for end in ended if end.reason != "store"]
    return evaluation.to_json(str(bundle)) | {
        "trials": len(found.trials),
        "epochs_trained": sum(end.epochs for end in trained),
        "wall_s": round(found.active_s, 3),
        "cpu_s": round(sum(end.cpu_s for end in trained), 3),
        "store_hits": len(ended) - len(trained),
        "stopped_early": sum(end.reason == "asha" for end in ended),
        "failed": sum(end.reason == "error" for end in ended),
        "out_of_fold": model.out_of_fold,
    }


def _opened(spec: StudySpec, corpus: Corpus, corpus_path: Path) -> StudyOpened:
    from pipeline.stages.cross_fit import CrossFitPlan

    settings = spec.model_dump(mode="json", exclude={"corpus"})
    parts = [settings, corpus.digest, TRAINING_CODE]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    libraries = {name: metadata.version(name) for name in ("ray", "optuna", "mlflow")}
    return StudyOpened(
        at=time.time(),
        study=spec.model_dump(mode="json"),
        digest=digest,
        corpus=describe(corpus) | {"path": str(corpus_path.absolute())},
        folds=tuple(fold.name for fold in CrossFitPlan.of(corpus, spec.base).folds),
        versions=versions() | libraries,
        git_commit=git_commit(),
    )


def git_commit() -> str | None:
    """The commit of the code that runs, with "+" where files were changed since; None outside of git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")


def _check_same(found: History, opened: StudyOpened, folder: Path) -> None:
    before = found.opened
    assert before is not None
    if before.digest == opened.digest:
        return
    if before.corpus["digest"] != opened.corpus["digest"]:
        what = f"was run on other data ('{before.corpus['path']}' as it was then)"
    elif {**before.study, "corpus": None} != {**opened.study, "corpus": None}:
        what = f"has other settings than this one (its name is '{before.study['name']}')"
    else:
        what = "was run with another version of the training code"
    raise InputError(
        f"The study in '{folder}' {what}. Choose another --out; trained stages are reused."
    )


def _repeated(earlier: bytes | None) -> list[Event]:
    """What the same study did when it was finished once, with the same store: it need not be done again."""
    events = [EVENT.validate_json(line) for line in (earlier or b"").splitlines()]
    return [
        event
        for event in events
        if event.event not in ("opened", "left", "resumed", "finished", "registered")
    ]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out '{folder}' cannot be made: {error.strerror}. Choose another folder."
        ) from error


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise AffectuneError(f"Cannot write '{path}': {error.strerror}.") from error
