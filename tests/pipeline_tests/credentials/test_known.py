"""What a process was given as a secret is found in a text, however a library writes it there."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Callable
from unittest import mock
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.credentials.known import remember, remember_secret
from pipeline.credentials.masking import masked

ESCAPES: list[Callable[[str], str]] = [
    str,
    repr,
    ascii,
    json.dumps,
    html.escape,
    quote,
    quote_plus,
    lambda text: quote(text, safe=""),
    lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text)),
    lambda text: quote(quote(text, safe=""), safe=""),
]
SECRETS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"]),
    min_size=8,
    max_size=20,
).map(lambda text: f"q{text.strip()}Zq7")


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no secret of this machine be found."""
    for name in list(os.environ):
        if name not in ("PATH", "HOME"):
            monkeypatch.delenv(name)


@given(SECRETS)
def test_a_secret_is_found_in_every_way_of_escaping(secret: str) -> None:
    with mock.patch("pipeline.credentials.known._remembered", set()):
        remember_secret(secret)
        for escape in ESCAPES:
            text = f"before {escape(secret)} after"
            assert masked(text) in ("before *** after", "before '***' after", 'before "***" after')


@pytest.mark.parametrize(
    ("uri", "secret"),
    [
        ("http://alice:p%40ss%20word@host/x", "p@ss word"),
        ("http://alice:p%40ss%20word@host/x", "p%40ss%20word"),
        ("s3://AKIAX:S3cr/et+Key@bucket/x", "S3cr/et+Key"),
        ("postgresql://h/d?user=alice&password=geheim12", "geheim12"),
        ("http://abcdef0123456789@host", "abcdef0123456789"),
        ("host=h password='so secret'", "so secret"),
        ("http://alice:pear77/grape@host", "pear77"),
        ("me:grape42pear@ray-head:6379", "grape42pear"),
    ],
)
def test_the_credentials_of_a_setting_are_found_alone(uri: str, secret: str) -> None:
    assert secret in masked(f"(28P01) rejected {secret} of alice at host")
    remember(uri)
    assert masked(f"(28P01) rejected {secret} of alice") == "(28P01) rejected *** of alice"


@pytest.mark.parametrize(
    ("variable", "value", "secret"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "pear7grape", "pear7grape"),
        ("MLFLOW_TRACKING_TOKEN", "pear7grape", "pear7grape"),
        ("MLFLOW_TRACKING_URI", "http://a:pear7grape@h", "pear7grape"),
        ("AWS_SECRET_ACCESS_KEY", "pear7/grape", "pear7%2Fgrape"),
        ("AWS_SESSION_TOKEN", "pear7grape", "pear7grape"),
        ("HTTPS_PROXY", "http://a:pear7grape@proxy:3128", "pear7grape"),
        ("http_proxy", "a:pear7grape@proxy:3128", "pear7grape"),
        ("RAY_REDIS_PASSWORD", "pear7grape", "pear7grape"),
        ("RAY_AUTH_TOKEN", "pear7grape", "pear7grape"),
        ("PGPASSWORD", "pear7grape", "pear7grape"),
        ("AFFECTUNE_SERVE_TOKEN", "pear7grape", "pear7grape"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;AccountKey=pear7grape", "pear7grape"),
    ],
)
def test_a_secret_in_the_environment_is_found(
    variable: str, value: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert masked(f"the answer to {secret} was no") == "the answer to *** was no"


def test_user_and_password_are_found_as_a_header_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pear7grape")
    sent = base64.b64encode(b"alice:pear7grape").decode()
    assert masked(f"sent Basic {sent}") == "sent Basic ***"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PWD", "/home/alice"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("RAY_AUTH_MODE", "token"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token.jwt"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/run/key.json"),
        ("MLFLOW_TRACKING_PASSWORD", "ab"),
        ("LS_COLORS", "di=01;34:ln=01;36"),
        ("PS1", "mlflow:token/able@machine"),
        ("MLFLOW_TRACKING_URI", "postgresql://mlflow:mlflow@database/mlflow"),
    ],
)
def test_what_is_no_secret_stays_readable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    text = "Give sqlite:///mlflow.db, a token or /home/alice, /run/token.jwt: false, able, di 01 34"
    assert masked(text) == text


@pytest.mark.parametrize("ellipsis", ["...", "…"])
@pytest.mark.parametrize("secret", ["pear7/grape+fig", "p"])
def test_what_a_cut_message_leaves_of_a_secret_is_masked(secret: str, ellipsis: str) -> None:
    remember_secret(secret)
    for form in (secret, quote(secret, safe="")):
        for length in range(4, len(form)):
            text = f"asked {form[:length]}{ellipsis}{form[-length:]} for it"
            assert masked(text) == f"asked ***{ellipsis}*** for it"
    assert masked(f"http://alice:lem0{ellipsis}/x") == f"http://***{ellipsis}/x"


def test_a_short_secret_is_a_word_of_its_own() -> None:
    remember_secret("pear")
    assert masked("pear: pears appear in 'pear'") == "***: pears appear in '***'"
