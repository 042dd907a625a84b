"""What a registry asks for goes to other machines, and nobody reads it on the way."""

from __future__ import annotations

import pickle

from serving.models.registry_access import RegistryAccess


def test_the_variables_of_a_registry_arrive_and_no_others() -> None:
    given = {"MLFLOW_TRACKING_TOKEN": "hush", "AWS_REGION": "eu", "PATH": "/bin", "AWS_X": "1"}
    access = pickle.loads(
        pickle.dumps(RegistryAccess.given(given | {"MLFLOW_S3_ENDPOINT_URL": ""}))
    )
    other = {"PATH": "/usr/bin", "MLFLOW_TRACKING_TOKEN": "of the node"}
    access.give(other)
    assert other == {"PATH": "/usr/bin", "MLFLOW_TRACKING_TOKEN": "hush", "AWS_REGION": "eu"}


def test_what_is_taken_along_is_not_printed() -> None:
    access = RegistryAccess.given({"MLFLOW_TRACKING_PASSWORD": "hush"})
    assert "hush" not in f"{access!r} {access}"
