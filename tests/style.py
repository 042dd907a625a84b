"""Measures how the code reads: `python -m tests.style [FOLDER ...]` prints the figures that `make style` shows.

Imports are judged by the contracts in pyproject.toml; everything else is counted in the syntax tree.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "tuning", "serving")
MAX_COLUMNS = 100
MAX_ENTRIES = 9
"""More entries in a folder than this are listed, for a person to ask whether it holds two ideas."""
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file: its path from the root, its lines and its syntax tree."""

    path: Path
    lines: tuple[str, ...]
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> Module:
        """Read and parse a file."""
        text = path.read_text(encoding="utf-8")
        return cls(path.relative_to(ROOT), tuple(text.splitlines()), ast.parse(text))

    def functions(self) -> Iterator[Function]:
        """Yield every function and method, those inside functions included."""
        for node in ast.walk(self.tree):
            if isinstance(node, FUNCTIONS):
                yield node


@dataclass(frozen=True)
class Figure:
    """One measure: what it is, its value, the bar, and the places that a person should look at."""

    name: str
    value: str
    bar: str
    places: tuple[str, ...] = ()


def measure(folders: Sequence[str]) -> list[Figure]:
    """Measure the code in some folders; imports are measured over all packages."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    modules = [Module.read(path) for path in paths]

    return [
        _cycles(),
        _upward_imports(),
        _entries(folders),
        _blank_lines(modules, with_docstrings=True),
        _blank_lines(modules, with_docstrings=False),
        _nested_comprehensions(modules),
        _long_lines(modules),
        _longest(modules, FUNCTIONS, "longest function"),
        _longest(modules, (ast.ClassDef,), "longest class"),
        _without_docstring(modules),
    ]


def _cycles() -> Figure:
    graph = grimp.build_graph(*PACKAGES)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}

    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return Figure("import cycles", "1 or more", "0", (" -> ".join(error.args[1]),))
    return Figure("import cycles", "0", "0")


def _upward_imports() -> Figure:
    """Imports from a layer to one above it, or to another of the same layer."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    graph = grimp.build_graph(*PACKAGES)
    upward = []

    for contract in settings["tool"]["importlinter"]["contracts"]:
        for container in contract.get("containers", ()):
            layers = [layer.split(" | ") for layer in contract["layers"]]
            level = {name: depth for depth, names in enumerate(layers) for name in names}
            for importer in graph.modules:
                for imported in graph.find_modules_directly_imported_by(importer):
                    above, below = _child(container, importer), _child(container, imported)
                    if above and below and above != below and level[above] >= level[below]:
                        upward.append(f"{importer} imports {imported}")

    return Figure("upward imports", str(len(upward)), "0", tuple(sorted(upward)))


def _child(container: str, module: str) -> str | None:
    """The part of a module's name that is a child of the container; None outside of it."""
    head, _, rest = module.partition(f"{container}.")
    return rest.split(".")[0] if not head and rest else None


def _entries(folders: Sequence[str]) -> Figure:
    """Modules and folders in each folder; `__init__.py` is not counted."""
    counts = {}
    for folder in sorted({path.parent for name in folders for path in (ROOT / name).rglob("*.py")}):
        entries = [path for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()]
        named = [path for path in entries if path.stem not in ("__init__", "__pycache__")]
        counts[str(folder.relative_to(ROOT))] = len(named)

    larger = tuple(f"{name}: {count}" for name, count in counts.items() if count > MAX_ENTRIES)
    mean = sum(counts.values()) / max(len(counts), 1)
    value = f"mean {mean:.1f}, most {max(counts.values(), default=0)}"
    return Figure("entries per folder", value, f"about {MAX_ENTRIES}", larger)


def _blank_lines(modules: Sequence[Module], *, with_docstrings: bool) -> Figure:
    blank = total = 0
    for module in modules:
        for function in module.functions():
            body = function.body
            if not with_docstrings and ast.get_docstring(function) is not None:
                body = body[1:]
            if not body:
                continue
            lines = module.lines[body[0].lineno - 1 : function.end_lineno]
            blank += sum(not line.strip() for line in lines)
            total += len(lines)

    name = "blank lines per 100 lines of function bodies"
    if with_docstrings:
        return Figure(f"{name}, docstrings counted", f"{100 * blank / max(total, 1):.1f}", ">= 6")
    return Figure(f"{name}, without docstrings", f"{100 * blank / max(total, 1):.1f}", "")


def _nested_comprehensions(modules: Sequence[Module]) -> Figure:
    """Comprehensions inside another one, per 100 functions."""
    places = []
    functions = 0
    for module in modules:
        functions += sum(1 for _ in module.functions())
        nested: set[ast.AST] = set()
        for outer in ast.walk(module.tree):
            if isinstance(outer, COMPREHENSIONS):
                nested |= {
                    inner
                    for inner in ast.walk(outer)
                    if inner is not outer and isinstance(inner, COMPREHENSIONS)
                }
        places += [f"{module.path}:{getattr(node, 'lineno', 0)}" for node in nested]

    value = f"{100 * len(places) / max(functions, 1):.1f}"
    return Figure("nested comprehensions per 100 functions", value, "<= 3", tuple(sorted(places)))


def _long_lines(modules: Sequence[Module]) -> Figure:
    places = tuple(
        f"{module.path}:{number}"
        for module in modules
        for number, line in enumerate(module.lines, start=1)
        if len(line) > MAX_COLUMNS
    )
    return Figure(f"lines over {MAX_COLUMNS} columns", str(len(places)), "0", places)


def _longest(modules: Sequence[Module], kinds: tuple[type[ast.AST], ...], name: str) -> Figure:
    """The longest definition, without its decorators."""
    sizes = [
        (node.end_lineno - node.lineno + 1, f"{module.path}: {node.name}")
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and isinstance(node, kinds)
        if node.end_lineno is not None
    ]
    longest = sorted(sizes, reverse=True)[:5]
    bar = "ask at 40" if kinds == FUNCTIONS else "200"
    value = f"{longest[0][0]} lines" if longest else "none"
    return Figure(name, value, bar, tuple(f"{size} {place}" for size, place in longest))


def _without_docstring(modules: Sequence[Module]) -> Figure:
    """Public classes, functions and methods; what lies in a private class or a function is not public."""
    places = [
        f"{module.path}:{node.lineno} {node.name}"
        for module in modules
        for node in _public(module.tree)
        if ast.get_docstring(node) is None
    ]
    return Figure("public names without docstring", str(len(places)), "0", tuple(places))


def _public(tree: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


def main(arguments: Sequence[str]) -> None:
    """Print the figures, and with --places where the code departs from them."""
    folders = [argument for argument in arguments if argument != "--places"] or list(PACKAGES)
    figures = measure(folders)
    console = Console()

    table = Table(title=f"How {', '.join(folders)} read", title_justify="left")
    for heading in ("measure", "value", "bar"):
        table.add_column(heading)
    for figure in figures:
        table.add_row(figure.name, figure.value, figure.bar)
    console.print(table)

    if "--places" in arguments:
        for figure in figures:
            for place in figure.places:
                console.print(f"{figure.name}: {place}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main(sys.argv[1:])
