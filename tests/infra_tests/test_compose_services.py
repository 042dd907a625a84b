"""The services of the compose file, run as processes on hosts by the commands that it holds.

Each runs where its service's name leads to. What stands for the containers: /run/secrets, volumes
and configs are folders of the host; PostgreSQL's image's own entry is initdb.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.infra_tests.compose_file import ComposeFile, Service, SourceFile, read_compose
from tests.infra_tests.hosts import ROOT, Host, Hosts, make_hosts, reason_to_skip, wait_until
from tests.infra_tests.small_study import small_study

pytestmark = pytest.mark.cluster
INFRA = ROOT / "infra"
POSTGRES = Path("/usr/lib/postgresql/15/bin")
PLACES = {
    "postgres": 0,
    "s3": 0,
    "mlflow": 0,
    "prometheus": 0,
    "ray-head": 1,
    "ray-worker": 2,
    "study": 3,
    "endpoint": 3,
}
"""Service -> its host."""
ENTRIES = {"prometheus": ["prometheus"]}
"""Service -> its image's own entry point, where that is no more than a program."""


class Services:
    """The services of a compose file on hosts.

    Attributes:
        compose: the file.
        secrets: the folder of its secrets.
    """

    def __init__(self, hosts: Hosts, compose: ComposeFile) -> None:
        self.compose = compose
        self.secrets = hosts.shared / "secrets"
        self._hosts = hosts
        self.secrets.mkdir(mode=0o711)
        for name in compose.secrets:
            (self.secrets / name).write_text(f"{name.replace('_', '')}0123456789abcdef")
        for name, number in PLACES.items():
            hosts.name(name, hosts[number])
        self._files = hosts.shared / "files"
        for service in compose.services.values():
            for config in service.configs:
                self._lay(Path(str(self._files) + config.target), compose.configs[config.source])

    def _lay(self, target: Path, config: SourceFile) -> None:
        """Put a file of the repository where services find it, with the place of secrets here."""
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (INFRA / config.file).read_text(encoding="utf-8")
        target.write_text(text.replace("/run/secrets", str(self.secrets)), encoding="utf-8")

    def host(self, name: str) -> Host:
        """Return the host of a service."""
        return self._hosts[PLACES.get(name, 0)]

    def log(self, name: str) -> Path:
        """Return the file with a service's output."""
        return self._hosts.shared / f"{name}.log"

    def start(self, name: str) -> None:
        """Start a service by its command, and again whenever it ends, as its policy says."""
        assert self.compose.services[name].restart == "unless-stopped"
        command, env = self.command(name)
        again = ("sh", "-c", 'while :; do "$@"; sleep 1; done', "service")
        self.host(name).start(*again, *command, env=env, output=self.log(name))

    def run(self, name: str, *arguments: str) -> str:
        """Run a service to its end, as `docker compose run` does; it has to succeed."""
        command, env = self.command(name, *arguments)
        done = self.host(name).run(*command, env=env, timeout_s=200)
        assert done.returncode == 0, f"{name}: {done.stdout}"
        return done.stdout

    def command(self, name: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
        """Return a service's command line and environment, with the places of this host."""
        service = self.compose.services[name]
        entry = service.entrypoint
        if entry is None:
            entry = ["with-secrets", "affectune"] if service.build else ENTRIES.get(name, [])
        words = [*entry, *(arguments or service.command)]
        environment = {
            key: self._here(service, value) for key, value in service.environment.items()
        }
        folders = [INFRA / "container", Path(sys.executable).parent, os.environ["PATH"]]
        path = ":".join(map(str, folders))
        environment |= {"PATH": path, "HOME": str(self._data(name))}
        environment |= {"AFFECTUNE_CACHE": str(self._hosts.shared / "cache")}
        return [self._here(service, word) for word in words], environment

    def _data(self, name: str) -> Path:
        folder = self._hosts.shared / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _here(self, service: Service, word: str) -> str:
        """Return a word of a command with the paths that this host has."""
        for config in service.configs:
            word = word.replace(config.target, f"{self._files}{config.target}")
        name = next(key for key, value in self.compose.services.items() if value is service)
        word = word.replace("/run/secrets", str(self.secrets))
        return word.replace("=/prometheus", f"={self._data(name)}")

    def wait(self, name: str, is_so: Callable[[], object], timeout_s: float) -> None:
        """Wait until something is so; what the service wrote is the error where it never is."""
        try:
            wait_until(is_so, timeout_s, name)
        except TimeoutError:
            pytest.fail(f"{name}: {self.log(name).read_text(errors='replace')[-5000:]}")

    def says(self, host: Host, url: str, *options: str) -> str:
        """Return what a server answers to a host; "" where it does not, or with an error."""
        done = host.run("curl", "-sf", "-m", "10", *options, url)
        return done.stdout if done.returncode == 0 else ""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Return the services on four hosts; none is started."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    pytest.importorskip("psycopg2", reason="MLflow reaches PostgreSQL by psycopg2: install .[dev]")
    if not (POSTGRES / "initdb").exists() or not shutil.which("curl"):
        pytest.skip("PostgreSQL 15 and curl stand for what the images have, and are not here")
    with make_hosts(4) as hosts:
        for folder in (hosts.shared, hosts.shared.parent):
            folder.chmod(0o711)  # PostgreSQL is another user
        files = (INFRA / "compose.yaml", INFRA / "compose" / "moto.yaml")
        yield Services(hosts, read_compose(*files, variables={"REPLICAS": "1"}))


def start_postgres(services: Services) -> None:
    """Do what the image's entry does, then start the database by the file's command."""
    service, host = services.compose.services["postgres"], services.host("postgres")
    user, database = service.environment["POSTGRES_USER"], service.environment["POSTGRES_DB"]
    auth = service.environment["POSTGRES_INITDB_ARGS"]
    secret = services.secrets / "postgres_password"
    script = f"""
        install -d -o postgres /tmp/database && cp {secret} /tmp/pw && chown postgres /tmp/pw
        cd /tmp
        runuser -u postgres -- {POSTGRES}/initdb -D /tmp/database/data --username {user} \
          --pwfile /tmp/pw {auth} --auth-local=trust --no-sync
        echo 'host all all all scram-sha-256' >>/tmp/database/data/pg_hba.conf
    """
    done = host.shell(script)
    assert done.returncode == 0, done.stdout
    name, *options = service.command
    host.start(
        *("env", "-C", "/tmp", "runuser", "-u", "postgres", "--", f"{POSTGRES}/{name}"),
        *("-D", "/tmp/database/data"),
        *("-c", "listen_addresses=*", "-k", "/tmp", *options),
        output=services.log("postgres"),
    )
    test = service.healthcheck.test[1:]
    ready = (f"{POSTGRES}/{test[0]}", *test[1:])
    services.wait("postgres", lambda: host.run(*ready).returncode == 0, 30)
    done = host.run(f"{POSTGRES}/createdb", "-h", "/tmp", "-U", user, database)
    assert done.returncode == 0, done.stdout


def test_services_of_the_compose_file_train_register_serve_and_are_watched(
    services: Services,
) -> None:
    began = time.monotonic()

    def report(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {what}")

    services.start("s3")
    services.start("ray-head")
    start_postgres(services)
    here = services.host("s3")
    test = services.compose.services["s3"].healthcheck.test[1:]
    services.wait("s3", lambda: here.run(*test).returncode == 0, 60)
    assert "is made" in services.run("buckets")
    services.run("buckets")  # again, as after a restart
    report("PostgreSQL and S3 answer, the buckets are made")

    services.start("mlflow")
    services.start("ray-worker")
    study = services.host("study")
    services.wait("mlflow", lambda: services.says(study, "http://mlflow:5000/health"), 90)
    report("MLflow answers")

    started = "Ray runtime started"
    services.wait("ray-worker", lambda: started in services.log("ray-worker").read_text(), 120)
    folder = here.home
    study_file = services.secrets.parent / "tiny.toml"
    study_file.write_text(small_study(modalities=("voice",)))
    corpus = services.secrets.parent / "corpus"
    services.host("study").shell(f"affectune corpus synthesize {corpus} --subjects 8 --minutes 0.4")
    output = services.run(
        *("study", "run", str(study_file), "--corpus", str(corpus), "--promote-first"),
        *("--out", str(folder / "study"), "--store", "s3://affectune/store", "--workers", "1"),
    )
    report("the study has ended")
    assert "champion" in output, output
    buckets = {
        name: services.says(here, f"http://s3:9000/{name}?list-type=2")
        for name in ("affectune", "mlflow")
    }
    print({name: text.count("<Key>") for name, text in buckets.items()})
    study.shell("ray stop --force")  # as the container's end

    services.start("endpoint")
    token = (services.secrets / "endpoint_token").read_text()
    bearer = ("-H", f"Authorization: Bearer {token}")
    services.wait("endpoint", lambda: services.says(here, "http://endpoint:8000/readyz"), 240)
    example = here.home / "example.json"
    example.write_text(services.says(here, "http://endpoint:8000/v1/example", *bearer))
    ask = ("-H", "Content-Type: application/json", "--data-binary", f"@{example}")
    url = "http://endpoint:8000/v1/predictions"
    answer = json.loads(services.says(here, url, *bearer, *ask))
    assert len(answer["predictions"]["arousal"]) == len(answer["timestamps_ms"]) > 0
    assert not services.says(here, url, *ask), "it asks for no token"
    report("the endpoint has answered")

    if shutil.which("prometheus"):
        services.start("prometheus")
        up = urllib.parse.quote('up{job="affectune-endpoint"} == 1')
        query = f"http://prometheus:9090/api/v1/query?query={up}"
        services.wait("prometheus", lambda: '"value"' in services.says(here, query), 60)
        report("Prometheus has read the endpoint's metrics")

    assert_no_secret_is_shown(services)


def assert_no_secret_is_shown(services: Services) -> None:
    """No process has a secret in its command line, and no service wrote one."""
    files = services.secrets.iterdir()
    # An access key is the name that goes with a secret key: S3 servers write who asked.
    secrets = [path.read_text() for path in files if path.name != "s3_access_key"]
    for host in {services.host(name) for name in PLACES}:
        for process in host.processes():
            line = " ".join(process.cmdline())
            assert not any(secret in line for secret in secrets), line
    for name in PLACES:
        if services.log(name).exists():
            text = services.log(name).read_text(errors="replace")
            assert not any(secret in text for secret in secrets), name
