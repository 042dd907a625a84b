"""A line on standard error that says what begins before it takes its seconds. Needs no library."""

from __future__ import annotations

import sys

from pipeline.credentials.masking import masked
from pipeline.names import printable_word


def print_status(doing: str) -> None:
    """Print what is being done, such as "Reading data/muse", and show it at once.

    What takes seconds to import (torch, Ray, MLflow) is imported after such a line, so that a
    person sees within a moment that the command runs.
    """
    print(f"{printable_word(masked(doing))} ...", file=sys.stderr, flush=True)
