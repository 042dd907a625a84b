"""Sends a study's journal to MLflow, from a thread of its own: a consumer of the journal, nothing else."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import AffectuneError
from tuning.journal.events import Event, StudyOpened
from tuning.journal.file import JOURNAL, read_journal
from tuning.mlflow_backend.client import (
    cause_of,
    check,
    connect,
    experiment_id,
    masked,
    resolve_uri,
)
from tuning.mlflow_backend.run_updates import STUDY, Measured, Runs, RunUpdate, study_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["TRACKING", "Tracker", "check", "find_runs", "resolve_uri"]

log = logging.getLogger(__name__)

TRACKING = "tracking.json"
STUDY_TAG, RUN_TAG = "affectune.study", "affectune.trial"
"""What a run is found by: whose it is, and "<study id>/<name>"."""
MAX_EVENTS = (
    500  # taken from the journal at once; while a server is away, the journal keeps the rest
)
MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 100, 100  # in one request
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


class Tracker:
    """Records a study while it runs. Never raises into the driver, and never makes it wait, but for `close`.

    How far the journal has been sent is kept in tracking.json, after it was sent; what is sent twice is the same rows
    of the same runs. The journal is the buffer, so a server that is away costs nothing.

    Args:
        folder: of the study.
        uri: of the tracking server; see `check`, which should have been asked before.
        interval_s: how often the journal is looked at.
    """

    def __init__(self, folder: Path, uri: str, *, interval_s: float = 5.0) -> None:
        self.uri = uri
        self._folder, self._interval_s = folder, interval_s
        self._sender: _Sender | None = None
        self._artefacts: list[Path] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._deadline: float | None = None
        self._away = False
        self._thread = threading.Thread(target=self._run, name="tracker", daemon=True)

    def start(self) -> Tracker:
        """Begin to send; the journal must be there."""
        self._thread.start()
        return self

    def log_artifacts(self, *paths: Path) -> None:
        """Keep files, and folders with what is in them, with the study's run; sent after the journal so far."""
        with self._lock:
            self._artefacts += paths
        self._wake.set()

    def close(self, timeout_s: float = 60.0) -> int:
        """Send what is left, and end.

        Returns:
            How many events (and files given to `log_artifacts`) were not sent in time; a resume sends the events.
        """
        self._deadline = time.monotonic() + timeout_s
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s + 0.5)
        unsent = self._num_unsent()
        if unsent:
            log.warning(
                "The tracking server '%s' did not take the last %d events. Nothing is lost: the same command with "
                "--resume sends them.",
                masked(self.uri),
                unsent,
            )
        return unsent

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            closing = self._deadline is not None
            try:
                whole = self._send()
                if self._away:
                    log.warning(
                        "The tracking server '%s' answers again; nothing was lost.",
                        masked(self.uri),
                    )
                self._away, wait_s = False, FIRST_WAIT_S
                if whole and closing:
                    return
                pause_s = self._interval_s if whole else 0.0
            except Exception as error:  # whatever MLflow or the network thinks of: training goes on
                self._say_away(error)
                pause_s, wait_s = wait_s, min(2 * wait_s, LONGEST_WAIT_S)
                if self._deadline is not None:
                    if time.monotonic() >= self._deadline:
                        return
                    pause_s = min(pause_s, 1.0)
            self._wake.wait(pause_s)
            self._wake.clear()

    def _send(self) -> bool:
        """Send some events. True: the journal is sent to its end."""
        if self._sender is None:
            self._sender = _Sender(self._folder, self.uri)
        if not self._sender.send():
            return False
        with self._lock:
            artefacts = list(self._artefacts)
        for path in artefacts:
            self._sender.log_artefact(path)
            with self._lock:
                self._artefacts.remove(path)
        if self._deadline is not None:
            self._sender.remove_duplicates()
        return True

    def _say_away(self, error: Exception) -> None:
        if not self._away:
            log.warning(
                "Cannot record in '%s': %s. Training goes on, and what is missing is sent later.",
                masked(self.uri),
                cause_of(error),
            )
        self._away = True

    def _num_unsent(self) -> int:
        """Events behind the position, and files."""
        sent = 0 if self._sender is None else self._sender.sent
        try:
            events = sum(1 for _ in read_journal(self._folder / JOURNAL, sent))
        except (AffectuneError, OSError):
            events = 0
        return events + len(self._artefacts)


class _Sender:
    """The journal's way to MLflow: events to updates to requests. Whatever fails is tried again by the next `send`."""

    def __init__(self, folder: Path, uri: str) -> None:
        self._folder, self._uri = folder, uri
        self._client = connect(uri)
        self._experiment: str | None = None
        self._identity = ""
        self._runs = Runs()
        self._ids: dict[str, str] = {}
        self._uncertain = self._was_uncertain = False
        self._refused: set[str] = set()
        self._pending: dict[str, RunUpdate] = {}
        self._read = 0
        self.sent = 0

    def send(self) -> bool:
        """Send the updates of some events. True: there was nothing more to read."""
        if self._experiment is None:
            self._open()
        if not self._pending:
            found = list(islice(read_journal(self._folder / JOURNAL, self._read), MAX_EVENTS))
            if not found:
                return True
            for event, position in found:
                self._take(event)
                self._read = position
        for name in list(self._pending):
            self._apply(self._pending[name])
            del self._pending[name]
        self.sent = self._read
        self._keep()
        return False

    def log_artefact(self, path: Path) -> None:
        """Upload a file, or a folder under its name; one that is not there is left out."""
        if path.is_dir():
            self._client.log_artifacts(self._ids[STUDY], str(path), path.name)
        elif path.is_file():
            self._client.log_artifact(self._ids[STUDY], str(path))

    def remove_duplicates(self) -> None:
        """A request that was given up may have been carried out after we had looked for its run."""
        if self._was_uncertain:
            self._find()
            self._was_uncertain = False

    def _open(self) -> None:
        """Find the experiment, the runs that are there, and the position."""
        opened, _ = next(read_journal(self._folder / JOURNAL))
        assert isinstance(opened, StudyOpened)
        self._identity = study_id(opened)
        self._experiment = experiment_id(self._client, self._uri, opened.study["name"])
        self._find()
        if self._ids:  # else the server knows nothing of it: send all
            self._skip(_position(self._folder, self._uri))

    def _skip(self, position: int) -> None:
        """Take what was sent into account, without sending it again."""
        runs = Runs()
        for event, after in read_journal(self._folder / JOURNAL):
            if after > position:
                break
            runs.apply(event)
            if after == position:
                self._runs, self._read, self.sent = runs, position, position

    def _take(self, event: Event) -> None:
        for update in self._runs.apply(event):
            if update.name in self._pending:
                self._pending[update.name].add(update)
            else:
                self._pending[update.name] = update

    def _apply(self, update: RunUpdate) -> None:
        run_id = self._ids.get(update.name)
        tags = dict(update.tags)
        if run_id is None:
            run_id, tags = self._create(update), {}
        from mlflow.exceptions import MlflowException

        try:
            self._log(run_id, update, tags)
            self._set_status(run_id, update)
        except MlflowException as error:
            # Such as a run that somebody deleted. Tried again, it would hold up everything behind it for ever.
            if error.error_code not in REFUSED:
                raise
            if update.name not in self._refused:
                log.warning(
                    "MLflow refuses what belongs to the run '%s': %s.", update.name, cause_of(error)
                )
            self._refused.add(update.name)

    def _create(self, update: RunUpdate) -> str:
        """The run, made if it is not there."""
        if self._uncertain:
            self._find()
            self._uncertain = False
            if update.name in self._ids:
                self._client.log_batch(
                    self._ids[update.name], tags=_tags(self._all_tags(update)), synchronous=True
                )
                return self._ids[update.name]
        assert self._experiment is not None
        try:
            tags, name = self._all_tags(update), update.name
            run = self._client.create_run(
                self._experiment, start_time=update.at_ms, tags=tags, run_name=name
            )
        except Exception:
            # It may have been carried out all the same: look before it is made again.
            self._uncertain = self._was_uncertain = True
            raise
        self._ids[update.name] = run.info.run_id
        return str(run.info.run_id)

    def _all_tags(self, update: RunUpdate) -> dict[str, str]:
        own = {
            STUDY_TAG: self._identity,
            RUN_TAG: f"{self._identity}/{update.name}",
            "mlflow.source.name": "affectune",
        }
        above = (
            {"mlflow.parentRunId": self._ids[update.parent]} if update.parent in self._ids else {}
        )
        return update.tags | own | above

    def _log(self, run_id: str, update: RunUpdate, tags: dict[str, str]) -> None:
        from mlflow.entities import Metric, Param

        metrics = [Metric(*_entity(measured)) for measured in update.metrics]
        params = [Param(key, value) for key, value in update.params.items()]
        labels = _tags(tags)
        while metrics or params or labels:
            self._client.log_batch(
                run_id,
                metrics[:MAX_METRICS],
                params[:MAX_PARAMS],
                labels[:MAX_TAGS],
                synchronous=True,
            )
            metrics, params, labels = metrics[MAX_METRICS:], params[MAX_PARAMS:], labels[MAX_TAGS:]

    def _set_status(self, run_id: str, update: RunUpdate) -> None:
        if update.status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        elif update.status:
            self._client.set_terminated(run_id, update.status, end_time=update.status_at_ms)

    def _find(self) -> None:
        """Look up the runs that are there; of two of one name, the emptier is removed."""
        assert self._experiment is not None
        for name, runs in find_runs(self._client, self._experiment, self._identity).items():
            self._ids[name] = runs[0].info.run_id
            for other in runs[1:]:
                self._client.delete_run(other.info.run_id)

    def _keep(self) -> None:
        """Write the position; it is worth no sync: an older one only sends the same rows again."""
        record = {
            "uri": masked(self._uri),
            "position": self.sent,
            "experiment_id": self._experiment,
            "run_id": self._ids.get(STUDY),
        }
        temporary = self._folder / f".{TRACKING}.tmp"
        temporary.write_text(json.dumps(record, indent=1))
        os.replace(temporary, self._folder / TRACKING)


def find_runs(client: MlflowClient, experiment: str, identity: str) -> dict[str, list[Run]]:
    """The runs of a study by name; of several of one name (see `_Sender`), the fullest first."""
    found: dict[str, list[Run]] = defaultdict(list)
    token = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`{STUDY_TAG}` = '{identity}'", page_token=token
        )
        for run in page:
            found[run.data.tags.get(RUN_TAG, "").partition("/")[2]].append(run)
        token = page.token
        if not token:
            break
    for runs in found.values():
        runs.sort(key=lambda run: -len(run.data.metrics) - len(run.data.params))
    return dict(found)


def _position(folder: Path, uri: str) -> int:
    """How far the journal has been sent to this server; 0 where that is not known."""
    try:
        record = json.loads((folder / TRACKING).read_text())
        return int(record["position"]) if record["uri"] == masked(uri) else 0
    except (OSError, ValueError, TypeError, KeyError):
        return 0


def _entity(measured: Measured) -> tuple[str, float, int, int]:
    return measured.key, measured.value, measured.at_ms, measured.step


def _tags(tags: dict[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in tags.items()]
