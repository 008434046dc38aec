"""Signature Version 4 over a plain request.

The rules are those of "Signature Version 4 signing process" in the IAM User Guide, as its official
test suite and botocore apply them. The payload is always hashed: the service takes no unsigned one.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import string
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

import attrs

from aiosmrt.config import Credentials
from aiosmrt.http import Request

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ALGORITHM", "UNSIGNED_HEADERS", "Signer", "derive_key"]

UNSIGNED_HEADERS = frozenset(
    {
        # What proxies and tracers add or rewrite on the way; botocore leaves out the same ones.
        "baggage",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
        # The SDKs add these after they have signed.
        "amz-sdk-invocation-id",
        "amz-sdk-request",
        # What a former signature left behind.
        "authorization",
    }
)
"""Headers, names in lower case, that no signature covers."""

# The canonical requests of one second but for the hashes of their bodies, by all that is signed of
# them: the calls of an endpoint mostly differ in nothing else.
_Known: TypeAlias = dict[tuple[object, ...], tuple[str, str]]
# How many are remembered: where each has a header of its own, remembering is of no use.
_KNOWN = 64

# What the key is combined with before each of the two hashes of an HMAC (RFC 2104, section 2).
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))

ALGORITHM = "AWS4-HMAC-SHA256"


@attrs.define(eq=False, repr=False)
class Signer:
    """Signs requests for one service in one region, whoever's credentials they carry.

    The signing key is good for a day and a secret; the last one used is kept, none else.
    A signer is not bound to a thread or an event loop.

    Args:
        region: the region of the credential scope, `us-east-1`.
        service: the signing name of the service.
        normalize_path: whether the path loses its dot segments and empty segments and is
            percent-encoded once more. Every service wants that but S3, which signs the path as
            it is on the wire.
        content_sha256: whether the body's hash is also sent, as S3 wants, in the signed header
            `x-amz-content-sha256`.
    """

    region: str
    service: str = "sagemaker"
    normalize_path: bool = attrs.field(default=True, kw_only=True)
    content_sha256: bool = attrs.field(default=False, kw_only=True)
    # What was made last, with what it was made of: one tuple each, so that a reader in another
    # thread never sees the parts of two.
    _second: tuple[int, tuple[str, str, _Known]] = attrs.field(
        default=(-1, ("", "", {})), init=False, repr=False
    )
    _keyed: tuple[str, str, _Hash, _Hash] = attrs.field(
        factory=lambda: ("", "", hashlib.sha256(), hashlib.sha256()), init=False, repr=False
    )

    def sign(
        self, request: Request, credentials: Credentials, now: datetime.datetime
    ) -> dict[str, str]:
        """Give the headers that make the request a signed one; the request stays as it is.

        Every header of the request is signed but `UNSIGNED_HEADERS`, and so is its host. Headers
        of a former signature are replaced: a request can be signed again and again.

        Args:
            request: what is about to be sent. A header `x-amz-content-sha256` that it carries
                stands for the body's hash, unless this signer writes that header itself.
            credentials: whose signature it is.
            now: the signature's time, an aware datetime; the service takes it five minutes long.

        Returns:
            `authorization`, `x-amz-date`, for a session `x-amz-security-token`, and where this
            signer was asked for it `x-amz-content-sha256`; they take the place of what the
            request has under those names.
        """
        timestamp, scope, known = self._begin(now)
        added = {"x-amz-date": timestamp}
        if credentials.session_token:
            added["x-amz-security-token"] = credentials.session_token
        payload_hash = None if self.content_sha256 else request.headers.get("x-amz-content-sha256")
        if payload_hash is None:
            payload_hash = request.body_hash or hashlib.sha256(request.body).hexdigest()
        if self.content_sha256:
            added["x-amz-content-sha256"] = payload_hash

        headers = {**request.headers, **added}
        signed = tuple([item for item in headers.items() if item[0] not in UNSIGNED_HEADERS])
        key = (request.method, request.origin, request.path, request.query, signed)
        found = known.get(key)
        if found is None:
            if len(known) >= _KNOWN:
                known.clear()
            found = known[key] = self._canonicalize(request, dict(signed))
        head, signed_names = found
        request_hash = hashlib.sha256(f"{head}{payload_hash}".encode()).hexdigest()
        string_to_sign = f"{ALGORITHM}\n{timestamp}\n{scope}\n{request_hash}"
        inner, signature = self._key_hash(credentials.secret_access_key, timestamp[:8])
        inner.update(string_to_sign.encode())
        signature.update(inner.digest())
        added["authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
            f"SignedHeaders={signed_names}, Signature={signature.hexdigest()}"
        )
        return added

    def _begin(self, now: datetime.datetime) -> tuple[str, str, _Known]:
        """Give timestamp and scope, and what is known of requests with that timestamp."""
        second = int(now.timestamp())
        last, begun = self._second
        if last != second:
            timestamp = now.astimezone(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
            scope = f"{timestamp[:8]}/{self.region}/{self.service}/aws4_request"
            begun = (timestamp, scope, {})
            self._second = (second, begun)
        return begun

    def _canonicalize(self, request: Request, headers: dict[str, str]) -> tuple[str, str]:
        """Give the canonical request up to its last line, the body's hash, and the names in it."""
        headers["host"] = request.host
        names = sorted(headers)
        signed_names = ";".join(names)
        canonical_headers = "".join(
            [f"{name}:{' '.join(headers[name].split())}\n" for name in names]
        )
        path = _canonical_path(request.path) if self.normalize_path else request.path
        head = (
            f"{request.method.upper()}\n{path}\n{_canonical_query(request.query)}\n"
            f"{canonical_headers}\n{signed_names}\n"
        )
        return head, signed_names

    def _key_hash(self, secret: str, date: str) -> tuple[_Hash, _Hash]:
        """Give the inner and the outer hash of an HMAC, the signing key taken in (RFC 2104).

        They are copies: that costs a third of what `hmac.digest` does to key them each time.
        """
        cached_secret, cached_date, inner, outer = self._keyed
        if cached_date != date or cached_secret != secret:
            key = derive_key(secret, date, self.region, self.service)
            block = key.ljust(hashlib.sha256().block_size, b"\0")
            inner = hashlib.sha256(block.translate(_INNER_PAD))
            outer = hashlib.sha256(block.translate(_OUTER_PAD))
            self._keyed = (secret, date, inner, outer)
        return inner.copy(), outer.copy()


def derive_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Give the signing key of a day, `yyyymmdd`."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_path(path: str) -> str:
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    tail = "/" if segments and path.endswith("/") else ""
    return quote(f"/{'/'.join(segments)}{tail}", safe="/~")


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    # The query is encoded already; only what no URL can hold is left to encode.
    return quote("&".join(f"{name}={value}" for name, value in pairs), safe=string.punctuation)
