"""Masks credentials: in one URI, and in a text of whatever library."""

from __future__ import annotations

from pipeline.credentials.known import MASK, without_known
from pipeline.credentials.patterns import replace_in_text, replace_in_uri


def masked_uri(uri: str) -> str:
    """Return a URI, an address or a connection string without its credentials.

    What else it says stays readable: the host, the database, the bucket. One without credentials
    is returned as it is, and a masked one, too.

    Example:
        >>> masked_uri("postgresql://me:p@ss@host:5432/db?sslmode=require&sslpassword=x")
        'postgresql://***@host:5432/db?sslmode=require&sslpassword=***'
    """
    return replace_in_uri(without_known(uri), _mask)


def masked(text: str) -> str:
    """Return a text without credentials: the secrets of this process, and what looks like one.

    Example:
        >>> masked("cannot reach 'https://me:secret@host/x', try later")
        "cannot reach 'https://***@host/x', try later"
    """
    return replace_in_text(without_known(text), _mask)


def _mask(credential: str) -> str:
    return MASK
