"""Errors as a Python program gets them: Affectune's own, in the words of keyword arguments.

Messages are written for the command line; here "--resume" is `resume=True`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

from pipeline.errors import AffectuneError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

OPTION = re.compile(
    r"(?P<command>`[^`-][^`]*`|\baffectune [a-z].*?(?=[.;:]?(?:\s[A-Z]|$)))"
    r"|(?<![\w-])--(?P<name>[a-z]+(?:-[a-z]+)*)(?![\w-])(?P<value> (?=['\"\d]))?"
)
"""A whole command, which stays as it is; or an option, and the space before its value."""


def in_python(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have a public function raise Affectune's errors, where its user or the machine is at fault.

    A full disk, a missing right or a service that is away becomes a `SurroundingsError`. What is
    neither, such as a `TypeError` or a mistake of Affectune's, is raised as it is.
    """
    parameters = inspect.signature(function).parameters

    @wraps(function)
    def call(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        try:
            return function(*arguments, **named)
        except AffectuneError as error:
            _translate(error, parameters)
            raise
        except OSError as error:
            from pipeline.storage.surroundings import as_failure

            fault = as_failure(error)
            if fault is None:
                raise
            _translate(fault, parameters)
            raise fault from error

    return call


def _translate(error: AffectuneError, parameters: Mapping[str, inspect.Parameter]) -> None:
    if error.args and isinstance(error.args[0], str):
        error.args = (with_arguments(error.args[0], parameters), *error.args[1:])


def with_arguments(message: str, parameters: Mapping[str, inspect.Parameter]) -> str:
    """Return a message with keyword arguments in place of those options that a function has.

    Args:
        message: for the command line, such as "Pass --resume, or another --out."
        parameters: of the function.

    Returns:
        Such as "Pass resume=True, or another `out`."
    """

    def argument(match: re.Match[str]) -> str:
        name = (match["name"] or "").replace("-", "_")
        if name not in parameters:
            return match[0]
        if match["value"]:
            return f"{name}="
        return f"{name}=True" if parameters[name].default is False else f"`{name}`"

    return OPTION.sub(argument, message)
