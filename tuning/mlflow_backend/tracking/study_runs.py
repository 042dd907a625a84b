"""Finds the experiment and the runs of a study on a tracking server.

Knows by which tags runs are found, and which format of runs this version of Affectune goes on with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from pipeline.credentials.masking import masked_uri
from pipeline.environment import DEFAULT_TRACKING_URI
from pipeline.errors import InputError, naming_doctor
from pipeline.storage.atomic_file import prove_writable
from tuning.mlflow_backend.client import (
    ALREADY_EXISTS,
    answer_of,
    artifact_location,
    connect,
    raise_if_unreachable,
    search_all,
    sqlite_path,
)
from tuning.mlflow_backend.tracking.run_notes import NOTE_TAG, experiment_note
from tuning.mlflow_backend.tracking.run_updates import (
    FORMAT,
    FORMAT_TAG,
    READABLE_FORMATS,
    STUDY,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

STUDY_TAG = "affectune.study"
"""Tag of every run: whose it is, see `StudyOpened.id`."""
RUN_TAG = "affectune.trial"
"""Tag of every run: "<study id>/<name of the run>"."""


def raise_if_unknown(uri: str, study: str) -> None:
    """Find out whether a server answers as MLflow does, before a study starts; write nothing.

    Args:
        uri: of the tracking server.
        study: name of the study, which is also that of its experiment.

    Raises:
        InputError: it does not, or the experiment was deleted.
    """
    with _as_input_error(uri, "use"):
        raise_if_unreachable(uri)
        path = sqlite_path(uri)
        if path is not None and not path.exists():
            return  # MLflow would make it

        experiment = connect(uri).get_experiment_by_name(study)
        if experiment is not None:
            if experiment.name != study:
                raise ValueError("what answers there is another program")
            _raise_if_deleted(experiment)


def raise_if_not_recordable(uri: str, study: str) -> None:
    """Prove that a study can be recorded, when nothing else keeps it from starting, by writing.

    Args:
        uri: of the tracking server.
        study: name of the study, which is also that of its experiment.

    Raises:
        InputError: the server does not answer or cannot be written, the experiment was deleted, or
            the folder of its artefacts cannot be written.
    """
    with naming_doctor(), _as_input_error(uri, "write to"):
        raise_if_unreachable(uri)
        client = connect(uri)
        experiment_id = find_or_create_experiment(client, uri, study)
        experiment = client.get_experiment(experiment_id)
        _raise_if_artifacts_not_writable(experiment)
        client.set_experiment_tag(experiment_id, "affectune", "study")
        if NOTE_TAG not in experiment.tags:  # a person may have changed it
            client.set_experiment_tag(experiment_id, NOTE_TAG, experiment_note(experiment_id))


def find_or_create_experiment(client: MlflowClient, uri: str, study: str) -> str:
    """Return the id of a study's experiment, which is created if it is not there.

    Raises:
        InputError: the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        try:
            return str(client.create_experiment(study, artifact_location=_artifact_location(uri)))
        except MlflowException as error:
            if error.error_code != ALREADY_EXISTS:
                raise
            # Another process was faster.
            experiment = client.get_experiment_by_name(study)

    assert experiment is not None
    _raise_if_deleted(experiment)
    return str(experiment.experiment_id)


def find_runs(client: MlflowClient, experiment_id: str, study_id: str) -> dict[str, list[Run]]:
    """Return the runs of a study by name; of several with one name, the fullest first.

    A run can be there twice where the answer to its creation was lost.

    Raises:
        InputError: the runs have an earlier format.
    """
    condition = f"tags.`{STUDY_TAG}` = '{study_id}'"
    runs_by_name: dict[str, list[Run]] = defaultdict(list)
    for run in search_all(
        lambda token: client.search_runs([experiment_id], condition, page_token=token)
    ):
        name = run.data.tags.get(RUN_TAG, "").partition("/")[2]
        runs_by_name[name].append(run)

    for runs in runs_by_name.values():
        runs.sort(key=_num_values, reverse=True)

    _raise_if_earlier_format(runs_by_name.get(STUDY, ()))
    return dict(runs_by_name)


def identity_tags(study_id: str, name: str) -> dict[str, str]:
    """Return the tags by which a run is found.

    Args:
        study_id: see `StudyOpened.id`.
        name: of the run.
    """
    return {STUDY_TAG: study_id, RUN_TAG: f"{study_id}/{name}"}


@contextmanager
def _as_input_error(uri: str, verb: str) -> Iterator[None]:
    """Raise whatever a driver, a proxy or a file system raises as one sentence."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"Cannot {verb} the tracking server '{masked_uri(uri)}': {answer_of(error)}. Start it, "
            f"or choose another with --tracking-uri, such as {DEFAULT_TRACKING_URI} for a file in "
            "the current folder."
        ) from error


def _num_values(run: Run) -> int:
    return len(run.data.metrics) + len(run.data.params)


def _raise_if_earlier_format(study_runs: Sequence[Run]) -> None:
    """Refuse to mix two meanings of a metric's name in one study."""
    for run in study_runs:
        run_format = run.data.tags.get(FORMAT_TAG, "1")
        if run_format not in READABLE_FORMATS:
            raise InputError(
                f"The study's run {run.info.run_id} in MLflow has format {run_format}, and this "
                f"version of Affectune writes format {FORMAT}, in which metrics have other names. "
                "Delete the study's runs in MLflow, or give another --tracking-uri: then the same "
                "command with --resume sends all of them."
            )


def _raise_if_deleted(experiment: Experiment) -> None:
    if experiment.lifecycle_stage != "active":
        raise InputError(
            f"The experiment '{experiment.name}' was deleted in MLflow. Restore it (`mlflow "
            f"experiments restore -x {experiment.experiment_id}`), or give the study another name."
        )


def _raise_if_artifacts_not_writable(experiment: Experiment) -> None:
    """Refuse an experiment whose artefacts are to lie in a folder that this process cannot write.

    An experiment keeps the place that it was made with, which may be that of another machine.
    """
    place = urlparse(experiment.artifact_location)
    if place.scheme not in ("", "file"):
        return  # the server or a bucket decides

    path = Path(unquote(place.path))
    try:
        prove_writable(path)
    except OSError as error:
        raise InputError(
            f"The experiment '{experiment.name}' keeps its artefacts in '{path}', and "
            f"'{error.filename}' cannot be written, so no model could be registered. Give yourself "
            "the right to write it, or give the study another name or another --tracking-uri."
        ) from error


def _artifact_location(uri: str) -> str | None:
    """Return the folder beside an sqlite file; None where a server decides where artefacts go."""
    path = sqlite_path(uri)
    return None if path is None else artifact_location(path)
