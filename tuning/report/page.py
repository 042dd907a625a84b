"""The report as one HTML file: gathers its parts, fills the template, writes it whole or not at all."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.errors import AffectuneError, InputError
from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.model_card import lost_to_floors
from pipeline.metrics.bootstrap import Score
from pipeline.model.fused_model import FusedModel
from pipeline.stages.fusion import FLOORS, FUSION, WITHOUT
from tuning.audit.cli_output import AUDIT
from tuning.journal.history import History
from tuning.monitoring.status import StudyStatus, TaskStatus, duration, survey
from tuning.report.charts import importances, intervals, traces
from tuning.report.comparisons import comparisons
from tuning.report.curves import learning_curves, parallel_coordinates
from tuning.report.importance import Importance, importance
from tuning.report.plotly_style import Figure
from tuning.report.results import best_of_each, failures, finalists, scores
from tuning.report.search_trials import Searches

REPORT = "report.html"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class TaskCharts:
    """What is drawn for a task; None where there is too little."""

    state: TaskStatus
    curves: Figure | None
    parallel: Figure | None
    importance: Importance
    shares: Figure | None

    @property
    def name(self) -> str:
        return str(self.state.task)


def write_report(
    folder: Path, history: History, evaluation: Evaluation | None, model: FusedModel | None
) -> Path:
    """Write a study's report.html, with its audit where there is one; what was there is replaced in one step.

    Args:
        folder: of the study.
        history: of the study, finished or not.
        evaluation: of the winner on devel; None while there is none: its scores then come from the summary.
        model: the winner; None likewise.

    Raises:
        InputError: the study was never opened.
        AffectuneError: it cannot be written.
    """
    path = folder / REPORT
    audit = folder / AUDIT
    text = render(
        history, evaluation, model, json.loads(audit.read_bytes()) if audit.exists() else None
    )
    temporary = path.with_name(f".{REPORT}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise AffectuneError(
            f"Cannot write the report '{path}': {error.strerror}. What was there is intact."
        ) from error
    return path


def render(
    history: History,
    evaluation: Evaluation | None,
    model: FusedModel | None,
    audit: dict[str, Any] | None = None,
) -> str:
    """The page; audit: what `Audit.to_json` says."""
    if history.opened is None:
        raise InputError("There is nothing to report: the study's journal is empty.")
    state = survey(history)
    searches = Searches(history)
    found = scores(history, evaluation, model)
    ranked = finalists(searches)
    return (
        _environment()
        .get_template("page.html")
        .render(
            opened=history.opened,
            registered=history.registered,
            study=searches.study,
            state=state,
            overview=_overview(history, state),
            warnings=[
                *_warnings(history, state),
                *(lost_to_floors(evaluation) if evaluation else []),
            ],
            scores=found,
            intervals={target: intervals(target, columns) for target, columns in found.items()},
            differences={}
            if evaluation is None
            else {t: e.differences for t, e in evaluation.targets.items()},
            evaluation=evaluation,
            baselines=(*FLOORS.values(),),
            fusion=FUSION,
            without=WITHOUT,
            comparisons=comparisons(searches),
            finalists=ranked,
            best=best_of_each(ranked),
            charts=[_charts(searches, task) for task in state.tasks],
            traces=traces(evaluation) if evaluation is not None else [],
            failures=failures(history),
            audit=audit,
            settings=json.dumps(history.opened.study, indent=1, ensure_ascii=False),
            command=_command(history),
            written=_date(datetime.now(tz=UTC).timestamp()),
            plotly=Markup(get_plotlyjs()),
            style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
            script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        )
    )


def _environment() -> jinja2.Environment:
    """Everything that a template writes is escaped, but for what is marked."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "estimate": _estimate,
        "score": _score,
        "interval": _interval,
        "date": _date,
        "duration": duration,
        "data": _data,
    }
    return environment


def _overview(history: History, state: StudyStatus) -> list[tuple[str, str]]:
    """The figures at the top: (what, how much)."""
    trials = list(history.trials.values())
    ended = [trial.ended for trial in trials if trial.ended is not None]
    searched = [trial for trial in trials if trial.proposed.purpose == "search"]
    return [
        ("configurations", str(len(searched))),
        ("fits", str(len(trials))),
        ("trained to the end", str(state.total("done"))),
        ("stopped early", str(state.total("stopped") + state.total("cut"))),
        ("failed", str(state.total("failed"))),
        ("epochs trained", f"{state.total('epochs'):,}"),
        ("epochs saved, at most", f"{state.total('epochs_saved'):,} ({state.saved_share:.0%})"),
        ("time", duration(state.used_s)),
        ("processor time", duration(sum(end.cpu_s for end in ended if end.reason != "store"))),
    ]


def _warnings(history: History, state: StudyStatus) -> list[str]:
    """Sentences that must not be overlooked."""
    found = []
    if not state.finished:
        waiting = [str(task.task) for task in state.tasks if task.phase != "settled"]
        left = f" Not settled: {', '.join(waiting)}." if waiting else ""
        found.append(f"This study has not finished; the report shows what there is.{left}")
    if failed := state.total("failed"):
        found.append(f"{failed} of {len(history.trials)} fits failed; their causes are below.")
    if cut := state.total("cut"):
        found.append(f"The time budget ended {cut} fits before early stopping or patience did.")
    return found


def _charts(searches: Searches, state: TaskStatus) -> TaskCharts:
    task = state.task
    found = importance(searches, task)
    return TaskCharts(
        state=state,
        curves=learning_curves(searches, task),
        parallel=parallel_coordinates(searches, task),
        importance=found,
        shares=importances(str(task), found),
    )


def _command(history: History) -> str:
    """How the study is run again."""
    assert history.opened is not None
    path = history.opened.corpus.get("path")
    return (
        "affectune study run STUDY.toml"
        + (f" --corpus {shlex.quote(str(path))}" if path else "")
        + " --out NEW"
    )


def _score(score: Score | None) -> str:
    if score is None or not np.isfinite(score.ccc):
        return "undefined" if score is not None else "-"
    return str(score) if np.isfinite([score.low, score.high]).all() else f"{score.ccc:.3f}"


def _interval(score: Score) -> str:
    return (
        f"[{score.low:.3f}, {score.high:.3f}]" if np.isfinite([score.low, score.high]).all() else ""
    )


def _estimate(found: dict[str, float] | None) -> str:
    """A number of an audit and its interval, or a dash where there is too little to tell."""
    return (
        "-" if found is None else f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
    )


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _data(figure: Figure) -> Markup:
    """A chart's JSON inside a script element, which nothing in it can end."""
    return Markup(
        figure.data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    )
