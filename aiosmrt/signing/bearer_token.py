"""A bearer token for SageMaker's OpenAI-compatible route: a signed request, never sent. Pure.

The layout is that of AWS's own generator (`sagemaker.core.token_generator` of the SageMaker Python
SDK): a POST of `CallWithBearerToken` to the control plane, signed in its query. The host is the
same in every region and partition there; the region is in the signature's scope.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from typing import Final
from urllib.parse import quote

from aiosmrt.config import Credentials
from aiosmrt.errors import ParameterError
from aiosmrt.models import BearerToken
from aiosmrt.signing.sigv4 import ALGORITHM, derive_key

__all__ = ["check_expires_in", "make_bearer_token"]

_LONGEST: Final = 43_200  # seconds; the generator's bound, and its default
_HOST: Final = "sagemaker.amazonaws.com"
_SERVICE: Final = "sagemaker"
_PREFIX: Final = "sagemaker-api-key-"
_EMPTY: Final = hashlib.sha256(b"").hexdigest()


def check_expires_in(seconds: object) -> None:
    """Refuse a life that no token can have.

    Raises:
        ParameterError: it is not an int from 1 to 43,200.
    """
    if seconds.__class__ is not int or not 1 <= seconds <= _LONGEST:
        raise ParameterError(
            f"expires_in={seconds!r}: a token lives for a whole number of seconds, 1 to {_LONGEST} "
            f"(12 hours)"
        )


def make_bearer_token(
    credentials: Credentials, region: str, now: datetime.datetime, expires_in: int
) -> BearerToken:
    """Make a token; nobody is asked, whatever the rights of its credentials are.

    Args:
        credentials: whose token it is.
        region: of the endpoints that it is for, and no others.
        now: its beginning, an aware datetime, which counts to the second.
        expires_in: seconds of its life, 1 to 43,200.
    """
    began = now.astimezone(datetime.UTC).replace(microsecond=0)
    timestamp = began.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{timestamp[:8]}/{region}/{_SERVICE}/aws4_request"
    parameters = {
        "Action": "CallWithBearerToken",
        "X-Amz-Algorithm": ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
        "X-Amz-Date": timestamp,
        "X-Amz-Expires": str(expires_in),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session_token:
        parameters["X-Amz-Security-Token"] = credentials.session_token
    pairs = [f"{name}={quote(value, safe='-._~')}" for name, value in parameters.items()]
    query = "&".join(sorted(pairs))
    request = f"POST\n/\n{query}\nhost:{_HOST}\n\nhost\n{_EMPTY}"
    request_hash = hashlib.sha256(request.encode()).hexdigest()
    to_sign = f"{ALGORITHM}\n{timestamp}\n{scope}\n{request_hash}"
    key = derive_key(credentials.secret_access_key, timestamp[:8], region, _SERVICE)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    # The version is no part of what is signed.
    signed = f"{_HOST}/?{'&'.join(pairs)}&X-Amz-Signature={signature}&Version=1"
    token = _PREFIX + base64.b64encode(signed.encode()).decode()
    return BearerToken(token, began + datetime.timedelta(seconds=expires_in))
