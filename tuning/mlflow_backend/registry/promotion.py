"""Decides which version is the champion, and keeps the decision with the version."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Literal

from pipeline.errors import InputError
from tuning.mlflow_backend.registry.comparison import Comparison
from tuning.mlflow_backend.registry.versions import aliases_of, registry_names

if TYPE_CHECKING:
    from mlflow import MlflowClient

DECISION_TAG = "affectune.decision"
Decision = Literal["promoted", "forced", "refused", "restored", "rolled back"]


def promote(
    client: MlflowClient, name: str, version: str, comparison: Comparison | None, *, force: bool
) -> bool:
    """Make a version the champion, unless it is worse; the decision becomes tags of the version.

    Args:
        client: of the registry.
        name: of the model.
        version: which is to be promoted.
        comparison: of the version with the champion; None where there is no champion.
        force: whether to promote it whatever the comparison says.

    Returns:
        Whether it is the champion now.
    """
    names = registry_names().aliases
    aliases = aliases_of(client, name)
    champion = aliases.get(names.champion)

    decision = _decide(comparison, force=force)
    _record_decision(client, name, version, decision, against=champion, comparison=comparison)
    if decision == "refused":
        return False

    if champion is not None:
        # Before the champion changes: a process that is killed in between has changed nothing.
        client.set_registered_model_alias(name, names.previous, champion)
    client.set_registered_model_alias(name, names.champion, version)
    if aliases.get(names.challenger) == version:
        client.delete_registered_model_alias(name, names.challenger)
    return True


def rollback(client: MlflowClient, name: str) -> tuple[str, str]:
    """Make the previous champion the champion, and the champion the previous one.

    Returns:
        The version that is the champion now, and the one that was.

    Raises:
        InputError: there is no previous champion.
    """
    names = registry_names().aliases
    aliases = aliases_of(client, name)
    champion, previous = aliases.get(names.champion), aliases.get(names.previous)
    if champion is None or previous is None or champion == previous:
        raise InputError(
            f"'{name}' has no previous champion to go back to. Promote a version instead."
        )

    client.set_registered_model_alias(name, names.champion, previous)
    client.set_registered_model_alias(name, names.previous, champion)
    _record_decision(client, name, previous, "restored", against=champion)
    _record_decision(client, name, champion, "rolled back", against=previous)
    return previous, champion


def _decide(comparison: Comparison | None, *, force: bool) -> Decision:
    if comparison is None or comparison.is_acceptable:
        return "promoted"
    return "forced" if force else "refused"


def _record_decision(
    client: MlflowClient,
    name: str,
    version: str,
    decision: Decision,
    *,
    against: str | None,
    comparison: Comparison | None = None,
) -> None:
    decided_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    tags = {DECISION_TAG: str(decision), f"{DECISION_TAG}.at": decided_at}
    if against is not None:
        tags[f"{DECISION_TAG}.against"] = against
    if comparison is not None:
        tags[f"{DECISION_TAG}.difference"] = json.dumps(comparison.to_json())

    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
