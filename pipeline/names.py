"""Names that people gave to folders, files and columns: which are taken, and how they are written.

A name is taken as it is, whatever a folder may be called, unless a part of the program could not
give it back whole. Then it is refused, before anything is trained.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MAX_FILE_NAME_BYTES = 255 - len(".csv")
"""What a file system takes, of a file `<name>.csv`."""
MAX_KEY = 115
"""Characters of a label in a key: the longest keys have two of them, and may have 250."""
RESERVED = (
    "fusion",
    "without difficulty",
    "mean",
    "weighted mean",
    "time alone",
    "stimulus alone",
    "timestamp",
    "segment_id",
)
"""What results call their own rows and columns, beside those with the name of a feature set."""

# Line ends and the like would break rows, log lines and headers; the marks of direction turn
# around what stands behind them; of names that differ in what nobody sees, one is not found; a
# surrogate is half of a character, and has no UTF-8. Joiners stay: Persian and emoji need them.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_JOINERS = re.compile("[\xad\u034f\u200c\u200d\ufe00-\ufe0f]")
_NOT_IN_KEYS = re.compile(r"[^\w.\- :]|_(?=x[0-9A-F]{2})")
_ESCAPED = re.compile(r"_x([0-9A-F]{2,6})_")


# C0 and C1, soft hyphen, marks and isolates of direction, separators of lines, joiners, fillers,
# variation selectors of Mongolian, annotations, tags; and surrogates, which have no UTF-8.
_UNSEEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
MAX_SHOWN = 200
_WORD = re.compile(f"[{_UNSEEN}]")
_LINES = re.compile(f"(?![\n\t])[{_UNSEEN}]")


def mistake_in_text(name: str) -> str | None:
    """Say what is wrong with a name that is shown and kept, but names no file.

    Returns:
        What the name does, such as "is empty"; None where nothing is wrong.
    """
    if not name:
        return "is empty"
    if match := _UNPRINTABLE.search(name):
        return f"has the character U+{ord(match[0]):04X}, which cannot be printed"
    return None


def mistake_in_file_name(name: str) -> str | None:
    """Say what is wrong with a name that also names a file or a folder, such as a session's.

    Returns:
        As `mistake_in_text`.
    """
    if mistake := mistake_in_text(name):
        return mistake
    if "/" in name:
        return "has a '/', so it would be a path into another folder"
    if name.startswith((".", "__")):
        return "begins with '.' or '__', as hidden files do, which are not read"
    if name != name.strip():
        return "begins or ends with a space, which tables and command lines take away"

    num_bytes = len(name.encode())
    if num_bytes > MAX_FILE_NAME_BYTES:
        return f"has {num_bytes} bytes; files may be called by at most {MAX_FILE_NAME_BYTES}"
    return None


def mistake_in_label(name: str) -> str | None:
    """Say what is wrong with the name of a feature set or a target, which is a part of keys.

    Returns:
        As `mistake_in_text`.
    """
    if mistake := mistake_in_file_name(name):
        return mistake
    if "," in name:
        return "has a comma, which stands between the names of a list (--modalities, studies)"
    if name in RESERVED:
        return f"is what results call something else ({', '.join(RESERVED)})"

    length = len(escape_key(name, also="."))
    if length > MAX_KEY:
        return f"has {length} characters where it is a key of MLflow, and at most {MAX_KEY} fit"
    return None


def mistake_in_version(version: str) -> str | None:
    """Say what is wrong with the number of a registered version, which also names a folder.

    Returns:
        As `mistake_in_text`.
    """
    is_number = re.fullmatch("[1-9][0-9]{0,17}", version)
    return None if is_number else "is no number of a version: those count from 1"


def twins(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of different names that many disks, databases and people take for the same.

    They differ only in case, in how Unicode writes an accent, or in characters that join others.
    """
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        other = first.setdefault(normal(normal(_JOINERS.sub("", name)).casefold()), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def normal(name: str) -> str:
    """Return how names are compared: with accents composed (NFC).

    Files that were on a Mac have them apart.
    """
    return unicodedata.normalize("NFC", name)


def escape_key(name: str, *, also: str = "") -> str:
    """Return a name in the characters that a key of MLflow may have.

    Letters and digits of any script, `_`, `-`, `.`, `:` and the space stay. Any other character
    becomes `_xHH_` with its number, as in OOXML: "a+b" becomes "a_x2B_b". What looks like that
    already begins with "_x5F_" afterwards, so that `unescape_key` gives every name back.

    Args:
        name: any text.
        also: further characters to escape, such as "." where a dot ends the name.
    """
    escaped = _NOT_IN_KEYS.sub(_number, name)
    for character in also:
        escaped = escaped.replace(character, f"_x{ord(character):X}_")
    return escaped


def unescape_key(key: str) -> str:
    """Return the name that `escape_key` wrote."""
    return _ESCAPED.sub(_character, key)


def printable_word(text: str) -> str:
    """Return a text in one line, in which every character is seen: "\\x1b" stands for an escape."""
    return _WORD.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """Return a text that may have lines and tabs, in which every other character is seen."""
    return _LINES.sub(_escaped, text)


def shorten(text: str) -> str:
    """Return a text that is not longer than a person reads in a line; the end of others is cut."""
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def _number(match: re.Match[str]) -> str:
    return f"_x{ord(match[0]):02X}_"


def _character(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    # No key that was written here has a number beyond Unicode.
    return chr(number) if number <= 0x10FFFF else match[0]


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
