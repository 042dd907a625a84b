"""How all commands behave: help by -h, flags without a type, one line for a mistake, near names.

Knows no command: it finishes the tree that typer makes of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from importlib import metadata
from platform import python_version
from typing import Annotated, Any

import typer
from typer.main import get_command

from pipeline.credentials.masking import masked
from pipeline.names import printable_word

HELP_OPTIONS = ("-h", "--help")
LIBRARIES = ("torch", "ray", "mlflow")
"""Those whose versions `--version` prints, beside Python's."""
MAX_PLACES = 3
"""So many other commands are named that have an option, or a command of a name."""

Command = Any
"""Typer's commands, options and contexts have no public type that all its versions share."""


def finish(app: typer.Typer, order: Sequence[str], first_steps: str) -> Command:
    """Return the command of an application, with `--version` and its subcommands in an order.

    Args:
        app: with all its commands.
        order: names of its commands and groups, in the order of first use; others follow.
        first_steps: what it prints without a command.
    """
    app.callback(invoke_without_command=True)(_callback(first_steps))
    command: Command = get_command(app)
    command.context_settings["help_option_names"] = list(HELP_OPTIONS)
    command.commands = _sorted(command.commands, order)
    for every in (command, *(subcommand for _, subcommand in _commands(command))):
        _finish_parameters(every)
        _finish_help_option(every)
    return command


def run(command: Command, name: str, obj: object) -> int:
    """Run a command with the arguments of this process, and return the exit status.

    Args:
        command: as `finish` returned it.
        name: by which people call it.
        obj: for its context.

    Whatever a command raises passes through, but for usage errors: those are printed.
    """
    try:
        status = command.main(prog_name=name, obj=obj, standalone_mode=False)
    except typer.Abort:
        return 1
    except Exception as error:
        if not hasattr(error, "format_message"):  # then it is not typer's
            raise
        print_usage_error(command, name, error)
        return int(getattr(error, "exit_code", 2))
    return status if isinstance(status, int) else 0


def print_usage_error(command: Command, name: str, error: Any) -> None:
    """Print a usage error as one line: the cause, what may have been meant, where help is.

    Args:
        command: the root, to look for what may have been meant.
        name: by which people call it.
        error: typer's.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return

    option = getattr(error, "option_name", None)
    is_unknown_option = option is not None and str(error.message).startswith("No such option")
    # What is near is said below, for more of the mistakes.
    message = error.message if is_unknown_option else error.format_message()
    message = " ".join(message.replace("Value error, ", "").split()).rstrip(".")
    message += "" if message.endswith("?") else "."

    if is_unknown_option:
        message += _meant_option(command, name, str(option), error.ctx)
    elif message.startswith("No such command") and "Did you mean" not in message:
        message += _meant_command(command, name, message.split("'")[1])

    context = getattr(error, "ctx", None)
    path = context.command_path if context else " ".join([name, *_typed_path(command)])
    typer.secho("Error:", fg="red", err=True, nl=False)
    typer.echo(printable_word(f" {masked(message)} See `{path} --help`."), err=True)


def _callback(first_steps: str) -> Callable[..., None]:
    """Return what runs before every command."""

    def begin(
        context: typer.Context,
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                help="Print the versions of what runs, and exit.",
                is_eager=True,
                callback=_print_versions,
            ),
        ] = False,
    ) -> None:
        if context.invoked_subcommand is None:
            typer.echo(first_steps, nl=False)

    return begin


def _print_versions(is_asked: bool) -> None:
    """Print the versions of Affectune, Python and the libraries, and end; imports none of them."""
    if is_asked:
        libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        typer.echo(f"affectune {version('affectune')}\nPython {python_version()}, {libraries}")
        raise typer.Exit


def version(distribution: str) -> str:
    """Return the version of what is installed, "(not installed)" where it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _meant_option(root: Command, name: str, option: str, context: Any) -> str:
    """Return which option may have been meant, or which commands have it, with a space before."""
    places = [path for path, command in _commands(root) if option in _options(command)]
    arguments = [
        parameter.name
        for parameter in (context.command.params if context else ())
        if parameter.param_type_name == "argument"
    ]
    if option.lstrip("-") in arguments:
        argument = option.lstrip("-").upper()
        return f" It is written without a name: `{context.command_path} {argument}`."
    known = sorted(_options(context.command) | set(HELP_OPTIONS)) if context else []
    near = get_close_matches(option, known, n=2, cutoff=0.7)
    if near and not places:
        return f" Did you mean {' or '.join(near)}?"
    return f" It is an option of {_joined(name, places)}." if places else ""


def _meant_command(root: Command, name: str, typed: str) -> str:
    """Return which command of another group may have been meant, with a space before it."""
    names = {path: path.rpartition(" ")[2] for path, _ in _commands(root)}
    near = get_close_matches(typed, set(names.values()), cutoff=0.75)
    places = [path for path, last in names.items() if last in near]
    return f" Did you mean {_joined(name, places)}?" if places else ""


def _joined(name: str, paths: Sequence[str]) -> str:
    return " or ".join(f"`{name} {path}`" for path in paths[:MAX_PLACES])


def _typed_path(command: Command) -> Iterator[str]:
    """Yield the command that this process was asked for, word by word."""
    for word in sys.argv[1:]:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return
        yield word


def _commands(group: Command, path: str = "") -> Iterator[tuple[str, Command]]:
    """Yield every command below a group, with its path such as "study run"."""
    for name, command in getattr(group, "commands", {}).items():
        yield f"{path}{name}", command
        yield from _commands(command, f"{path}{name} ")


def _options(command: Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def _sorted(commands: dict[str, Command], order: Sequence[str]) -> dict[str, Command]:
    known = [name for name in order if name in commands]
    others = [name for name in commands if name not in known]
    return {name: commands[name] for name in (*known, *others)}


def _finish_parameters(command: Command) -> None:
    """Show no type for flags, whose value nobody writes, and arguments in capitals."""
    for parameter in command.params:
        if parameter.metavar is not None:
            continue
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.param_type_name == "argument":
            parameter.metavar = parameter.name.upper()


def _finish_help_option(command: Command) -> None:
    """Show no type for the option of help either: it is made when it is asked for."""
    get_help_option = command.get_help_option

    def get_finished(context: Any) -> Any:
        option = get_help_option(context)
        if option is not None:
            option.metavar = ""
        return option

    command.get_help_option = get_finished
