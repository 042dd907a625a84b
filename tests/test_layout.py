"""The layout of the repository is kept."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import mlflow

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "tuning", "serving")


def _tracked() -> list[Path]:
    """Files of the project: those git tracks, or, without git, those that are there."""
    try:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        listed = [
            str(path.relative_to(ROOT))
            for package in PACKAGES
            for path in (ROOT / package).rglob("*")
        ]
    return [Path(name) for name in listed]


def test_no_python_file_lies_in_the_mlflow_folder() -> None:
    assert list((ROOT / "mlflow").rglob("*.py")) == []


def test_import_mlflow_gives_the_library() -> None:
    assert mlflow.__file__ is not None
    assert not Path(mlflow.__file__).is_relative_to(ROOT / "mlflow")
    assert mlflow.__version__


def test_architecture_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.stem != "__init__"
    ]
    assert modules
    names = [str(path.relative_to(ROOT)) for path in modules]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_module_says_what_it_is() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert [
        str(path) for path in modules if not path.read_text(encoding="utf-8").startswith('"""')
    ] == []


def test_packages_are_explicit_so_that_mlflow_is_never_installed_from_here() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    find = settings["tool"]["setuptools"]["packages"]["find"]
    assert find["namespaces"] is False
    assert all(not pattern.startswith(("mlflow", "*")) for pattern in find["include"])


def test_every_dependency_is_pinned_and_says_why_it_is_there() -> None:
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    start = lines.index("dependencies = [")
    dependencies = lines[start + 1 : lines.index("]", start)]
    pins = {
        line.split("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    for line in dependencies:
        assert "#" in line, line
        name = line.strip().strip('"').split(">=")[0].split("==")[0].split("[")[0]
        assert name.lower() in pins, name


def test_the_top_level_holds_only_what_belongs_there() -> None:
    folders = {path.parts[0] for path in _tracked() if len(path.parts) > 1}
    assert folders <= {
        "tuning", "pipeline", "serving", "infra", "tests", "mlflow", "docs", ".ci", ".github",
    }  # fmt: skip
