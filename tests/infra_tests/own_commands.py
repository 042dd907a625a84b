"""Our own commands as they stand in other files: parsed by our own command line, and not run."""

from __future__ import annotations

import shlex
from typing import Any

from affectune import command_line


def parse(words: str | list[str]) -> dict[str, Any]:
    """Return the values that a command line `affectune ...` gives its command, by their names.

    Raises:
        Exception: typer's, with what is wrong: no such command or option, a value that does not
            fit.
    """
    program, *rest = shlex.split(words) if isinstance(words, str) else words
    assert program == "affectune", f"{program} is another program"

    command, context = command_line(), None
    while hasattr(command, "commands"):
        context = command.make_context(program, rest, parent=context)
        typed = [*context._protected_args, *context.args]
        program, command, rest = command.resolve_command(context, typed)
    values: dict[str, Any] = command.make_context(program, rest, parent=context).params
    return values
