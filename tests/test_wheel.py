"""What an installed wheel needs: its data inside packages, and all that it imports declared."""

from __future__ import annotations

import ast
import fnmatch
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "tuning", "serving")
OWN = {*PACKAGES, "affectune"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IMPORTED_BY_OTHERS = {"scikit-learn"}
"""Optuna imports it, for the importance of settings, and does not declare it."""
USES_OF_FILE = {
    "tuning/mlflow_backend/registry/pyfunc_package.py",  # copies code, to be kept with a model
    "tuning/study/study.py",  # asks git for the commit of the code
    "tuning/ray_backend/node_report.py",  # hashes the code, which has to be the driver's
    "pipeline/doctor/versions.py",  # compares with the pins, where the code is a clone's
}
"""Modules that ask where code lies. Data is found by importlib.resources."""


def sources() -> list[Path]:
    """Return all modules that a wheel has."""
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [ROOT / "affectune.py", *sorted(modules)]


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the top-level packages that code imports, wherever it does so, without its own."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top not in OWN and top not in sys.stdlib_module_names:
                yield top


def imports_at_once(tree: ast.Module) -> Iterator[str]:
    """Yield the packages that a module imports when it is imported."""
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield from imports(statement)


def names_of(requirements: list[str]) -> set[str]:
    """Return the normalised names of requirements."""
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0] for requirement in requirements}
    return {normalised(name) for name in names}


def normalised(name: str) -> str:
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions_of(package: str) -> set[str]:
    """Return the distributions that bring a package; its own name where it is not installed."""
    return {normalised(name) for name in installed_packages().get(package, [package])}


@cache
def installed_packages() -> Mapping[str, list[str]]:
    """Return package -> the distributions that bring it; it takes a second to find out."""
    return metadata.packages_distributions()


def test_everything_that_is_imported_is_declared() -> None:
    declared = names_of(PROJECT["project"]["dependencies"])
    optional = PROJECT["project"]["optional-dependencies"]
    extras = {name for extra in optional if extra != "dev" for name in names_of(optional[extra])}
    undeclared = {}
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        needed_at_once = set(imports_at_once(tree))
        for package in imports(tree):
            known = declared if package in needed_at_once else declared | extras
            if not distributions_of(package) & known:
                undeclared[package] = str(path.relative_to(ROOT))
    assert undeclared == {}


def test_everything_that_is_declared_is_imported() -> None:
    used = {
        distribution
        for path in sources()
        for package in imports(ast.parse(path.read_text(encoding="utf-8")))
        for distribution in distributions_of(package)
    }
    assert names_of(PROJECT["project"]["dependencies"]) - used == IMPORTED_BY_OTHERS


def test_every_file_in_a_package_is_installed_with_it() -> None:
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, globs in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in globs
    ]
    files = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
    ]
    assert files
    left_out = [
        name
        for name in files
        if not any(
            fnmatch.fnmatch(name, pattern) and name.count("/") == pattern.count("/")
            for pattern in patterns
        )
    ]
    assert left_out == []


def test_no_module_looks_for_data_beside_its_code() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources()
        if any(
            (isinstance(node, ast.Name) and node.id == "__file__")
            or (isinstance(node, ast.Attribute) and node.attr == "__file__")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    assert users == USES_OF_FILE


def test_the_metadata_says_what_an_index_shows() -> None:
    project = PROJECT["project"]
    assert project["license"] == "Apache-2.0"  # SPDX
    assert all((ROOT / name).is_file() for name in project["license-files"])
    assert (ROOT / project["readme"]).is_file()
    assert project["keywords"]
    assert not [line for line in project["classifiers"] if line.startswith("License ::")]
    supported = [
        line for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)
    ]  # tried by .github/workflows/ci.yml
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert supported
    assert all(f'"{line.rpartition(" ")[2]}"' in workflow for line in supported)


@pytest.mark.parametrize("url", PROJECT["project"]["urls"].values())
def test_an_address_in_the_metadata_is_one_that_the_readme_gives(url: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert url.removeprefix("https://doi.org/") in readme
