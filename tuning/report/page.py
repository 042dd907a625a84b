"""The report as one HTML file: gathers its parts, fills the template, and writes it atomically."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.errors import InputError
from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.model_card import (
    HELD_OUT,
    QUESTIONS,
    UNSEEN,
    floor_warnings,
    folds_text,
    out_of_fold_warnings,
)
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT_DIFFICULTY
from pipeline.stages.label_floors import EXPLANATIONS, LABEL_FLOORS
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.json_record import read_record
from tuning.audit.cli_output import AUDIT
from tuning.journal.history import History
from tuning.monitoring.status import (
    StudyStatus,
    TaskStatus,
    format_duration,
    study_status,
)
from tuning.report.charts.importance_bars import importance_bars
from tuning.report.charts.learning_curves import learning_curves
from tuning.report.charts.parallel_coordinates import parallel_coordinates
from tuning.report.charts.plotly_style import Figure
from tuning.report.charts.score_intervals import score_intervals
from tuning.report.charts.session_traces import session_traces
from tuning.report.comparisons import comparisons
from tuning.report.formats import (
    date_text,
    difference_text,
    estimate_text,
    interval_text,
    measure_name,
    score_text,
)
from tuning.report.importance import Importance, importance
from tuning.report.nested_scores import NESTED, WINNER, NestedScores
from tuning.report.results import (
    failed_trials,
    finalist_rows,
    judgement_tables,
    prediction_label,
    winner_rows,
    winner_scores,
)
from tuning.report.search_trials import Searches

log = logging.getLogger(__name__)

REPORT = "report.html"
MARK = b'<a class="skip" href="#main">Skip to the report</a>'
"""Every report has it near its begin."""
MAX_BEGIN_BYTES = 2**16
HERE = resources.files(__package__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class TaskCharts:
    """The charts of one task; a chart is None where there is too little to draw.

    Attributes:
        status: how far the task is.
        curves: learning curves.
        parallel: parallel coordinates.
        importance: of the task's settings, and `shares` its chart.
        shares: the chart of the importance.
    """

    status: TaskStatus
    curves: Figure | None
    parallel: Figure | None
    importance: Importance
    shares: Figure | None

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.status.task)


def write_report(
    folder: Path,
    history: History,
    evaluation: Evaluation | None,
    model: FusedModel | None,
    out: Path | None = None,
) -> Path:
    """Write a study's report.html, with its audit and nested scores where there are any.

    An older report is replaced; what else has its name is not.

    Args:
        folder: of the study.
        history: of the study, finished or not.
        evaluation: of the winner on devel; None: the scores come from the study's summary.
        model: the winner; None: its out-of-fold scores come from the study's summary.
        out: the file; None: report.html in the folder.

    Returns:
        The file's path.

    Raises:
        InputError: the study was never opened, or another file has the report's name.
        AffectuneError: the file cannot be written.
    """
    path = folder / REPORT if out is None else out
    if (path.is_symlink() or path.exists()) and not is_report(path):
        raise InputError(f"'{path}' is no report of a study, and is left as it is. Move it away.")

    audit, nested = _result(folder / AUDIT, dict), _result(folder / NESTED, NestedScores.from_json)
    text = render(history, evaluation, model, audit, nested)

    write_atomically(path, text)

    return path


def is_report(path: Path) -> bool:
    """Return whether a file is the report of a study, of any version."""
    try:
        with open(path, "rb") as file:
            return not path.is_symlink() and path.is_file() and MARK in file.read(MAX_BEGIN_BYTES)
    except OSError:
        return False


def _result(path: Path, parse: Callable[[Mapping[str, Any]], Result]) -> Result | None:
    """Return what an audit or nested cross-validation left; None where it is not there.

    A damaged one is left out, which is logged.
    """
    if not path.exists():
        return None
    try:
        record = read_record(path)
        if record is not None and record.keys() & {"tasks", "targets"}:
            return parse(record)
    except (AttributeError, LookupError, TypeError, ValueError):
        pass
    log.warning("'%s' is damaged, and left out of the report. Run what wrote it again.", path)
    return None


def render(
    history: History,
    evaluation: Evaluation | None,
    model: FusedModel | None,
    audit: dict[str, Any] | None = None,
    nested: NestedScores | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        history: as for `write_report`; likewise evaluation and model.
        audit: the content of audit.json.
        nested: how good the search is on people it never saw.

    Raises:
        InputError: the study was never opened.
    """
    if history.opened is None:
        raise InputError("There is nothing to report: the study's journal is empty.")

    status = study_status(history)
    searches = Searches(history)
    scores = winner_scores(history, evaluation, model)
    finalists = finalist_rows(searches)
    charts = [_task_charts(searches, task_status) for task_status in status.tasks]

    template = _environment().get_template("page.html")
    return template.render(
        opened=history.opened,
        registered=history.registered,
        study=searches.study,
        folds=folds_text(searches.study),
        held_out=HELD_OUT[searches.study.split],
        unseen=UNSEEN[searches.study.split],
        question=QUESTIONS[searches.study.split],
        num_configurations=_num_configurations(history),
        num_tasks=len(status.tasks),
        overview=_overview(history, status),
        warnings=_warnings(history, status, evaluation, model),
        scores=scores,
        judgements=judgement_tables(history),
        intervals={target: score_intervals(target, scores[target]) for target in scores},
        evaluation=evaluation,
        comparisons=comparisons(searches),
        finalists=finalists,
        winners=winner_rows(finalists),
        charts=charts,
        traces=session_traces(evaluation) if evaluation is not None else [],
        failures=failed_trials(history),
        audit=audit,
        nested=nested,
        settings=json.dumps(history.opened.study, indent=1, ensure_ascii=False),
        command=_command(history),
        written=date_text(datetime.now(tz=UTC).timestamp()),
    )


def _environment() -> jinja2.Environment:
    """Return an environment that escapes whatever a template writes, unless it is Markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(HERE)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    environment.globals |= {
        "fusion": FUSION,
        "nested_winner": WINNER,
        "without": WITHOUT_DIFFICULTY,
        "floors": (*FLOORS.values(), *LABEL_FLOORS.values()),
        "explanations": EXPLANATIONS,
        "plotly": Markup(get_plotlyjs()),
        "style": Markup((HERE / "page.css").read_text(encoding="utf-8")),
        "script": Markup((HERE / "page.js").read_text(encoding="utf-8")),
    }
    environment.filters |= {
        "chart_json": _chart_json,
        "date": date_text,
        "difference": difference_text,
        "estimate": estimate_text,
        "interval": interval_text,
        "label": prediction_label,
        "measure": measure_name,
        "score": score_text,
    }
    return environment


def _num_configurations(history: History) -> int:
    return sum(trial.proposed.purpose == "search" for trial in history.trials.values())


def _overview(history: History, status: StudyStatus) -> list[tuple[str, str]]:
    """Return the figures at the top as (name, value)."""
    ended = [trial.ended for trial in history.trials.values() if trial.ended is not None]
    cpu_s = sum(end.cpu_s for end in ended if end.reason != "store")
    num_stopped = status.total("stopped") + status.total("cut")
    num_saved = status.total("epochs_saved")

    return [
        ("configurations", str(_num_configurations(history))),
        ("fits", str(len(history.trials))),
        ("trained to the end", str(status.total("done"))),
        ("stopped early", str(num_stopped)),
        ("failed", str(status.total("failed"))),
        ("epochs trained", f"{status.total('epochs'):,}"),
        ("epochs saved, at most", f"{num_saved:,} ({status.saved_share:.0%})"),
        ("time", format_duration(status.used_s)),
        ("processor time", format_duration(cpu_s)),
    ]


def _warnings(
    history: History,
    status: StudyStatus,
    evaluation: Evaluation | None,
    model: FusedModel | None,
) -> list[str]:
    """Return the sentences that must not be overlooked."""
    warnings = []
    if not status.is_finished:
        waiting = [str(task.task) for task in status.tasks if task.task not in history.completed]
        missing = f" Not completed: {', '.join(waiting)}." if waiting else ""
        warnings.append(f"This study has not finished; the report shows what there is.{missing}")

    if num_failed := status.total("failed"):
        num_fits = len(history.trials)
        warnings.append(f"{num_failed} of {num_fits} fits failed; their causes are below.")

    if num_cut := status.total("cut"):
        warnings.append(
            f"The time budget ended {num_cut} fits before early stopping or patience did."
        )

    if evaluation is not None:
        warnings += [f"Devel CCC of {sentence}" for sentence in floor_warnings(evaluation)]
    if model is not None:
        warnings += [f"CCC of {sentence}" for sentence in out_of_fold_warnings(model.out_of_fold)]

    return warnings


def _task_charts(searches: Searches, status: TaskStatus) -> TaskCharts:
    task = status.task
    task_importance = importance(searches, task)

    return TaskCharts(
        status=status,
        curves=learning_curves(searches, task),
        parallel=parallel_coordinates(searches, task),
        importance=task_importance,
        shares=importance_bars(task, task_importance),
    )


def _command(history: History) -> str:
    """Return the command that runs the study once more."""
    assert history.opened is not None
    path = history.opened.corpus.get("path")
    corpus = f" --corpus {shlex.quote(str(path))}" if path else ""
    return f"affectune study run STUDY.toml{corpus} --out NEW"


def _chart_json(figure: Figure) -> Markup:
    """Return a chart's JSON for a script element, which nothing in it can end."""
    data = figure.data
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return Markup(data)
