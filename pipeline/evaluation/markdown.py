"""Names in Markdown: what a person wrote is shown as it is, never as a heading, link or cell."""

from __future__ import annotations

import re

# A bracket or an entity means something only before what makes it one, and an underscore between
# letters or digits is none of emphasis: what is harmless stays readable in the file, too.
_SPECIAL = re.compile(r"[\\`*<|~$]|\](?=[(\[:])|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|^[#>+=-]")
_LIST_NUMBER = re.compile(r"^(\d+)([.)])")


def literal(text: str) -> str:
    """Return a name, or a sentence with names, for running text, a heading or a cell of a table.

    Every character that would have a meaning there, in CommonMark or in GitHub's tables, gets a
    backslash; but "<" becomes "&lt;", since not every renderer knows a backslash before a tag.
    """
    return _LIST_NUMBER.sub(r"\1\\\2", _SPECIAL.sub(_escaped, text))


def code(name: str) -> str:
    """Return a name as code where it can be, else as `literal` does."""
    return literal(name) if re.search(r"[`|]", name) or name != name.strip() else f"`{name}`"


def _escaped(match: re.Match[str]) -> str:
    return "&lt;" if match[0] == "<" else f"\\{match[0]}"
