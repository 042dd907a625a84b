"""A profile of AWS's own tools: keys, region and endpoint in `~/.aws`, which obstore skips."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.credentials.known import remember_secret
from pipeline.errors import InputError

KEYS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
    "region": "AWS_REGION",
    "endpoint_url": "AWS_ENDPOINT_URL",
}
"""A profile's setting -> the variable that says the same."""
SECRETS = ("aws_secret_access_key", "aws_session_token")
INDIRECT = ("credential_process", "sso_session", "sso_start_url", "role_arn")
"""Settings that say where keys come from, which only AWS's own tools follow."""
OTHER_SOURCES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables that a cluster sets to give its containers a role."""


def profile_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what the chosen profile says, as the variables that would say the same.

    Variables that are set come first, as with AWS's own tools: with keys among them, the profile's
    keys are left out.

    Raises:
        InputError: AWS_PROFILE names no profile, or its keys come from elsewhere.
    """
    name = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or ""
    home = Path(environment.get("HOME") or Path.home())
    credentials = environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials"
    config = environment.get("AWS_CONFIG_FILE") or home / ".aws/config"
    section = name or "default"
    titles = (section, f"profile {section}")
    settings = {**_section(Path(config), titles), **_section(Path(credentials), titles)}

    if name and not settings:
        raise InputError(
            f"AWS_PROFILE is '{name}', and neither '{credentials}' nor '{config}' has such a "
            "profile. Correct the name, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    has_keys = bool(environment.get("AWS_ACCESS_KEY_ID"))
    is_elsewhere = any(environment.get(variable) for variable in OTHER_SOURCES)
    if not has_keys and not is_elsewhere and "aws_access_key_id" not in settings:
        _raise_if_indirect(section, settings)

    for setting in SECRETS:
        remember_secret(settings.get(setting, ""))
    return {
        variable: settings[setting]
        for setting, variable in KEYS.items()
        if settings.get(setting)
        and not environment.get(variable)
        and not (setting.startswith("aws_") and (has_keys or is_elsewhere))
    }


def _raise_if_indirect(section: str, settings: Mapping[str, str]) -> None:
    indirect = next((setting for setting in INDIRECT if settings.get(setting)), None)
    if indirect:
        raise InputError(
            f"The keys of the AWS profile '{section}' come from its {indirect}, which is not "
            "followed here. Put them into the environment first: "
            f'eval "$(aws configure export-credentials --profile {section} --format env)"'
        )


def _section(path: Path, titles: tuple[str, ...]) -> dict[str, str]:
    """Return a section of a file of settings; what is not there has none.

    Raises:
        InputError: it cannot be read.
    """
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, configparser.Error) as error:
        raise InputError(
            f"Cannot read '{path}', which may hold the keys of the store: "
            f"{type(error).__name__}. Correct it, or set AWS_SHARED_CREDENTIALS_FILE and "
            "AWS_CONFIG_FILE to others."
        ) from error
    title = next((title for title in titles if parser.has_section(title)), None)
    return dict(parser[title]) if title else {}
