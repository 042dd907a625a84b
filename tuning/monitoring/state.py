"""Whether a study runs, and if not, how its last run ended: from its journal, lock or head."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.credentials.masking import masked
from pipeline.shell_command import PROGRAM
from pipeline.storage.json_record import read_record
from tuning.journal.file import JOURNAL, is_open
from tuning.journal.history import History
from tuning.monitoring.status import format_duration
from tuning.publication.head import SILENT_S, Head

COMMAND = "command.json"
"""File in a study's folder: the command that ran it last, and in which folder."""
StateKind = Literal["running", "silent", "completed", "interrupted", "refused", "failed", "killed"]
SENTENCES: dict[StateKind, str] = {
    "running": "It is running.",
    "silent": "It is not running any more, or is cut off from its store: {reason} at {at}.",
    "completed": "It was completed at {at}.",
    "interrupted": "It was interrupted at {at}, by a signal or Ctrl-C.",
    "refused": "It was refused at {at}: {reason}",
    "failed": "It failed at {at}: {reason}",
    "killed": "It was killed after {at}, or its machine went down: it could not write why.",
}


@dataclass(frozen=True)
class StudyState:
    """How a study stands.

    Attributes:
        kind: whether it runs, or how its last run ended.
        at: when that was, in seconds since 1970; of a killed one, when it was heard of last.
        reason: in words, where one was written.
        resume: the command that goes on; None where there is nothing to go on with, or the command
            is not known.
    """

    kind: StateKind
    at: float
    reason: str = ""
    resume: str | None = None

    def __str__(self) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        sentence = SENTENCES[self.kind].format(at=at, reason=self.reason)
        if self.kind in ("running", "completed"):
            return sentence if self.resume is None else f"{sentence} To register it: {self.resume}"
        command = self.resume or "the command that ran it, with --resume"
        return f"{sentence} To go on: {command}"

    def to_json(self) -> dict[str, Any]:
        """Return the state's part of `study status --json`."""
        return {
            "state": self.kind,
            "state_at": self.at,
            "reason": self.reason or None,
            "resume": self.resume,
        }


def study_state(folder: Path, history: History) -> StudyState:
    """Return how a study stands.

    Args:
        folder: of the study.
        history: of the same, read before.
    """
    resume = _resume_command(folder)
    if is_open(folder / JOURNAL):
        return StudyState("running", history.last_at)
    return _state_at_end(history, resume)


def published_state(head: Head, history: History) -> StudyState:
    """Return how a published study stands: its driver says something every few seconds.

    Args:
        head: of the study.
        history: of the same, as it is published.
    """
    resume = head.command if _is_own_command(head.command) else None
    if not head.is_open:
        return _state_at_end(history, resume)
    if silence_s(head) <= SILENT_S:
        return StudyState("running", head.at)
    heard = f"its driver on {head.host} was heard of last {format_duration(silence_s(head))} ago,"
    return StudyState("silent", head.at, heard, resume)


def silence_s(head: Head) -> float:
    """Return how many seconds ago a driver said something, if its clock is right."""
    return max(0.0, time.time() - head.at)


def _state_at_end(history: History, resume: str | None) -> StudyState:
    """Return how the last run of a study ended, which does not run."""
    if history.finished is not None:
        needs = None if history.registered is not None else resume
        return StudyState("completed", history.finished.at, resume=needs)
    if history.stopped is None:
        return StudyState("killed", history.last_at, resume=resume)

    kind, _, reason = history.stopped.reason.partition(": ")
    if kind in ("interrupted", "KeyboardInterrupt"):
        return StudyState("interrupted", history.stopped.at, resume=resume)
    if kind == "refused":
        return StudyState("refused", history.stopped.at, reason, resume)
    return StudyState("failed", history.stopped.at, reason or kind, resume)


def _resume_command(folder: Path) -> str | None:
    record = read_record(folder / COMMAND) or {}
    command, place = record.get("command"), record.get("folder")
    if not isinstance(command, str) or not isinstance(place, str):
        return None
    command = masked(command)  # earlier versions wrote some credentials down
    if not _is_own_command(command):
        return None
    if Path(place) == Path.cwd():
        return command
    return f"cd {shlex.quote(place)} && {command}"


def _is_own_command(command: str) -> bool:
    """Return whether a command, which a person may paste, is this program's, and nothing more."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    program, commands = words[:1], words[1:3]
    if words[1:3] == ["-m", PROGRAM]:
        program, commands = [PROGRAM], words[3:5]
    # Joined again it is the same only where the shell reads nothing into it.
    return (
        [Path(word).name for word in program] == [PROGRAM]
        and commands == ["study", "run"]
        and shlex.join(words) == command
    )
