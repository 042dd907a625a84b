"""What a registered version says of itself: tags on where it comes from, and the model card.

`mlflow/README.md` lists the tags. Knows no server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.model.bundle import CARD
from pipeline.names import escape_key
from pipeline.storage.atomic_folder import MODEL
from tuning.journal.history import History
from tuning.mlflow_backend.tracking.run_metrics import to_key
from tuning.mlflow_backend.tracking.run_updates import to_text
from tuning.mlflow_backend.tracking.study_runs import STUDY_TAG

IDENTITY_TAG = "affectune.bundle"
"""Tag by which a version is found: "<digest of the study>/<hash of the bundle>"."""
FIRST_ALIAS_TAG = "affectune.placed"
"""Tag with the alias that a version was given when it was registered."""
PROMOTE_FIRST_TAG = "affectune.promote_first"
"""Tag: whether a version is to be the champion where there is none."""
SCORES = ("ccc", "between_ccc", "within_ccc")
"""Keys of a target in summary.json that become tags: pooled, between and within sessions."""
MAX_DESCRIPTION = 5000  # characters
MAX_TAG = 5000  # characters
KEY_START = 16  # characters of a stage's key


def version_tags(
    files: Mapping[str, bytes], history: History, identity: str, *, promote_first: bool
) -> dict[str, str]:
    """Return where a version comes from, and how good it is on devel.

    Args:
        files: of the bundle, by name.
        history: of the study.
        identity: see `IDENTITY_TAG`.
        promote_first: see `PROMOTE_FIRST_TAG`.
    """
    opened = history.opened
    assert opened is not None
    tags = {
        IDENTITY_TAG: identity,
        PROMOTE_FIRST_TAG: str(promote_first).lower(),
        STUDY_TAG: opened.id,
        "affectune.study_name": str(opened.study["name"]),
        "affectune.study_digest": opened.digest,
        "affectune.corpus": str(opened.corpus.get("path", "")),
        "affectune.corpus_digest": str(opened.corpus.get("digest", "")),
        "affectune.trials": str(len(history.trials)),
        "affectune.git_commit": opened.git_commit or "",
    }
    tags |= _score_tags(_summary(files, history))
    tags |= _inference_tags(_summary(files, history))
    tags |= _stage_tags(files, history)
    return {key: to_text(value) for key, value in tags.items() if value}


def version_description(files: Mapping[str, bytes]) -> str:
    """Return the model card of a bundle, cut to the length that MLflow takes."""
    card = files.get(CARD, b"").decode()
    if len(card) <= MAX_DESCRIPTION:
        return card

    note = f"\n\n... The whole card is {CARD} in the bundle."
    return card[: MAX_DESCRIPTION - len(note)] + note


def _summary(files: Mapping[str, bytes], history: History) -> Mapping[str, Any]:
    """Return summary.json from the journal, or from the bundle of a study that did not finish."""
    if history.finished is not None:
        return history.finished.summary
    summary: Mapping[str, Any] = json.loads(files.get("summary.json", b"{}"))
    return summary


def _score_tags(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return for each target its devel CCCs and the limits of their intervals."""
    tags = {}
    for target, scores in summary.get("targets", {}).items():
        for name in SCORES:
            if name not in scores:  # the study was finished by an earlier version
                continue
            values = [scores.get(key) for key in (name, f"{name}_low", f"{name}_high")]
            tags[to_key(name, target)] = " ".join(
                "undefined" if value is None else f"{value:.4f}" for value in values
            )
    return tags


def _inference_tags(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return which networks predict and, where they were distilled, how they compare."""
    tags = {"affectune.inference": summary.get("inference", "")}

    for target, scores in summary.get("distillation", {}).get("targets", {}).items():
        values = [scores[name]["ccc"] for name in ("teacher", "student")]
        values += scores["difference"].values()
        tags[to_key("distillation", target)] = " ".join(
            "undefined" if value is None else f"{value:.4f}" for value in values
        )
    return tags


def _stage_tags(files: Mapping[str, bytes], history: History) -> dict[str, str]:
    """Return for each task which trials trained the stages of the bundle.

    A value is "<trial> <start of the stage's key>, ...". Stages that no trial of this study trained
    are listed as "others".
    """
    stages = json.loads(files[MODEL])["stages"].values()
    trials_by_key = {trial.proposed.key: trial for trial in reversed(history.trials.values())}

    stages_by_task: dict[str, list[str]] = {}
    for key in sorted({stage["key"] for stage in stages}):
        trial = trials_by_key.get(key)
        task = trial.proposed.task if trial else "others"
        trial_name = trial.name if trial else "-"
        stages_by_task.setdefault(task, []).append(f"{trial_name} {key[:KEY_START]}")

    return {
        f"stages.{_task_key(task)}": ", ".join(sorted(stages))[:MAX_TAG]
        for task, stages in stages_by_task.items()
    }


def _task_key(task: str) -> str:
    """Return the name of a task for a key: what is between its slashes is escaped."""
    return "/".join(escape_key(name) for name in task.split("/"))
