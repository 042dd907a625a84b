"""Credentials are masked wherever they stand in a URI or a text; what else is said stays."""

from __future__ import annotations

import json
import re
import string
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.credentials.masking import masked, masked_uri

PASSWORDS = st.text(string.printable + "äß€", min_size=1, max_size=24)
AMBIGUOUS = re.compile(r"^\d+[/?#]|[?#][\w.%\[\]-]+=")
"""The starts of a path behind a port, and of a query: nobody can tell them from a password."""
HOSTS = st.sampled_from(["database", "10.0.0.7:5432", "[::1]:5000", "[fe80::1]", "h.example.org"])
SCHEMES = st.sampled_from(
    ["postgresql", "postgresql+psycopg2", "mysql", "redis", "http", "https", "s3", "mssql+pyodbc"]
)
PARAMETERS = st.sampled_from(
    [
        *("password", "sslpassword", "passwd", "pwd", "key", "api_key", "apikey", "access_key"),
        *("token", "access_token", "secret", "client_secret", "sig"),
        *("X-Amz-Signature", "X-Amz-Security-Token"),
    ]
)
WITHOUT = [
    "models:/affectune@champion",
    "models:/affectune/3",
    "sqlite:///mlflow.db",
    "sqlite:////home/me/a:b@c/mlflow.db",
    "file:///data/x@y",
    "/data/a:b@c/corpus",
    "http://127.0.0.1:5000",
    "http://[::1]:5000/#/experiments/1?workflowType=machine_learning",
    "http://host:5000/models/a@b?mail=x@y.org",
    "s3://bucket/user@example.org/store?region=eu&scheme=http&endpoint_override=127.0.0.1:9000",
    "postgresql://host:5432/runs?sslmode=require&user=alice",
    "mlflow-artifacts:/1/abc/artifacts",
    "databricks://profile",
    "databricks",
    "ray-head:6379",
    "[::1]:6379",
    "auto",
    "runs/store",
    "",
]


@settings(max_examples=150)
@given(SCHEMES, PASSWORDS, HOSTS)
def test_a_password_before_the_host_is_masked_and_the_host_stays(
    scheme: str, password: str, host: str
) -> None:
    uri = f"{scheme}://alice:{quote(password, safe='')}@{host}/runs"
    assert masked_uri(uri) == f"{scheme}://***@{host}/runs"
    assert (
        masked(f"No answer at '{uri}', yet.") == f"No answer at '{scheme}://***@{host}/runs', yet."
    )


@settings(max_examples=150)
@given(SCHEMES, PASSWORDS.filter(lambda text: not AMBIGUOUS.search(text)), HOSTS)
def test_a_password_that_should_have_been_escaped_is_masked_too(
    scheme: str, password: str, host: str
) -> None:
    uri = f"{scheme}://alice:{password}@{host}/runs"
    assert masked_uri(uri) == f"{scheme}://***@{host}/runs"


@settings(max_examples=150)
@given(SCHEMES, PARAMETERS, PASSWORDS, st.booleans())
def test_a_secret_parameter_is_masked_and_the_others_stay(
    scheme: str, name: str, password: str, is_last: bool
) -> None:
    others = f"user=alice&{name}=%s" if is_last else f"{name}=%s&user=alice"
    for quoted in (quote(password, safe=""), quote_plus(password)):
        uri = f"{scheme}://database:5432/runs?sslmode=require&{others}"
        expected = uri % "***"
        assert masked_uri(uri % quoted) == expected
        assert masked(f"asked {uri % quoted} in vain") == f"asked {expected} in vain"


@pytest.mark.parametrize("uri", WITHOUT)
def test_what_holds_no_credentials_is_unchanged(uri: str) -> None:
    assert masked_uri(uri) == uri
    assert masked(f"There is no '{uri}'. Give another.") == f"There is no '{uri}'. Give another."


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql://me:p@ss/word@host:5432/db", "postgresql://***@host:5432/db"),
        ("mysql://u:p?x#y@host/db", "mysql://***@host/db"),
        ("s3://AKIAX:S3cr/et+Key@bucket/x?region=eu", "s3://***@bucket/x?region=eu"),
        ("s3:/AKIAX:S3cretKey@bucket/x", "s3:/***@bucket/x"),
        ("http://dapi0123456789@host/", "http://***@host/"),
        ("redis://:pw@host:6379/0", "redis://***@host:6379/0"),
        ("me:pw@ray-head:6379", "***@ray-head:6379"),
        ("http://h/cb#access_token=abc&state=x", "http://h/cb#access_token=***&state=x"),
        ("http://h/x?password=a&b&user=c", "http://h/x?password=***&user=c"),
        (
            "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%7D%3BUID%3Dsa%3BPWD%3Dse%25cret%3BA%3D1",
            "mssql+pyodbc:///?odbc_connect=DRIVER%3D%7BX%7D%3BUID%3Dsa%3BPWD%3D***%3BA%3D1",
        ),
        (
            "mssql+pyodbc:///?odbc_connect=DRIVER={X};UID=sa;PWD={se;c}}r;et};Database=d",
            "mssql+pyodbc:///?odbc_connect=DRIVER={X};UID=sa;PWD={***};Database=d",
        ),
        ("http://proxy/?to=http%3A%2F%2Fu%3Ap%40host%2Fx", "http://proxy/?to=http://***%40host/x"),
        (
            "AccountName=acct;AccountKey=abc+/def==;EndpointSuffix=core.windows.net",
            "AccountName=acct;AccountKey=***;EndpointSuffix=core.windows.net",
        ),
        ("host=h user=me password='it''s' dbname=x", "host=h user=me password='***' dbname=x"),
        (
            "jdbc:sqlserver://host:1433;user=sa;password=abc;database=x",
            "jdbc:sqlserver://host:1433;user=sa;password=***;database=x",
        ),
    ],
)
def test_every_way_to_write_a_credential_is_masked(uri: str, expected: str) -> None:
    assert masked_uri(uri) == expected
    assert masked_uri(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'password': 'x y', 'token': None}", "{'password': '***', 'token': None}"),
        ('{"port": 1, "token": "z"}', '{"port": 1, "token": "***"}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("headers {'Authorization': 'Basic dTpw'}", "headers {'Authorization': 'Basic ***'}"),
        ("url: /api?token=abc (Caused by x)", "url: /api?token=*** (Caused by x)"),
        ("('http://a:b@c','http://d:e@f')", "('http://***@c','http://***@f')"),
        ("http://a:it's@host said no", "http://***@host said no"),
        ("set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN.",) * 2,
        ("requests need `Authorization: Bearer <token>`",) * 2,
        ("Settings(token=SecretStr('**********'), port=5)",) * 2,
        ("tokenizer=bert, 12:30@x, a@b.org",) * 2,
    ],
)
def test_a_sentence_of_a_library_is_masked_where_it_quotes_credentials(
    text: str, expected: str
) -> None:
    assert masked(text) == expected
    assert masked(expected) == expected


@settings(max_examples=150)
@given(st.text(max_size=80))
def test_any_text_is_masked_once_and_for_all(text: str) -> None:
    assert masked(masked(text)) == masked(text)
    assert masked_uri(masked_uri(text)) == masked_uri(text)


@pytest.mark.parametrize(
    "text", ["a://" * 2_000 + "@", "a://u:p'" * 2_000, "password='" * 2_000, "?a=b&c&" * 2_000]
)
def test_long_texts_are_masked_in_time_that_grows_with_their_length(text: str) -> None:
    assert len(masked(json.dumps(text))) <= 2 * len(text)
