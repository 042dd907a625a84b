"""Which versions are installed, whether they fit, and whether they are imported. Imports none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata, util
from pathlib import Path
from platform import python_version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pipeline.doctor.finding import Finding

CHECK = "versions"
DISTRIBUTION = "affectune"
SHOWN = ("torch", "ray", "mlflow", "numpy", "optuna")
"""Those that are named where all is well, and that a folder of the same name must not hide."""
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
"""The versions that Affectune was tested with; it comes with a clone, and not with a wheel."""
INSTALL = "Install it anew: `make install` in a clone, else `pip install --upgrade affectune`"
PIN = "Install the tested versions: `pip install --constraint constraints.txt --editable .`"


def check_versions(constraints: Path = CONSTRAINTS) -> Iterator[Finding]:
    """Compare what is installed with what Affectune requires, and was tested with.

    Args:
        constraints: file with the tested versions; it need not be there.
    """
    try:
        own = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        said = "Affectune is not installed: its code alone is here, and nothing says what it needs"
        yield Finding(CHECK, "warning", said, INSTALL)
        return

    faults = [*_python_fault(own), *_faults(own)]
    for fault in faults:
        yield Finding(CHECK, "error", fault, INSTALL)
    if not faults:
        names = ", ".join(f"{name} {_version(name)}" for name in SHOWN)
        said = f"affectune {own.version}, Python {python_version()}, {names}"
        yield Finding(CHECK, "ok", said)
    if others := _untested(constraints):
        yield Finding(CHECK, "warning", f"not the tested versions: {', '.join(others)}", PIN)
    for name in SHOWN:
        yield from shadow_findings(name)


def shadow_findings(name: str) -> Iterator[Finding]:
    """Yield a finding where another folder or file is imported in the place of a library."""
    try:
        installed = Path(str(metadata.distribution(name).locate_file("")))
    except metadata.PackageNotFoundError:
        return  # told already

    spec = util.find_spec(name)
    origin = None if spec is None else spec.origin
    if origin is not None and Path(origin).resolve().is_relative_to(installed.resolve()):
        return
    place = origin or next(iter((spec.submodule_search_locations if spec else None) or []), "?")
    said = f"`import {name}` finds '{place}', which hides the library in '{installed}'"
    mend = "Rename that, or take its folder out of PYTHONPATH"
    yield Finding(CHECK, "error", said, mend)


def requirement_faults(requirements: Mapping[str, str], python: str) -> Iterator[str]:
    """Yield what is installed in a version that does not fit, or not at all.

    Args:
        requirements: name of a distribution -> the versions that fit, such as ">=2.13,<3".
        python: the version of Python, for messages.
    """
    for name, wanted in requirements.items():
        version = _version(name)
        if version is None:
            yield f"{name} is not installed for Python {python}; Affectune needs {wanted or 'it'}"
        elif not SpecifierSet(wanted).contains(version, prereleases=True):
            yield f"{name} is {version}, and Affectune needs {wanted}"


def _python_fault(own: metadata.Distribution) -> Iterator[str]:
    wanted = own.metadata["Requires-Python"] or ""
    if not SpecifierSet(wanted).contains(python_version(), prereleases=True):
        yield f"Python is {python_version()}, and Affectune needs {wanted}"


def _faults(own: metadata.Distribution) -> Iterator[str]:
    requirements = [Requirement(text) for text in own.requires or []]
    wanted = {
        each.name: str(each.specifier)
        for each in requirements
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }
    return requirement_faults(wanted, python_version())


def _untested(constraints: Path) -> list[str]:
    """Return which of the main libraries have another version than the tested one."""
    try:
        lines = constraints.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    pins = dict(line.split("==") for line in lines if line.count("==") == 1)
    others = []
    for name in SHOWN:
        version, pin = _version(name), pins.get(name, "").split(";")[0].strip()
        # What follows the public part says how it was built, such as +cpu.
        if version and pin and Version(version).public != Version(pin).public:
            others.append(f"{name} {version} (tested: {pin})")
    return others


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
