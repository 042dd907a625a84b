"""A study's winner as a logged model of MLflow: its files, its scores, and the run it comes from.

Each step can be repeated: whatever was done already is found, and not done again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.environment import TRACKING_URI
from tuning.journal.history import History
from tuning.mlflow_backend.registry.version_tags import IDENTITY_TAG
from tuning.mlflow_backend.tracking.run_metrics import MAX_KEY, model_metrics
from tuning.mlflow_backend.tracking.run_notes import NOTE_TAG, results_line
from tuning.mlflow_backend.tracking.run_params import task_key, to_text, winner_params
from tuning.mlflow_backend.tracking.run_updates import corpus_dataset
from tuning.mlflow_backend.tracking.run_writer import MAX_METRICS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

VERSIONS_TAG = "mlflow.modelVersions"
"""Tag in which MLflow keeps the versions that a logged model became."""
MODEL_TYPE = "affectune"
NOT_IN_NAMES = re.compile(r"[/:.%\"']")
"""Characters that a registered model may have in its name, and a logged model may not."""


def find_or_create_logged_model(
    client: MlflowClient, experiment_id: str, run_id: str, identity: str, history: History
) -> LoggedModel:
    """Return the logged model of a bundle; one that is new has no files yet.

    Args:
        client: of the tracking server.
        experiment_id: of the study.
        run_id: of the study's run.
        identity: of the version that it is to become, see `IDENTITY_TAG`; its tag, too.
        history: of the study.
    """
    condition = f"tags.`{IDENTITY_TAG}` = '{identity}'"
    for model in client.search_logged_models([experiment_id], condition):
        if model.source_run_id == run_id:
            return model

    return client.create_logged_model(
        experiment_id,
        name=NOT_IN_NAMES.sub("-", history.study.registered_model),
        source_run_id=run_id,
        tags={IDENTITY_TAG: identity, NOTE_TAG: _note(history)},
        params=_params(history),
        model_type=MODEL_TYPE,
    )


def finish_logged_model(
    client: MlflowClient, model: LoggedModel, folder: Path, history: History
) -> None:
    """Upload the files of a logged model, and link it with its run; then it is ready.

    Args:
        client: of the tracking server.
        model: which may have been finished before; then the same is done once more.
        folder: MLflow's model folder.
        history: of the study.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    client.log_model_artifacts(model.model_id, str(folder))

    run_id = str(model.source_run_id)
    outputs = client.get_run(run_id).outputs
    linked = outputs.model_outputs if outputs is not None else []
    if model.model_id not in {output.model_id for output in linked}:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    _log_scores(client, model, history)

    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def link_version(client: MlflowClient, model: LoggedModel, name: str, version: str) -> None:
    """Note at a logged model which version it became, as MLflow's server does by itself."""
    versions = [{"name": name, "version": version}]
    client.set_logged_model_tags(model.model_id, {VERSIONS_TAG: json.dumps(versions)})


@contextlib.contextmanager
def default_tracking(uri: str) -> Iterator[None]:
    """Have MLflow look logged models up at a URI where it makes a version of one.

    With a database it does not ask its client's URI then, but the one of the whole process. A
    server looks them up itself.
    """
    if uri.startswith(("http://", "https://")):
        yield
        return
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    variable = os.environ.get(TRACKING_URI)
    try:
        with _use_tracking_uri(uri):
            yield
    finally:
        os.environ.pop(TRACKING_URI, None)  # MLflow sets it, too
        if variable is not None:
            os.environ[TRACKING_URI] = variable


def _note(history: History) -> str:
    """Return how good the winner is, and where its card is."""
    results = results_line(history.finished.summary) if history.finished is not None else ""
    return f"{results}\n\nIts versions have the model card as their description.".strip()


def _params(history: History) -> dict[str, str]:
    """Return what the winner is made of: its corpus, its networks, its fusions' settings."""
    opened, finished = history.opened, history.finished
    assert opened is not None
    study = history.study
    params = {
        "study": study.name,
        "targets": ", ".join(study.targets or ()),
        "modalities": ", ".join(study.modalities or ()),
        "inference": finished.summary.get("inference", "") if finished is not None else "",
    }
    for task, finalists in history.completed.items():
        for path, text in winner_params(finalists[0]).items():
            params[f"{task_key(str(task))}.{path}"] = text
    return {key: to_text(text) for key, text in params.items() if text and len(key) <= MAX_KEY}


def _log_scores(client: MlflowClient, model: LoggedModel, history: History) -> None:
    """Give a logged model its scores on devel, with the corpus that they are of."""
    from mlflow.entities import Metric

    if history.opened is None or history.finished is None:
        return
    dataset = corpus_dataset(history.opened)
    place = {"model_id": model.model_id}
    if dataset is not None:
        place |= {"dataset_name": dataset.name, "dataset_digest": dataset.digest}
    metrics = [
        Metric(row.key, row.value, row.at_ms, row.step, **place)
        for row in model_metrics(history.finished.summary, history.finished.at)
    ]
    for first in range(0, len(metrics), MAX_METRICS):
        client.log_batch(str(model.source_run_id), metrics=metrics[first : first + MAX_METRICS])
