"""A whole study as a person runs it: recorded while it runs, shown, reported, registered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.corpus import Corpus
from pipeline.errors import AffectuneError
from pipeline.evaluation.evaluate import Evaluation, evaluate, score_table
from pipeline.model.fused_model import FusedModel
from tuning.journal.events import ModelRegistered
from tuning.journal.history import History
from tuning.mlflow_backend.tracker import Tracker, check, resolve_uri
from tuning.monitoring.live_table import StudyTable
from tuning.spec.study_spec import StudySpec
from tuning.study.study import MODEL_FOLDER, SUMMARY, Place, Study, open_study, run_study

REPORT = "report.html"
LAST_WORDS_S = 120.0
"""So long a study waits at its end for a tracking server that is slow or away."""


@dataclass(frozen=True)
class Options:
    """What the command line gives; see `Place`."""

    folder: Path
    store: str
    address: str | None = None
    workers: int | None = None
    device: str = "cpu"
    trial_device: str = "cuda"
    budget_s: float = inf
    tracking_uri: str | None = None
    promote_first: bool = False
    resume: bool = False


def run(
    spec: StudySpec, corpus: Corpus, corpus_path: Path, options: Options, console: Console
) -> dict[str, Any]:
    """Run a study, or go on with it; a finished one is only shown.

    Returns:
        summary.json.

    Raises:
        InputError: before anything starts: what is asked for is not possible.
        AffectuneError: it was interrupted, or failed; it says how to go on.
    """
    uri = resolve_uri(options.tracking_uri)
    check(uri, spec.name)
    place = Place(
        folder=options.folder,
        store=options.store,
        address=options.address,
        workers=options.workers,
        device=options.device,
        trial_device=options.trial_device,
        budget_s=options.budget_s,
    )
    study = open_study(spec, corpus, corpus_path, place, resume=options.resume)
    with study.journal:
        tracker = Tracker(options.folder, uri).start()
        try:
            with StudyTable(console) as table:
                study.on_event = lambda event: table.update(study.history)
                run_study(study, on_tick=lambda: table.update(study.history))
            if study.history.finished is not None:
                _publish(study, tracker, uri, options, console)
        finally:
            unsent = tracker.close(LAST_WORDS_S if study.history.finished else 15.0)
    if unsent:
        console.print(
            f"[yellow]Note:[/] {unsent} events are not in MLflow yet: the same command with --resume sends them."
        )
    if study.interrupted:
        raise AffectuneError(
            "Interrupted. Every running trial kept its state: the same command with --resume goes on."
        )
    assert study.history.finished is not None
    return study.history.finished.summary


def report(folder: Path, found: History, corpus_path: Path | None = None) -> Path:
    """Write report.html of a study in any state; without its corpus, without traces."""
    from pipeline.data.muse import read_corpus
    from tuning.report.page import write_report

    model = evaluation = None
    if (folder / MODEL_FOLDER).is_dir():
        model = FusedModel.load(folder / MODEL_FOLDER)
        assert found.opened is not None
        path = corpus_path or Path(found.opened.corpus["path"])
        if corpus_path is not None or path.is_dir():
            corpus = read_corpus(path, modalities=model.modalities, targets=model.targets)
            evaluation = evaluate(model, corpus, "devel")
    return write_report(folder, found, evaluation, model)


def _publish(study: Study, tracker: Tracker, uri: str, options: Options, console: Console) -> None:
    """Report the winner, and register it; what was done before is left as it is."""
    from tuning.mlflow_backend.registry import register
    from tuning.report.page import write_report

    folder = options.folder
    if study.history.registered is None or not (folder / REPORT).exists():
        model = FusedModel.load(folder / MODEL_FOLDER)
        evaluation = evaluate(model, study.corpus, "devel", device=options.device)
        tracker.log_artifacts(
            write_report(folder, study.history, evaluation, model), folder / SUMMARY
        )
        _print(evaluation, console)
    if study.history.registered is None:
        session = study.corpus.partition("devel")[0]
        example = {
            modality: session.features[modality]
            for modality in FusedModel.load(folder / MODEL_FOLDER).columns
        }
        name, version = register(
            folder / MODEL_FOLDER,
            study.history,
            uri,
            example=example,
            promote_first=options.promote_first,
        )
        study.record(ModelRegistered(at=time.time(), model=name, version=version))
    if registered := study.history.registered:
        console.print(
            f"{registered.model} version {registered.version} is registered. Written: {folder}",
            soft_wrap=True,
        )


def _print(evaluation: Evaluation, console: Console) -> None:
    for target, rows in score_table(evaluation).items():
        table = Table(
            title=f"{target} on {evaluation.partition}",
            title_justify="left",
            box=box.SIMPLE,
            pad_edge=False,
        )
        for heading in ("prediction", "CCC [95% interval]", "fusion minus it"):
            table.add_column(heading, no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
