"""Keys that are at hand, and what is wrong with keys. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from contextlib import suppress

from aiosmrt.config import Credentials
from aiosmrt.errors import ConfigurationError, CredentialsError

__all__ = ["VARIABLES", "find_fault", "take_arguments", "take_environment"]

# Which variables hold what, in the order in which botocore looks for them.
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
}


def take_arguments(
    access_key_id: str | None, secret_access_key: str | None, session_token: str | None
) -> Credentials | None:
    """Take keys from arguments; `None` where there are none.

    Raises:
        ConfigurationError: some are missing.
    """
    if access_key_id and secret_access_key:
        return Credentials(access_key_id, secret_access_key, session_token)
    if access_key_id or secret_access_key or session_token:
        raise ConfigurationError(
            "aws_access_key_id= and aws_secret_access_key= belong together, and "
            "aws_session_token= needs both: give what is missing, or none of them."
        )
    return None


def take_environment(environ: Mapping[str, str]) -> Credentials | None:
    """Take keys from the variables that botocore reads; `None` without the key's id.

    Raises:
        CredentialsError: the secret is missing.
        ConfigurationError: the end of their life is no time.
    """
    access_key_id = environ.get("AWS_ACCESS_KEY_ID")
    if not access_key_id:
        return None
    secret_access_key = environ.get("AWS_SECRET_ACCESS_KEY")
    if not secret_access_key:
        raise CredentialsError(
            "The environment variable AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY: set "
            "both, or unset the one to have credentials looked for elsewhere."
        )
    expires_at = None
    if expiration := environ.get("AWS_CREDENTIAL_EXPIRATION"):
        with suppress(ValueError):
            expires_at = datetime.datetime.fromisoformat(expiration)
        if expires_at is None or expires_at.tzinfo is None:
            raise ConfigurationError(
                f"The environment variable AWS_CREDENTIAL_EXPIRATION is {expiration!r}, which is "
                f"not a time with its zone, such as 2030-01-31T23:59:59Z (ISO 8601)."
            )
    variables = (environ.get(name) for name in VARIABLES["session_token"])
    token = next(filter(None, variables), None)
    return Credentials(access_key_id, secret_access_key, token, expires_at)


def find_fault(credentials: Credentials, name: Callable[[str], str]) -> str | None:
    """Say which key is of no use, and why; `None` where all are sound.

    Args:
        credentials: whose keys.
        name: says where a key is from, given the name of its attribute.
    """
    for attribute in VARIABLES:
        key: object = getattr(credentials, attribute)
        if attribute == "session_token" and not key:
            continue  # long-lived keys have none
        if why := _explain(key):
            return f"Unusable: {name(attribute)} {why}"
    return None


def _explain(key: object) -> str | None:
    if not isinstance(key, str):
        return f"is not text but {type(key).__name__}."
    if not key:
        return "is empty."
    if key != key.strip():
        return "has white space around it; was it read with the end of its line?"
    # What no header can hold, or no signature be made with.
    if not (key.isascii() and key.isprintable()):
        return "is not printable ASCII text; was it read with the end of its line?"
    if key[0] in "\"'" or key[-1] in "\"'":
        return "has quotes around it, which are no part of a key: write it without them."
    return None
