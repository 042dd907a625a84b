"""The errors of the program. Their messages are written for the person who can mend the cause."""


class AffectuneError(Exception):
    """A failure. The command line prints the message and exits with status 1."""


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


def _restored(message: str, mend: str) -> SurroundingsError:
    return SurroundingsError(message, mend=mend)
