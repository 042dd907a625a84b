"""What a report says of a study as a whole: its figures, and sentences not to be overlooked."""

from __future__ import annotations

import shlex

from pipeline.evaluation.evaluate import Evaluation, interval_note
from pipeline.evaluation.model_card import floor_warnings, out_of_fold_warnings
from pipeline.model.fused_model import FusedModel
from tuning.journal.history import History
from tuning.monitoring.status import StudyStatus, format_duration


def overview(history: History, status: StudyStatus) -> list[tuple[str, str]]:
    """Return the figures of a study as (name, value)."""
    ended = [trial.ended for trial in history.trials.values() if trial.ended is not None]
    cpu_s = sum(end.cpu_s for end in ended if end.reason != "store")
    num_stopped = status.total("stopped") + status.total("cut")
    num_saved = status.total("epochs_saved")

    return [
        ("configurations", f"{num_configurations(history):,}"),
        ("trials", f"{len(history.trials):,}"),
        ("trained to the end", f"{status.total('done'):,}"),
        ("stopped early", f"{num_stopped:,}"),
        ("failed", f"{status.total('failed'):,}"),
        ("epochs trained", f"{status.total('epochs'):,}"),
        ("epochs saved, at most", f"{num_saved:,} ({status.saved_share:.0%})"),
        ("time", format_duration(status.used_s)),
        ("processor time", format_duration(cpu_s)),
    ]


def num_configurations(history: History) -> int:
    """Return how many configurations the search tried, of all stages."""
    return sum(trial.proposed.purpose == "search" for trial in history.trials.values())


def alerts(history: History, status: StudyStatus) -> list[str]:
    """Return why the report is not that of a whole study; nothing where it is."""
    sentences = []
    if not status.is_finished:
        waiting = [str(task.task) for task in status.tasks if task.task not in history.completed]
        missing = f" Not completed: {', '.join(waiting)}." if waiting else ""
        sentences.append(f"This study has not finished; the report shows what there is.{missing}")

    if num_failed := status.total("failed"):
        num_fits = len(history.trials)
        sentences.append(f"{num_failed} of {num_fits} trials failed; their causes are below.")

    if num_cut := status.total("cut"):
        sentences.append(
            f"The time budget ended {num_cut} trials before early stopping or patience did."
        )
    return sentences


def score_warnings(evaluation: Evaluation | None, model: FusedModel | None) -> list[str]:
    """Return what is above the winner, and where its scores have no interval."""
    warnings = []
    if evaluation is not None:
        warnings += [f"Devel CCC of {sentence}" for sentence in floor_warnings(evaluation)]
        notes = [
            f"{target}: {note}"
            for target, result in evaluation.targets.items()
            if (note := interval_note(result))
        ]
        warnings += notes
    if model is not None:
        warnings += [f"CCC of {sentence}" for sentence in out_of_fold_warnings(model.out_of_fold)]
    return warnings


def run_command(history: History) -> str:
    """Return the command that runs the study once more."""
    assert history.opened is not None
    path = history.opened.corpus.get("path")
    corpus = f" --corpus {shlex.quote(str(path))}" if path else ""
    return f"affectune study run STUDY.toml{corpus} --out NEW"
