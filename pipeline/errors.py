"""The errors of the program. Their messages are written for the person who can mend the cause."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pipeline.credentials.masking import masked


class AffectuneError(Exception):
    """A failure. The command line prints the message and exits with status 1.

    The message quotes what users give and what libraries say, so credentials in it are masked.
    """

    def __init__(self, *details: object) -> None:
        super().__init__(*(masked(part) if isinstance(part, str) else part for part in details))


class InputError(AffectuneError):
    """Unusable input. The command line prints the message and exits with status 2."""


class SurroundingsError(AffectuneError):
    """A failure of what surrounds the work: a disk, a right, memory, a service.

    What was asked for is not to blame, and nothing is lost: after the mend the same command goes
    on. See `pipeline.storage.surroundings`, which says what counts as one.

    Args:
        message: for people; whole sentences, the mend among them.
        mend: what to do, without a full stop.
    """

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (str(self), self.mend)


LOOKS_FOR_MORE = "`affectune doctor` looks for more."
"""What is said after an error of a start: its cause is often one of several."""


@contextlib.contextmanager
def naming_doctor() -> Iterator[None]:
    """Let errors say who looks for more, where they are printed: of what a start needs."""
    try:
        yield
    except AffectuneError as error:
        if LOOKS_FOR_MORE not in getattr(error, "__notes__", ()):
            error.add_note(LOOKS_FOR_MORE)
        raise


def said(error: BaseException) -> str:
    """Return an error as it is printed: its message, and what was noted beside it."""
    return " ".join([str(error), *getattr(error, "__notes__", ())])


def _restored(message: str, mend: str) -> SurroundingsError:
    return SurroundingsError(message, mend=mend)


@contextlib.contextmanager
def only_masked_errors() -> Iterator[None]:
    """Raise every error with its message masked, and without the errors that it came from.

    Ray carries an error to another process, and writes to its logs, with all that it came from.

    Raises:
        AffectuneError: as it is.
        RuntimeError: in place of any other error.
    """
    try:
        yield
    except AffectuneError as error:
        error.__cause__ = None
        error.__suppress_context__ = True
        raise
    except Exception as error:
        raise RuntimeError(masked(f"{type(error).__name__}: {error}")) from None
