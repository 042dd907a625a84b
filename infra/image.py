"""`make image`: builds the container image with buildah, podman or docker, whichever is there.

Usage: python infra/image.py [--base IMAGE] [--cuda] [--tag NAME] [--pip-conf FILE] ...
Version, commit and time come from the repository, and every file gets the commit's time: the same
commit, base and packages give the same layers.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTAINERFILE = "infra/container/Containerfile"
ENGINES = ("buildah", "podman", "docker")
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
TORCH_CUDA = "https://download.pytorch.org/whl/cu130"
"""The CUDA that the pinned torch is built for."""


def main() -> None:
    """Build, and say the image's name; end with the engine's status where it fails."""
    options = _options()
    engine = options.engine or find_engine()
    if engine is None:
        sys.exit(f"No {', '.join(ENGINES)} was found: install one, such as `apt install buildah`.")
    if engine == "docker" and options.volume:
        sys.exit("docker mounts no folders in a build: use buildah or podman for --volume.")

    command = build_command(engine, options)
    print(shlex.join(command), flush=True)
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status:
        sys.exit(status)
    print(f"The image is built: {options.tag}")


def _options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="make image", description="Build the container image.")
    parser.add_argument("--engine", choices=ENGINES, help="default: the first that is found")
    parser.add_argument("--tag", default=f"affectune:{version()}", help="name of the image")
    parser.add_argument("--base", help="a Debian image with Python 3.11, or a bookworm")
    parser.add_argument("--cuda", action="store_true", help="for NVIDIA GPUs")
    parser.add_argument("--torch-index", help="where torch comes from; '': from your own index")
    parser.add_argument("--pip-conf", type=Path, help="pip's settings while it builds: an index")
    parser.add_argument(
        "--volume", action="append", default=[], help="FOLDER that --pip-conf names (no docker)"
    )
    parser.add_argument("options", nargs="*", help="after --: options of the engine's build")
    return parser.parse_args()


def find_engine() -> str | None:
    """Return the first program that is there and builds images."""
    return next((name for name in ENGINES if shutil.which(name)), None)


def version() -> str:
    """Return the project's version."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])


def build_command(engine: str, options: argparse.Namespace) -> list[str]:
    """Return the command that builds the image; it is run in the root of the project."""
    seconds = _git("log", "-1", "--format=%ct") or "0"
    created = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    torch_index = TORCH_CUDA if options.cuda else TORCH_CPU
    if options.torch_index is not None:
        torch_index = options.torch_index
    arguments = {
        "VERSION": version(),
        "REVISION": _git("rev-parse", "HEAD") or "unknown",
        "CREATED": created,
        "SOURCE_DATE_EPOCH": seconds,
        "TORCH_INDEX": torch_index,
    }
    if options.base:
        arguments["BASE"] = options.base

    command = [engine, "build", "--file", CONTAINERFILE, "--tag", options.tag]
    if engine != "docker":  # only their own format keeps the health check
        command += ["--format", "docker", "--timestamp", seconds, "--layers"]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if options.pip_conf:
        command += ["--secret", f"id=pip.conf,src={options.pip_conf.resolve()}"]
    for folder in options.volume:
        command += ["--volume", f"{folder}:{folder}:ro"]
    return [*command, *options.options, "."]


def _git(*arguments: str) -> str:
    """Return what git says of this repository; "" where there is none."""
    command: Sequence[str] = ["git", "-C", str(ROOT), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


if __name__ == "__main__":
    main()
