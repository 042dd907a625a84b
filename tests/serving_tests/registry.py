"""A registry on this machine, with versions as a study registers them."""

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
        self.create_model(NAME)
        self._experiment = self.client.create_experiment(
            "models", artifact_location=str(folder / "artifacts")
        )

    def create_model(self, name: str) -> None:
        """Create a registered model without a version."""
        self.client.create_registered_model(name)

    def register(self, bundle: Path, name: str = NAME) -> str:
        """Register a folder, put into a model folder; return the number of its version."""
        run = self.client.create_run(self._experiment)
        with tempfile.TemporaryDirectory() as temporary:
            model = Path(temporary) / "model"
            shutil.copytree(bundle, model / "artifacts" / "bundle")
            (model / "MLmodel").write_text("flavors: {}\n")
            self.client.log_artifacts(run.info.run_id, str(model), "model")

        source = f"{run.info.artifact_uri}/model"
        return str(self.client.create_model_version(name, source, run.info.run_id).version)

    def promote(self, version: str, name: str = NAME) -> None:
        """Have the alias point to a version."""
        self.client.set_registered_model_alias(name, ALIAS, version)

    def bundle_folder(self, version: str, name: str = NAME) -> Path:
        """Return where the files of a version's bundle lie."""
        source = self.client.get_model_version(name, version).source
        return Path(str(source).removeprefix("file://")) / "artifacts" / "bundle"
