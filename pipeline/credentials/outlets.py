"""What a process says without being asked: logs, tracebacks, its arguments in the process list.

Each process that is this program's own, or runs its code for Ray, calls `mask_outlets` first.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.credentials.known import remember
from pipeline.credentials.masking import masked
from pipeline.credentials.patterns import replace_in_uri

ARGUMENTS = 45
"""Among the fields of /proc/<pid>/stat after the name: the address of the first argument."""


def mask_outlets() -> None:
    """Have every log record, traceback and warning of this process masked; done twice, as once."""
    if getattr(logging.getLogRecordFactory(), "is_masked", False):
        return

    logging.setLogRecordFactory(_record_factory())
    sys.excepthook = _print_exception
    threading.excepthook = _print_thread_exception
    show = warnings.formatwarning
    warnings.formatwarning = lambda *details, **more: masked(show(*details, **more))


def hide_arguments() -> None:
    """Hide the credentials among the arguments of this process, which everybody may list.

    They are remembered. A copy that this process forks has them hidden, too. Only Linux lets a
    process write there; elsewhere they stay.
    """
    for argument in sys.argv[1:]:
        remember(_value(argument))

    with contextlib.suppress(OSError, ValueError, IndexError):
        line = Path("/proc/self/cmdline").read_bytes()
        hidden = b"\0".join(map(_blotted, line.split(b"\0")))
        if hidden != line:
            fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
            with open("/proc/self/mem", "r+b", buffering=0) as memory:
                memory.seek(int(fields[ARGUMENTS]))
                memory.write(hidden)


def _record_factory() -> Callable[..., logging.LogRecord]:
    """Return what makes log records whose messages and tracebacks are masked."""
    make = logging.getLogRecordFactory()
    formatter = logging.Formatter()

    def make_masked(*details: Any, **more: Any) -> logging.LogRecord:
        record = make(*details, **more)
        record.msg, record.args = masked(_message(record)), None
        if record.exc_info:
            # A formatter uses the text that is there.
            record.exc_text = masked(formatter.formatException(record.exc_info))
        return record

    make_masked.is_masked = True  # type: ignore[attr-defined]
    return make_masked


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # of a library's wrong arguments; logging would print them as they are
        return str(record.msg)


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(masked(text), end="", file=sys.stderr)


def _print_thread_exception(details: threading.ExceptHookArgs) -> None:
    if details.exc_value is not None and details.exc_type is not SystemExit:
        _print_exception(details.exc_type, details.exc_value, details.exc_traceback)


def _value(argument: str) -> str:
    """Return the value of an option written with =; else the whole argument."""
    return argument.partition("=")[2] if argument.startswith("-") else argument


def _blotted(argument: bytes) -> bytes:
    """Return an argument with asterisks in place of every byte of a credential."""
    text = argument.decode(errors="surrogateescape")
    credentials: list[str] = []
    replace_in_uri(_value(text), lambda credential: credentials.append(credential) or "")  # type: ignore[func-returns-value]
    for credential in sorted(filter(None, credentials), key=len, reverse=True):
        raw = credential.encode(errors="surrogateescape")
        argument = argument.replace(raw, b"*" * len(raw))
    return argument
