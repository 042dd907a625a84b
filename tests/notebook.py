"""Runs the cells of a notebook and keeps their outputs: `python -m tests.notebook FILE [OUT]`.

It shows what Jupyter would show: standard output, and the value of a cell's last expression as a
picture, a table or text. It stands for Jupyter, which nothing else here needs.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
Output = dict[str, Any]

TEXT, HTML, PNG = "text/plain", "text/html", "image/png"


async def run_cells(cells: list[Cell]) -> None:
    """Run the code cells of a notebook in order, and put what they show in the place of outputs.

    Like in Jupyter an event loop is running meanwhile.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    number = 0
    for cell in cells:
        if cell["cell_type"] == "code":
            number += 1
            cell["execution_count"] = number
            cell["outputs"] = _run_cell("".join(cell["source"]), names, number)


def _run_cell(source: str, names: dict[str, Any], number: int) -> list[Output]:
    """Run one cell; return its outputs."""
    tree, last = ast.parse(source), None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined] # of an Expr

    value = None
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        exec(compile(tree, f"cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(last, f"cell {number}", "eval"), names)

    outputs: list[Output] = []
    if text := stdout.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(text)})
    if value is not None:
        result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
        outputs.append({**result, "data": _shown(value)})
    return outputs


def _shown(value: object) -> dict[str, Any]:
    """Return a value as Jupyter shows it, by the methods that IPython asks for."""
    shown: dict[str, Any] = {}
    if as_png := getattr(value, "_repr_png_", None):
        shown[PNG] = base64.b64encode(as_png()).decode()
    elif as_html := getattr(value, "_repr_html_", None):
        shown[HTML] = _lines(as_html())
    return {**shown, TEXT: _lines(repr(value))}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(path: Path, out: Path) -> None:
    """Run a notebook from the current folder, and write it with its outputs."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    asyncio.run(run_cells(notebook["cells"]))
    out.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[-1]))
