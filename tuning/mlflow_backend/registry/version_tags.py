"""What a registered version says of itself: tags on where it comes from, and the model card.

`mlflow/README.md` lists the tags. Knows no server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.model.bundle import CARD
from tuning.journal.history import History
from tuning.mlflow_backend.registry.version_scores import SCORES, SCORES_TAG
from tuning.mlflow_backend.tracking.run_metrics import to_key
from tuning.mlflow_backend.tracking.run_params import to_text

IDENTITY_TAG = "affectune.bundle"
"""Tag by which a version is found: "<digest of the study>/<hash of the bundle>"."""
FIRST_ALIAS_TAG = "affectune.placed"
"""Tag with the alias that a version was given when it was registered."""
PROMOTE_FIRST_TAG = "affectune.promote_first"
"""Tag: whether a version is to be the champion where there is none."""
MAX_DESCRIPTION = 5000  # characters
MAX_TAG = 5000  # characters


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
        "affectune.study_name": str(opened.study["name"]),
        "affectune.corpus": str(opened.corpus.get("path", "")),
        "affectune.trials": str(len(history.trials)),
    }
    tags |= _score_tags(_summary(files, history))
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
    """Return each target's devel CCC, and all of them with their intervals in one tag."""
    tags: dict[str, str] = {}
    intervals: dict[str, dict[str, list[float | None]]] = {}
    for target, scores in summary.get("targets", {}).items():
        intervals[target] = {
            name: [_rounded(scores.get(key)) for key in (name, f"{name}_low", f"{name}_high")]
            for name in SCORES
            if name in scores  # they are not where an earlier version finished the study
        }
        ccc = scores.get("ccc")
        if ccc is not None:
            tags[to_key("devel_ccc", target)] = f"{ccc:.4f}"

    for names in (SCORES, SCORES[:1]):  # of very many targets only the pooled scores fit
        kept = {target: _only(scores, names) for target, scores in intervals.items()}
        text = json.dumps(kept)
        if intervals and len(text) <= MAX_TAG:
            return tags | {SCORES_TAG: text}
    return tags


def _only(scores: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: scores[name] for name in names if name in scores}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
