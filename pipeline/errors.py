"""What can go wrong, in words for the person who can mend it."""


class AffectuneError(Exception):
    """It failed: the command line prints the message and exits with status 1."""


class InputError(AffectuneError):
    """What was given does not fit: the command line prints the message and exits with status 2."""
