"""Decides which version is the champion, and keeps the decision with the version.

Of several that decide at once, one does; the others are told, and nothing of theirs stays.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Literal

from pipeline.errors import AffectuneError, InputError
from tuning.mlflow_backend.registry.comparison import Comparison
from tuning.mlflow_backend.registry.turn import turn
from tuning.mlflow_backend.registry.version_tags import MAX_TAG
from tuning.mlflow_backend.registry.versions import aliases_of, registry_names

if TYPE_CHECKING:
    from mlflow import MlflowClient

DECISION_TAG = "affectune.decision"
Decision = Literal["promoted", "forced", "refused", "restored", "rolled back"]


def promote(
    client: MlflowClient,
    name: str,
    version: str,
    comparison: Comparison | None,
    *,
    against: str | None,
    force: bool,
) -> bool:
    """Make a version the champion, unless it is worse; the decision becomes tags of the version.

    Args:
        client: of the registry.
        name: of the model.
        version: which is to be promoted.
        comparison: of the version with the champion; None where they were not compared.
        against: the champion that it was compared with; None where there was no champion.
        force: whether to promote it whatever the comparison says.

    Returns:
        Whether it is the champion now.

    Raises:
        AffectuneError: another version became the champion meanwhile, and nothing was changed; or
            the registry is too slow.
    """
    names = registry_names().aliases
    with turn(client, name) as own:
        aliases = aliases_of(client, name)
        champion = aliases.get(names.champion)
        if champion != against:
            raise AffectuneError(_overtaken(name, version, champion, against))

        decision = _decide(comparison, force=force)
        compared_with = against if comparison is not None else None
        _record_decision(
            client, name, version, decision, against=compared_with, comparison=comparison
        )
        if decision == "refused":
            return False

        own.raise_if_over()
        if champion is not None:
            # Before the champion changes: a process that is killed in between has changed nothing.
            client.set_registered_model_alias(name, names.previous, champion)
        own.raise_if_over()
        client.set_registered_model_alias(name, names.champion, version)
        if aliases.get(names.challenger) == version:
            client.delete_registered_model_alias(name, names.challenger)
        _raise_if_not_champion(client, name, version)
        return True


def rollback(client: MlflowClient, name: str) -> tuple[str, str]:
    """Make the previous champion the champion, and the champion the previous one.

    Returns:
        The version that is the champion now, and the one that was.

    Raises:
        InputError: there is no previous champion.
        AffectuneError: the registry is too slow.
    """
    names = registry_names().aliases
    with turn(client, name) as own:
        aliases = aliases_of(client, name)
        champion, previous = aliases.get(names.champion), aliases.get(names.previous)
        if champion is None or previous is None or champion == previous:
            raise InputError(
                f"'{name}' has no previous champion to go back to. Promote a version instead."
            )

        client.set_registered_model_alias(name, names.champion, previous)
        own.raise_if_over()
        client.set_registered_model_alias(name, names.previous, champion)
        _record_decision(client, name, previous, "restored", against=champion)
        _record_decision(client, name, champion, "rolled back", against=previous)
        _raise_if_not_champion(client, name, previous)
        return previous, champion


def _overtaken(name: str, version: str, champion: str | None, against: str | None) -> str:
    """Return why a version was not promoted where the champion changed meanwhile."""
    if champion == version:
        return f"Version {version} of '{name}' became the champion meanwhile, by another promotion."
    was = "there was none" if against is None else f"it was compared with version {against}"
    now = "there is no champion any more" if champion is None else f"version {champion} became it"
    return (
        f"Version {version} of '{name}' was not promoted: {was} as the champion, and meanwhile "
        f"{now}. Nothing was changed. Run the same command again."
    )


def _raise_if_not_champion(client: MlflowClient, name: str, version: str) -> None:
    """Find out whether another program, which takes no turns, set another champion meanwhile."""
    champion = aliases_of(client, name).get(registry_names().aliases.champion)
    if champion != version:
        raise AffectuneError(
            f"Version {version} of '{name}' was made the champion, and another program made it "
            f"{'none' if champion is None else f'version {champion}'} at the same time. See "
            "`affectune registry show`."
        )


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
        tags[f"{DECISION_TAG}.difference"] = difference_tag(comparison)

    for key in client.get_model_version(name, version).tags:
        if key.startswith(f"{DECISION_TAG}.") and key not in tags:
            client.delete_model_version_tag(name, version, key)  # of an earlier decision
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)


def difference_tag(comparison: Comparison) -> str:
    """Return a comparison as JSON; where that is longer than a tag, without its targets."""
    record = comparison.to_json()
    text = json.dumps(record)
    if len(text) > MAX_TAG:
        text = json.dumps({key: record[key] for key in ("mean", "subjects")})
    return text
