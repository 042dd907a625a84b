"""What a check found, and how a check is run: within its time, and never with a traceback."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.credentials.masking import masked
from pipeline.errors import AffectuneError

Status = Literal["ok", "warning", "error"]
LIMIT_S = 20.0
"""So long a check may take, unless it says otherwise."""
SENTENCE_END = re.compile(r"(?<=[.?!]) (?=[A-Z`'])")
MAX_FINDING = 600  # characters
SLOW = "What it asks is away, or very slow: mend that, and ask again"
CRASHED = "Please report it, with what `affectune --version` prints"


@dataclass(frozen=True)
class Finding:
    """One thing that was found; credentials in it are masked.

    Attributes:
        check: what was looked at, in a word or two.
        status: "error" where something will not work or is unsafe, "warning" where it may be.
        finding: what is there, without a full stop.
        mend: what to do about it, without a full stop; "" where it is well.
    """

    check: str
    status: Status
    finding: str
    mend: str = ""

    def __post_init__(self) -> None:
        for name in ("finding", "mend"):
            text = masked(" ".join(getattr(self, name).split()))
            object.__setattr__(self, name, text[:MAX_FINDING].rstrip("."))

    def to_json(self) -> dict[str, str]:
        """Return it as `affectune doctor --json` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """What is looked at.

    Attributes:
        name: in a word or two.
        look: looks, and yields what it finds.
        limit_s: so long it may take.
    """

    name: str
    look: Callable[[], Iterable[Finding]]
    limit_s: float = LIMIT_S


def examine(check: Check) -> list[Finding]:
    """Run a check; one that fails or takes too long is a finding, beside what it found before."""
    found: list[Finding] = []
    raised: list[Exception] = []

    def look() -> None:
        try:
            found.extend(check.look())
        except Exception as error:  # a check asks libraries, and services, that raise their own
            raised.append(error)

    # A daemon: what hangs in a system call must not keep the command from ending.
    thread = threading.Thread(target=look, name=check.name, daemon=True)
    thread.start()
    thread.join(check.limit_s)
    if thread.is_alive():
        said = f"gave no answer within {check.limit_s:.0f} s"
        return [*found, Finding(check.name, "error", said, SLOW)]
    return [*found, *(finding_of(check.name, error) for error in raised)]


def finding_of(check: str, error: Exception, *, status: Status = "error") -> Finding:
    """Return the finding that an error is: its first sentence, and the others as the mend."""
    if isinstance(error, AffectuneError):
        said, *advice = SENTENCE_END.split(str(error), maxsplit=1)
        return Finding(check, status, said, advice[0] if advice else "")
    return Finding(check, status, f"the check failed: {type(error).__name__}: {error}", CRASHED)


def is_wrong(findings: Sequence[Finding]) -> bool:
    """Return whether something is to be mended before work is begun."""
    return any(finding.status == "error" for finding in findings)
