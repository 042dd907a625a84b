"""A study from its file to its winner: opened or resumed, searched, put together, written down.

The journal in the study's folder is the only memory. Ray Tune runs the trials; what it keeps of
itself is thrown away, because it is not written atomically, forgets ASHA's rungs and starts anew,
without a word, where it is torn.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import metadata
from io import BytesIO
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any

from prometheus_client import Histogram

from pipeline.corpus import Corpus
from pipeline.distillation.distil import distil
from pipeline.errors import AffectuneError, InputError, SurroundingsError, naming_doctor
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.evaluation.model_card import floor_warnings, model_card
from pipeline.fitting.worker_pool import WorkerPool
from pipeline.model.assemble import describe
from pipeline.model.bundle import WEIGHTS, bundle_files, library_versions
from pipeline.model.fused_model import FusedModel
from pipeline.stages.cross_fit import CrossFitPlan
from pipeline.stages.requirements import raise_if_timing_does_not_suit, raise_if_untrainable
from pipeline.stages.task import TIMING_SETTINGS, TRAINING_CODE
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.atomic_folder import remove_leftovers
from pipeline.storage.result_folder import Files, kept_beside, write_result
from pipeline.storage.stage_store import StageStore
from pipeline.storage.surroundings import mend_of
from tuning.journal.clock import now
from tuning.journal.events import (
    Event,
    ModelRegistered,
    StudyFinished,
    StudyJudged,
    StudyOpened,
    StudyResumed,
    StudyStopped,
)
from tuning.journal.file import JOURNAL, Journal, read_journal
from tuning.journal.history import History, history_of
from tuning.journal.lines import JournalError, read_lines
from tuning.journal.seal import Chain
from tuning.mlflow_backend.tracking.record import TRACKING
from tuning.monitoring.state import COMMAND
from tuning.monitoring.timed_store import TimedStore
from tuning.planning.judgement import verdict
from tuning.planning.planner import StudyPlanner
from tuning.ray_backend.cluster import Cluster, cluster
from tuning.ray_backend.node_faults import check_nodes
from tuning.ray_backend.store_marker import marked_store
from tuning.ray_backend.tune_run import search
from tuning.spec.study_spec import StudySpec
from tuning.study.assemble_model import winning_model
from tuning.study.shared_study import SharedStudy
from tuning.study.study_folder import (
    MODEL_FOLDER,
    PUBLISHED,
    SUMMARY,
    is_model_of,
    other_result,
    raise_if_no_place,
    raise_if_results_are_others,
)

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 15.0
"""So long a store that is slow or away may keep a study from ending, where nothing else is said."""
INTERRUPTED, REFUSED = "interrupted", "refused"
"""Reasons of stops: one that was asked for, and what a reason begins with that is an input's."""


@dataclass(frozen=True)
class StudyOptions:
    """Where a study runs, and what it may use.

    Attributes:
        folder: of the study.
        store: trained stages; a folder that all nodes share, or a URI.
        address: of a Ray cluster; None starts Ray on this machine.
        workers: fits at a time on this machine; None: one per core.
        wait_for_nodes_s: so long nodes are waited for that have what a trial asks for.
        is_head_waited_for: after the loss of the cluster's head, the study is started again, and
            waits for it.
        device: on which the driver predicts, "cpu" or "cuda".
        trial_device: the same for trials of stages that ask for GPUs; the driver may have none
            where workers do.
        budget_s: seconds of running, over all resumptions.
        command: that goes on with the study after a stop, for people; "" where there is none.
    """

    folder: Path
    store: str = field(repr=False)
    address: str | None = None
    workers: int | None = None
    wait_for_nodes_s: float = 0.0
    is_head_waited_for: bool = False
    device: str = "cpu"
    trial_device: str = "cuda"
    budget_s: float = inf
    command: str = ""


@dataclass
class Study:
    """A study that is open: its journal is locked, and read.

    Attributes:
        spec: its modalities and targets known.
        corpus: to learn from.
        options: where it runs.
        journal: open for writing.
        history: kept up to date.
        shared: its part in the store.
        is_new: it was begun by this process; a refused one is removed again.
        made: folders that were made for it and its store, the outermost first.
        is_interrupted: it was stopped before its end.
        num_workers: fits at a time, while it searches; 0 before.
        store_seconds: takes the times of the driver's requests to the store, if they are wanted.
        on_event: called for every event after it was written.
    """

    spec: StudySpec
    corpus: Corpus
    options: StudyOptions
    journal: Journal
    history: History
    shared: SharedStudy
    is_new: bool = False
    made: tuple[Path, ...] = ()
    is_interrupted: bool = False
    num_workers: int = 0
    store_seconds: Histogram | None = None
    on_event: Callable[[Event], None] = field(default=lambda event: None)

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shared.close(CLOSE_TIMEOUT_S)
        self.journal.close()

    def record(self, *events: Event) -> None:
        """Write events down, and take them into account."""
        self.journal.append(*events)
        for event in events:
            self.history.apply(event)
            self.tell(event)

    def tell(self, event: Event) -> None:
        """Let others know of an event that was written and taken into account."""
        self.shared.take_note(event)
        self.on_event(event)

    def discard(self) -> None:
        """Remove the journal of a study that was refused, and the folders made for it."""
        for name in (COMMAND, PUBLISHED):
            (self.options.folder / name).unlink(missing_ok=True)
        self.journal.discard()
        if Path(self.options.store) in self.made:
            StageStore(self.options.store).remove_if_empty()
        for folder in reversed(self.made):
            with contextlib.suppress(OSError):  # something else was put there
                folder.rmdir()


def open_study(
    spec: StudySpec, corpus: Corpus, corpus_path: Path, options: StudyOptions, *, resume: bool
) -> Study:
    """Begin a study in its folder, or go on with the one that is there.

    Args:
        spec: its modalities and targets known; the corpus has them and no others.
        corpus: to learn from.
        corpus_path: where it lies, for the record.
        options: where to run.
        resume: whether an unfinished study in the folder is to go on; a finished one is just
            opened.

    Raises:
        InputError: the corpus cannot be trained on, the store cannot be written, another study is
            in the folder, or what no study made; an unfinished one is and `resume` was not asked
            for, or it runs in another process.
    """
    raise_if_no_place(options.folder)
    raise_if_untrainable(corpus, spec.base)
    for path in TIMING_SETTINGS:
        for extreme in spec.space("unimodal").extreme_specs(path):
            raise_if_timing_does_not_suit(corpus, extreme)
    made = [] if "://" in options.store else _missing(Path(options.store))
    store = StageStore(options.store)
    store.raise_if_unusable()
    made += _make_folder(options.folder)

    journal = Journal(options.folder / JOURNAL)
    shared = SharedStudy(journal, store, options.command)
    try:
        if journal.is_mended:
            with contextlib.suppress(OSError):  # its position is one in the damaged journal
                (options.folder / TRACKING).unlink()
        opened = _opened(spec, corpus, corpus_path)
        if not journal.events:
            _take_over(shared, opened.digest, resume=resume)
        history = history_of(journal.events)
        study = Study(spec, corpus, options, journal, history, shared, made=tuple(made))
        if study.history.opened is None:
            study.is_new = True
            study.record(opened, *_events_of_same_study(store, opened.digest))
        else:
            _go_on(study, opened, resume=resume)
        if options.command and study.history.finished is None:
            place = {"command": options.command, "folder": str(Path.cwd())}
            write_atomically(options.folder / COMMAND, json.dumps(place))
    except BaseException:
        shared.close(CLOSE_TIMEOUT_S)
        journal.close()
        raise
    return study


def _take_over(shared: SharedStudy, digest: str, *, resume: bool) -> None:
    """Go on with the same study of another folder, which may be on another machine."""
    head = shared.find_unfinished(digest)
    if head is None:
        return
    if resume:
        shared.take_over(head)
    elif not head.is_finished:
        log.warning(
            "The store has the same study from %s, where %d of %d fits have ended. This begins it "
            "anew, and reuses what is trained; --resume goes on with that one.",
            head.host,
            head.ended,
            head.fits,
        )


def run_study(
    study: Study,
    *,
    on_start: Callable[[], None] = lambda: None,
    on_tick: Callable[[], None] = lambda: None,
) -> None:
    """Search, and write the winner.

    Afterwards `study.is_interrupted` or `study.history.finished` says how it went. A study that
    cannot start leaves no journal behind, if it had none before.

    Args:
        study: is open.
        on_start: called once nothing keeps the study from starting; what it raises does.
        on_tick: called some times a second.

    Raises:
        InputError: it cannot start: Ray has not what its trials ask for.
        AffectuneError: Ray did not start, too many trials failed, or something could not be
            written.
    """
    options, store = study.options, _store(study)
    planner = StudyPlanner(
        study.spec,
        study.corpus,
        store,
        study.journal,
        study.history,
        device=options.trial_device,
        budget_s=options.budget_s,
        on_event=study.tell,
    )

    is_started = False
    is_written = is_model_of(options.folder, study.history)

    def start() -> None:
        nonlocal is_started
        on_start()
        is_started = True
        assert study.history.opened is not None
        study.shared.publish(study.history.opened)

    def tick() -> None:
        on_tick()
        study.shared.raise_if_replaced()

    try:
        if not is_written:
            planner.lost_stages.find()
        if planner.is_done:
            start()
        else:
            _search(study, planner, start, tick)
    except BaseException as error:
        if study.is_new and not is_started and isinstance(error, AffectuneError):
            study.discard()
        else:
            _record_stop(study, error)
        raise

    if not study.is_interrupted and not is_written:
        try:
            _finish(study, planner, store)
        except Exception as error:
            _record_stop(study, error)
            raise


def _store(study: Study) -> StageStore:
    if study.store_seconds is None:
        return StageStore(study.options.store)
    return TimedStore(study.options.store, study.store_seconds)


def _record_stop(study: Study, error: BaseException) -> None:
    """Write down why a study stopped, unless it was at its end."""
    if study.history.finished is not None:
        return

    kind = REFUSED if isinstance(error, InputError) else type(error).__name__
    is_asked_for = isinstance(error, KeyboardInterrupt)
    reason = INTERRUPTED if is_asked_for else f"{kind}: {error}"
    with contextlib.suppress(AffectuneError):  # the journal may be what cannot be written
        study.record(StudyStopped(at=now(), reason=reason))


def study_summary(
    history: History, model: FusedModel, evaluation: Evaluation, bundle: Path
) -> dict[str, Any]:
    """Return summary.json: the evaluation on devel, and what the search took."""
    ended = [trial.ended for trial in history.trials.values() if trial.ended is not None]
    trained = [end for end in ended if end.reason != "store"]
    return evaluation.to_json(str(bundle)) | {
        "trials": len(history.trials),
        "epochs_trained": sum(end.epochs for end in trained),
        "wall_s": round(history.active_s, 3),
        "cpu_s": round(sum(end.cpu_s for end in trained), 3),
        "store_hits": len(ended) - len(trained),
        "stopped_early": sum(end.reason == "asha" for end in ended),
        "failed": sum(end.reason == "error" for end in ended),
        "out_of_fold": model.out_of_fold,
        "inference": model.composition,
        "distillation": model.distillation,
        "judgement": judgement_json(history.judged),
    }


def judgement_json(judged: StudyJudged | None) -> dict[str, Any]:
    """Return the judgement's part of summary.json.

    Returns:
        Target -> "chosen" (the kind of candidate that is registered), "verdict" (a sentence) and
        "candidates" (as in the journal).
    """
    if judged is None:
        return {}
    return {
        target: {
            "chosen": judgement.chosen.kind,
            "verdict": verdict(target, judgement),
            "candidates": [candidate.model_dump() for candidate in judgement.candidates],
        }
        for target, judgement in judged.targets.items()
    }


def _search(
    study: Study,
    planner: StudyPlanner,
    on_start: Callable[[], None],
    on_tick: Callable[[], None],
) -> None:
    options = study.options
    with contextlib.ExitStack() as stack:
        with naming_doctor():
            ray = stack.enter_context(reached_cluster(options))
            ray.raise_if_too_small(study.spec)
            marker = stack.enter_context(marked_store(options.store)) if options.address else None
            if marker is not None:
                check_nodes(marker)
        on_start()
        planner.budget.workers = ray.fits_at_a_time(study.spec)

        def tick() -> None:
            study.num_workers = ray.fits_at_a_time(study.spec)
            on_tick()

        study.is_interrupted = search(planner, study.corpus, options.store, ray, tick, marker)

    if planner.fault:
        raise SurroundingsError(planner.fault)
    if planner.failure:
        raise AffectuneError(
            f"{planner.failure} What was trained is kept; correct the study, and start it in a new "
            "--out."
        )
    if study.is_interrupted:
        study.record(StudyStopped(at=now(), reason=INTERRUPTED))
    elif not planner.is_done:
        raise AffectuneError("The search ended before its end. Please run it again with --resume.")


def reached_cluster(options: StudyOptions) -> AbstractContextManager[Cluster]:
    """Return the cluster that a study's options name, to be used for the time of a context."""
    return cluster(
        options.address,
        options.workers,
        wait_for_nodes_s=options.wait_for_nodes_s,
        is_head_waited_for=options.is_head_waited_for,
    )


def _finish(study: Study, planner: StudyPlanner, store: StageStore) -> None:
    """Distil the winner where the spec says so, write its bundle, and record the end."""
    folder = study.options.folder
    model = winning_model(planner, study.corpus, store)
    if study.spec.base.inference == "distilled":
        try:
            model = _distil(model, study, store)
        except KeyboardInterrupt:
            study.is_interrupted = True
            study.record(StudyStopped(at=now(), reason=INTERRUPTED))
            return
    evaluation = evaluate(model, study.corpus, "devel", device=study.options.device)

    summary = study_summary(study.history, model, evaluation, folder / MODEL_FOLDER)
    text = json.dumps(summary, indent=1)
    card = model_card(model, evaluation, floor_warnings(evaluation))
    write_model(folder, bundle_files(model, card) | {SUMMARY: text.encode()})
    write_atomically(folder / SUMMARY, text)

    study.record(StudyFinished(at=now(), summary=summary))
    assert study.history.opened is not None
    # As events, which hold no credentials; a line of an earlier version may.
    journal, chain = b"", Chain()
    for event, _ in read_journal(folder / JOURNAL):
        line, chain = chain.seal(event.model_dump_json().encode())
        journal += line
    store.write(_journal_name(study.history.opened.digest), {JOURNAL: journal})


def write_model(folder: Path, files: Files) -> None:
    """Write the winner's bundle, where it replaces nothing but one of the same networks.

    Raises:
        AffectuneError: it cannot be written, or something else came into its place meanwhile.
    """
    place, advice = folder / MODEL_FOLDER, "Move what is there away, and pass --resume."
    try:
        if other := other_result(folder):
            cause = f"'{folder / other}' was not written by this study"
            raise AffectuneError(kept_beside(place, files, cause))
        write_result(place, files, lambda before: before.get(WEIGHTS) == files[WEIGHTS])
    except AffectuneError as error:
        raise AffectuneError(f"{error} {advice}") from error


def _distil(model: FusedModel, study: Study, store: StageStore) -> FusedModel:
    """Distil the winner on this machine. What is trained is in the store, if this is killed."""
    options = study.options
    workers = options.workers or os.cpu_count() or 1
    with WorkerPool(study.corpus, store, workers=workers, device=options.device) as pool:
        return distil(model, study.corpus, pool)


def _opened(spec: StudySpec, corpus: Corpus, corpus_path: Path) -> StudyOpened:
    # How the corpus is read is in its digest.
    settings = spec.model_dump(mode="json", exclude={"corpus", "resample", "time_unit"})
    parts = json.dumps([settings, corpus.digest, TRAINING_CODE], sort_keys=True)
    libraries = {name: metadata.version(name) for name in ("ray", "optuna", "mlflow")}
    folds = CrossFitPlan.from_spec(corpus, spec.base).folds
    return StudyOpened(
        at=now(),
        study=spec.model_dump(mode="json"),
        digest=hashlib.sha256(parts.encode()).hexdigest(),
        corpus=describe(corpus) | {"path": str(corpus_path.absolute())},
        folds=tuple(fold.name for fold in folds),
        versions=library_versions() | libraries,
        git_commit=git_commit(),
    )


def git_commit() -> str | None:
    """Return the commit of the code that runs, with "+" where files were changed since.

    Returns:
        None outside of the project's own repository.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel")) != Path(__file__).resolve().parents[2]:
            return None  # installed, in an environment that lies in a repository of the user's
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changes else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    ).stdout.strip()


def _go_on(study: Study, opened: StudyOpened, *, resume: bool) -> None:
    """Go on with the study that is in the folder, if it is the same and unfinished."""
    folder = study.options.folder
    _raise_if_other_study(study.history, opened, folder)
    raise_if_results_are_others(folder, study.history)
    if study.history.finished is not None:
        return
    if not resume:
        raise InputError(
            f"'{folder}' holds a study that is not finished. Pass --resume, or another --out."
        )
    study.shared.go_on()
    study.history = history_of(study.journal.events)
    if study.history.finished is not None:
        return
    remove_leftovers(folder)
    for path in folder.glob(".tune-*"):  # earlier versions'
        shutil.rmtree(path, ignore_errors=True)
    study.record(StudyResumed(at=now()))


def _raise_if_other_study(history: History, opened: StudyOpened, folder: Path) -> None:
    before = history.opened
    assert before is not None
    if before.digest == opened.digest:
        return

    if before.corpus["digest"] != opened.corpus["digest"]:
        difference = f"was run on other data ('{before.corpus['path']}' as it was then)"
    elif {**before.study, "corpus": None} != {**opened.study, "corpus": None}:
        difference = f"has other settings than this one (its name is '{before.study['name']}')"
    else:
        difference = "was run with another version of the training code"
    raise InputError(
        f"The study in '{folder}' {difference}. Choose another --out; trained stages are reused."
    )


def _events_of_same_study(store: StageStore, digest: str) -> list[Event]:
    """Return what happened when the same study was finished once with the same store."""
    name = _journal_name(digest)
    journal = store.read(name, lambda files: files[JOURNAL]) or b""
    try:
        events = [line.event for line in read_lines(BytesIO(journal), f"{store.uri}/{name}")]
        is_same = not events or getattr(events[0], "digest", None) == digest
    except JournalError as error:
        log.warning("%s Its journal is not used.", error)
        return []
    if not is_same:
        return []
    own = (StudyOpened, StudyStopped, StudyResumed, StudyFinished, ModelRegistered)
    latest = now()  # the clock that they have their times from may have been ahead of this one
    return [
        event.model_copy(update={"at": min(event.at, latest)})
        for event in events
        if not isinstance(event, own)
    ]


def _journal_name(digest: str) -> str:
    """Return the store's name for the journal of a finished study."""
    return f"study-{digest}"


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder; return those that were not there before, the outermost first."""
    missing = _missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--out '{folder}' cannot be made: {error.strerror}. "
            f"{mend_of(error) or 'Correct it'}, or choose another folder."
        ) from error
    return missing


def _missing(folder: Path) -> list[Path]:
    """Return which of a folder and those above it are not there, the outermost first."""
    return [path for path in (*reversed(folder.parents), folder) if not path.exists()]
