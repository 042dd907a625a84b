"""Where a store is, as people write it; what reaches another node; which profile gives the keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.credentials.masking import masked
from pipeline.errors import InputError
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.store_address import (
    PASSED_ON,
    adopt_variables,
    folder_of,
    object_address,
    worker_variables,
)

SECRET = "pear7grape8plum"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Take away what this machine says of object stores; return its home."""
    for name in (*PASSED_ON, "AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write_profiles(home: Path, credentials: str, config: str = "") -> None:
    """Write the two files of AWS's own tools."""
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(credentials)
    (home / ".aws" / "config").write_text(config)


def test_a_folder_is_told_from_an_object_store() -> None:
    assert folder_of("runs/store") == Path("runs/store")
    assert folder_of("file:///a%20b/c") == Path("/a b/c")
    assert folder_of("s3://bucket/a") is None


def test_what_people_wrote_for_pyarrow_still_says_the_same() -> None:
    address = object_address(
        f"s3://KEY:{SECRET}@bucket/my%20runs/a/?endpoint_override=host:9000&scheme=http&region=eu"
    )
    assert (address.service, address.bucket, address.prefix) == ("s3", "bucket", "my runs/a")
    assert address.endpoint == "http://host:9000"
    assert address.keys == ("KEY", SECRET, None)
    assert address.config["region"] == "eu"
    assert SECRET not in masked(repr(address))


def test_the_services_own_variables_say_what_the_uri_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://general")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://special:9000/")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token8of9session")
    address = object_address("s3://bucket")
    assert (address.endpoint, address.prefix) == ("http://special:9000", "")
    assert address.config["region"] == "eu-north-1"
    assert address.keys == ("KEY", SECRET, "token8of9session")
    # A token belongs to the keys beside it, and not to those in the URI.
    assert object_address("s3://OTHER:secret77@bucket").keys == ("OTHER", "secret77", None)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gopher://bucket/a", "no such kind of URI"),
        ("hdfs://host/a", "Mount it"),
        ("s3:///a", "names no bucket"),
        ("s3://bucket/a//b", "empty part"),
        ("s3://bucket/../other", "empty part"),
        ("s3://bucket/a?scheme=http", "without endpoint_override"),
        ("s3://bucket/a?scheme=ftp", "not http or https"),
        ("s3://bucket/a?endpoint_override=http://", "is no URL"),
        ("s3://bucket/a?allow_bucket_creation=true", "'allow_bucket_creation' in its query"),
        ("gs://bucket/a?region=eu", "'region' in its query"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_mend(uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        object_address(uri)


def test_an_endpoint_without_a_scheme_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(InputError, match=r"AWS_ENDPOINT_URL\) is no URL. Write https://"):
        object_address("s3://bucket/a")


def test_stores_of_google_and_azure_open_without_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    address = object_address("abfss://container@account.dfs.core.windows.net/a/b")
    assert (address.service, address.bucket, address.prefix) == ("az", "container", "a/b")
    assert address.config["account_name"] == "account"
    for uri in (address.uri, "az://container/a", "gs://anonymous@bucket/a"):
        ObjectStore(object_address(uri))


def test_the_keys_of_a_profile_are_found_and_those_that_are_set_go_before_them(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profiles(
        environment,
        f"[default]\naws_access_key_id=DEFAULT\naws_secret_access_key={SECRET}\n"
        "[lab]\naws_access_key_id=LAB\naws_secret_access_key=lab8secret\n",
        "[profile lab]\nregion=eu-west-3\nendpoint_url=http://minio:9000\n",
    )
    assert object_address("s3://bucket").keys == ("DEFAULT", SECRET, None)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    address = object_address("s3://bucket")
    assert address.keys == ("LAB", "lab8secret", None)
    assert (address.endpoint, address.config["region"]) == ("http://minio:9000", "eu-west-3")
    assert worker_variables("s3://bucket") == {
        "AWS_ACCESS_KEY_ID": "LAB",
        "AWS_SECRET_ACCESS_KEY": "lab8secret",
        "AWS_REGION": "eu-west-3",
        "AWS_ENDPOINT_URL": "http://minio:9000",
    }
    assert masked("said lab8secret twice") == "said *** twice"

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "SET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "set8secret")
    assert object_address("s3://bucket").keys == ("SET", "set8secret", None)


def test_a_profile_that_gives_no_keys_is_refused_with_the_mend(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profiles(environment, "", "[profile sso]\nsso_session = lab\n")
    monkeypatch.setenv("AWS_PROFILE", "sso")
    with pytest.raises(InputError, match="aws configure export-credentials --profile sso"):
        object_address("s3://bucket")
    monkeypatch.setenv("AWS_PROFILE", "typo")
    with pytest.raises(InputError, match="AWS_PROFILE is 'typo'"):
        object_address("s3://bucket")


def test_another_node_uses_the_keys_it_is_sent_and_no_token_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of7other8keys")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    adopt_variables({"AWS_ACCESS_KEY_ID": "SENT", "AWS_SECRET_ACCESS_KEY": "sent8secret"})
    assert object_address("s3://bucket").keys == ("SENT", "sent8secret", None)
    assert worker_variables("runs/store") == {}
