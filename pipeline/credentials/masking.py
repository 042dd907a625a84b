"""Masks credentials: in one URI, and in a text of whatever library."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.credentials.known import MASK, without_known
from pipeline.credentials.patterns import replace_in_text, replace_in_uri

MAX_PASSES = 6


def masked_uri(uri: str) -> str:
    """Return a URI, an address or a connection string without its credentials.

    What else it says stays readable: the host, the database, the bucket. One without credentials
    is returned as it is, and a masked one, too.

    Example:
        >>> masked_uri("postgresql://me:p@ss@host:5432/db?sslmode=require&sslpassword=x")
        'postgresql://***@host:5432/db?sslmode=require&sslpassword=***'
    """
    return _until_unchanged(lambda text: replace_in_uri(without_known(text), _mask), uri)


def masked(text: str) -> str:
    """Return a text without credentials: the secrets of this process, and what looks like one.

    Example:
        >>> masked("cannot reach 'https://me:secret@host/x', try later")
        "cannot reach 'https://***@host/x', try later"
    """
    return _until_unchanged(lambda text: replace_in_text(without_known(text), _mask), text)


def _until_unchanged(mask: Callable[[str], str], text: str) -> str:
    """Mask a text again where that changed it: a mask may bring other words together."""
    for _ in range(MAX_PASSES):
        before, text = text, mask(text)
        if text == before:
            break
    return text


def _mask(credential: str) -> str:
    return MASK
