"""Whether the registry has a champion, and whether its bundle can be read: what is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.doctor.finding import Finding, finding_of
from pipeline.errors import AffectuneError
from pipeline.shell_command import shell_command
from tuning.mlflow_backend.client import answer_of, connect, raise_if_unreachable, sqlite_path
from tuning.mlflow_backend.registry.versions import aliases_of, model_names, registry_names

CHECK = "champion"
ROLL_BACK = "Promote another version (`affectune registry show {name}` lists them)"

FindBundle = Callable[[str, str], Path]
"""Takes a model's URI and the registry's, and returns the folder of a verified copy."""


def check_champion(uri: str, find_bundle: FindBundle) -> Iterator[Finding]:
    """Look for the version that `affectune serve` would serve, and read its bundle.

    Args:
        uri: of the registry.
        find_bundle: fetches a bundle, and verifies it.
    """
    names = registry_names()
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        yield Finding(CHECK, "ok", "no registry yet: the first study makes it")
        return

    try:
        raise_if_unreachable(uri)
    except Exception:  # a driver or the network raises errors of its own
        return  # the check of the tracking server says why
    try:
        client = connect(uri)
        models = model_names(client)
        aliases = aliases_of(client, names.model) if names.model in models else None
    except Exception as error:  # MLflow, and the network, raise errors of many kinds
        yield Finding(CHECK, "error", f"the registry says: {answer_of(error)}")
        return
    model = f"models:/{names.model}@{names.aliases.champion}"
    if aliases is None:
        others = f" (it has {', '.join(models[:3])})" if models else ""
        yield Finding(CHECK, "ok", f"the registry has no model '{names.model}' yet{others}")
        return
    version = aliases.get(names.aliases.champion)
    if version is None:
        mend = shell_command("registry", "promote", names.model, "VERSION", tracking_uri=uri)
        said = f"'{names.model}' has no champion, so `affectune serve` has no model"
        yield Finding(CHECK, "warning", said, f"Promote one: `{mend}`")
        return

    try:
        find_bundle(model, uri)
    except AffectuneError as error:
        finding = finding_of(CHECK, error)
        mend = finding.mend or ROLL_BACK.format(name=names.model)
        said = f"version {version} cannot be read: {finding.finding}"
        yield Finding(CHECK, "error", said, mend)
        return
    yield Finding(CHECK, "ok", f"'{model}' is version {version}, and its bundle is whole")
