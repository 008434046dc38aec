"""Bearer tokens as the OpenAI-compatible route checks them: one key pair. Pure.

A token is a request to the control plane that is signed in its query. Like all of this folder it
is written against the description of the signing process, and not on top of `aiosmrt.signing`.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping

from aiosmrt.config import Credentials
from aiosmrt.errors import ServiceError
from aiosmrt.local.authorization import SignedRequest, SigningRules, check_authorization

__all__ = ["check_bearer_token"]

_PREFIX = "sagemaker-api-key-"
_HOST = "sagemaker.amazonaws.com"
_VERSION = "&Version=1"
_LONGEST = 43_200  # seconds


def check_bearer_token(
    headers: Mapping[str, str],
    credentials: Credentials,
    now: datetime.datetime,
    rules: SigningRules,
) -> None:
    """Check that a request carries a token of this key pair that holds at `now` (UTC).

    Args:
        headers: of the request, names in lower case.
        credentials: the key pair.
        now: the present.
        rules: of the service's signatures.

    Raises:
        ServiceError: 401 without a token, 403 for one that does not hold, and for a signature.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.startswith("AWS4-"):
        raise _refuse("This route takes a bearer token; SigV4 is for /invocations.")
    if scheme.lower() != "bearer" or not token.strip():
        raise ServiceError(
            "Missing Authentication Token: the request has no header Authorization: Bearer "
            f"{_PREFIX}...",
            code=rules.missing,
            status=401,
        )
    target = _read_target(token.strip())
    request = SignedRequest("POST", target, {"host": _HOST}, b"")
    query = request.query
    if query.get("Action") != "CallWithBearerToken":
        raise _refuse("The bearer token is for another action than CallWithBearerToken.")
    seconds = query.get("X-Amz-Expires", "")
    if seconds.isdecimal() and int(seconds) > _LONGEST:
        raise _refuse(f"The bearer token is for more than {_LONGEST} seconds.")
    check_authorization(request, credentials, now, rules)


def _read_target(token: str) -> str:
    """Take the path and the signed query out of a token."""
    begin, prefix, encoded = token.partition(_PREFIX)
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        text = ""
    if begin or not prefix or not (text.startswith(f"{_HOST}/?") and text.endswith(_VERSION)):
        raise _refuse(
            f"A bearer token is {_PREFIX} and the Base64 of {_HOST}/?...{_VERSION}, and not what "
            "the request has."
        )
    return text.removeprefix(_HOST).removesuffix(_VERSION)


def _refuse(message: str) -> ServiceError:
    return ServiceError(message, code="AccessDeniedException", status=403)
