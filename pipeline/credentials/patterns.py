"""Where credentials stand in a text, by its form alone: in URIs, queries, settings and headers.

Knows no process and no secret. Every function takes what replaces a credential, so that the same
rules mask credentials and collect them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from urllib.parse import quote, unquote_plus

Replace = Callable[[str], str]
"""Takes a credential, and returns what stands in its place."""

SCHEME = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,40}:/{1,2}(?=[^/\s])")
PATH = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?/")
MODEL = "models:"
"""A model's name in a registry, models:/<name>@<alias>: what stands before its @ is no user."""
MAX_USERINFO = 1024
HOST = re.compile(r"(\[[^\]]*\]|[^:@\[\]]*)(:\d+)?")
"""An authority without a user: a host, and perhaps a port."""
CUT = re.compile(r"(?<=://)[^\s/@:'\"]{0,80}:[^\s/@'\"]{0,200}?(?=\.\.\.|…)")
"""A user and what a cut message leaves of a password, without its @."""
QUERY = re.compile(r"[?#][\w.%\[\]-]+=")
MAX_NESTED = 4
"""So often a value of a query is decoded, to look for URIs and settings in it."""

NAMES = (
    "password|passwd|passphrase|secret|credential|signature|api[_-]?key|access[_-]?key"
    "|account[_-]?key|shared[_-]?key|private[_-]?key"
)
SECRET_NAME = re.compile(
    rf"{NAMES}|token(?:value|secret|key)?$|pwd$|^(?:sig|sas|pass|pw|auth|authorization|key)$"
)
"""What is in the name of a credential, in small letters and without signs."""
PARAMETER = re.compile(
    r"""(?<=[?&#])(?P<name>[^=&\s'"?#]{1,80})="""
    r"""(?P<value>[^&\s'"<>`]*(?:&[^&=\s'"<>`]*(?=[&\s'"<>`]|$))*)"""
)
"""A parameter of a query; what follows without a = was an & in its value."""
WHOLE_PARAMETER = re.compile(
    r"(?<=[?&#])(?P<name>[^=&?#]{1,80})=(?P<value>[^&]*(?:&[^&=]*(?=&|$))*)", re.DOTALL
)
"""The same in a text that is one URI: its value may hold spaces and quotation marks."""
SETTING = re.compile(
    rf"""(?P<name>{NAMES}|token|(?<![a-z0-9])(?:sig|pwd))(?P<more>[\w.-]{{0,40}})"""
    r"""(?P<sign>["']\s{0,3}:\s{0,3}|["']?\s{0,3}=>?\s{0,3})"""
    r"""(?P<value>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|\{(?:[^}]|\}\})*\}|[^\s;&'"]+)""",
    re.IGNORECASE,
)
"""password=..., PWD={...}, "token": "...": the settings of a connection, JSON, Python's dicts."""
HEADER = re.compile(
    r"""(?P<name>\bauthorization["']?\s{0,3}[:=]\s{0,3}["']?(?:[A-Za-z]+\s+)?+)"""
    r"""(?P<value>(?![<*])[^\s'",]+)""",
    re.IGNORECASE,
)
NO_SECRET = re.compile(r"(?:none|null|true|false|secretstr\(|\*+|<.*|)", re.IGNORECASE)
"""Values of settings that say nothing: that there is none, or a mask."""
CLOSING = ",.)]}>"


def replace_in_text(text: str, replace: Replace, *, nested: int = 0) -> str:
    """Return a text with its credentials replaced, wherever it quotes a URI or a setting."""
    if "@" in text:
        text = _replace_userinfos(text, replace)
    text = CUT.sub(lambda match: replace(match[0]), text)
    text = PARAMETER.sub(partial(_replace_parameter, replace=replace, nested=nested), text)
    text = HEADER.sub(lambda match: match["name"] + replace(match["value"]), text)
    return SETTING.sub(partial(_replace_setting, replace=replace), text)


def replace_in_uri(uri: str, replace: Replace) -> str:
    """Return one URI, address or connection string with its credentials replaced.

    What is the whole of a text may hold spaces and quotation marks, and needs no scheme.
    """
    scheme = SCHEME.match(uri)
    if scheme:
        userinfo = _userinfo(scheme[0], uri[scheme.end() :])
        rest = uri[scheme.end() + len(userinfo) :]
        rest = WHOLE_PARAMETER.sub(partial(_replace_parameter, replace=replace, nested=0), rest)
        uri = f"{scheme[0]}{_replaced_user(userinfo, replace)}{rest}"
    elif not PATH.match(uri):
        user, at, host = uri.rpartition("@")
        if at and ":" in user and "=" not in user:
            uri = f"{_replaced_user(user, replace)}@{host}"
    return replace_in_text(uri, replace)


def is_secret_name(name: str) -> bool:
    """Whether what has a name is a credential, such as a parameter or a variable."""
    return SECRET_NAME.search(re.sub(r"[^a-z0-9]", "", name.lower())) is not None


def _replace_userinfos(text: str, replace: Replace) -> str:
    """Replace what stands before the @ of every URI in a text."""
    pieces: list[str] = []
    position = 0
    while scheme := SCHEME.search(text, position):
        rest = _start(r"[^\s]*", text[scheme.end() : scheme.end() + MAX_USERINFO])
        quoted = _start("[^'\"<>`]*", rest)
        if "@" not in quoted and not HOST.fullmatch(_start("[^/?#]*", quoted)):
            quoted = rest  # the quotation mark is part of a password
        userinfo = _userinfo(scheme[0], quoted)
        pieces += [text[position : scheme.end()], _replaced_user(userinfo, replace)]
        position = scheme.end() + len(userinfo)
    return "".join([*pieces, text[position:]])


def _userinfo(scheme: str, rest: str) -> str:
    """Return the user and password of a URI, "" where it has none.

    People write passwords as they are, with all that should be escaped. What is ambiguous is taken
    for a password.

    Args:
        scheme: of the URI, with its colon and slashes.
        rest: what follows.
    """
    authority = _start("[^/?#]*", rest)
    query = QUERY.search(rest, len(authority))
    before_query = rest[: query.start()] if query else rest
    if scheme.endswith("//"):
        is_host = HOST.fullmatch(authority) is not None
        has_port = is_host and ":" in authority.rpartition("]")[2]
        if is_host and (not has_port or scheme.startswith("http")):
            return ""
    elif scheme.startswith(MODEL) or ":" not in authority:
        return ""  # a path: only s3:/key:secret@bucket, whose slash was lost, is a URI
    user, _, _ = (before_query if "@" in before_query else rest).rpartition("@")
    return user


def _replaced_user(userinfo: str, replace: Replace) -> str:
    """Return what stands in place of a user and a password: the password alone is the secret."""
    user, colon, password = userinfo.partition(":")
    return replace(password if colon else user) if userinfo else ""


def _replace_parameter(match: re.Match[str], replace: Replace, nested: int) -> str:
    name, value = match["name"], match["value"]
    if is_secret_name(unquote_plus(name)):
        return f"{name}={replace(value)}" if value else match[0]
    if "%" not in value or nested == MAX_NESTED:
        return match[0]

    decoded = unquote_plus(value)
    replaced = replace_in_text(decoded, replace, nested=nested + 1)
    return match[0] if replaced == decoded else f"{name}={quote(replaced, safe='*/:')}"


def _replace_setting(match: re.Match[str], replace: Replace) -> str:
    value = match["value"].rstrip(CLOSING)
    closing = match["value"][len(value) :]
    mark = {"'": "'", '"': '"', "{": "}"}.get(value[:1], "")
    if mark and match["value"].endswith(mark):
        mark_before, value, closing = value[0], match["value"][1:-1], mark
    else:
        mark_before = ""
    if NO_SECRET.fullmatch(value) or not is_secret_name(match["name"] + match["more"]):
        return match[0]
    return f"{match['name']}{match['more']}{match['sign']}{mark_before}{replace(value)}{closing}"


def _start(pattern: str, text: str) -> str:
    """Return the start of a text that a pattern matches."""
    match = re.match(pattern, text)
    return match[0] if match else ""
