"""A whole study as a person runs it: recorded while it runs, shown, reported, registered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.api.reading import corpus_to_evaluate
from pipeline.cli import session_table
from pipeline.corpus import Corpus
from pipeline.environment import resolve_tracking_uri
from pipeline.errors import AffectuneError
from pipeline.evaluation.evaluate import (
    Evaluation,
    evaluate,
    interval_note,
    score_table,
    session_score_table,
    session_score_title,
)
from pipeline.evaluation.model_card import distillation_note
from pipeline.model.bundle import load_model
from pipeline.model.fused_model import FusedModel
from pipeline.storage.json_record import read_record
from pipeline.terminal import cells, title
from tuning.journal.clock import now
from tuning.journal.events import Event, ModelRegistered
from tuning.journal.history import History
from tuning.mlflow_backend.registry.registration import register, registrable
from tuning.mlflow_backend.registry.versions import is_the_champion
from tuning.mlflow_backend.tracking.record import TRACKING
from tuning.mlflow_backend.tracking.study_runs import raise_if_not_recordable
from tuning.mlflow_backend.tracking.tracker import Tracker
from tuning.monitoring.metrics import StudyMetrics
from tuning.planning.judgement import verdict
from tuning.report.page import REPORT, write_report
from tuning.report.pictures import draw_pictures
from tuning.spec.study_spec import StudySpec
from tuning.study.following import followed
from tuning.study.next_steps import next_steps, tracking_lines
from tuning.study.study import Study, StudyOptions, open_study, run_study
from tuning.study.study_folder import MODEL_FOLDER, SUMMARY

FINAL_SEND_TIMEOUT_S = 120.0
"""So long a finished study waits for a tracking server that is slow or away; others wait less."""
SEND_TIMEOUT_S = 15.0
LAST_SEND_TIMEOUT_S = 2.0
"""The same of a study that was told to end."""


class StudyInterrupted(AffectuneError):
    """A study was told to end, and its running trials kept their state."""


def run(
    spec: StudySpec,
    corpus: Corpus,
    corpus_path: Path,
    options: StudyOptions,
    console: Console,
    *,
    tracking_uri: str | None = None,
    resume: bool = False,
    promote_first: bool = False,
    metrics: StudyMetrics | None = None,
    on_event: Callable[[History, Event], None] | None = None,
) -> dict[str, Any]:
    """Run a study, or go on with it; a finished one is only shown.

    Args:
        spec: its modalities and targets known.
        corpus: to learn from.
        corpus_path: where it lies.
        options: where to run.
        console: for tables and notes.
        tracking_uri: of MLflow; None: see `resolve_tracking_uri`.
        resume: whether an unfinished study in the folder is to go on.
        promote_first: whether the winner becomes the champion where there is none.
        metrics: what is kept up to date for Prometheus, if anything.
        on_event: called after every event while it searches.

    Returns:
        summary.json.

    Raises:
        InputError: before anything starts: what is asked for is not possible.
        StudyInterrupted: it was interrupted; it says how to go on.
        AffectuneError: it failed; it says how to go on.
    """
    uri = resolve_tracking_uri(tracking_uri)
    study = open_study(spec, corpus, corpus_path, options, resume=resume)

    with study:
        tracker = Tracker(options.folder, uri, may_send=lambda: study.shared.position)

        def begin_tracking() -> None:
            # The experiment comes last: MLflow would never quite remove it again.
            with registrable(uri, spec.registered_model):
                raise_if_not_recordable(uri, spec.name)
                tracker.start()

        try:
            if metrics is not None:
                metrics.backlog = tracker.backlog
            with followed(study, spec.name, console, metrics, uri) as update:
                if on_event is not None:
                    _tell_too(study, on_event)
                run_study(study, on_start=begin_tracking, on_tick=update)
            if study.history.finished is not None:
                _register_and_report(study, tracker, uri, console, promote_first=promote_first)
        finally:
            study.shared.close(_send_timeout_s(study))
            unsent = tracker.close(_send_timeout_s(study))

    if unsent:
        console.print(
            f"[yellow]Note:[/] {unsent} events are not in MLflow yet: "
            "the same command with --resume sends them."
        )
    if study.is_interrupted:
        raise StudyInterrupted(
            "Interrupted. Every running trial kept its state: "
            "the same command with --resume goes on."
        )
    assert study.history.finished is not None
    _print_next_steps(study, uri, console)
    return study.history.finished.summary


def report(
    folder: Path, history: History, corpus_path: Path | None = None, out: Path | None = None
) -> Path:
    """Write report.html of a study in any state; without its corpus, without traces.

    Args:
        folder: of the study.
        history: of the study.
        corpus_path: default: where the study read it.
        out: the file; default: report.html in the folder.
    """
    links: list[str] = []
    if uri := (read_record(folder / TRACKING) or {}).get("uri"):
        links = tracking_lines(folder, history.registered, uri)
    if not (folder / MODEL_FOLDER).is_dir():
        return write_report(folder, history, None, None, out, links)

    model = load_model(folder / MODEL_FOLDER)
    assert history.opened is not None
    evaluation = None
    if corpus_path is not None or Path(history.opened.corpus["path"]).is_dir():
        corpus = read_corpus_of(history, model, corpus_path)
        evaluation = evaluate(model, corpus, "devel")
    return write_report(folder, history, evaluation, model, out, links)


def read_corpus_of(history: History, model: FusedModel, path: Path | None = None) -> Corpus:
    """Read the corpus of a study as its winner reads it.

    Args:
        history: of the study.
        model: its winner.
        path: where the corpus lies; default: where the study read it.

    Raises:
        InputError: it is not there, or cannot be used.
    """
    assert history.opened is not None
    return corpus_to_evaluate(
        model, path or Path(history.opened.corpus["path"]), time_unit=history.study.time_unit
    )


def _tell_too(study: Study, tell: Callable[[History, Event], None]) -> None:
    """Have somebody else told of every event of a study, after who is told already."""
    before = study.on_event

    def on_event(event: Event) -> None:
        before(event)
        tell(study.history, event)

    study.on_event = on_event


def _send_timeout_s(study: Study) -> float:
    """Return how long a tracking server may keep the study from ending."""
    is_told_to_end = study.is_interrupted or isinstance(sys.exception(), KeyboardInterrupt)
    if is_told_to_end:
        return LAST_SEND_TIMEOUT_S
    return SEND_TIMEOUT_S if study.history.finished is None else FINAL_SEND_TIMEOUT_S


def _register_and_report(
    study: Study, tracker: Tracker, uri: str, console: Console, *, promote_first: bool
) -> None:
    """Register the winner and write the report, as far as that was not done before.

    The report has the version in it; where the registry does not answer, it is written without.
    """
    folder = study.options.folder
    if study.history.registered is not None and (folder / REPORT).exists():
        _print_registered(study, console)
        return

    model = load_model(folder / MODEL_FOLDER)
    evaluation = evaluate(model, study.corpus, "devel", device=study.options.device)
    _print_scores(evaluation, console)
    if model.distillation:
        console.print(Text(distillation_note(model)))

    def write() -> None:
        links = tracking_lines(folder, study.history.registered, uri)
        path = write_report(folder, study.history, evaluation, model, links=links)
        tracker.log_artifacts(path, folder / SUMMARY)
        tracker.log_pictures(draw_pictures(study.history, evaluation))

    try:
        if study.history.registered is None:
            _register(study, uri, model, promote_first=promote_first)
    except Exception:
        write()
        raise
    write()
    _print_registered(study, console)


def _register(study: Study, uri: str, model: FusedModel, *, promote_first: bool) -> None:
    """Make the winner a version of the registered model."""
    session = study.corpus.partition("devel")[0]
    example = {modality: session.features[modality] for modality in model.modalities}
    name, version = register(
        study.options.folder / MODEL_FOLDER,
        study.history,
        uri,
        example=example,
        promote_first=promote_first,
    )
    study.record(ModelRegistered(at=now(), model=name, version=version))


def _print_registered(study: Study, console: Console) -> None:
    """Say which version the winner is, and what it is better than."""
    registered = study.history.registered
    assert registered is not None
    folder = study.options.folder
    console.print(
        Text(f"{registered.model} version {registered.version} is registered. Written: {folder}"),
        soft_wrap=True,
    )
    _print_verdicts(study.history, console)


def _print_next_steps(study: Study, uri: str, console: Console) -> None:
    """Say last what to do with the winner, as lines to paste."""
    folder, registered = study.options.folder, study.history.registered
    if registered is None:
        return

    is_champion = is_the_champion(uri, registered.model, registered.version)
    for line in next_steps(folder, folder / REPORT, registered, uri, is_champion=is_champion):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _print_verdicts(history: History, console: Console) -> None:
    """Say last what the model is better than, and what it is not clearly better than."""
    if history.judged is not None:
        for target, judgement in history.judged.targets.items():
            console.print(Text(verdict(target, judgement)), soft_wrap=True)


def _print_scores(evaluation: Evaluation, console: Console) -> None:
    session_rows = session_score_table(evaluation)
    for target, rows in score_table(evaluation).items():
        table = Table(
            title=title(f"{target} on {evaluation.data}"),
            caption=interval_note(evaluation.targets[target]) or None,
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE,
            pad_edge=False,
        )
        for name in ("prediction", "CCC [95% interval]", "fusion minus it"):
            table.add_column(name, no_wrap=True)
        for row in rows:
            table.add_row(*cells(row))
        console.print(table)
        console.print(session_table(session_score_title(evaluation, target), session_rows[target]))
