"""How results are written in a console or a notebook: their facts in a line, never their arrays."""

from __future__ import annotations

from reprlib import Repr

MAX_LENGTH = 400
"""Characters of a whole line; a notebook shows some of them side by side."""

_repr = Repr()
_repr.maxtuple = _repr.maxlist = _repr.maxdict = 6
_repr.maxstring = _repr.maxother = 40


def short_repr(thing: object, **facts: object) -> str:
    """Return such as "Corpus(name='small', sessions=12)", however much a fact holds.

    Args:
        thing: whose class is named.
        facts: name -> value; of long texts and collections only the beginning is written.
    """
    parts = ", ".join(f"{name}={_repr.repr(value)}" for name, value in facts.items())
    line = f"{type(thing).__name__}({parts})"
    return line if len(line) <= MAX_LENGTH else f"{line[: MAX_LENGTH - 4]}...)"
