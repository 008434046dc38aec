"""Signature Version 4 as services check it, in a header or in the query: one key pair. Pure.

Written against AWS' description of the signing process ("Create a signed AWS API request"), not
on top of `aiosmrt.signing.sigv4`, so that a slip in the one is no slip in the other.
"""

from __future__ import annotations

import base64
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
    "names_signature",
    "read_scope",
]

_ALGORITHM = "AWS4-HMAC-SHA256"
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"
_SCOPE = re.compile(r"/[0-9]{8}/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/aws4_request")

UNSIGNED_PAYLOADS = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
"""What `x-amz-content-sha256` may say in place of a hash; the second means `aws-chunked`."""

# Of a URL that is signed in the way that was before this one, as boto3 does it where it was not
# told otherwise: HMAC-SHA1 ("Signing and authenticating REST requests", S3 developer guide).
_FORMER = ("AWSAccessKeyId", "Signature", "Expires")
# Parameters that such a signature covers.
_FORMER_SUBRESOURCES = frozenset(
    (
        *("delete", "location", "partNumber", "uploadId", "uploads"),
        *("response-cache-control", "response-content-disposition", "response-content-encoding"),
        *("response-content-language", "response-content-type", "response-expires"),
    )
)
_LONGEST = 604_800  # seconds, a week, for which a URL can be signed


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
    region: str | None = None  # the only one that is welcome; None: each of them


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

    @property
    def query(self) -> dict[str, str]:
        """The parameters behind the path, decoded; of several of one name the last."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@attrs.frozen
class _Authorization:
    access_key_id: str
    date: str  # yyyymmdd
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    signed_at: str  # yyyymmddThhmmssZ
    seconds: int | None = None  # for which a signature in the query holds; None: in a header

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

    For S3 the body is not looked at: it has
    to match the header `x-amz-content-sha256`, and that is for the reader of the body to see.

    Raises:
        ServiceError: 400 or 403, under the service's names.
    """
    header, query = request.headers.get("authorization"), request.query
    if header is None and rules.like_s3 and "AWSAccessKeyId" in query:
        _check_former(request, credentials, now, rules)
        return
    if header is not None:
        authorization = _parse(header, request.headers.get("x-amz-date", ""), rules)
    elif "X-Amz-Signature" in query:
        authorization = _parse_query(query, rules)
    else:
        raise _refuse(
            rules.missing,
            "Missing Authentication Token: the request has no Authorization header, and no "
            "signature in its query.",
        )
    if authorization.access_key_id != credentials.access_key_id:
        raise _refuse(
            rules.unknown_key,
            "The security token included in the request is invalid. The local endpoint knows the "
            f"access key id {credentials.access_key_id!r}, not {authorization.access_key_id!r}.",
        )
    date = _check_date(authorization, now, rules)
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


def read_scope(request: SignedRequest) -> tuple[str, str | None]:
    """Give region and service of a signature's credential scope: us-east-1 and None without one."""
    query = request.query
    header = request.headers.get("authorization")
    match = _SCOPE.search(query.get("X-Amz-Credential", "") if header is None else header)
    if match is not None:
        return match["region"], match["service"]
    return "us-east-1", "s3" if header is None and "AWSAccessKeyId" in query else None


def names_signature(name: str, query: Mapping[str, str]) -> bool:
    """Tell whether a parameter of the query belongs to a signature, or is a header in disguise."""
    return name.lower().startswith("x-amz-") or (name in _FORMER and "AWSAccessKeyId" in query)


def _refuse(code: str, message: str, status: int = 403) -> ServiceError:
    return ServiceError(message, code=code, status=status)


def _parse(header: str, signed_at: str, rules: SigningRules) -> _Authorization:
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
    signed = tuple(fields["SignedHeaders"].split(";"))
    credential = _parse_credential(fields["Credential"], rules)
    return _Authorization(*credential, signed, fields["Signature"], signed_at)


def _parse_query(query: Mapping[str, str], rules: SigningRules) -> _Authorization:
    names = ("Credential", "Date", "Expires", "SignedHeaders", "Signature")
    missing = [f"X-Amz-{name}" for name in names if not query.get(f"X-Amz-{name}")]
    seconds = query.get("X-Amz-Expires", "")
    if missing or query.get("X-Amz-Algorithm") != _ALGORITHM:
        problem = f"the query lacks {', '.join(missing)}" if missing else "X-Amz-Algorithm"
        raise _refuse(
            rules.malformed,
            f"A signature in the query takes X-Amz-Algorithm={_ALGORITHM} and the parameters "
            f"X-Amz-{', X-Amz-'.join(names)}: {problem}.",
            rules.malformed_status,
        )
    if not re.fullmatch("[0-9]{1,6}", seconds) or not 1 <= int(seconds) <= _LONGEST:
        raise _refuse(
            rules.malformed,
            f"X-Amz-Expires must be 1 to {_LONGEST} seconds, not {seconds!r}.",
            rules.malformed_status,
        )
    return _Authorization(
        *_parse_credential(query["X-Amz-Credential"], rules),
        tuple(query["X-Amz-SignedHeaders"].split(";")),
        query["X-Amz-Signature"],
        query["X-Amz-Date"],
        int(seconds),
    )


def _parse_credential(text: str, rules: SigningRules) -> tuple[str, str, str, str]:
    # From the right: an access key id may contain a slash, the scope's four words may not.
    match text.rsplit("/", 4):
        case [key_id, date, region, service, "aws4_request"]:
            return key_id, date, region, service
    raise _refuse(
        rules.malformed,
        "Credential must be <access key id>/<yyyymmdd>/<region>/<service>/aws4_request, not "
        f"{text!r}.",
        rules.malformed_status,
    )


def _check_former(
    request: SignedRequest,
    credentials: Credentials,
    now: datetime.datetime,
    rules: SigningRules,
) -> None:
    """Check a URL that is signed by Signature Version 2."""
    query, headers = request.query, request.headers
    if query["AWSAccessKeyId"] != credentials.access_key_id:
        raise _refuse(
            rules.unknown_key,
            f"The local endpoint knows the access key id {credentials.access_key_id!r}, not "
            f"{query['AWSAccessKeyId']!r}.",
        )
    expires = query.get("Expires", "")
    if not re.fullmatch("[0-9]{1,12}", expires) or int(expires) < now.timestamp():
        raise _refuse("AccessDenied", "Request has expired")
    amazon = "".join(
        f"{name}:{' '.join(value.split())}\n"
        for name, value in sorted(headers.items())
        if name.startswith("x-amz-")
    )
    path = request.target.partition("?")[0]
    asked = "&".join(
        f"{name}={value}" if value else name
        for name, value in sorted(query.items())
        if name in _FORMER_SUBRESOURCES
    )
    said = (request.method, headers.get("content-md5", ""), headers.get("content-type", ""))
    # The resource begins with the bucket; whoever knows of no other place signs all of the path.
    for resource in {path, re.sub("^/s3(?=/)", "", path)}:
        told = f"{resource}?{asked}" if asked else resource
        to_sign = "\n".join((*said, expires, amazon + told))
        secret = _encode(credentials.secret_access_key)
        digest = hmac.digest(secret, _encode(to_sign), "sha1")
        if hmac.compare_digest(
            base64.b64encode(digest), _encode(query.get("Signature", "").replace(" ", "+"))
        ):
            return
    raise _refuse(
        rules.mismatch,
        "The request signature we calculated does not match the signature you provided. Check your "
        "AWS Secret Access Key and signing method.",
    )


def _check_date(
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
    if rules.region not in (None, authorization.region):
        raise _refuse(
            rules.mismatch,
            f"Credential should be scoped to a valid region: {rules.region!r}, not "
            f"{authorization.region!r}.",
        )
    text = authorization.signed_at
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
    if authorization.seconds is not None:
        earliest = now - datetime.timedelta(seconds=authorization.seconds)
        if date < earliest:
            raise _refuse("AccessDenied" if rules.like_s3 else rules.skewed, "Request has expired")
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
    in_query = authorization.seconds is not None
    by_header = () if in_query else ("x-amz-date",)
    hashed = ("x-amz-content-sha256",) if rules.like_s3 and not in_query else ()
    wanted = ("host", *by_header, *hashed)
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
        if not (in_query and name == "X-Amz-Signature")
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
    # A URL is signed before there is anything to send.
    told = request.headers.get("x-amz-content-sha256", UNSIGNED_PAYLOADS[0])
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
