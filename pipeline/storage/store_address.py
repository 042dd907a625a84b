"""Where a store is: a folder, or a place in an object store and the settings that reach it.

Settings are the services' own variables (AWS_*, GOOGLE_*, AZURE_*); a URI's query goes before them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pipeline.credentials.known import remember, remember_secret
from pipeline.credentials.masking import masked_uri
from pipeline.errors import InputError
from pipeline.storage.remote.aws_profile import profile_variables

Service = Literal["s3", "gs", "az"]
SERVICES: dict[str, Service] = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "azure": "az",
    "adl": "az",
    "abfs": "az",
    "abfss": "az",
}
"""Scheme of a URI -> the service that it means."""
ENDPOINTS: dict[Service, tuple[str, ...]] = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Variables that name the endpoint; the first that is set counts."""
PARAMETERS: dict[Service, tuple[str, ...]] = {
    "s3": ("endpoint_override", "scheme", "region", "tls_ca_file_path", "force_virtual_addressing"),
    "gs": ("endpoint_override", "scheme", "tls_ca_file_path"),
    "az": ("tls_ca_file_path",),
}
"""What the query of a URI may say."""
PASSED_ON = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    *("AWS_ENDPOINT", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_REQUEST_PAYER"),
    *("AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_KMS_KEY_ID", "AWS_SSE_BUCKET_KEY_ENABLED"),
    *("GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_BEARER_TOKEN", "GOOGLE_BASE_URL"),
    *("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"),
    *("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_TOKEN"),
    *("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURE_STORAGE_USE_EMULATOR"),
    *("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_TENANT_ID"),
)
"""Variables that hold on every node. One that names a file is each node's own."""
UNNAMED_SECRETS = ("GOOGLE_SERVICE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY")
"""Those that are secret, and whose names do not say so."""
KINDS = "a folder, or s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"


@dataclass(frozen=True)
class ObjectAddress:
    """A place in an object store.

    Attributes:
        uri: as it was given; it may hold a secret.
        service: which kind it is.
        bucket: Azure calls it a container.
        prefix: what the names of all its objects begin with, without slashes at its ends.
        endpoint: the service's URL, where it is not the usual one.
        config: obstore's settings, beside what it finds in the environment.
        keys: an access key, its secret and perhaps a session token, which go before others.
        ca_file: further certificates that the service's may be signed with.
    """

    uri: str
    service: Service
    bucket: str
    prefix: str
    endpoint: str | None = None
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    keys: tuple[str, str, str | None] | None = field(default=None, repr=False)
    ca_file: Path | None = None


def folder_of(uri: str) -> Path | None:
    """Return the folder that a store is; None where it is in an object store."""
    if "://" not in uri:
        return Path(uri)
    return Path(unquote(uri.removeprefix("file://"))) if uri.startswith("file://") else None


def object_address(uri: str) -> ObjectAddress:
    """Return the place that a URI names, with what it and the environment say of it.

    Raises:
        InputError: no such kind of URI, or a setting that cannot be used.
    """
    remember(uri)
    parts = _split(uri)
    service = SERVICES[parts.scheme.lower()]
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = [name for name in query if name not in PARAMETERS[service]]
    if unknown:
        raise InputError(
            f"The store '{masked_uri(uri)}' has '{unknown[0]}' in its query, and may have "
            f"{', '.join(PARAMETERS[service])}. Leave it out, or set the service's own variables."
        )

    variables = {**os.environ, **(profile_variables() if service == "s3" else {})}
    for name in UNNAMED_SECRETS:
        remember_secret(variables.get(name, ""))
    endpoint = _endpoint(uri, service, query, variables)
    ca_file = query.get("tls_ca_file_path") or variables.get("AWS_CA_BUNDLE")
    match service:
        case "s3":
            config, keys = _s3_settings(parts, query, variables, endpoint)
        case "gs":
            config, keys = _google_settings(parts, endpoint), None
        case "az":
            config, keys = _azure_settings(parts, endpoint), None
    return ObjectAddress(
        uri,
        service,
        _bucket(parts),
        unquote(parts.path).strip("/"),
        endpoint,
        config,
        keys,
        Path(ca_file) if ca_file else None,
    )


def worker_variables(uri: str) -> dict[str, str]:
    """Return the variables with which another node reaches a store; secrets are among them.

    Raises:
        InputError: the store's settings cannot be used.
    """
    if folder_of(uri) is not None:
        return {}
    from_profile = profile_variables() if object_address(uri).service == "s3" else {}
    given = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
    return {**from_profile, **given}


def adopt_variables(variables: Mapping[str, str]) -> None:
    """Set what `worker_variables` returned in another process, in place of what is set here.

    Ray writes the variables that it gives to a process into its logs: these come another way.
    """
    if "AWS_ACCESS_KEY_ID" in variables:  # this node's token would be that of other keys
        for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
            os.environ.pop(name, None)
    os.environ.update(variables)


def _split(uri: str) -> SplitResult:
    """Return the parts of a URI; a secret in it may hold what should be escaped."""
    scheme, _, rest = uri.partition("://")
    if scheme.lower() not in SERVICES:
        mend = (
            "Mount it, and name the folder"
            if scheme.lower() in ("hdfs", "viewfs", "nfs", "smb")
            else f"Name {KINDS}"
        )
        raise InputError(f"Cannot use the store '{masked_uri(uri)}': no such kind of URI. {mend}.")
    rest, _, query = rest.partition("?")
    user, at, place = rest.rpartition("@")
    host, slash, path = place.partition("/")
    parts = SplitResult(scheme.lower(), f"{user}{at}{host}", slash + path, query, "")
    if not _bucket(parts):
        raise InputError(f"The store '{masked_uri(uri)}' names no bucket. Name {KINDS}.")
    segments = unquote(parts.path).strip("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments) and segments != [""]:
        raise InputError(
            f"The store '{masked_uri(uri)}' has an empty part, '.' or '..' in its path. Leave it "
            "out."
        )
    return parts


def _bucket(parts: SplitResult) -> str:
    user, _, host = parts.netloc.rpartition("@")
    # abfs://container@account.dfs.core.windows.net/path
    return user.partition(":")[0] if user and parts.scheme.startswith("abfs") else host


def _endpoint(
    uri: str, service: Service, query: Mapping[str, str], variables: Mapping[str, str]
) -> str | None:
    """Return the URL of the service; None for the usual one.

    Raises:
        InputError: it is no URL of http or https.
    """
    where = "the query's endpoint_override"
    endpoint = query.get("endpoint_override", "")
    scheme = query.get("scheme", "https")
    if scheme not in ("http", "https"):
        raise InputError(f"The store '{masked_uri(uri)}' has scheme={scheme}, not http or https.")
    if endpoint and "://" not in endpoint:
        endpoint = f"{scheme}://{endpoint}"
    if not endpoint:
        if query.get("scheme") == "http":
            raise InputError(
                f"The store '{masked_uri(uri)}' has scheme=http without endpoint_override: the "
                "cloud is asked through https alone. Leave it out, or name an endpoint."
            )
        where = next((name for name in ENDPOINTS[service] if variables.get(name)), "")
        endpoint = variables.get(where, "")
    if not endpoint:
        return None

    remember(endpoint)
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"The endpoint '{masked_uri(endpoint)}' of the store ({where}) is no URL. Write "
            "https://host:port, or http://host:port where the service has no certificate."
        )
    return endpoint.rstrip("/")


def _s3_settings(
    parts: SplitResult,
    query: Mapping[str, str],
    variables: Mapping[str, str],
    endpoint: str | None,
) -> tuple[dict[str, str], tuple[str, str, str | None] | None]:
    """Return obstore's settings of S3, and the keys; None: it finds them, or a role, by itself."""
    region = query.get("region") or variables.get("AWS_REGION")
    region = region or variables.get("AWS_DEFAULT_REGION") or "us-east-1"
    # Not every service that speaks S3 knows how to delete many objects in one request.
    config = {"region": region, "disable_bulk_delete": "true"}
    if endpoint:
        config["aws_endpoint_url_s3"] = endpoint
    if query.get("force_virtual_addressing", "").lower() in ("true", "1", "yes"):
        config["virtual_hosted_style_request"] = "true"

    key, colon, secret = parts.netloc.rpartition("@")[0].partition(":")
    if colon:
        return config, (unquote(key), unquote(secret), None)
    if variables.get("AWS_ACCESS_KEY_ID") and variables.get("AWS_SECRET_ACCESS_KEY"):
        token = variables.get("AWS_SESSION_TOKEN") or variables.get("AWS_SECURITY_TOKEN")
        given = variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
        return config, (*given, token or None)
    return config, None


def _google_settings(parts: SplitResult, endpoint: str | None) -> dict[str, str]:
    config = {"base_url": endpoint} if endpoint else {}
    if parts.netloc.startswith("anonymous@"):
        config["skip_signature"] = "true"
    return config


def _azure_settings(parts: SplitResult, endpoint: str | None) -> dict[str, str]:
    user, _, host = parts.netloc.rpartition("@")
    config = {"endpoint": endpoint} if endpoint else {}
    if user and parts.scheme.startswith("abfs"):
        config["account_name"] = host.partition(".")[0]
        if password := user.partition(":")[2]:
            config["account_key"] = unquote(password)
    return config
