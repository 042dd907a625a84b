"""The secrets that this process was given: by its environment, its arguments and its settings.

Other libraries quote them in ways that no pattern foresees. What is remembered here is found in a
text whatever stands around it, escaped or not.
"""

from __future__ import annotations

import base64
import html
import os
import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, unquote, unquote_plus

from pipeline.credentials.patterns import SCHEME, is_secret_name, replace_in_uri

MASK = "***"
MIN_LENGTH = 4
"""Of a secret that is looked for in texts: a shorter one is in every other word."""
WHOLE_WORD_LENGTH = 8
"""A shorter secret is replaced where it is a word of its own."""
NO_SECRETS = {"none", "null", "true", "false", "token", "password", MASK}
DELIMITERS = re.compile(r"[/?#@:&]")
MIN_PART_LENGTH = 6
"""Of a part between delimiters, which a library quotes that takes it for a host, port or path."""
PLACES = ("_FILE", "_PATH", "_DIR", "_ID", "_MODE", "APPLICATION_CREDENTIALS")
"""How variables end that say where a secret is, not what it is."""
FOLDERS = ("PWD", "OLDPWD")
SETTINGS = re.compile("URI|URL|DSN|PROXY|CONN|ADDRESS", re.IGNORECASE)
"""What is in the names of variables that are an address or a connection string, without a scheme
too. Others hold whatever text, such as a prompt, in which a colon before an @ is no password."""
ELLIPSES = ("...", "…")
"""What a library puts where it cuts a message, perhaps in the middle of a secret."""

_remembered: set[str] = set()
_lock = threading.Lock()


def remember(setting: str) -> None:
    """Remember the credentials in a URI, an address or another setting that this process uses."""
    secrets = _credentials(setting)
    with _lock:
        _remembered.update(secrets)


def remember_secret(secret: str) -> None:
    """Remember what is a secret as a whole, such as a bearer token."""
    secrets = _findable([secret.strip()])
    with _lock:
        _remembered.update(secrets)


def without_known(text: str) -> str:
    """Return a text with all secrets of this process masked."""
    with _lock:
        secrets = _remembered | _of_environment(tuple(os.environ.items()))
    # The longest first: another one may be a part of it.
    for secret in sorted(secrets, key=lambda secret: (-len(secret), secret)):
        text = _pattern(secret).sub(MASK, text)
        for ellipsis in filter(text.__contains__, ELLIPSES):
            text = _without_cut(text, secret, ellipsis)
    return text


@lru_cache(maxsize=4)
def _of_environment(variables: tuple[tuple[str, str], ...]) -> frozenset[str]:
    """Return the secrets in variables: by their names, and by the form of their values."""
    secrets: set[str] = set()
    for name, value in variables:
        is_place = name in FOLDERS or name.upper().endswith(PLACES)
        if is_secret_name(name) and not is_place:
            secrets |= _findable([value.strip()])
        elif SETTINGS.search(name) or SCHEME.match(value):
            secrets |= _credentials(value)

    given = dict(variables)
    if user := given.get("MLFLOW_TRACKING_USERNAME"):
        basic = f"{user}:{given.get('MLFLOW_TRACKING_PASSWORD', '')}"
        secrets.add(base64.b64encode(basic.encode()).decode())
    return frozenset(secrets)


def _credentials(setting: str) -> set[str]:
    """Return the credentials in a setting, as they are written and decoded.

    One that also stands where no credential does, as in mlflow:mlflow@database/mlflow, is no
    secret, and would be found in every other sentence.
    """
    found: list[str] = []

    def collect(credential: str) -> str:
        found.append(credential)
        return MASK

    open_part = replace_in_uri(setting, collect)
    decoded = [form for secret in found for form in (secret, unquote(secret), unquote_plus(secret))]
    parts = [part for secret in found for part in DELIMITERS.split(secret)]
    long_parts = [part for part in parts if len(part) >= MIN_PART_LENGTH]
    return {secret for secret in _findable(decoded + long_parts) if secret not in open_part}


def _findable(secrets: Iterable[str]) -> set[str]:
    return {
        secret
        for secret in secrets
        if len(secret) >= MIN_LENGTH and secret.lower() not in NO_SECRETS
    }


@lru_cache(maxsize=256)
def _pattern(secret: str) -> re.Pattern[str]:
    """Return what finds a secret in any way of escaping."""
    pattern = "".join(map(_character_pattern, secret))
    if len(secret) < WHOLE_WORD_LENGTH:
        pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"
    return re.compile(pattern)


def _without_cut(text: str, secret: str, ellipsis: str) -> str:
    """Return a text in which no start of a secret is before an ellipsis, and no end after it."""
    pieces = text.split(ellipsis)
    for form in {secret, quote(secret), quote(secret, safe="")}:
        lengths = range(len(form) - 1, MIN_LENGTH - 1, -1)
        for number in range(len(pieces) - 1):
            before, after = pieces[number], pieces[number + 1]
            start = next((n for n in lengths if before.endswith(form[:n])), 0)
            end = next((n for n in lengths if after.startswith(form[-n:])), 0)
            if start:
                pieces[number] = before[:-start] + MASK
            if end:
                pieces[number + 1] = MASK + after[end:]
    return ellipsis.join(pieces)


@lru_cache(maxsize=512)
def _character_pattern(character: str) -> str:
    """Return what finds a character: plain, or as URIs, JSON, Python or HTML escape it."""
    in_uri = "".join(f"%(?:25)*(?i:{byte:02x})" for byte in character.encode(errors="replace"))
    forms = [re.escape(character), in_uri]
    if not character.isalnum() or not character.isascii():
        number = ord(character)
        forms += [rf"\\(?:{re.escape(character)}|x(?i:{number:02x})|u(?i:{number:04x}))"]
        forms += [re.escape(html.escape(character)), f"&\\#(?:{number}|x(?i:{number:x}));"]
    if character == " ":
        forms.append(r"\+")
    return f"(?:{'|'.join(dict.fromkeys(forms))})"
