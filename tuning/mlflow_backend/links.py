"""Links into MLflow's pages: a study's experiment and run, the trials of a task, a model.

Knows no server. MLflow opens in a mode for language models, which has no runs and no models, unless
a link says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from pipeline.credentials.known import MASK
from pipeline.credentials.masking import masked_uri
from pipeline.shell_command import library_command

WORKFLOW = "workflowType=machine_learning"
"""What a link says, so that MLflow shows runs and models."""
LOCAL_ADDRESS = "http://127.0.0.1:5000"
"""Where `mlflow ui` answers, unless it is told otherwise."""


@dataclass(frozen=True)
class Pages:
    """Where a person sees what is recorded.

    Attributes:
        address: of MLflow's pages, such as "http://127.0.0.1:5000".
        command: what shows them there; "" where a server does.
    """

    address: str
    command: str

    def line(self, what: str, link: str) -> str:
        """Return what a person reads: what is seen there, the command if any, and the link.

        Args:
            what: such as "Runs".
            link: what follows the address.
        """
        if self.command:
            return f"{what}: {self.command}, then open {self.address}{link}"
        return f"{what}: {self.address}{link}"


def pages_of(uri: str) -> Pages | None:
    """Return where a tracking URI is seen; None for a database whose URI holds a password."""
    if uri.startswith(("http://", "https://")):
        # Without a user and a password: MLflow's pages ask for them.
        return Pages(masked_uri(uri).replace(f"//{MASK}@", "//").rstrip("/"), "")
    if masked_uri(uri) != uri:
        return None
    return Pages(LOCAL_ADDRESS, library_command("mlflow", "ui", "--backend-store-uri", uri))


def experiments_link() -> str:
    """Return what follows the address in the link to all experiments."""
    return f"/#/experiments?{WORKFLOW}"


def experiment_link(experiment_id: str) -> str:
    """Return what follows the address in the link to an experiment's runs."""
    return f"/#/experiments/{experiment_id}/runs?{WORKFLOW}"


def run_link(experiment_id: str, run_id: str) -> str:
    """Return what follows the address in the link to a run."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}?{WORKFLOW}"


def models_link(experiment_id: str) -> str:
    """Return what follows the address in the link to an experiment's models and their scores."""
    return f"/#/experiments/{experiment_id}/models?{WORKFLOW}"


def model_link(name: str, version: str = "") -> str:
    """Return what follows the address in the link to a registered model, or to a version of it."""
    below = f"/versions/{version}" if version else ""
    return f"/#/models/{quote(name, safe='')}{below}?{WORKFLOW}"


def trials_link(experiment_id: str, study_id: str, task: dict[str, str]) -> str:
    """Return what follows the address in the link to the trials of a task's search, as charts.

    Args:
        experiment_id: of the study.
        study_id: see `StudyOpened.id`.
        task: the parameters of its trials that say which task it is.
    """
    conditions = {"tags.`affectune.study`": study_id, "params.purpose": "search"}
    conditions |= {f"params.{name}": value for name, value in task.items()}
    query = {
        "searchFilter": " AND ".join(
            f"{name} = {_quoted(value)}" for name, value in conditions.items()
        ),
        "orderByKey": f"metrics.`deciding_{'ccc' if 'target' in task else 're'}`",
        "orderByAsc": "false" if "target" in task else "true",
        "compareRunsMode": "CHART",
    }
    return f"{experiment_link(experiment_id)}&{urlencode(query, quote_via=quote)}"


def _quoted(value: str) -> str:
    """Return a value for MLflow's filters, which know no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"
