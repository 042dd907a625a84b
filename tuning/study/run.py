"""A whole study as a person runs it: recorded while it runs, shown, reported, registered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.cli import session_table
from pipeline.corpus import Corpus
from pipeline.data.muse import read_corpus
from pipeline.environment import resolve_tracking_uri
from pipeline.errors import AffectuneError
from pipeline.evaluation.evaluate import (
    Evaluation,
    evaluate,
    score_table,
    session_score_table,
    session_score_title,
)
from pipeline.evaluation.model_card import distillation_note
from pipeline.model.bundle import load_model
from pipeline.terminal import cells, title
from tuning.journal.clock import now
from tuning.journal.events import ModelRegistered
from tuning.journal.history import History
from tuning.mlflow_backend.registry.registration import register, registrable
from tuning.mlflow_backend.registry.versions import is_the_champion
from tuning.mlflow_backend.tracking.study_runs import raise_if_not_recordable
from tuning.mlflow_backend.tracking.tracker import Tracker
from tuning.monitoring.metrics import StudyMetrics
from tuning.planning.judgement import verdict
from tuning.report.page import REPORT, write_report
from tuning.report.pictures import draw_pictures
from tuning.spec.study_spec import StudySpec
from tuning.study.following import followed
from tuning.study.next_steps import next_steps
from tuning.study.study import Study, StudyOptions, open_study, run_study
from tuning.study.study_folder import MODEL_FOLDER, SUMMARY

FINAL_SEND_TIMEOUT_S = 120.0
"""So long a finished study waits for a tracking server that is slow or away; others wait less."""
SEND_TIMEOUT_S = 15.0
LAST_SEND_TIMEOUT_S = 2.0
"""The same of a study that was told to end."""


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

    Returns:
        summary.json.

    Raises:
        InputError: before anything starts: what is asked for is not possible.
        AffectuneError: it was interrupted, or failed; it says how to go on.
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
                run_study(study, on_start=begin_tracking, on_tick=update)
            if study.history.finished is not None:
                _report_winner(study, tracker, console)
                _register_winner(study, uri, console, promote_first=promote_first)
        finally:
            study.shared.close(_send_timeout_s(study))
            unsent = tracker.close(_send_timeout_s(study))

    if unsent:
        console.print(
            f"[yellow]Note:[/] {unsent} events are not in MLflow yet: "
            "the same command with --resume sends them."
        )
    if study.is_interrupted:
        raise AffectuneError(
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
    if not (folder / MODEL_FOLDER).is_dir():
        return write_report(folder, history, None, None, out)

    model = load_model(folder / MODEL_FOLDER)
    assert history.opened is not None
    path = corpus_path or Path(history.opened.corpus["path"])
    evaluation = None
    if corpus_path is not None or path.is_dir():
        corpus = read_corpus(
            path,
            modalities=model.modalities,
            targets=model.targets,
            mark_stuck_rows=False,
            model_columns=model.columns_in_files,
            model_set_aside=model.set_aside,
            resampling=model.resampling_of_sets,
            time_unit=history.study.time_unit,
        )
        evaluation = evaluate(model, corpus, "devel")
    return write_report(folder, history, evaluation, model, out)


def _send_timeout_s(study: Study) -> float:
    """Return how long a tracking server may keep the study from ending."""
    is_told_to_end = study.is_interrupted or isinstance(sys.exception(), KeyboardInterrupt)
    if is_told_to_end:
        return LAST_SEND_TIMEOUT_S
    return SEND_TIMEOUT_S if study.history.finished is None else FINAL_SEND_TIMEOUT_S


def _report_winner(study: Study, tracker: Tracker, console: Console) -> None:
    """Write the report and print the winner's scores, where that was not done before."""
    folder = study.options.folder
    if study.history.registered is not None and (folder / REPORT).exists():
        return

    model = load_model(folder / MODEL_FOLDER)
    evaluation = evaluate(model, study.corpus, "devel", device=study.options.device)
    path = write_report(folder, study.history, evaluation, model)
    tracker.log_artifacts(path, folder / SUMMARY)
    tracker.log_pictures(draw_pictures(study.history, evaluation))
    _print_scores(evaluation, console)
    if model.distillation:
        console.print(Text(distillation_note(model)))


def _register_winner(study: Study, uri: str, console: Console, *, promote_first: bool) -> None:
    """Register the winner, where that was not done before."""
    folder = study.options.folder
    if study.history.registered is None:
        bundle = folder / MODEL_FOLDER
        session = study.corpus.partition("devel")[0]
        example = {m: session.features[m] for m in load_model(bundle).modalities}
        name, version = register(
            bundle, study.history, uri, example=example, promote_first=promote_first
        )
        study.record(ModelRegistered(at=now(), model=name, version=version))

    registered = study.history.registered
    assert registered is not None
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
    """Say last what the model is better than, and what it is no better than."""
    if history.judged is not None:
        for target, judgement in history.judged.targets.items():
            console.print(Text(verdict(target, judgement)), soft_wrap=True)


def _print_scores(evaluation: Evaluation, console: Console) -> None:
    session_rows = session_score_table(evaluation)
    for target, rows in score_table(evaluation).items():
        heading = title(f"{target} on {evaluation.partition}")
        table = Table(title=heading, title_justify="left", box=box.SIMPLE, pad_edge=False)
        for name in ("prediction", "CCC [95% interval]", "fusion minus it"):
            table.add_column(name, no_wrap=True)
        for row in rows:
            table.add_row(*cells(row))
        console.print(table)
        console.print(session_table(session_score_title(evaluation, target), session_rows[target]))
