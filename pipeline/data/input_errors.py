"""One error for all mistakes of one kind, so that a person can mend them together."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import InputError

NUM_QUOTED = 4
"""The number of mistakes, and of names in a list, that a message has in full."""
MAX_QUOTED_CHARS = 80
"""What is quoted of a cell, a line or a name that may be as long as its file."""


def raise_if_any(mistakes: Sequence[str], advice: str = "") -> None:
    """Raise an error that tells all mistakes.

    Args:
        mistakes: what is wrong and where: clauses without a full stop, or sentences where `advice`
            is empty.
        advice: a sentence that tells how to mend all of them.

    Raises:
        InputError: there are mistakes. The first few are in the message, the others are counted.
    """
    if not mistakes:
        return

    quoted, num_hidden = mistakes[:NUM_QUOTED], len(mistakes) - NUM_QUOTED
    if advice:
        more = f"; and {num_hidden} more" if num_hidden > 0 else ""
        raise InputError(f"{'; '.join(quoted)}{more}. {advice}")

    more = f" And {num_hidden} more like these." if num_hidden > 0 else ""
    raise InputError(f"{' '.join(quoted)}{more}")


def quoted_list(names: Sequence[str], limit: int = NUM_QUOTED) -> str:
    """Return `'a', 'b', 'c', 'd' and 3 more`; long names are shortened."""
    quoted = ", ".join(repr(shortened(name)) for name in names[:limit])
    num_hidden = len(names) - limit
    return f"{quoted} and {num_hidden} more" if num_hidden > 0 else quoted


def shortened(text: str) -> str:
    """Return a text that fits into a message: its start and `...` where it is longer."""
    return text if len(text) <= MAX_QUOTED_CHARS else f"{text[: MAX_QUOTED_CHARS - 3]}..."
