"""What a tracking server answers: whether it is reached, takes this user, and can be written."""

from __future__ import annotations

import os
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.credentials.masking import masked_uri
from pipeline.doctor.finding import Finding, finding_of
from pipeline.errors import AffectuneError
from pipeline.local_ray.listening import is_loopback
from tuning.mlflow_backend.client import answer_of, cause_of, connect, sqlite_path
from tuning.mlflow_backend.tracking.study_runs import raise_if_unknown

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHECK = "MLflow"
PROBE = "affectune-doctor-"
"""What the name of a model begins with that is made and removed at once."""
ANSWER_S = 5.0
CREDENTIALS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
RIGHTS = "Give this user the right to write there, or name another --tracking-uri"


def check_tracking(uri: str) -> Iterator[Finding]:
    """Ask a tracking server as a study does, and write to it what is removed at once.

    Args:
        uri: of the server, or of a database.
    """
    shown = masked_uri(uri)
    yield from plain_findings(uri)
    begin = time.monotonic()
    try:
        raise_if_unknown(uri, f"{PROBE}{uuid.uuid4().hex[:8]}")
    except AffectuneError as error:
        yield finding_of(CHECK, error)
        return
    seconds = time.monotonic() - begin

    path = sqlite_path(uri)
    if path is not None and not path.exists():
        said = f"'{shown}' is not there yet: the first study makes it"
        yield Finding(CHECK, "ok", said)
        return
    client = connect(uri)
    if fault := write_fault(client):
        yield Finding(CHECK, "error", f"'{shown}' answers, and cannot be written: {fault}", RIGHTS)
    elif fault := artifact_fault(client, uri):
        said = f"'{shown}' takes runs, and no artefacts: {fault}"
        mend = "Look at the server's --artifacts-destination, its rights and its room"
        yield Finding(CHECK, "error", said, mend)
    else:
        yield Finding(CHECK, "ok", f"'{shown}' can be written; it answers in {seconds:.2f} s")
    yield from version_findings(uri)


def plain_findings(uri: str) -> Iterator[Finding]:
    """Yield a finding where credentials would go over a network as plain text."""
    parts = urlsplit(uri)
    if parts.scheme != "http" or is_loopback(parts.hostname or ""):
        return
    has_user = "@" in parts.netloc
    named = [name for name in CREDENTIALS if os.environ.get(name)]
    if has_user or named:
        place = named[0] if named else "the URI"
        said = (
            f"'{masked_uri(uri)}' is plain HTTP: the credentials in {place} can be read on the way"
        )
        mend = "Use https://, or a tunnel (`ssh -L`) to the server's machine"
        yield Finding(CHECK, "warning", said, mend)


def version_findings(uri: str) -> Iterator[Finding]:
    """Yield a finding where a server has another version of MLflow than this machine."""
    if not uri.startswith(("http://", "https://")):
        return
    from mlflow.version import VERSION

    try:
        address = masked_uri(uri).replace("//***@", "//").rstrip("/")
        with urllib.request.urlopen(f"{address}/version", timeout=ANSWER_S) as answer:
            version = answer.read(64).decode(errors="replace").strip()
    except (OSError, ValueError):
        return  # a server behind a login says it to those who are in
    if version.split(".")[:2] != VERSION.split(".")[:2]:
        said = f"the server is MLflow {version}, and this machine has {VERSION}"
        yield Finding(CHECK, "warning", said, "Install the same version on both")


def write_fault(client: MlflowClient) -> str | None:
    """Make a registered model without versions, and remove it; return why that failed."""
    name = f"{PROBE}{uuid.uuid4().hex}"
    is_made = False
    try:
        client.create_registered_model(name)
        is_made = True
    except Exception as error:  # MLflow, and the network, raise errors of many kinds
        return answer_of(error)
    finally:
        # Its answer may have been lost, though it was made.
        removed = _remove(client, name)
    return removed if is_made else None


def _remove(client: MlflowClient, name: str) -> str | None:
    try:
        client.delete_registered_model(name)
    except Exception as error:
        return f"'{name}' was made, and cannot be removed: {cause_of(error)}"
    return None


def artifact_fault(client: MlflowClient, uri: str) -> str | None:
    """Write a small artefact beside those of MLflow's own experiment, and remove it.

    Returns:
        Why that failed; None where it did not, or where there is no such experiment.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    experiment = client.get_experiment_by_name("Default")
    if experiment is None or not experiment.artifact_location:
        return None
    folder = f"{PROBE}{uuid.uuid4().hex}"
    try:
        place = f"{experiment.artifact_location.rstrip('/')}/{folder}"
        repository = get_artifact_repository(place, tracking_uri=uri, registry_uri=uri)
        with tempfile.TemporaryDirectory() as temporary:
            probe = Path(temporary) / "probe"
            probe.write_bytes(b"written")
            repository.log_artifact(str(probe))  # type: ignore[no-untyped-call]
        repository.delete_artifacts()  # type: ignore[no-untyped-call]
    except Exception as error:
        return cause_of(error)
    return None
