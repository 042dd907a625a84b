"""What torch sees of a GPU, asked in another process: a driver that does not fit may hang it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.finding import Finding

CHECK = "CUDA"
DRIVER = Path("/proc/driver/nvidia/version")
ANSWER_S = 60.0
"""So long torch may take to be imported, and to compute something."""
LOOK = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch
    answer = {"built": torch.version.cuda, "devices": [], "error": ""}
    try:
        if torch.cuda.is_available():
            for number in range(torch.cuda.device_count()):
                device = torch.device("cuda", number)
                ones = torch.ones(2, 2, device=device)
                total = float((ones @ ones).sum())
                if total != 8:
                    raise RuntimeError(f"device {number} computes {total} in place of 8")
                answer["devices"].append(torch.cuda.get_device_name(number))
    except Exception as error:
        answer["error"] = str(error) or type(error).__name__
answer["warnings"] = [str(each.message) for each in caught if "CUDA" in str(each.message)]
print(json.dumps(answer))
"""
ADVICE = (
    "Install the driver that this torch wants, or a torch for your driver (pytorch.org says which)"
)
USE_CPU = "--device cpu does without"


def check_cuda(driver: Path = DRIVER) -> Iterator[Finding]:
    """Say which GPUs torch can compute on, and why it sees none where there is a driver."""
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-c", LOOK],
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"torch gave no answer within {ANSWER_S:.0f} s"
        yield Finding(CHECK, "error", said, f"{ADVICE}. {USE_CPU}")
        return
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        yield Finding(CHECK, "error", f"torch cannot be used: {lines[-1]}", "Install it anew")
        return
    yield cuda_finding(json.loads(ended.stdout.splitlines()[-1]), has_driver=driver.exists())


def cuda_finding(answer: dict[str, object], *, has_driver: bool) -> Finding:
    """Return what torch's answer says.

    Args:
        answer: "built" (the version of CUDA), "devices" (names), "error", "warnings".
        has_driver: whether the machine has NVIDIA's driver.
    """
    devices, built, warnings = answer["devices"], answer["built"], answer["warnings"]
    assert isinstance(devices, list)
    assert isinstance(warnings, list)
    if answer["error"]:
        said = f"torch fails to compute on the GPU: {answer['error']}"
        return Finding(CHECK, "error", said, f"{ADVICE}. {USE_CPU}")
    if devices:
        return Finding(CHECK, "ok", f"CUDA {built}: {', '.join(map(str, devices))}")
    if built and (warnings or has_driver):
        why = f": {warnings[0]}" if warnings else ""
        said = f"torch is built for CUDA {built}, and sees no GPU{why}"
        return Finding(CHECK, "error" if has_driver else "warning", said, f"{ADVICE}. {USE_CPU}")
    if has_driver:
        said = "this machine has NVIDIA's driver, and torch is built without CUDA"
        return Finding(CHECK, "warning", said, "Install torch for CUDA (pytorch.org says how)")
    return Finding(CHECK, "ok", "no GPU: everything runs on the CPU")
