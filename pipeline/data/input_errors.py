"""Mistakes of one kind, told at once: a person wants the whole list, not one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import InputError

NUM_SHOWN = 4


def refuse(problems: Sequence[str], mend: str = "") -> None:
    """Raises when there is a problem.

    Args:
        problems: what is wrong and where: clauses without a full stop, or sentences where `mend` is empty.
        mend: a sentence that says what to do about all of them.

    Raises:
        InputError: `problems` is not empty; the first few are told in full, the rest are counted.
    """
    if not problems:
        return
    hidden = len(problems) - NUM_SHOWN
    if mend:
        more = f"; and {hidden} more" if hidden > 0 else ""
        raise InputError("; ".join(problems[:NUM_SHOWN]) + more + f". {mend}")
    more = f" And {hidden} more like these." if hidden > 0 else ""
    raise InputError(" ".join(problems[:NUM_SHOWN]) + more)


def listed(names: Sequence[str], num_shown: int = NUM_SHOWN) -> str:
    """`'a', 'b' and 3 more`."""
    hidden = len(names) - num_shown
    return ", ".join(repr(name) for name in names[:num_shown]) + (
        f" and {hidden} more" if hidden > 0 else ""
    )
