"""`make audit`: licences of what is installed, and published advisories on the pinned versions.

Usage: python infra/audit.py. Ends with status 1 where a licence is unknown or an advisory names a
pinned version, and with 3 where the advisories could not be asked for: that is no "nothing known".
Whether the service answers is told by a version that is known to be unsafe: it must name that one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import licences

CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"
UNSAFE = "pyyaml==5.3"
"""CVE-2020-1747 and others."""
SERVICES = ("pypi", "osv")
TIMEOUT_S = 600
BAD, NOT_ASKED = 1, 3
INSTALL = "python -m pip install --constraint constraints.txt '.[dev]'"


@dataclass(frozen=True)
class Advisory:
    """One published advisory on one version.

    Attributes:
        package: name==version.
        name: such as CVE-2020-1747.
        mended_in: versions without it; none where there is none yet.
    """

    package: str
    name: str
    mended_in: list[str]

    def __str__(self) -> str:
        mend = f"mended in {', '.join(self.mended_in)}" if self.mended_in else "not mended yet"
        return f"{self.package}: {self.name}, {mend}."


def main() -> int:
    """Print what was found; return the exit status."""
    status = BAD if licences.main() else 0
    if find_spec("pip_audit") is None:
        print(f"Advisories were not asked for: pip-audit is not installed. {INSTALL}")
        return status or NOT_ASKED

    for service in SERVICES:
        if not _names_the_unsafe_version(service):
            continue
        advisories, reason = _advisories(service, CONSTRAINTS.read_text(encoding="utf-8"))
        if advisories is None:
            print(f"The service {service} answers, and pip-audit did not end well. {reason}")
            continue
        for advisory in advisories:
            print(advisory)
        print(f"Advisories on the pinned versions, by the service {service}: {len(advisories)}.")
        return BAD if advisories else status

    print(
        f"Advisories were NOT asked for: no service ({', '.join(SERVICES)}) could be reached that "
        "knows of any. Whether the pinned versions are safe is not known. Try again where "
        "pypi.org or api.osv.dev is reached."
    )
    return status or NOT_ASKED


def _names_the_unsafe_version(service: str) -> bool:
    advisories, _ = _advisories(service, UNSAFE)
    return bool(advisories)


def _advisories(service: str, pins: str) -> tuple[list[Advisory] | None, str]:
    """Ask a service about pinned versions.

    Returns:
        What it knows; None, with the reason, where one version could not be asked for.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "asked.txt", Path(folder) / "answered.json"
        asked.write_text(pins, encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pip_audit", "--strict", "--requirement", str(asked)),
            *("--no-deps", "--disable-pip", "--vulnerability-service", service),
            *("--format", "json", "--output", str(answered), "--progress-spinner", "off"),
        ]
        try:
            process = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return None, f"There was no answer within {TIMEOUT_S} s."
        # It ends with 1 both where something is known and where it could not ask.
        if not answered.exists():
            return None, (process.stderr.strip().splitlines() or [""])[-1]
        return _read(answered.read_text(encoding="utf-8")), ""


def _read(text: str) -> list[Advisory]:
    """Read pip-audit's answer."""
    return [
        Advisory(f"{package['name']}=={package['version']}", known["id"], known["fix_versions"])
        for package in json.loads(text)["dependencies"]
        for known in package["vulns"]
    ]


if __name__ == "__main__":
    sys.exit(main())
