"""Prints what a pyproject.toml requires, one per line.

Usage: python requirements.py PYPROJECT [EXTRA ...]
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Print the requirements of the project, and of some of its extras."""
    path, *extras = sys.argv[1:]
    project = tomllib.loads(Path(path).read_text(encoding="utf-8"))["project"]
    of_extras = [project["optional-dependencies"][extra] for extra in extras]
    print(*project["dependencies"], *(line for lines in of_extras for line in lines), sep="\n")


if __name__ == "__main__":
    main()
