"""Our own commands as they stand in other files: parsed by our own command line, and not run."""

from __future__ import annotations

import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

from affectune import command_line

if TYPE_CHECKING:
    from pipeline.command_line import Command


@cache
def our_command_line() -> Command:
    """Return the command line; it takes a moment to make."""
    return command_line()


def parse(words: str | list[str]) -> dict[str, Any]:
    """Return the values that a command line `affectune ...` gives its command, by their names.

    Raises:
        Exception: typer's, with what is wrong: no such option, a value that does not fit.
        AssertionError: there is no such command.
    """
    program, *rest = shlex.split(words) if isinstance(words, str) else words
    assert program == "affectune", f"{program} is another program"

    command = our_command_line()
    while hasattr(command, "commands"):
        assert rest, f"{program} needs the name of a command"
        name, *rest = rest
        assert name in command.commands, f"there is no command {name}"
        program, command = f"{program} {name}", command.commands[name]
    values: dict[str, Any] = command.make_context(program, rest).params
    return values
