"""Writes updates to the runs of one study on a tracking server: each run once, whatever fails.

Knows no journal: whoever calls it repeats what failed.
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tuning.mlflow_backend.client import cause_of
from tuning.mlflow_backend.tracking.run_updates import STUDY, CorpusDataset, RunUpdate
from tuning.mlflow_backend.tracking.study_runs import find_runs, identity_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, RunTag

log = logging.getLogger(__name__)

MAX_METRICS, MAX_PARAMS, MAX_TAGS = 800, 100, 100  # in one request, of which a server takes 1000
REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
"""Error codes of updates that the server will never take."""


class RunWriter:
    """The runs of one study on a server.

    A request that failed may have been carried out all the same. So a run is looked up before its
    creation is repeated, and two runs of one name are made one.

    Args:
        client: of the server.
        experiment_id: of the study's experiment.
        study_id: see `StudyOpened.id`.

    Raises:
        InputError: the server has runs of the study in an earlier format.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, study_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._study_id = study_id
        self._ids: dict[str, str] = {}
        self._may_be_created = False
        self._may_be_twice = False
        self._refused: set[str] = set()
        self._find_runs()

    @property
    def study_run_id(self) -> str | None:
        """MLflow's id of the study's run; None where it is not there yet."""
        return self._ids.get(STUDY)

    def write(self, update: RunUpdate) -> None:
        """Write an update; the run is created if it is not there.

        An update that the server will never take, such as that of a deleted run, is left out with a
        warning: repeated, it would hold up all others for ever.
        """
        from mlflow.exceptions import MlflowException

        run_id, tags = self._ids.get(update.name), update.tags
        if run_id is None:
            run_id, tags = self._create(update), {}

        try:
            self._log(run_id, update, tags)
            if update.dataset is not None:
                self._client.log_inputs(run_id, [_dataset_input(update.dataset)])
            self._set_status(run_id, update)
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            if update.name not in self._refused:
                log.warning(
                    "MLflow refuses what belongs to the run '%s': %s.", update.name, cause_of(error)
                )
            self._refused.add(update.name)

    def log_artifact(self, path: Path) -> None:
        """Upload a file, or a folder under its name, to the study's run.

        A file that is not there is left out.
        """
        run_id = self._ids[STUDY]
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), path.name)
        elif path.is_file():
            self._client.log_artifact(run_id, str(path))

    def log_picture(self, name: str, content: bytes) -> None:
        """Upload a picture to the study's run under a name, in which there may be a folder."""
        place = PurePosixPath(name)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / place.name
            path.write_bytes(content)
            folder = str(place.parent) if len(place.parts) > 1 else None
            self._client.log_artifact(self._ids[STUDY], str(path), folder)

    def remove_duplicates(self) -> None:
        """Remove runs that the server created after a request was given up, if there can be any."""
        if self._may_be_twice:
            self._find_runs()
            self._may_be_twice = False

    def _find_runs(self) -> None:
        """Look up the runs that are there; of several with one name, only the fullest stays."""
        runs_by_name = find_runs(self._client, self._experiment_id, self._study_id)
        for name, (fullest, *others) in runs_by_name.items():
            self._ids[name] = fullest.info.run_id
            for run in others:
                self._client.delete_run(run.info.run_id)

    def _create(self, update: RunUpdate) -> str:
        """Create a run with its tags, unless an earlier request did; return its id."""
        tags = self._creation_tags(update)

        if self._may_be_created:
            self._find_runs()
            self._may_be_created = False
            if update.name in self._ids:
                run_id = self._ids[update.name]
                self._client.log_batch(run_id, tags=_run_tags(tags), synchronous=True)
                return run_id

        try:
            run = self._client.create_run(
                self._experiment_id,
                start_time=update.at_ms,
                tags=tags,
                run_name=update.title or update.name,
            )
        except Exception:
            self._may_be_created = self._may_be_twice = True
            raise

        self._ids[update.name] = run_id = str(run.info.run_id)
        return run_id

    def _creation_tags(self, update: RunUpdate) -> dict[str, str]:
        tags = update.tags | identity_tags(self._study_id, update.name)
        tags["mlflow.source.name"] = "affectune"
        if update.parent in self._ids:
            tags["mlflow.parentRunId"] = self._ids[update.parent]
        return tags

    def _log(self, run_id: str, update: RunUpdate, tags: dict[str, str]) -> None:
        """Log metrics, parameters and tags in as few requests as MLflow's limits allow."""
        from mlflow.entities import Metric, Param

        metrics = [Metric(row.key, row.value, row.at_ms, row.step) for row in update.metrics]
        params = [Param(key, value) for key, value in update.params.items()]
        run_tags = _run_tags(tags)

        while metrics or params or run_tags:
            self._client.log_batch(
                run_id,
                metrics[:MAX_METRICS],
                params[:MAX_PARAMS],
                run_tags[:MAX_TAGS],
                synchronous=True,
            )
            metrics = metrics[MAX_METRICS:]
            params = params[MAX_PARAMS:]
            run_tags = run_tags[MAX_TAGS:]

    def _set_status(self, run_id: str, update: RunUpdate) -> None:
        if update.status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        elif update.status:
            self._client.set_terminated(run_id, update.status, end_time=update.status_at_ms)


def _dataset_input(dataset: CorpusDataset) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    logged = Dataset(
        name=dataset.name,
        digest=dataset.digest,
        source_type="local",
        source=json.dumps({"uri": dataset.path}),
        profile=dataset.profile,
    )
    return DatasetInput(logged, [InputTag("mlflow.data.context", "train, devel")])


def _run_tags(tags: dict[str, str]) -> list[RunTag]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in tags.items()]
