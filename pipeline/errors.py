"""The errors of the program. Their messages are written for the person who can mend the cause."""


class AffectuneError(Exception):
    """A failure. The command line prints the message and exits with status 1."""


class InputError(AffectuneError):
    """Unusable input. The command line prints the message and exits with status 2."""
