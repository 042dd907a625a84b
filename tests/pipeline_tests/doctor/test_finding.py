"""A check is run within its time, and whatever it raises is a finding."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from pipeline.doctor.finding import Check, Finding, examine, finding_of, is_wrong
from pipeline.errors import InputError


def test_what_was_found_before_a_crash_stays_and_the_crash_is_a_finding() -> None:
    def look() -> Iterator[Finding]:
        yield Finding("disk", "ok", "there")
        raise ZeroDivisionError("no\nroom")

    found, crash = examine(Check("disk", look))
    assert (found.status, found.finding, found.mend) == ("ok", "there", "")
    assert (crash.check, crash.status) == ("disk", "error")
    assert crash.finding == "the check failed: ZeroDivisionError: no room"
    assert "report" in crash.mend


def test_a_check_that_hangs_is_left_alone_after_its_time() -> None:
    release = threading.Event()

    def look() -> Iterator[Finding]:
        release.wait(60)
        yield Finding("disk", "ok", "late")

    begin = time.monotonic()
    [finding] = examine(Check("disk", look, limit_s=0.2))
    release.set()
    assert time.monotonic() - begin < 10
    assert (finding.status, finding.mend != "") == ("error", True)
    assert "gave no answer within 0 s" in finding.finding


def test_an_error_of_ours_becomes_a_finding_and_its_mend() -> None:
    error = InputError("No store at 's3://b. c/d': refused. Correct it, or name another. Or wait.")
    finding = finding_of("store", error)
    assert finding.finding == "No store at 's3://b. c/d': refused"
    assert finding.mend == "Correct it, or name another. Or wait"


def test_secrets_are_masked_in_findings_and_mends() -> None:
    uri = "postgresql://me:gr4pefruit@host/db"
    finding = Finding("MLflow", "error", f"cannot reach {uri}.", f"correct {uri}")
    assert "gr4pefruit" not in str(finding.to_json())
    assert finding.finding == "cannot reach postgresql://***@host/db"


@pytest.mark.parametrize(("status", "wrong"), [("ok", False), ("warning", False), ("error", True)])
def test_only_errors_are_wrong(status: str, wrong: bool) -> None:
    findings = [Finding("a", "ok", "well"), Finding("b", status, "so")]  # type: ignore[arg-type]
    assert is_wrong(findings) is wrong
