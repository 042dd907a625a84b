"""Versions that do not fit, are not installed, not tested, or hidden by a folder are told."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import pytest

from pipeline.doctor.versions import check_versions, requirement_faults, shadow_findings

NUMPY = metadata.version("numpy")


@pytest.mark.parametrize(
    ("name", "wanted", "fault"),
    [
        ("numpy", ">=1", ""),
        ("numpy", "<1", f"numpy is {NUMPY}, and Affectune needs <1"),
        ("no-such-library", ">=2", "no-such-library is not installed for Python 3.11"),
    ],
)
def test_a_version_is_held_against_what_is_wanted(name: str, wanted: str, fault: str) -> None:
    faults = [*requirement_faults({name: wanted}, "3.11")]
    assert len(faults) == bool(fault)
    assert "".join(faults).startswith(fault)


def test_this_environment_has_what_affectune_needs(tmp_path: Path) -> None:
    [finding] = check_versions(tmp_path / "nowhere")
    assert finding.status == "ok"
    assert f"numpy {NUMPY}" in finding.finding


def test_another_than_the_tested_version_is_doubtful(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    torch = metadata.version("torch").split("+")[0]
    constraints.write_text(f"# pinned\nnumpy==1.0.1\ntorch=={torch}\n")
    _, finding = check_versions(constraints)
    assert (finding.status, "numpy" in finding.finding) == ("warning", True)
    assert "torch" not in finding.finding  # +cpu says how it was built


@pytest.mark.parametrize("is_package", [True, False])
def test_a_folder_that_hides_a_library_is_wrong(
    is_package: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    if is_package:
        (folder / "__init__.py").touch()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    if is_package:
        monkeypatch.syspath_prepend(tmp_path)
    else:  # it hides nothing while the library is found
        found = metadata.distribution("numpy")
        monkeypatch.setattr(metadata, "distribution", lambda name: found)
        monkeypatch.setattr("sys.path", [str(tmp_path)])

    [finding] = shadow_findings("mlflow")
    assert finding.status == "error"
    assert str(folder) in finding.finding
    assert "PYTHONPATH" in finding.mend


def test_no_library_is_hidden_here() -> None:
    assert [*shadow_findings("numpy")] == []
