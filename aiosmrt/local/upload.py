"""The body of a PutObject: its encoding and its checksums. Pure.

`aws-chunked` is described in "Signature calculations for the authorization header: transferring
payload in multiple chunks" of the S3 API reference; the checksums in "Checking object integrity".
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping

from aiosmrt.errors import ServiceError
from aiosmrt.local.authorization import UNSIGNED_PAYLOADS
from aiosmrt.local.objects import StoredObject

__all__ = ["decode_chunks", "read_kept_headers", "read_upload"]

# What describes an object, and is given back with it ("System-defined object metadata").
_KEPT = frozenset(
    (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
    )
)

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\r\n]*)?\r\n")


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _sha1(body: bytes) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).digest()


# Those of S3's checksums that the standard library has; others are taken on trust.
_DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "content-md5": _md5,
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha1": _sha1,
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
}


def read_upload(headers: Mapping[str, str], body: bytes) -> StoredObject:
    """Make the object that a request stores; header names are in lower case.

    Slow for large bodies: it hashes them.

    Raises:
        ServiceError: 400, under S3's names: the body is not what the headers or the trailers say.
    """
    told = headers.get("x-amz-content-sha256", UNSIGNED_PAYLOADS[0])
    if "aws-chunked" in headers.get("content-encoding", ""):
        body, trailers = decode_chunks(body)
        headers = {**headers, **trailers}
        length = headers.get("x-amz-decoded-content-length")
        if length is not None and length != str(len(body)):
            raise _refuse(
                "IncompleteBody",
                f"x-amz-decoded-content-length says {length} bytes, there are {len(body)}.",
            )
    elif told not in UNSIGNED_PAYLOADS and told != hashlib.sha256(body).hexdigest():
        raise _refuse(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )
    for name, digest in _DIGESTS.items():
        if name in headers and headers[name] != base64.b64encode(digest(body)).decode():
            raise _refuse("BadDigest", f"The {name} you specified did not match what we received.")
    content_type = headers.get("content-type", "binary/octet-stream")
    return StoredObject(body, content_type, headers=read_kept_headers(headers))


def read_kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Give those headers of an upload that are stored with the object, but its content type."""
    kept = {
        name: value
        for name, value in headers.items()
        if name in _KEPT or name.startswith("x-amz-meta-")
    }
    # The encoding of the transfer is none of the object.
    codings = [coding.strip() for coding in kept.pop("content-encoding", "").split(",")]
    coding = ",".join(coding for coding in codings if coding not in {"", "aws-chunked"})
    return {**kept, "content-encoding": coding} if coding else kept


def decode_chunks(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Give the payload and the trailers (names in lower case) of an `aws-chunked` body.

    Signatures of chunks are not looked at.

    Raises:
        ServiceError: 400 IncompleteBody, malformed or cut.
    """
    chunks: list[bytes] = []
    at = 0
    while True:
        head = _CHUNK.match(body, at)
        if head is None:
            raise _refuse("IncompleteBody", f"No chunk of aws-chunked begins at byte {at}.")
        size = int(head[1], 16)
        at = head.end() + size
        if not size:
            return b"".join(chunks), _read_trailers(body[at:])
        chunks.append(body[head.end() : at])
        if body[at : at + 2] != b"\r\n":
            raise _refuse("IncompleteBody", f"The chunk of aws-chunked does not end at byte {at}.")
        at += 2


def _read_trailers(rest: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in rest.decode("latin-1").split("\r\n") if line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _refuse(code: str, message: str) -> ServiceError:
    return ServiceError(message, code=code, status=400)
