"""The layout of the repository: its folders, what they hold, and what tests may use."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "tuning", "serving")
FOLDERS = [
    "pipeline",
    "pipeline/api",
    "pipeline/credentials",
    "pipeline/data",
    "pipeline/data/checks",
    "pipeline/data/importing",
    "pipeline/data/importing/formats",
    "pipeline/data/importing/text_tables",
    "pipeline/data/records",
    "pipeline/data/synthetic",
    "pipeline/data/tables",
    "pipeline/data/timeline",
    "pipeline/display",
    "pipeline/distillation",
    "pipeline/doctor",
    "pipeline/evaluation",
    "pipeline/fitting",
    "pipeline/local_ray",
    "pipeline/metrics",
    "pipeline/model",
    "pipeline/networks",
    "pipeline/preprocessing",
    "pipeline/stages",
    "pipeline/storage",
    "pipeline/storage/remote",
    "serving",
    "serving/models",
    "serving/monitoring",
    "serving/page",
    "serving/proxy",
    "serving/requests",
    "tuning",
    "tuning/api",
    "tuning/audit",
    "tuning/cli",
    "tuning/doctor",
    "tuning/fitting",
    "tuning/garbage",
    "tuning/journal",
    "tuning/mlflow_backend",
    "tuning/mlflow_backend/registry",
    "tuning/mlflow_backend/tracking",
    "tuning/monitoring",
    "tuning/planning",
    "tuning/planning/sampling",
    "tuning/publication",
    "tuning/ray_backend",
    "tuning/report",
    "tuning/report/charts",
    "tuning/spec",
    "tuning/study",
]
"""Every folder with Python code: a new one is a decision, and a line in ARCHITECTURE.md."""
MAX_MODULES = 14
PRIVATE_USES = {
    "tests/pipeline_tests/data/test_synthetic.py": {"_ulm_tsst_plans"},
}
"""Private names that tests still use, by file. The list may only become shorter."""


def _tracked() -> list[Path]:
    """Files of the project: those git tracks, or, without git, those that are there."""
    try:
        output = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return [
            path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*")
        ]
    return [Path(name) for name in output.splitlines()]


def _python_files(*folders: str) -> list[str]:
    """Paths from the root of all Python files below some folders."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def _text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_no_python_file_lies_in_the_mlflow_folder() -> None:
    assert list((ROOT / "mlflow").rglob("*.py")) == []


def test_import_mlflow_gives_the_library() -> None:
    assert mlflow.__file__ is not None
    assert not Path(mlflow.__file__).is_relative_to(ROOT / "mlflow")
    assert mlflow.__version__


def test_packages_are_explicit_so_that_mlflow_is_never_installed_from_here() -> None:
    settings = tomllib.loads(_text("pyproject.toml"))
    find = settings["tool"]["setuptools"]["packages"]["find"]
    assert find["namespaces"] is False
    assert all(not pattern.startswith(("mlflow", "*")) for pattern in find["include"])


def test_the_top_level_holds_only_what_belongs_there() -> None:
    folders = {path.parts[0] for path in _tracked() if len(path.parts) > 1}
    assert folders <= {*PACKAGES, "infra", "tests", "mlflow", "docs", ".ci", ".github"}


def test_the_packages_have_the_folders_that_are_listed_here() -> None:
    folders = {str(Path(path).parent) for path in _python_files(*PACKAGES)}
    assert sorted(folders) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_in_one_line_what_it_is(folder: str) -> None:
    text = _text(f"{folder}/__init__.py")
    [statement] = ast.parse(text).body
    assert text.startswith('"""')
    assert isinstance(statement, ast.Expr)
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_holds_few_modules(folder: str) -> None:
    modules = [path for path in (ROOT / folder).glob("*.py") if path.stem != "__init__"]
    assert len(modules) <= MAX_MODULES


def test_every_module_says_what_it_is() -> None:
    paths = _python_files(*PACKAGES)
    assert [path for path in paths if not _text(path).startswith('"""')] == []


def test_architecture_names_every_module() -> None:
    architecture = _text("ARCHITECTURE.md")
    modules = [path for path in _python_files(*PACKAGES) if Path(path).stem != "__init__"]
    assert modules
    assert [path for path in modules if f"`{path}`" not in architecture] == []


def test_every_decision_is_in_the_index_and_the_architecture() -> None:
    index, architecture = _text("docs/decisions/README.md"), _text("ARCHITECTURE.md")
    names = [path.name for path in (ROOT / "docs/decisions").glob("20*.md")]
    assert names
    assert [name for name in names if f"({name})" not in index] == []
    assert [name for name in names if f"(docs/decisions/{name})" not in architecture] == []


def test_every_dependency_is_pinned_and_says_why_it_is_there() -> None:
    lines = _text("pyproject.toml").splitlines()
    start = lines.index("dependencies = [")
    dependencies = lines[start + 1 : lines.index("]", start)]
    pins = {line.split("==")[0].lower() for line in _text("constraints.txt").splitlines()}

    for line in dependencies:
        assert "#" in line, line
        name = line.strip().strip('"').split(">=")[0].split("==")[0].split("[")[0]
        assert name.lower() in pins, name


def test_tests_do_not_depend_on_benchmarks() -> None:
    importers = [
        path
        for path in _python_files("tests")
        if not path.startswith("tests/benchmarks/")
        and any(name.startswith("tests.benchmarks") for name in _imported(ast.parse(_text(path))))
    ]
    assert importers == []


def test_tests_use_no_private_names() -> None:
    for path in _python_files("tests"):
        names = set(_private_names(ast.parse(_text(path))))
        assert names <= PRIVATE_USES.get(path, set()), path


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("journal._file.close()", {"_file"}),
        ("fit(self.store._root).seed", {"_root"}),
        ("from pipeline.fitting.worker_pool import WorkerPool, _share", {"_share"}),
        ("from serving._codes import BUSY", {"_codes"}),
        ("import tuning._clock", {"_clock"}),
        ("self._port, cls._number, model.__class__, _helper()", set()),
        ("from tempfile import _get_candidate_names", set()),
    ],
)
def test_a_private_name_is_one_of_another_object_or_module(code: str, names: set[str]) -> None:
    assert set(_private_names(ast.parse(code))) == names


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the full name of everything that a module imports, wherever it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _private_names(tree: ast.Module) -> Iterator[str]:
    """Yield private attributes of other objects than self and cls, and private imports from us."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not is_own:
                yield node.attr

    for name in _imported(tree):
        package, *rest = name.split(".")
        if package in (*PACKAGES, "affectune", "tests"):
            yield from filter(_is_private, rest)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
