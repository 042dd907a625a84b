"""A registry on this machine, with versions as a search registers them: a model folder that holds the bundle."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from mlflow.tracking import MlflowClient

NAME, ALIAS = "affectune", "champion"


class Registry:
    """MLflow in one file."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.folder = folder
        self.client = MlflowClient(self.uri, self.uri)
        self.client.create_registered_model(NAME)
        self._experiment = self.client.create_experiment(
            "models", artifact_location=str(folder / "artifacts")
        )

    def register(self, bundle: Path) -> str:
        """A new version of what is in a folder; returns its number."""
        run = self.client.create_run(self._experiment)
        with tempfile.TemporaryDirectory() as temporary:
            model = Path(temporary) / "model"
            shutil.copytree(bundle, model / "artifacts" / "bundle")
            (model / "MLmodel").write_text("flavors: {}\n")
            self.client.log_artifacts(run.info.run_id, str(model), "model")
        source = f"{run.info.artifact_uri}/model"
        return str(self.client.create_model_version(NAME, source, run.info.run_id).version)

    def promote(self, version: str) -> None:
        self.client.set_registered_model_alias(NAME, ALIAS, version)
