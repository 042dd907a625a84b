"""Plants a secret in every place where a user can put one, and looks for them in all that is left.

A study fails and another one ends, its winner is evaluated and served; meanwhile the arguments of
all processes are watched. What is left: folders, journal, store, tracking server, cache, logs, what
was printed and answered, Ray's session, temporary files, the home.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, quote_plus

from tests.benchmarks.rows import Row, more_is_better
from tests.benchmarks.servers.object_store import ObjectStore
from tests.serving_tests.endpoint_process import running
from tests.tuning_tests.mlflow_backend.server import Server, free_port

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 400
WATCH_S = 0.4
PLACES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "--tracking-uri",
    "--tracking-uri?password=",
    "--store",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "--address",
    "RAY_ADDRESS",
    "RAY_REDIS_PASSWORD",
    "RAY_AUTH_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "corpus in the study",
    "tracking_uri in the settings",
    "token in the settings",
    "token file",
    "AFFECTUNE_SERVE_TOKEN",
)
SECRETS = {place: f"S3cret/{number:02d}+äpfel Q&x" for number, place in enumerate(PLACES)}
"""With what has to be escaped in a URI, in JSON and in HTML."""
HEADER_SECRETS = {
    place: f"S3cret-{number:02d}-apfelQx" for number, place in enumerate(PLACES, start=50)
}
"""For what goes into an HTTP header as it is."""
MARK = re.compile(rb"S3cret(?:[/-]|%2F|\\/|%252F)\d\d", re.IGNORECASE)
"""The start of every secret, in whatever way it is escaped; also what a cut text leaves of one."""
STUDY = """
name = "planted"
corpus = "s3://KEYID:{corpus}@bucket/corpus"
folds = 2
""" + "".join(
    f"[{stage}.network]\nnum_layers = 1\nhidden_size = 4\n[{stage}.fit]\nmax_epochs = 2\n"
    f'[search.{stage}]\nsampler = "random"\ntrials = 2\n'
    "finalists = 1\nseeds = 1\ngrace_epochs = 1\n"
    f'[search.{stage}.space]\n"fit.learning_rate" = {{{{ loguniform = [0.001, 0.1] }}}}\n'
    for stage in ("auto_encoder", "unimodal", "fusion")
)


def secrets_rows() -> list[Row]:
    """Run it all; a row per place where something is left, and how many secrets are not in it."""
    with contextlib.ExitStack() as stack:
        # Ray's sockets need a short path.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s")))
        store = stack.enter_context(ObjectStore().running())
        server = Server(_made(folder / "server"), free_port())
        server.start()
        stack.callback(server.stop)

        watch = stack.enter_context(_watched(folder))
        run = _Run(folder, store, server)
        run.refused_commands()
        run.studies()
        run.endpoint()
        watch.over()
        found = _found_in_files(folder)
        for part, secrets in watch.found.items():
            found[part] |= secrets
        found["arguments of processes"] = _secrets_in("\n".join(watch.arguments).encode())
        found["object store"] = set().union(*map(_secrets_in, store.objects.values()))

    for place, secrets in sorted(found.items()):
        if secrets:
            print(f"{place}: {', '.join(sorted(secrets))}")
    planted = len(PLACES)
    return [
        more_is_better(f"secrets not in {place}", planted - len(secrets), planted, "secrets")
        for place, secrets in sorted(found.items())
    ]


class _Run:
    """Commands with secrets, in one folder."""

    def __init__(self, folder: Path, store: ObjectStore, server: Server) -> None:
        self._folder, self._store, self._server = folder, store, server
        self._output = _made(folder / "output")
        self._work = _made(folder / "work")
        self._num_commands = 0
        for name in ("home", "cache", "tmp", "ray"):
            _made(folder / name)

        study = STUDY.format(corpus=quote(SECRETS["corpus in the study"], safe=""))
        self._study = folder / "planted.toml"
        self._study.write_text(study)
        self._corpus = folder / "corpus"
        self._command("corpus", "synthesize", str(self._corpus), "--subjects", "6")

    def refused_commands(self) -> None:
        """Run commands that end with an error, most of them about what holds a secret."""
        query = f"postgresql://127.0.0.1:1/db?user=a&password={_in_uri('--tracking-uri?password=')}"
        dead = f"http://alice:{_in_uri('--tracking-uri')}@127.0.0.1:9"
        selected = [str(self._study), *self._selection()]
        self._command("study", "run", *selected, "--out", "o", "--tracking-uri", query)
        self._command("registry", "promote", "affectune", "1", "--tracking-uri", dead)
        model = ["models:/affectune@champion", "--corpus", str(self._corpus)]
        self._command("evaluate", *model, "--tracking-uri", dead)
        address = f"me:{SECRETS['--address']}@127.0.0.1:1"
        self._command("study", "run", *selected, "--address", address)
        self._command("study", "run", *selected, RAY_ADDRESS=f"ray://u:{SECRETS['RAY_ADDRESS']}@h")
        self._command("serve", RAY_ADDRESS=f"me:{SECRETS['RAY_ADDRESS']}@127.0.0.1:1")
        self._command("study", "run", str(self._study))
        self._command("train", "--corpus", f"s3://K:{SECRETS['--store']}@b/c", "--out", "m")

    def studies(self) -> None:
        """Run a study whose store refuses what it writes, and one that registers its winner."""
        store = self._store.uri("KEYID", _in_uri("--store"))
        options = [str(self._study), *self._selection(), "--store", store, "--workers", "2"]
        self._store.writes_left = 30
        self._command("study", "run", *options, "--out", "failed")
        self._command("study", "status", "failed")
        self._command("study", "report", "failed")

        self._store.writes_left = 10**9
        self._command("study", "run", *options, "--out", "failed", "--resume")
        log = self._command("study", "run", *options, "--out", "ended", "--promote-first")
        self._command("study", "status", "ended", "--json")
        self._command("study", "report", "ended")
        self._command("registry", "show", "affectune")
        model = ["models:/affectune@champion", "--corpus", str(self._corpus)]
        self._command("evaluate", *model)
        self._command("predict", *model, "--partition", "devel", "--out", "predictions")
        if not (self._work / "ended" / "model").is_dir():
            sys.exit(f"The study did not end:\n{log}")

    def endpoint(self) -> None:
        """Serve the winner with a token, from a file and from settings, and without a registry."""
        token_file, settings = self._folder / "token", self._folder / "settings.toml"
        token_file.write_text(HEADER_SECRETS["token file"])
        uri = f"http://bob:{_in_uri('tracking_uri in the settings')}@127.0.0.1"
        in_file = HEADER_SECRETS["token in the settings"]
        settings.write_text(
            f'tracking_uri = "{uri}:{self._server.uri.rpartition(":")[2]}"\ntoken = "{in_file}"\n'
        )
        self._serve(["--settings", str(settings)], in_file)
        self._serve(["--token-file", str(token_file)], HEADER_SECRETS["token file"])

        # A registry that does not answer: what is kept in the cache serves, or nothing does.
        settings.write_text(f'tracking_uri = "{uri}:9"\n')
        token = HEADER_SECRETS["AFFECTUNE_SERVE_TOKEN"]
        arguments = ["--settings", str(settings)]
        self._serve(arguments, token, ready="/healthz", AFFECTUNE_SERVE_TOKEN=token)

    def _serve(
        self, arguments: Sequence[str], token: str, *, ready: str = "/readyz", **variables: str
    ) -> None:
        port = free_port()
        command = ["serve", *arguments, "--replicas", "1", "--port", str(port)]
        log = self._output / f"serve-{port}.log"
        environment = self._environment(**variables)
        with running([*_program(), *command], port, ready, log, **environment):
            for path in ("/readyz", "/v1/model", "/v1/example", "/metrics", "/", "/nothing"):
                for sent in (token, "wrong"):
                    self._keep_answer(port, path, sent)

    def _keep_answer(self, port: int, path: str, token: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        with open(self._output / "answers", "ab") as file:
            file.write(str(answer.getheaders()).encode() + answer.read())

    def _command(self, *arguments: str, **variables: str) -> str:
        """Run a command to its end, and keep what it says."""
        self._num_commands += 1
        log = self._output / f"{self._num_commands:02d}-{arguments[0]}.log"
        environment = os.environ | self._environment(**variables)
        with open(log, "wb") as output:
            subprocess.run(
                [*_program(), *arguments],
                cwd=self._work,
                env=environment,
                stdout=output,
                stderr=output,
                timeout=TIMEOUT_S,
                check=False,
            )
        return log.read_text(errors="replace")

    def _selection(self) -> list[str]:
        return ["--corpus", str(self._corpus), "--modalities", "voice,face", "--targets", "arousal"]

    def _environment(self, **variables: str) -> dict[str, str]:
        """Return variables with secrets in all that a user may set, and folders of this run."""
        user = f"alice:{_in_uri('MLFLOW_TRACKING_URI')}@"
        proxy = f"http://px:{_in_uri('HTTP_PROXY')}@127.0.0.1:9"
        return {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(self._folder / "tmp"),
            "RAY_TMPDIR": str(self._folder / "ray"),
            "AFFECTUNE_CACHE": str(self._folder / "cache"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "MLFLOW_TRACKING_URI": self._server.uri.replace("://", f"://{user}"),
            "MLFLOW_TRACKING_USERNAME": "carol",
            "MLFLOW_TRACKING_PASSWORD": HEADER_SECRETS["MLFLOW_TRACKING_PASSWORD"],
            "MLFLOW_TRACKING_TOKEN": HEADER_SECRETS["MLFLOW_TRACKING_TOKEN"],
            "AWS_ACCESS_KEY_ID": "KEYID2",
            "AWS_SECRET_ACCESS_KEY": SECRETS["AWS_SECRET_ACCESS_KEY"],
            "AWS_SESSION_TOKEN": SECRETS["AWS_SESSION_TOKEN"],
            "RAY_REDIS_PASSWORD": SECRETS["RAY_REDIS_PASSWORD"],
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": HEADER_SECRETS["RAY_AUTH_TOKEN"],
            "HTTP_PROXY": proxy,
            "HTTPS_PROXY": proxy.replace(_in_uri("HTTP_PROXY"), _in_uri("HTTPS_PROXY")),
            "NO_PROXY": "127.0.0.1,localhost",
        } | variables


class _Watch:
    """Looks at what is there only while commands run: arguments of processes, Ray's session.

    Attributes:
        arguments: of all processes, but for the moment of their start.
        found: part of the folder -> secrets in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.arguments: set[str] = set()
        self.found: dict[str, set[str]] = defaultdict(set)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def over(self) -> None:
        """Look no longer."""
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        earlier: set[tuple[int, bytes]] = set()
        for number in itertools.count():
            if self._is_over.wait(WATCH_S):
                return
            now = set(_arguments())
            # What a user typed is there until the program hides it.
            self.arguments.update(line.decode(errors="replace") for _, line in now & earlier)
            earlier = now
            if number % 10 == 0:
                for part, secrets in _found_in_files(self._folder).items():
                    self.found[part] |= secrets


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[_Watch]:
    watch = _Watch(folder)
    try:
        yield watch
    finally:
        watch.over()


def _arguments() -> Iterator[tuple[int, bytes]]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(process.name), (process / "cmdline").read_bytes()


def _found_in_files(folder: Path) -> defaultdict[str, set[str]]:
    """Return the secrets in all files, by the folder that they lie in; but where they were put."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in folder.rglob("*"):
        part = path.relative_to(folder).parts[0]
        if path.is_dir() and not path.is_symlink():
            found[part] |= _secrets_in(str(path).encode())
        elif path.is_file() and len(path.relative_to(folder).parts) > 1 and part != "corpus":
            with contextlib.suppress(OSError):
                secrets = _secrets_in(path.read_bytes())
                found[part] |= {f"{secret} in {path.relative_to(folder)}" for secret in secrets}
    return found


def _secrets_in(data: bytes) -> set[str]:
    """Return what is there of secrets, escaped or not, or in Basic authorisation."""
    found = {match.decode() for match in MARK.findall(data)}
    for text in re.findall(rb"[A-Za-z0-9+/=]{16,400}", data):
        with contextlib.suppress(ValueError):
            decoded = base64.b64decode(text + b"=" * (-len(text) % 4))
            found |= {f"{match.decode()} (base64)" for match in MARK.findall(decoded)}
    return found


def _in_uri(place: str) -> str:
    return quote_plus(SECRETS[place]).replace("+", "%20")


def _program() -> list[str]:
    return [sys.executable, "-m", "affectune"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
