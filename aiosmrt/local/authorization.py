"""Signature Version 4 as the service checks it: an `Authorization` header, one key pair. Pure.

Written against AWS' description of the signing process ("Create a signed AWS API request"), not
on top of `aiosmrt.signing`, so that a slip in the one is no slip in the other.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote

import attrs

from aiosmrt.config import Credentials
from aiosmrt.errors import ServiceError

__all__ = ["SignedRequest", "check_authorization"]

_ALGORITHM = "AWS4-HMAC-SHA256"
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"
_TOLERANCE = datetime.timedelta(minutes=5)


@attrs.frozen
class SignedRequest:
    """A request as it came in."""

    method: str
    target: str  # path and query, as on the wire
    headers: Mapping[str, str]  # names in lower case, repeated ones joined by ","
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class _Authorization:
    access_key_id: str
    date: str  # yyyymmdd
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def check_authorization(
    request: SignedRequest, credentials: Credentials, now: datetime.datetime
) -> None:
    """Check that the request was signed with this key pair, at most 5 minutes from `now` (UTC).

    Every region is welcome: a local endpoint is in none.

    Raises:
        ServiceError: 403, under the service's names.
    """
    header = request.headers.get("authorization")
    if header is None:
        raise _refuse(
            "MissingAuthenticationTokenException",
            "Missing Authentication Token: the request has no Authorization header.",
        )
    authorization = _parse(header)
    if authorization.access_key_id != credentials.access_key_id:
        raise _refuse(
            "UnrecognizedClientException",
            "The security token included in the request is invalid. The local endpoint knows the "
            f"access key id {credentials.access_key_id!r}, not {authorization.access_key_id!r}.",
        )
    date = _check_date(request, authorization, now)
    canonical = _canonicalize(request, authorization)
    to_sign = "\n".join((_ALGORITHM, date, authorization.scope, _hash(canonical)))
    expected = _sign(credentials.secret_access_key, authorization, to_sign)
    if not hmac.compare_digest(expected.encode(), authorization.signature.encode()):
        raise _refuse(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method.\n\nThe Canonical String for this "
            f"request should have been\n'{canonical}'\n\nThe String-to-Sign should have been\n"
            f"'{to_sign}'\n",
        )


def _refuse(code: str, message: str) -> ServiceError:
    return ServiceError(message, code=code, status=403)


def _parse(header: str) -> _Authorization:
    algorithm, _, rest = header.partition(" ")
    fields = {}
    for field in rest.split(","):
        name, _, value = field.strip().partition("=")
        fields[name] = value
    problems = [
        f"Authorization header requires {name!r} parameter."
        for name in ("Credential", "SignedHeaders", "Signature")
        if not fields.get(name)
    ]
    if algorithm != _ALGORITHM:
        problems = [f"Authorization header must begin with {_ALGORITHM!r}, not {algorithm!r}."]
    if problems:
        raise _refuse("IncompleteSignatureException", " ".join(problems))
    # From the right: an access key id may contain a slash, the scope's four words may not.
    match fields["Credential"].rsplit("/", 4):
        case [key_id, date, region, service, "aws4_request"]:
            signed = tuple(fields["SignedHeaders"].split(";"))
            return _Authorization(key_id, date, region, service, signed, fields["Signature"])
    raise _refuse(
        "IncompleteSignatureException",
        "Credential must be <access key id>/<yyyymmdd>/<region>/<service>/aws4_request, not "
        f"{fields['Credential']!r}.",
    )


def _check_date(
    request: SignedRequest, authorization: _Authorization, now: datetime.datetime
) -> str:
    if authorization.service != "sagemaker":
        raise _refuse(
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'sagemaker', not "
            f"{authorization.service!r}.",
        )
    text = request.headers.get("x-amz-date", "")
    try:
        date = datetime.datetime.strptime(text, _DATE_FORMAT).replace(tzinfo=datetime.UTC)
    except ValueError:
        raise _refuse(
            "IncompleteSignatureException",
            f"X-Amz-Date must be given as yyyymmddThhmmssZ, not {text!r}.",
        ) from None
    if not text.startswith(authorization.date):
        raise _refuse(
            "InvalidSignatureException",
            f"Date in Credential scope does not match X-Amz-Date: {authorization.date!r} != "
            f"{text[:8]!r}.",
        )
    present = now.strftime(_DATE_FORMAT)
    if date < now - _TOLERANCE:
        limit = (now - _TOLERANCE).strftime(_DATE_FORMAT)
        raise _refuse(
            "InvalidSignatureException",
            f"Signature expired: {text} is now earlier than {limit} ({present} - 5 min.)",
        )
    if date > now + _TOLERANCE:
        limit = (now + _TOLERANCE).strftime(_DATE_FORMAT)
        raise _refuse(
            "InvalidSignatureException",
            f"Signature not yet current: {text} is still later than {limit} ({present} + 5 min.)",
        )
    return text


def _canonicalize(request: SignedRequest, authorization: _Authorization) -> str:
    signed = authorization.signed_headers
    missing = [name for name in ("host", "x-amz-date") if name not in signed]
    if missing:
        raise _refuse(
            "InvalidSignatureException", f"SignedHeaders must name {' and '.join(missing)}."
        )
    unknown = [name for name in signed if name not in request.headers]
    if unknown:
        raise _refuse(
            "InvalidSignatureException",
            f"SignedHeaders names {', '.join(unknown)}, which the request does not have.",
        )
    path, _, query = request.target.partition("?")
    pairs = sorted(
        (quote(name, safe="~"), quote(value, safe="~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return "\n".join(
        (
            request.method,
            # Encoded once more than on the wire. Dot segments would be removed here, but no
            # operation's path has any.
            quote(path, safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def _hash(text: str) -> str:
    return hashlib.sha256(_encode(text)).hexdigest()


def _encode(text: str) -> bytes:
    # Header values come from aiohttp, which decodes them like this.
    return text.encode("utf-8", "surrogateescape")


def _sign(secret: str, authorization: _Authorization, to_sign: str) -> str:
    key = _encode("AWS4" + secret)
    for word in authorization.scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()
