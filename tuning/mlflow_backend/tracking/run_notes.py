"""What the runs of a study and of its tasks say of themselves, as Markdown that MLflow shows first.

A study's note begins with the results; its links lead to the trials of each task. Knows no server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.evaluation.markdown import code, literal
from pipeline.stages.task import Task
from tuning.journal.events import (
    Difference,
    Finalist,
    Judgement,
    ModelRegistered,
    StudyFinished,
    StudyJudged,
    StudyOpened,
    TaskCompleted,
)
from tuning.mlflow_backend.links import model_link, models_link, trials_link
from tuning.mlflow_backend.tracking.run_params import task_params
from tuning.planning.judgement import label, verdict
from tuning.spec.space import Value
from tuning.spec.tasks import parse_task

NOTE_TAG = "mlflow.note.content"
"""Tag that MLflow shows as the description of a run or an experiment."""
MAX_NOTE = 7500  # characters; MLflow takes tags of up to 8000
DIGEST_START = 16  # characters of a corpus's digest: as many as the model card shows
STAGES = ("fusion", "unimodal", "auto_encoder")
"""The order of a study's tasks in its note: the best fused models come first."""


@dataclass
class StudyFacts:
    """What a study's note tells, as far as it is known."""

    opened: StudyOpened
    completed: dict[str, TaskCompleted] = field(default_factory=dict)
    judged: StudyJudged | None = None
    finished: StudyFinished | None = None
    registered: ModelRegistered | None = None


def study_title(opened: StudyOpened) -> str:
    """Return what a study's run is called: the study's name, and when it began."""
    return f"{opened.study['name']} {_date(opened.at)}"


def study_note(facts: StudyFacts, experiment_id: str) -> str:
    """Return a study's results, its winner's settings, and links to the trials of each task."""
    head = list(_results(facts))
    tail = [_origin(facts.opened), _software(facts.opened)]
    rows = list(_task_rows(facts, experiment_id))
    return _fitted(head, ["task", "winner's settings", "deciding score", "trials"], rows, tail)


def task_note(event: TaskCompleted, opened: StudyOpened, trials: str, experiment_id: str) -> str:
    """Return a task's finalists with their scores, and a link to the trials of its search.

    Args:
        event: the completion of the task.
        opened: the opening of its study.
        trials: names of the trials that trained its winner.
        experiment_id: of the study.
    """
    task = parse_task(event.task)
    heading = ["finalist", "settings", *(f"{name} {_measure(task)}" for name in SCORE_NAMES)]
    rows = [
        [str(rank), _settings(finalist), *_finalist_scores(task, finalist)]
        for rank, finalist in enumerate(event.finalists, start=1)
    ]
    link = trials_link(experiment_id, opened.id, task_params(task))
    head = [f"**[Compare the trials of this search]({_here(link)})**"]
    tail = ["Scores of several seeds are their mean."]
    if trials:
        tail.append(f"The winner was trained by the trials {trials}.")
    return _fitted(head, heading, rows, tail)


SCORE_NAMES = ("deciding", "out-of-fold", "devel")


def results_line(summary: Mapping[str, Any]) -> str:
    """Return how good a study's winner is on devel, for every target.

    Args:
        summary: the content of summary.json.
    """
    targets = summary.get("targets", {})
    cccs = [f"{literal(target)} {_interval(scores)}" for target, scores in targets.items()]
    return f"**CCC on devel: {', '.join(cccs)}**" if cccs else ""


def experiment_note(experiment_id: str) -> str:
    """Return what an experiment says of itself; MLflow shows the first line of it."""
    models = _here(models_link(experiment_id))
    return (
        f"[The best models and their CCCs]({models}). Each run with a date is one study; its "
        "description compares the trials.\n\nBelow a study are the runs of its tasks, and below "
        "these those of their trials."
    )


def _origin(opened: StudyOpened) -> str:
    corpus = opened.corpus
    sessions = ", ".join(f"{count} {name}" for name, count in corpus.get("sessions", {}).items())
    digest = str(corpus.get("digest", ""))[:DIGEST_START]
    details = ", ".join(part for part in (f"digest {digest}", f"sessions: {sessions}") if part)
    name, corpus_name = str(opened.study["name"]), str(corpus.get("name", ""))
    return f"Study {code(name)}, begun {_date(opened.at)}; corpus {code(corpus_name)} ({details})."


def _results(facts: StudyFacts) -> Iterator[str]:
    """Yield how good the winner is and what it became, or that this comes at the end."""
    judgements = facts.judged.targets if facts.judged is not None else {}
    scores = facts.finished.summary.get("targets", {}) if facts.finished is not None else {}
    targets = list(dict.fromkeys([*scores, *judgements]))
    if not targets:
        yield "It has not finished: the results come here at its end."
        return

    line = results_line(facts.finished.summary) if facts.finished is not None else ""
    if facts.registered is not None:
        name, version = facts.registered.model, facts.registered.version
        link = _here(model_link(name, version))
        line += f" - registered as **[{literal(name)} version {version}]({link})**"
    yield line

    heading = ["target", "devel CCC [95% interval]", "deciding CCC", "out-of-fold CCC"]
    rows = [
        [
            literal(target),
            f"**{_interval(scores.get(target, {}))}**",
            *_judged_scores(judgements.get(target)),
        ]
        for target in targets
    ]
    yield _table([*heading, "registered", "better than the untuned default by"], rows)
    if judgements:
        verdicts = [literal(verdict(target, each)) for target, each in judgements.items()]
        yield "\n".join(f"- {sentence}" for sentence in verdicts)


def _judged_scores(judgement: Judgement | None) -> list[str]:
    if judgement is None:
        return ["-"] * 4
    chosen = judgement.chosen
    defaults = [each for each in judgement.candidates if each.kind == "default"]
    gain = defaults[0].chosen_minus_it if defaults else None
    return [
        _number(chosen.deciding),
        _number(chosen.out_of_fold),
        literal(label(chosen)),
        _gain(gain),
    ]


def _task_rows(facts: StudyFacts, experiment_id: str) -> Iterator[list[str]]:
    """Yield a row for each completed task, those of the last stage first."""
    tasks = {parse_task(name): event for name, event in facts.completed.items()}
    for task in sorted(tasks, key=lambda task: (STAGES.index(task.stage), str(task))):
        best = tasks[task].finalists[0]
        link = trials_link(experiment_id, facts.opened.id, task_params(task))
        score = f"{_measure(task)} {_score(task, best.mean_deciding)}"
        compare = f"[compare]({_here(link)})"
        yield [literal(str(task)), _settings(best), score, compare]


def _settings(finalist: Finalist) -> str:
    """Return a finalist's searched settings; of an ensemble those of all members."""
    if not finalist.members:
        return _configuration(finalist.configuration)
    return "; ".join(
        f"{member.count} x ({_configuration(member.configuration)})" for member in finalist.members
    )


def _configuration(configuration: Mapping[str, Value]) -> str:
    settings = (f"{literal(path)} {_value(value)}" for path, value in configuration.items())
    return ", ".join(settings) or "as given"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else literal(str(value))


def _finalist_scores(task: Task, finalist: Finalist) -> list[str]:
    out_of_fold = [score for score in finalist.out_of_fold if score is not None]
    mean = sum(out_of_fold) / len(out_of_fold) if out_of_fold else None
    scores = (finalist.mean_deciding, mean, finalist.mean_devel)
    return [_score(task, score) for score in scores]


def _measure(task: Task) -> str:
    return "CCC" if task.target else "RE"


def _score(task: Task, score: float | None) -> str:
    return _number(score if score is None or task.target else -score)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(scores: Mapping[str, Any]) -> str:
    ccc, low, high = (scores.get(key) for key in ("ccc", "ccc_low", "ccc_high"))
    if low is None or high is None:
        return _number(ccc)
    return f"{_number(ccc)} [{_number(low)}, {_number(high)}]"


def _gain(difference: Difference | None) -> str:
    if difference is None or difference.ccc is None:
        return "-"
    if difference.ccc_low is None or difference.ccc_high is None:
        return f"{difference.ccc:+.3f}"
    return f"{difference.ccc:+.3f} [{difference.ccc_low:+.3f}, {difference.ccc_high:+.3f}]"


def _software(opened: StudyOpened) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in opened.versions.items())
    return f"Software: {literal(versions)}." if versions else ""


def _here(link: str) -> str:
    """Return a link as a description has it: to a page of the same MLflow, wherever that is."""
    return link.removeprefix("/")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M UTC")


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _fitted(
    head: Sequence[str], heading: Sequence[str], rows: Sequence[list[str]], tail: Sequence[str]
) -> str:
    """Return paragraphs with a table between them, of which as many rows are kept as fit."""
    for num_rows in range(len(rows), -1, -1):
        num_hidden = len(rows) - num_rows
        hidden = f"{num_hidden} further rows are left out here; the report has all of them."
        parts = [*head, _table(heading, rows[:num_rows]) if num_rows else ""]
        parts += [hidden if num_hidden else "", *tail]
        text = "\n\n".join(part for part in parts if part)
        if len(text) <= MAX_NOTE:
            return text
    return text[:MAX_NOTE]
