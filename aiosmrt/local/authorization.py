"""Signature Version 4 as services check it: an `Authorization` header, one key pair. Pure.

Written against AWS' description of the signing process ("Create a signed AWS API request"), not
on top of `aiosmrt.signing.sigv4`, so that a slip in the one is no slip in the other.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import attrs

from aiosmrt.config import Credentials
from aiosmrt.errors import ServiceError
from aiosmrt.redaction import redact

__all__ = [
    "S3_SIGNING",
    "SAGEMAKER_SIGNING",
    "UNSIGNED_PAYLOADS",
    "SignedRequest",
    "SigningRules",
    "check_authorization",
    "read_region",
]

_ALGORITHM = "AWS4-HMAC-SHA256"
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"
_SCOPE = re.compile(r"Credential=[^,]*/[0-9]{8}/(?P<region>[a-z0-9-]+)/[a-z0-9]+/aws4_request")

UNSIGNED_PAYLOADS = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
"""What `x-amz-content-sha256` may say in place of a hash; the second means `aws-chunked`."""


@attrs.frozen
class SigningRules:
    """What a service wants of a signature, and its codes for one that it does not get."""

    service: str  # its name in the credential scope
    tolerance: datetime.timedelta  # how far a request's date may be from the service's clock
    missing: str  # no signature at all
    malformed: str  # one that cannot be read
    malformed_status: int
    unknown_key: str
    mismatch: str
    skewed: str  # the clocks differ by more than the tolerance
    # S3 takes the path as it is and the payload's hash from x-amz-content-sha256, which may say
    # that there is none; every other service encodes the path once more and hashes the body.
    like_s3: bool = False


SAGEMAKER_SIGNING = SigningRules(
    "sagemaker",
    datetime.timedelta(minutes=5),
    missing="MissingAuthenticationTokenException",
    malformed="IncompleteSignatureException",
    malformed_status=403,
    unknown_key="UnrecognizedClientException",
    mismatch="InvalidSignatureException",
    skewed="InvalidSignatureException",
)
# "Error responses" in the S3 API reference.
S3_SIGNING = SigningRules(
    "s3",
    datetime.timedelta(minutes=15),
    missing="AccessDenied",
    malformed="AuthorizationHeaderMalformed",
    malformed_status=400,
    unknown_key="InvalidAccessKeyId",
    mismatch="SignatureDoesNotMatch",
    skewed="RequestTimeTooSkewed",
    like_s3=True,
)


@attrs.frozen
class SignedRequest:
    """A request as it came in."""

    method: str
    target: str  # path and query, as on the wire
    # names in lower case, repeated ones joined by ","
    headers: Mapping[str, str] = attrs.field(repr=redact)
    body: bytes = attrs.field(repr=redact)


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
    request: SignedRequest,
    credentials: Credentials,
    now: datetime.datetime,
    rules: SigningRules = SAGEMAKER_SIGNING,
) -> None:
    """Check that the request was signed with this key pair, not too far from `now` (UTC).

    Every region is welcome: a local endpoint is in none. For S3 the body is not looked at: it has
    to match the header `x-amz-content-sha256`, and that is for the reader of the body to see.

    Raises:
        ServiceError: 400 or 403, under the service's names.
    """
    header = request.headers.get("authorization")
    if header is None:
        raise _refuse(
            rules.missing,
            "Missing Authentication Token: the request has no Authorization header.",
        )
    authorization = _parse(header, rules)
    if authorization.access_key_id != credentials.access_key_id:
        raise _refuse(
            rules.unknown_key,
            "The security token included in the request is invalid. The local endpoint knows the "
            f"access key id {credentials.access_key_id!r}, not {authorization.access_key_id!r}.",
        )
    date = _check_date(request, authorization, now, rules)
    canonical = _canonicalize(request, authorization, rules)
    to_sign = "\n".join((_ALGORITHM, date, authorization.scope, _hash(canonical)))
    expected = _sign(credentials.secret_access_key, authorization, to_sign)
    if not hmac.compare_digest(expected.encode(), authorization.signature.encode()):
        raise _refuse(
            rules.mismatch,
            "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method.\n\nThe Canonical String for this "
            f"request should have been\n'{canonical}'\n\nThe String-to-Sign should have been\n"
            f"'{to_sign}'\n",
        )


def read_region(header: str | None) -> str:
    """Give the region in the credential scope of an `Authorization` header, us-east-1 if none."""
    match = _SCOPE.search(header or "")
    return match["region"] if match else "us-east-1"


def _refuse(code: str, message: str, status: int = 403) -> ServiceError:
    return ServiceError(message, code=code, status=status)


def _parse(header: str, rules: SigningRules) -> _Authorization:
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
        raise _refuse(rules.malformed, " ".join(problems), rules.malformed_status)
    # From the right: an access key id may contain a slash, the scope's four words may not.
    match fields["Credential"].rsplit("/", 4):
        case [key_id, date, region, service, "aws4_request"]:
            signed = tuple(fields["SignedHeaders"].split(";"))
            return _Authorization(key_id, date, region, service, signed, fields["Signature"])
    raise _refuse(
        rules.malformed,
        "Credential must be <access key id>/<yyyymmdd>/<region>/<service>/aws4_request, not "
        f"{fields['Credential']!r}.",
        rules.malformed_status,
    )


def _check_date(
    request: SignedRequest,
    authorization: _Authorization,
    now: datetime.datetime,
    rules: SigningRules,
) -> str:
    if authorization.service != rules.service:
        raise _refuse(
            rules.mismatch,
            f"Credential should be scoped to correct service: {rules.service!r}, not "
            f"{authorization.service!r}.",
        )
    text = request.headers.get("x-amz-date", "")
    try:
        date = datetime.datetime.strptime(text, _DATE_FORMAT).replace(tzinfo=datetime.UTC)
    except ValueError:
        raise _refuse(
            rules.malformed,
            f"X-Amz-Date must be given as yyyymmddThhmmssZ, not {text!r}.",
            rules.malformed_status,
        ) from None
    if not text.startswith(authorization.date):
        raise _refuse(
            rules.mismatch,
            f"Date in Credential scope does not match X-Amz-Date: {authorization.date!r} != "
            f"{text[:8]!r}.",
        )
    present, minutes = now.strftime(_DATE_FORMAT), rules.tolerance // datetime.timedelta(minutes=1)
    earliest, latest = now - rules.tolerance, now + rules.tolerance
    if date < earliest:
        raise _refuse(
            rules.skewed,
            f"Signature expired: {text} is now earlier than {earliest.strftime(_DATE_FORMAT)} "
            f"({present} - {minutes} min.)",
        )
    if date > latest:
        raise _refuse(
            rules.skewed,
            f"Signature not yet current: {text} is still later than "
            f"{latest.strftime(_DATE_FORMAT)} ({present} + {minutes} min.)",
        )
    return text


def _canonicalize(
    request: SignedRequest, authorization: _Authorization, rules: SigningRules
) -> str:
    signed = authorization.signed_headers
    wanted = ("host", "x-amz-date", *(["x-amz-content-sha256"] if rules.like_s3 else []))
    missing = [name for name in wanted if name not in signed]
    if missing:
        raise _refuse(rules.mismatch, f"SignedHeaders must name {' and '.join(missing)}.")
    unknown = [name for name in signed if name not in request.headers]
    if unknown:
        raise _refuse(
            rules.mismatch,
            f"SignedHeaders names {', '.join(unknown)}, which the request does not have.",
        )
    path, _, query = request.target.partition("?")
    pairs = sorted(
        (quote(name, safe="~"), quote(value, safe="~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    if rules.like_s3:
        # A client may send as it is what it signs encoded.
        path = quote(unquote_to_bytes(_encode(path)), safe="/~")
        payload_hash = _read_payload_hash(request)
    else:
        # Encoded once more than on the wire. Dot segments would be removed here, but no
        # operation's path has any.
        path = quote(path, safe="/~")
        payload_hash = hashlib.sha256(request.body).hexdigest()
    return "\n".join(
        (
            request.method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            payload_hash,
        )
    )


def _read_payload_hash(request: SignedRequest) -> str:
    told = request.headers["x-amz-content-sha256"]
    if told not in UNSIGNED_PAYLOADS and not re.fullmatch("[0-9a-f]{64}", told):
        raise _refuse(
            "NotImplemented",
            f"x-amz-content-sha256: the local S3 takes the body's SHA-256 in hex or one of "
            f"{', '.join(UNSIGNED_PAYLOADS)}, not {told!r}.",
            status=501,
        )
    return told


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
