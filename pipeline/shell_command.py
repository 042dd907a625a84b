"""Commands as a person can paste them into a shell: quoted, complete, with the right program."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.credentials.known import MASK
from pipeline.credentials.masking import masked_uri
from pipeline.environment import DEFAULT_TRACKING_URI
from pipeline.errors import InputError

PROGRAM = "affectune"


def shell_command(*words: object, tracking_uri: str | None = None) -> str:
    """Return a command of this program.

    Args:
        words: its commands, arguments and options.
        tracking_uri: of the registry that it is about; it is named where it is not the default. One
            with a password is left out: the environment has it, or has to get it.
    """
    options = []
    if tracking_uri and tracking_uri != DEFAULT_TRACKING_URI:
        has_secret = masked_uri(tracking_uri) != tracking_uri
        options = [] if has_secret else ["--tracking-uri", tracking_uri]
    return shlex.join([*_program(), *map(str, words), *options])


def same_command(arguments: Sequence[str], *, resume: bool = False) -> str:
    """Return the command of this process, without passwords; with or without --resume."""
    given = [_masked(argument) for argument in arguments if argument != "--resume"]
    return shell_command(*given, *(["--resume"] if resume else []))


def raise_if_masked(uri: str, option: str) -> None:
    """Refuse a URI that was copied from what this program printed, and has lost its credentials.

    Args:
        uri: as it was given.
        option: by which it was given, for the error.

    Raises:
        InputError: three asterisks stand where it has to have credentials.
    """
    if f"://{MASK}@" in uri or f"={MASK}" in uri:
        raise InputError(
            f"{option} '{uri}' has {MASK} where a user and a password, or a key, belong: they are "
            "never printed, and not kept. Put them in again."
        )


def how_to_promote(
    name: str, versions: Sequence[str], others: Sequence[str], tracking_uri: str | None
) -> str:
    """Return how a model gets a champion that it has not, as a sentence with a command.

    Args:
        name: of the model; it need not be registered.
        versions: those that it has, the newest last.
        others: the names of all registered models.
        tracking_uri: of the registry; None: it is not to be told.
    """
    if versions:
        promote = shell_command(
            "registry", "promote", name, versions[-1], tracking_uri=tracking_uri
        )
        which = (
            f"version {versions[0]}" if len(versions) == 1 else f"versions {', '.join(versions)}"
        )
        return f"There is {which} of '{name}'; this makes it the champion: {promote}"

    known = [repr(other) for other in others if other != name]
    if known:
        registered = shell_command("registry", "list", tracking_uri=tracking_uri)
        return f"There is no version of '{name}', but there is {', '.join(known)}: {registered}"
    study = shell_command("study", "run", "demo", "--promote-first", tracking_uri=tracking_uri)
    return (
        f"No model is registered yet. A study registers its winner, such as the small one: {study}"
    )


def library_command(program: str, *words: str) -> str:
    """Return a command of another program that is installed beside this one, such as mlflow."""
    beside = Path(sys.executable).with_name(program)
    is_found = shutil.which(program) is not None or not beside.exists()
    return shlex.join([program if is_found else str(beside), *words])


def near_path(path: Path) -> str:
    """Return a path from the current folder where it lies below it, else the whole of it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _program() -> list[str]:
    """Return how this program is called: by its name where that finds it, else as it was called."""
    called = Path(sys.argv[0])
    if called.name == f"{PROGRAM}.py":  # python -m affectune
        return [PROGRAM] if shutil.which(PROGRAM) else [sys.executable, "-m", PROGRAM]
    if called.name != PROGRAM:  # another program, that uses this one
        return [PROGRAM]

    found = shutil.which(PROGRAM)
    if os.sep not in sys.argv[0] or (found and Path(found).resolve() == called.resolve()):
        return [PROGRAM]
    return [sys.argv[0]]


def _masked(argument: str) -> str:
    """Return an argument, or the value of an option written with =, without credentials."""
    option, sign, value = (
        argument.partition("=") if argument.startswith("-") else ("", "", argument)
    )
    return f"{option}{sign}{masked_uri(value)}"
