"""Characters that a terminal obeys, that turn words around, or that nobody sees; and words without.

A word of somebody else could else delete lines, forge them, or look like another word.
"""

from __future__ import annotations

import re

# C0 and C1, soft hyphen, marks and isolates of direction, separators of lines, joiners, fillers,
# variation selectors of Mongolian, annotations, tags; and surrogates, which have no UTF-8.
_UNSEEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
MAX_SHOWN = 200
_WORD = re.compile(f"[{_UNSEEN}]")
_LINES = re.compile(f"(?![\n\t])[{_UNSEEN}]")


def printable_word(text: str) -> str:
    """Return a text in one line, in which every character is seen: "\\x1b" stands for an escape."""
    return _WORD.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """Return a text that may have lines and tabs, in which every other character is seen."""
    return _LINES.sub(_escaped, text)


def shorten(text: str) -> str:
    """Return a text that is not longer than a person reads in a line; the end of others is cut."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
