"""The Python API as a whole: what an import does, what is documented, what is like a command."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import affectune
from pipeline.errors import AffectuneError, InputError
from tests.test_command_line import ALL, HEAVY

ROOT = Path(__file__).parent.parent
STUBS = ROOT / "infra/typing/affectune-stubs/__init__.pyi"
NOTEBOOK = ROOT / "docs/first_steps.ipynb"
COMMANDS = {
    "synthesize_corpus": "corpus synthesize",
    "train": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "run_study": "study run",
}
"""Function -> the command that does the same."""
SAME_DEFAULTS = {(), None}
"""A list that is empty, and an option that was not given."""
IMPORT = """
import json, logging, os, signal, sys
before = dict(os.environ), logging.getLogRecordFactory(), sys.excepthook, signal.getsignal(2)
import affectune
after = dict(os.environ), logging.getLogRecordFactory(), sys.excepthook, signal.getsignal(2)
print(json.dumps([before == after, sorted(name.partition(".")[0] for name in sys.modules)]))
"""
SCRIPT = """
import affectune

affectune.synthesize_corpus("corpus", subjects=6, minutes=0.25)
network = {"num_layers": 1, "hidden_size": 4}
stage = {"network": network, "fit": {"max_epochs": 1}}
model = affectune.train(
    "corpus",
    spec={"folds": 2, "auto_encoder": stage, "unimodal": stage, "fusion": stage},
    modalities=["voice"],
    targets=["arousal"],
    workers=2,
    on_progress=print,
)
print(affectune.evaluate(model, "corpus"))
"""
"""Without `if __name__ == "__main__"`, as people write scripts."""


def public(name: str) -> Any:
    """Return what has a public name."""
    return getattr(affectune, name)


def run_python(*arguments: str, cwd: Path) -> str:
    """Run Python in a folder; return standard output."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "HOME": str(cwd), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def test_an_import_loads_no_library_and_changes_nothing(tmp_path: Path) -> None:
    is_unchanged, modules = json.loads(run_python("-c", IMPORT, cwd=tmp_path))
    assert is_unchanged
    assert not set(modules) & {*HEAVY, "numpy", "pydantic", "typer", "rich", "pipeline"}


def test_every_public_name_can_be_imported_and_is_documented() -> None:
    assert set(affectune.__all__) <= set(dir(affectune))
    for name in affectune.__all__:
        thing = public(name)
        assert inspect.getdoc(thing), name
        members = vars(thing) if inspect.isclass(thing) else {}
        for member, value in members.items():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                assert inspect.getdoc(value), f"{name}.{member}"
    with pytest.raises(AttributeError, match="trian"):
        public("trian")


@pytest.mark.parametrize(
    "name", sorted(name for name in affectune.__all__ if inspect.isfunction(public(name)))
)
def test_every_argument_of_a_function_is_documented(name: str) -> None:
    documented = inspect.getdoc(public(name)) or ""
    for argument in inspect.signature(public(name)).parameters:
        assert f"\n    {argument}: " in documented, argument


def test_the_docstring_has_an_example_of_public_names_alone() -> None:
    lines = (affectune.__doc__ or "").splitlines()
    code = "\n".join(line[4:] for line in lines if line.startswith("    "))
    used = {
        node.attr
        for node in ast.walk(ast.parse(code.replace(", ...}", "}")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "affectune"
    }
    assert {"train", "evaluate", "predict", "load"} <= used <= set(affectune.__all__)


@pytest.mark.parametrize(("function", "command"), COMMANDS.items())
def test_the_defaults_are_those_of_the_command(function: str, command: str) -> None:
    options = {option.name: option.default for option in ALL[command].params}
    parameters = inspect.signature(public(function)).parameters
    shared = set(options) & set(parameters)
    assert len(shared) >= 3
    for name in shared - {"out", "corpus", "model", "study"}:
        default = parameters[name].default
        assert {default, options[name]} <= SAME_DEFAULTS or default == options[name], name


def test_the_stubs_have_the_same_names_and_each_package_says_that_it_is_typed() -> None:
    tree = ast.parse(STUBS.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    places = {alias.asname: node.module for node in imports for alias in node.names}
    assert set(places) == set(affectune.__all__)
    assert {name: public(name).__module__ for name in affectune.__all__} == places
    for package in ("pipeline", "tuning", "serving", STUBS.parent.relative_to(ROOT)):
        assert (ROOT / package / "py.typed").is_file()


def test_errors_are_those_of_the_program() -> None:
    assert affectune.AffectuneError is AffectuneError
    assert affectune.InputError is InputError
    assert issubclass(InputError, AffectuneError)


@pytest.mark.slow
def test_a_script_without_a_guard_trains_in_several_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    *steps, scores = run_python("script.py", cwd=tmp_path).splitlines()
    # Two folds of an auto-encoder, a regressor and two variants of a fusion, an epoch each.
    assert sum(line.endswith("done") or ", done, " in line for line in steps) == 8
    assert steps[-1].startswith("8 of 8 fits: ")
    assert scores.startswith("Scores(data='devel', fusion={'arousal': ")


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_is_kept_in_it(tmp_path: Path) -> None:
    kept = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    run_python("-m", "tests.notebook", str(NOTEBOOK), "out.ipynb", cwd=tmp_path)
    shown = json.loads((tmp_path / "out.ipynb").read_text(encoding="utf-8"))

    assert [kinds_of(cell) for cell in kept["cells"]] == [kinds_of(c) for c in shown["cells"]]
    assert [cell["source"] for cell in kept["cells"]] == [c["source"] for c in shown["cells"]]
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text.count('"image/png"') == 1
    assert not [place for place in ("/home/", "/tmp/", "/root/", str(ROOT)) if place in text]


def kinds_of(cell: Any) -> list[Any]:
    """Return what kinds of outputs a cell shows."""
    return [sorted(output.get("data", {"text": ""})) for output in cell.get("outputs", [])]
