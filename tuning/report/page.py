"""The report as one HTML file: gathers its parts, fills the template, and writes it atomically."""

from __future__ import annotations

import base64
import gzip
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
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
    folds_text,
)
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT_DIFFICULTY
from pipeline.stages.label_floors import EXPLANATIONS, LABEL_FLOORS
from pipeline.storage.atomic_file import write_atomically
from pipeline.storage.json_record import read_record
from tuning.audit.cli_output import AUDIT
from tuning.journal.history import History
from tuning.monitoring.status import TaskStatus, study_status
from tuning.report.answer import answers
from tuning.report.charts.importance_bars import importance_bars
from tuning.report.charts.learning_curves import learning_curves
from tuning.report.charts.plotly_style import Figure
from tuning.report.charts.score_intervals import score_intervals
from tuning.report.charts.session_scores import session_scores
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
from tuning.report.overview import (
    alerts,
    num_configurations,
    overview,
    run_command,
    score_warnings,
)
from tuning.report.results import (
    failed_trials,
    finalist_rows,
    judgement_tables,
    prediction_label,
    winner_rows,
    winner_scores,
)
from tuning.report.search_trials import Searches
from tuning.report.trial_data import trial_data

log = logging.getLogger(__name__)

REPORT = "report.html"
MARK = b'<a class="skip" href="#main">Skip to the report</a>'
"""Every report has it near its begin."""
MAX_BEGIN_BYTES = 2**16
MAX_POINTS, MIN_POINTS = 30_000, 1000
"""Of all learning curves together, and of those of one task at least."""
SCRIPTS = ("plots", "trials", "trial_table", "trial_charts", "parallel", "start")
"""The parts of the page's script, in order."""
HERE = resources.files(__package__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Link:
    """Where something of the study is seen: an address or a command, and what is there."""

    name: str
    text: str

    @property
    def is_address(self) -> bool:
        """Whether a browser opens it."""
        return self.text.startswith(("http://", "https://"))


@dataclass(frozen=True)
class TaskCharts:
    """The charts of one task that are made here; the page's script makes those of trials.

    Attributes:
        number: of the task, among the tasks of the study.
        status: how far the task is.
        curves: learning curves; None where no epoch has passed.
        is_varied: its trials differ in some setting, so that there is more to draw.
        importance: of the task's settings, and `shares` its chart; None where there is none.
        shares: the chart of the importance.
    """

    number: int
    status: TaskStatus
    curves: Figure | None
    is_varied: bool
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
    links: Sequence[str] = (),
) -> Path:
    """Write a study's report.html, with its audit and nested scores where there are any.

    An older report is replaced; what else has its name is not.

    Args:
        folder: of the study.
        history: of the study, finished or not.
        evaluation: of the winner on devel; None: the scores come from the study's summary.
        model: the winner; None: its out-of-fold scores come from the study's summary.
        out: the file; None: report.html in the folder.
        links: lines that say where MLflow shows it, as they are printed: "Runs: http://..."; or a
            line that ends with a colon, and below it a command.

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
    text = render(history, evaluation, model, audit, nested, links)

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
    links: Sequence[str] = (),
) -> str:
    """Return the page as HTML.

    Args:
        history: as for `write_report`; likewise evaluation, model and links.
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
    max_points = max(MIN_POINTS, MAX_POINTS // max(len(status.tasks), 1))
    charts = [
        _task_charts(searches, number, task_status, max_points)
        for number, task_status in enumerate(status.tasks)
    ]

    template = _environment().get_template("page.html")
    return template.render(
        opened=history.opened,
        registered=history.registered,
        study=searches.study,
        folds=folds_text(searches.study),
        held_out=HELD_OUT[searches.study.split],
        unseen=UNSEEN[searches.study.split],
        question=QUESTIONS[searches.study.split],
        num_configurations=num_configurations(history),
        num_tasks=len(status.tasks),
        overview=overview(history, status),
        alerts=alerts(history, status),
        warnings=score_warnings(evaluation, model),
        answers=answers(searches, scores),
        links=list(_read_links(links)),
        scores=scores,
        judgements=judgement_tables(history),
        intervals={target: score_intervals(target, scores[target]) for target in scores},
        evaluation=evaluation,
        comparisons=comparisons(searches),
        finalists=finalists,
        winners=winner_rows(finalists),
        charts=charts,
        trial_data=trial_data(searches),
        targets_of_progress=[*searches.targets, ""],
        session_scores=_session_scores(evaluation),
        traces=session_traces(evaluation) if evaluation is not None else [],
        failures=failed_trials(history),
        audit=audit,
        nested=nested,
        settings=json.dumps(history.opened.study, indent=1, ensure_ascii=False),
        command=run_command(history),
        written=date_text(datetime.now(tz=UTC).timestamp()),
    )


def _read_links(lines: Sequence[str]) -> Iterator[Link]:
    """Yield what lines such as "Runs: http://host/#/experiments/1" name."""
    heading = ""
    for line in map(str.strip, lines):
        name, separator, text = line.partition(": ")
        if line.endswith(":"):
            heading = line[:-1]
        elif separator:
            yield Link(name, text)
        elif line:
            yield Link(heading, line)


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
        "plotly": Markup(_packed_plotly()),
        "style": Markup((HERE / "page.css").read_text(encoding="utf-8")),
        "script": Markup(_script()),
    }
    environment.filters |= {
        "script_json": _script_json,
        "date": date_text,
        "difference": difference_text,
        "estimate": estimate_text,
        "interval": interval_text,
        "label": prediction_label,
        "measure": measure_name,
        "score": score_text,
    }
    return environment


@cache
def _packed_plotly() -> str:
    """Return plotly's script, compressed, as text: a quarter of its size."""
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode()


def _script() -> str:
    """Return the page's script."""
    parts = [(HERE / "scripts" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join(['"use strict";', *parts])


def _task_charts(
    searches: Searches, number: int, status: TaskStatus, max_points: int
) -> TaskCharts:
    task = status.task
    task_importance = importance(searches, task)
    trials = searches.trials(task)
    is_varied = any(
        len({trial.trial.proposed.configuration.get(dimension.path) for trial in trials}) > 1
        for dimension in searches.dimensions(task.stage)
    )
    return TaskCharts(
        number=number,
        status=status,
        curves=learning_curves(searches, task, max_points),
        is_varied=is_varied,
        importance=task_importance,
        shares=importance_bars(task, task_importance),
    )


def _session_scores(evaluation: Evaluation | None) -> list[Figure]:
    """Return the charts of the CCC by session, one for each target that has any."""
    if evaluation is None:
        return []
    figures = [session_scores(evaluation, target) for target in evaluation.targets]
    return [figure for figure in figures if figure is not None]


def _script_json(value: Figure | Mapping[str, Any]) -> Markup:
    """Return a chart, or data, as JSON for a script element, which nothing in it can end."""
    if isinstance(value, Figure):
        data = value.data
    else:
        data = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return Markup(data)
