"""The variables by which a registry and its files are reached, taken along to other machines.

They hold passwords. So they travel with the settings of a replica, not among the variables of its
process, which stand in Ray's logs.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Self

from pydantic import BaseModel, ConfigDict, SecretStr

NAMES = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_S3_ENDPOINT_URL",
    "MLFLOW_S3_IGNORE_TLS",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_ACCESS_KEY",
)


class RegistryAccess(BaseModel):
    """What a process was given for its registry.

    Attributes:
        variables: names and values.
    """

    model_config = ConfigDict(frozen=True)

    variables: dict[str, SecretStr] = {}

    @classmethod
    def given(cls, environment: Mapping[str, str]) -> Self:
        """Return what an environment holds of it."""
        given = {name: SecretStr(environment[name]) for name in NAMES if environment.get(name)}
        return cls(variables=given)

    def give(self, environment: MutableMapping[str, str]) -> None:
        """Set the variables in another environment."""
        for name, value in self.variables.items():
            environment[name] = value.get_secret_value()
