"""The Serve configuration: what Serve makes of it, and what is not in it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner

import affectune
from serving.serve_config import configuration_text, proxy_variables, replica_variables
from serving.settings import OF_PROXY, Settings, read_proxy_settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of Ray's own
    from ray.serve.schema import ServeDeploySchema

    from serving.endpoint import NAME, deployment_options

SECRETS = {"token": "hush-token", "tracking_uri": "http://me:hush-password@registry:5000"}


def written(**values: Any) -> tuple[str, dict[str, Any]]:
    """Return the text of a configuration, and what Serve reads in it."""
    settings = Settings.model_validate(values)
    options = {"name": NAME, **deployment_options(settings, replica_variables(settings))}
    text = configuration_text(settings, options)
    read = ServeDeploySchema.model_validate(yaml.safe_load(text))
    return text, read.model_dump(mode="json", exclude_unset=True)


def test_a_configuration_says_what_the_settings_say() -> None:
    given = {"model": "/models/a", "max_frames": 99, "replicas": 2, "max_replicas": 4}
    _, read = written(**given, host="0.0.0.0", port=8123, allowed_hosts="a.example,b.example")

    assert (read["http_options"]["host"], read["http_options"]["port"]) == ("0.0.0.0", 8123)
    (application,) = read["applications"]
    arguments = Settings.model_validate(application["args"])
    assert (arguments.model, arguments.max_frames) == ("/models/a", 99)
    (deployment,) = application["deployments"]
    scaling = deployment["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 4)


def test_without_a_higher_maximum_the_number_of_replicas_is_fixed() -> None:
    _, read = written(replicas=3, max_replicas=3)
    deployment = read["applications"][0]["deployments"][0]
    assert deployment["num_replicas"] == 3
    assert "autoscaling_config" not in deployment


def test_the_proxies_get_the_bounds_of_the_settings() -> None:
    settings = Settings(max_body_bytes=2**21, allowed_hosts=("a.example",), max_clients=77)
    read = read_proxy_settings(proxy_variables(settings))
    assert {getattr(read, name) for name in OF_PROXY} == {
        getattr(settings, name) for name in OF_PROXY
    }


def test_no_secret_is_in_a_configuration() -> None:
    text, read = written(**SECRETS)
    assert "hush" not in text
    # What is not in there is named, and its absence on a node is no endpoint for all.
    assert read["applications"][0]["args"]["token_variable"] == "AFFECTUNE_SERVE_TOKEN"
    assert "MLFLOW_TRACKING_URI" in text


def test_the_same_settings_are_the_same_text() -> None:
    assert written(port=8001)[0] == written(port=8001)[0]


def test_the_command_writes_a_file_or_to_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTUNE_SERVE_TOKEN", SECRETS["token"])
    app = affectune.command_line()
    command = ["serve", "--model", "m", "--max-replicas", "3", "--write-config"]

    result = CliRunner().invoke(app, [*command, "serve.yaml"])
    assert result.exit_code == 0, result.output
    shown = CliRunner().invoke(app, [*command, "-"])
    assert shown.stdout == (tmp_path / "serve.yaml").read_text()
    arguments = yaml.safe_load(shown.stdout)["applications"][0]["args"]
    assert arguments["model"] == str(tmp_path / "m")
