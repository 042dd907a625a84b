"""The files of `ray up`: valid for Ray, their commands known, the token guarded."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.infra_tests.hosts import ROOT
from tests.infra_tests.own_commands import parse

FOLDER = ROOT / "infra/ray"
NAMES = ("workstations", "aws")
COMMANDS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)


def read(name: str) -> dict[str, Any]:
    """Return one of the files."""
    values: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return values


def _schema() -> Any:
    """Return Ray's schema, without Ray."""
    specification = importlib.util.find_spec("ray")
    assert specification is not None
    assert specification.origin is not None
    return json.loads(
        (Path(specification.origin).parent / "autoscaler/ray-schema.json").read_text()
    )


def _blocks(language: str) -> list[str]:
    """Return the blocks of one language in the README."""
    text = (FOLDER / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_file_is_valid_for_ray_with_and_without_docker(name: str) -> None:
    validator = jsonschema_rs.Draft7Validator(_schema())
    (docker,) = (yaml.safe_load(block) for block in _blocks("yaml"))

    for values in (read(name), read(name) | docker):
        assert [error.message for error in validator.iter_errors(values)] == []
    assert not validator.is_valid(read(name) | {"setup_command": []})


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_for_bash(name: str) -> None:
    commands = [command for key in COMMANDS for command in read(name).get(key, [])]
    assert len(commands) > 5
    for command in commands:
        checked = subprocess.run(
            ["bash", "-n", "-c", command], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, f"{command}: {checked.stderr}"


@pytest.mark.parametrize("name", NAMES)
def test_nodes_get_one_token_that_no_other_user_reads(name: str) -> None:
    values = read(name)
    token = "~/.ray/auth_token"
    assert values["file_mounts"][token] == token
    first, profile, *_ = values["setup_commands"]
    assert f"chmod 600 {token}" in first
    assert "RAY_AUTH_MODE=token" in profile
    assert "RAY_AUTH_TOKEN" not in (FOLDER / f"{name}.yaml").read_text()
    # It gives the token away, and runs code for whoever has it.
    assert "dashboard-host=0.0.0.0" not in (FOLDER / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_nodes_install_the_wheel_with_the_pinned_versions(name: str) -> None:
    values = read(name)
    installed = [command for command in values["setup_commands"] if "pip install" in command]
    (resolving,) = [command for command in installed if "--no-deps" not in command]
    assert "--constraint ~/affectune/constraints.txt" in resolving
    assert all(command.endswith("~/affectune/dist/affectune-*.whl") for command in installed)
    assert (ROOT / values["file_mounts"]["~/affectune/constraints.txt"]).is_file()


def test_cloud_has_spot_workers_that_need_no_keys() -> None:
    values = read("aws")
    types = values["available_node_types"]
    workers = {name: each for name, each in types.items() if name != values["head_node_type"]}
    assert types[values["head_node_type"]]["resources"]["CPU"] == 0
    for each in workers.values():
        assert each["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
        assert each["min_workers"] == 0
    for each in types.values():
        assert each["node_config"]["IamInstanceProfile"]["Arn"]
        assert each["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
    for rule in values["provider"]["security_group"]["IpPermissions"]:
        assert all(one["CidrIp"] != "0.0.0.0/0" for one in rule["IpRanges"])


def test_commands_of_the_readme_are_known() -> None:
    lines = [line for block in _blocks("sh") for line in block.splitlines()]
    ours = [found[1] for line in lines if (found := re.search(r"'(affectune .*)'", line))]
    assert len(ours) == 3
    for command in ours:
        values = parse(command)
        if command.startswith("affectune study run"):
            assert values["resume"]
            assert values["address"] == "auto"
    for line in lines:
        for path in re.findall(r"infra/ray/\S+\.yaml", line):
            assert (ROOT / path).is_file(), line
