"""Measures how the code reads: `python -m tests.style [FOLDER ...]` prints what `make style` shows.

Layers are read from the import contracts in pyproject.toml; all else is counted in the syntax tree.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipeline", "tuning", "serving")
MAX_COLUMNS = 100
MAX_ENTRIES = 9
"""A folder with more entries is listed, for a person to ask whether it holds two ideas."""
NUM_LONGEST = 5
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Imports = Mapping[str, AbstractSet[str]]
"""For each module the modules that it imports."""


@dataclass(frozen=True)
class Module:
    """One file.

    Attributes:
        path: from the root of the repository.
        lines: without their ends.
        tree: its syntax.
    """

    path: Path
    lines: tuple[str, ...]
    tree: ast.Module

    @classmethod
    def read(cls, path: Path) -> Module:
        """Read and parse a file."""
        return cls.parse(path.read_text(encoding="utf-8"), path.relative_to(ROOT))

    @classmethod
    def parse(cls, text: str, path: Path) -> Module:
        """Parse the text of a file."""
        return cls(path, tuple(text.splitlines()), ast.parse(text))

    def functions(self) -> Iterator[Function]:
        """Yield every function and method, those inside functions included."""
        for node in ast.walk(self.tree):
            if isinstance(node, FUNCTIONS):
                yield node

    def outer_functions(self) -> Iterator[Function]:
        """Yield every function and method that is not inside another function."""
        return _outer_functions(self.tree)


@dataclass(frozen=True)
class Figure:
    """One measure.

    Attributes:
        name: what is measured.
        value: as text.
        bar: what it should be.
        places: where a person should look.
    """

    name: str
    value: str
    bar: str
    places: tuple[str, ...] = ()


def measure(folders: Sequence[str]) -> list[Figure]:
    """Measure the code in some folders; imports are measured over all packages."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    modules = [Module.read(path) for path in paths]
    graph = grimp.build_graph(*PACKAGES)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    return [
        import_cycles(imports),
        upward_imports(imports, settings["tool"]["importlinter"]["contracts"]),
        entries(ROOT, folders),
        blank_lines(modules, with_docstrings=True),
        blank_lines(modules, with_docstrings=False),
        nested_comprehensions(modules),
        long_lines(modules),
        longest_functions(modules),
        longest_classes(modules),
        without_docstring(modules),
    ]


def import_cycles(imports: Imports) -> Figure:
    """Look for modules that import each other, be it through others; one cycle is enough."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return Figure("import cycles", "1 or more", "0", (" -> ".join(error.args[1]),))
    return Figure("import cycles", "0", "0")


def upward_imports(imports: Imports, contracts: Sequence[Mapping[str, Any]]) -> Figure:
    """Count imports from a layer to one above it, or to another one of the same layer.

    Args:
        imports: of all packages.
        contracts: of import-linter; those that name containers and layers are read.
    """
    upward = set()
    for contract in contracts:
        for container in contract.get("containers", ()):
            depths = _depths(contract["layers"])
            for importer, imported in _pairs(imports):
                layer, other = _child(container, importer), _child(container, imported)
                are_two_layers = layer in depths and other in depths and layer != other
                if are_two_layers and depths[layer] >= depths[other]:
                    upward.add(f"{importer} imports {imported}")

    return Figure("upward imports", str(len(upward)), "0", tuple(sorted(upward)))


def _depths(layers: Sequence[str]) -> dict[str, int]:
    """Return how far each layer lies below the highest one."""
    return {name: depth for depth, names in enumerate(layers) for name in names.split(" | ")}


def _pairs(imports: Imports) -> Iterator[tuple[str, str]]:
    for importer, imported in imports.items():
        for name in imported:
            yield importer, name


def _child(container: str, module: str) -> str:
    """Return the part of a module's name that is a child of the container; empty outside of it."""
    head, _, rest = module.partition(f"{container}.")
    return "" if head else rest.split(".")[0]


def entries(root: Path, folders: Sequence[str]) -> Figure:
    """Count modules and folders in each folder with Python code; `__init__.py` does not count."""
    counts = {}
    paths = [path for folder in folders for path in (root / folder).rglob("*.py")]
    for folder in sorted({path.parent for path in paths}):
        modules_and_folders = [
            path
            for path in folder.iterdir()
            if (path.suffix == ".py" or path.is_dir())
            and path.stem not in ("__init__", "__pycache__")
        ]
        counts[folder.relative_to(root)] = len(modules_and_folders)

    mean = sum(counts.values()) / max(len(counts), 1)
    value = f"mean {mean:.1f}, most {max(counts.values(), default=0)}"
    larger = tuple(f"{path}: {count}" for path, count in counts.items() if count > MAX_ENTRIES)
    return Figure("entries per folder", value, f"about {MAX_ENTRIES}", larger)


def blank_lines(modules: Sequence[Module], *, with_docstrings: bool) -> Figure:
    """Count blank lines in function bodies, which begin with the first statement.

    A function inside another one is part of the other's body.
    """
    num_blank = num_lines = 0
    for module in modules:
        for function in module.outer_functions():
            has_docstring = ast.get_docstring(function) is not None
            body = function.body[1:] if has_docstring and not with_docstrings else function.body
            if body:
                lines = module.lines[body[0].lineno - 1 : function.end_lineno]
                num_blank += sum(not line.strip() for line in lines)
                num_lines += len(lines)

    value = f"{100 * num_blank / max(num_lines, 1):.1f}"
    name = "blank lines per 100 lines of function bodies"
    if with_docstrings:
        return Figure(f"{name}, docstrings counted", value, ">= 6")
    return Figure(f"{name}, without docstrings", value, "")


def nested_comprehensions(modules: Sequence[Module]) -> Figure:
    """Count comprehensions inside another one, per 100 functions."""
    places = []
    for module in modules:
        nested = {
            (inner.lineno, inner.col_offset)
            for outer in _comprehensions(module.tree)
            for inner in _comprehensions(outer)
            if inner is not outer
        }
        places += [f"{module.path}:{line}" for line, _ in sorted(nested)]

    num_functions = sum(len(list(module.functions())) for module in modules)
    value = f"{100 * len(places) / max(num_functions, 1):.1f}"
    return Figure("nested comprehensions per 100 functions", value, "<= 3", tuple(places))


def _comprehensions(
    tree: ast.AST,
) -> Iterator[ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp]:
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            yield node


def long_lines(modules: Sequence[Module]) -> Figure:
    """Count lines of more columns than fit."""
    places = []
    for module in modules:
        for number, line in enumerate(module.lines, start=1):
            if len(line) > MAX_COLUMNS:
                places.append(f"{module.path}:{number}")

    return Figure(f"lines over {MAX_COLUMNS} columns", str(len(places)), "0", tuple(places))


def longest_functions(modules: Sequence[Module]) -> Figure:
    """Find the longest functions and methods; decorators do not count."""
    return _longest(modules, FUNCTIONS, "longest function", "ask at 40")


def longest_classes(modules: Sequence[Module]) -> Figure:
    """Find the longest classes; decorators do not count."""
    return _longest(modules, (ast.ClassDef,), "longest class", "200")


def _longest(
    modules: Sequence[Module], kinds: tuple[type[ast.stmt], ...], name: str, bar: str
) -> Figure:
    sizes = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, kinds) and isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                sizes.append((size, f"{module.path}: {node.name}"))

    longest = sorted(sizes, reverse=True)[:NUM_LONGEST]
    value = f"{longest[0][0]} lines" if longest else "none"
    return Figure(name, value, bar, tuple(f"{size} {place}" for size, place in longest))


def without_docstring(modules: Sequence[Module]) -> Figure:
    """Count public classes, functions and methods without docstring.

    What lies in a private class or in a function is not public.
    """
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


def _outer_functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FUNCTIONS):
            yield node
        else:
            yield from _outer_functions(node)


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
