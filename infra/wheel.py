"""`make wheel`: builds the sdist and a wheel of it, and does the main job with the installed wheel.

Usage: python infra/wheel.py [--full]. The wheel is installed into an environment of its own, and
the job runs in another folder: nothing of the source tree is on the path. By default the
environment borrows the pinned packages of the one that runs this (what the wheel declares is
checked by tests/test_wheel.py); with --full, pip installs all that the wheel declares, in minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from demo import free_port, predict_example, print_response, running

ROOT = Path(__file__).resolve().parents[1]
DIST, WORK = ROOT / "dist", ROOT / "build" / "wheel"
PACKAGES = ("pipeline", "tuning", "serving")
STUBS = "affectune-stubs"
"""The types of the module affectune, from a folder of its own below infra."""
NOT_SOURCE = {"build", "demo", "dist", "mlruns", "studies", "mlflow.db", "bench.json"}
"""In the root: what running the program leaves there."""
NOT_SHIPPED = {"docs", "tests", "mlflow", "infra"}
SMALL = ("--modalities", "voice,face", "--targets", "arousal", "--workers", "2")
BUDGET = ("--time-budget", "15s")
"""Of the demo study: its search shrinks to that, and the finalists are refitted."""


def main() -> None:
    """Build, check what is inside, install, and do the main job."""
    started = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)

    sdist, wheel = _build()
    _check_contents(sdist, wheel)
    python = _install(wheel, is_full="--full" in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="affectune-wheel-") as folder:
        _do_main_job(python, Path(folder))

    shutil.rmtree(WORK)
    seconds = time.monotonic() - started
    print(f"The wheel works ({seconds:.0f} s): {wheel.relative_to(ROOT)}; and {sdist.name}")


def _build() -> tuple[Path, Path]:
    """Build the sdist from a copy of the sources, and the wheel from the sdist."""
    source, builder = WORK / "source", WORK / "builder"
    shutil.copytree(ROOT, source, ignore=_ignored)
    venv.create(builder, with_pip=True)
    python = builder / "bin" / "python"
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    _run([python, "-m", "pip", "install", "--quiet", *requires])

    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    code = f"import setuptools.build_meta as backend; backend.build_sdist({str(DIST)!r})"
    _run([python, "-c", code], cwd=source, is_quiet=True)
    [sdist] = DIST.glob("*.tar.gz")
    pip_wheel = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    _run([*pip_wheel, "--wheel-dir", DIST, sdist], cwd=WORK)
    [wheel] = DIST.glob("*.whl")
    return sdist, wheel


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Return what is no source, as for `shutil.copytree`."""
    ignored = {name for name in names if name == "__pycache__" or name.endswith(".egg-info")}
    if Path(folder) == ROOT:
        ignored |= {name for name in names if name.startswith(".") or name in NOT_SOURCE}
    return ignored


def _check_contents(sdist: Path, wheel: Path) -> None:
    """End with a message where a file is missing, or one is there that is not to be shipped."""
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        files = (member.name for member in archive if member.isfile())
        in_sdist = {name.partition("/")[2] for name in files}

    tops = {name.partition("/")[0] for name in in_wheel}
    info = {top for top in tops if top.endswith(".dist-info")}
    _fail_if("The wheel's top level has", tops - {*PACKAGES, STUBS, "affectune.py", *info})
    not_shipped = (name for name in in_sdist if name.split("/")[0] in NOT_SHIPPED)
    _fail_if("The sdist has", (name for name in not_shipped if f"/{STUBS}/" not in name))
    types = {f"{STUBS}/__init__.pyi", *(f"{top}/py.typed" for top in (*PACKAGES, STUBS))}
    _fail_if("The wheel lacks", types - in_wheel)

    source = WORK / "source"
    packaged = {
        str(path.relative_to(source))
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    _fail_if("The wheel lacks", packaged - in_wheel)
    _fail_if("The sdist lacks", packaged - in_sdist)
    _fail_if("The wheel has, beside the sources,", _below(PACKAGES, in_wheel) - packaged)


def _below(folders: Iterable[str], names: Iterable[str]) -> set[str]:
    return {name for name in names if name.partition("/")[0] in folders}


def _fail_if(beginning: str, names: Iterable[str]) -> None:
    if found := sorted(names):
        sys.exit(f"{beginning} {', '.join(found[:5])}{' ...' if len(found) > 5 else ''}.")


def _install(wheel: Path, *, is_full: bool) -> Path:
    """Install the wheel into an environment of its own, and return that one's Python."""
    environment = WORK / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet"]
    if is_full:
        _run([*install, "--constraint", ROOT / "constraints.txt", wheel], cwd=WORK)
        return python

    _run([*install, "--no-deps", "--no-index", wheel], cwd=WORK)
    # A plain path in a .pth file: .pth files in there, an editable installation's, are not read.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = environment / "lib" / version / "site-packages"
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def _do_main_job(python: Path, folder: Path) -> None:
    """Train, search, register, evaluate, predict and serve as a new user would, in a folder."""
    affectune = python.with_name("affectune")

    def run(*arguments: str) -> str:
        print(f"$ affectune {' '.join(arguments)}", end="", flush=True)
        started = time.monotonic()
        output = _run([affectune, *arguments], cwd=folder, is_quiet=True)
        print(f"   # {time.monotonic() - started:.0f} s", flush=True)
        return output

    _check_imports(python, folder)
    print(run("--version").strip())
    run("corpus", "synthesize", "corpus", "--subjects", "9", "--minutes", "0.5")
    run("study", "list")
    study = ("study", "run", "demo", "--corpus", "corpus", "--out", "study", "--promote-first")
    run(*study, *SMALL, *BUDGET)
    run("study", "report", "study")
    _use_from_python(python, folder)
    run("registry", "show", "affectune")
    model = ("models:/affectune@champion", "--corpus", "corpus")
    evaluation: dict[str, Any] = json.loads(run("evaluate", *model, "--json"))
    print(f"CCC on devel: {evaluation['targets']['arousal']['ccc']:.3f}")
    run("predict", *model, "--out", "predictions")
    if not list((folder / "predictions" / "arousal").glob("*.csv")):
        sys.exit("`affectune predict` wrote no predictions.")

    endpoint = f"http://127.0.0.1:{(port := free_port(8000))}"
    serve = [str(affectune), "serve", "--port", str(port)]
    print(f"$ {' '.join(['affectune', *serve[1:]])}", flush=True)
    with running(serve, f"{endpoint}/readyz", folder / "serve.log", folder):
        print_response(predict_example(endpoint))


def _use_from_python(python: Path, folder: Path) -> None:
    """Open the study from a Python program, whose types a checker knows."""
    program = folder / "program.py"
    program.write_text(
        "import affectune\n"
        'scores = affectune.load_study("study").scores\n'
        'ccc: float = scores["arousal"].fusion.ccc\n'
        "print(scores, affectune.__version__)\n"
    )
    print(_run([python, program], cwd=folder, is_quiet=True).strip())
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python]
    _run([*mypy, "--cache-dir", folder / "mypy", program], cwd=folder, is_quiet=True)
    mistake = program.with_name("mistake.py")
    mistake.write_text("import affectune\naffectune.train(1)\n")
    command = [str(part) for part in (*mypy, "--cache-dir", folder / "mypy", mistake)]
    checked = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if "arg-type" not in checked.stdout:
        sys.exit(f"A type checker does not know the types of affectune: {checked.stdout}")


def _check_imports(python: Path, folder: Path) -> None:
    """End with a message where a module is the source tree's, or mlflow is not the library."""
    code = (
        "import affectune, mlflow, pipeline, serving, tuning\n"
        "for module in (affectune, pipeline, serving, tuning): print(module.__file__)\n"
        "print(mlflow.__version__)"
    )
    *files, _ = _run([python, "-c", code], cwd=folder, is_quiet=True).split()
    environment = python.parents[1]
    _fail_if("Not the wheel's:", (f for f in files if not Path(f).is_relative_to(environment)))


def _run(command: list[Any], *, cwd: Path = ROOT, is_quiet: bool = False) -> str:
    """Run a command without this tree on its path, and return its output; end if it fails."""
    hidden = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if is_quiet else None,
    )
    if ended.returncode:
        print(ended.stdout, ended.stderr or "", sep="\n", file=sys.stderr)
        sys.exit(f"Status {ended.returncode}: {' '.join(map(str, command))}")
    return ended.stdout


if __name__ == "__main__":
    main()
