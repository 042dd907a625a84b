"""Why torch sees no GPU, or cannot compute on one, is told; a machine without any is well."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pipeline.doctor import cuda
from pipeline.doctor.cuda import check_cuda, cuda_finding

OLD = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."


@pytest.mark.parametrize(
    ("answer", "has_driver", "status", "said"),
    [
        ({}, False, "ok", "no GPU"),
        ({"built": "12.8"}, False, "ok", "no GPU"),
        ({"built": "12.8", "devices": ["H100"]}, True, "ok", "H100"),
        ({"built": "12.8", "warnings": [OLD]}, True, "error", "too old"),
        ({"built": "12.8"}, True, "error", "sees no GPU"),
        ({}, True, "warning", "built without CUDA"),
        ({"built": "12.8", "error": "no kernel image"}, True, "error", "no kernel image"),
    ],
)
def test_torch_is_held_against_the_driver(
    answer: dict[str, Any], has_driver: bool, status: str, said: str
) -> None:
    default: dict[str, Any] = {"built": None, "devices": [], "warnings": [], "error": ""}
    finding = cuda_finding(default | answer, has_driver=has_driver)
    assert finding.status == status
    assert said in finding.finding
    assert bool(finding.mend) == (status != "ok")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('libcudart.so.12: cannot open')", "libcudart.so.12: cannot open"),
        ("import os; os.abort()", "status -6"),
        ("import time; time.sleep(60)", "no answer within"),
    ],
)
def test_a_torch_that_fails_aborts_or_hangs_is_a_finding(
    code: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "LOOK", code)
    monkeypatch.setattr(cuda, "ANSWER_S", 1.0 if "sleep" in code else 60.0)
    [finding] = check_cuda()
    assert (finding.status, said in finding.finding) == ("error", True)


def test_the_question_is_code_that_compiles() -> None:
    code = f"compile({cuda.LOOK!r}, 'look', 'exec')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
