"""The compose files: every field known, nothing published, no secret in plain, all bounded."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.infra_tests.compose_file import ComposeFile, Service, read_compose

INFRA = Path(__file__).parents[2] / "infra"
PUBLISHED = {"endpoint", "grafana"}
ONE_SHOT = {"buckets", "study"}
SECRET = re.compile(r"password|token|secret|access_key", re.IGNORECASE)


@pytest.fixture(scope="module", params=[["compose.yaml"], ["compose.yaml", "compose/moto.yaml"]])
def compose(request: pytest.FixtureRequest) -> ComposeFile:
    """Return the compose file, and the same with the S3 server for trying out."""
    return read_compose(*(INFRA / name for name in request.param))


def test_nothing_is_published_but_page_and_dashboards_on_loopback(compose: ComposeFile) -> None:
    for name, service in compose.services.items():
        assert bool(service.ports) == (name in PUBLISHED), name
        assert all(port.startswith("127.0.0.1:") for port in service.ports), name
        expected = ["backend", "published"] if name in PUBLISHED else ["backend"]
        assert service.networks == expected, name
    assert compose.networks["backend"].internal


def test_no_service_can_gain_rights_or_write_its_image(compose: ComposeFile) -> None:
    for name, service in compose.services.items():
        assert service.read_only, name
        assert service.init, name
        assert service.cap_drop == ["ALL"], name
        assert service.security_opt == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[1-9]\d*:\d+", service.user), name
        assert not any(isinstance(v, str) and v.startswith((".", "/")) for v in service.volumes)
        assert all(v.read_only for v in service.volumes if not isinstance(v, str)), name


def test_every_service_is_bounded_watched_and_started_again(compose: ComposeFile) -> None:
    for name, service in compose.services.items():
        assert service.healthcheck.test or name in ONE_SHOT, name
        if name not in ONE_SHOT:
            assert not service.healthcheck.disable, name
            assert service.restart == "unless-stopped", name
            assert service.healthcheck.interval, name
        assert service.logging.options.keys() == {"max-size", "max-file"}, name


def test_every_image_has_a_version(compose: ComposeFile) -> None:
    project = tomllib.loads((INFRA.parent / "pyproject.toml").read_text(encoding="utf-8"))
    for name, service in compose.services.items():
        if service.build:
            assert service.image == f"affectune:{project['project']['version']}", name
            assert (INFRA / service.build.context / service.build.dockerfile).is_file()
        else:
            assert re.fullmatch(r"docker\.io/[\w./-]+:v?\d+\.\d+[\w.-]*", service.image), name


def test_secrets_are_files_and_only_who_needs_them_has_them(compose: ComposeFile) -> None:
    for name, service in compose.services.items():
        named = {value for value in secrets_named(service)}
        assert named == {f"/run/secrets/{secret}" for secret in service.secrets}, name
        for variable, value in service.environment.items():
            if SECRET.search(variable):
                assert value.startswith("/run/secrets/") or variable == "RAY_AUTH_MODE", name
        for word in [*service.command, *(service.entrypoint or [])]:
            assert not re.search(r"://[^/@]*:[^/@]*@", word), name
    assert compose.services.keys() >= {"postgres", "s3", "mlflow", "ray-head", "ray-worker"}


def secrets_named(service: Service) -> list[str]:
    """Return the files of secrets that a service's settings name; Prometheus' are in a file."""
    words = [*service.command, *service.environment.values()]
    if any(config.source == "prometheus" for config in service.configs):
        words += (INFRA / "compose" / "prometheus.yml").read_text(encoding="utf-8").split()
    return [word for word in words if word.startswith("/run/secrets/")]


def test_what_is_named_is_there(compose: ComposeFile) -> None:
    for name, service in compose.services.items():
        assert service.depends_on.keys() <= compose.services.keys(), name
        assert set(service.secrets) <= compose.secrets.keys(), name
        assert {config.source for config in service.configs} <= compose.configs.keys(), name
        volumes = {v.partition(":")[0] for v in service.volumes if isinstance(v, str)}
        assert volumes <= compose.volumes.keys(), name
        assert set(service.networks) <= compose.networks.keys(), name
    for config in compose.configs.values():
        assert (INFRA / config.file).is_file(), config.file


def test_secrets_are_made_once_each_of_its_own_and_private(tmp_path: Path) -> None:
    script = tmp_path / "infra" / "compose" / "secrets.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(INFRA / "compose" / "secrets.sh", script)
    subprocess.run(["sh", script], check=True, capture_output=True)
    folder = tmp_path / "infra" / "secrets"
    first = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / "ray_token").unlink()
    subprocess.run(["sh", script], check=True, capture_output=True)
    second = {path.name: path.read_text() for path in folder.iterdir()}

    assert first.keys() == read_compose(INFRA / "compose.yaml").secrets.keys()
    assert len(set(first.values())) == len(first)
    assert all(re.fullmatch(r"[0-9a-f]{64}", secret) for secret in first.values())
    assert {name for name in first if first[name] != second[name]} == {"ray_token"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_tool_itself_takes_the_files() -> None:
    if not shutil.which("docker") or _run("docker", "compose", "version").returncode:
        pytest.skip("docker compose is not here to read the file")
    files = ("--file", "compose.yaml", "--file", "compose/moto.yaml")
    done = _run("docker", "compose", *files, "--profile", "study", "config", "--quiet")
    assert done.returncode == 0, done.stderr


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=INFRA, capture_output=True, text=True, check=False)
