"""The part of S3's API that async inference needs: objects in, out and listed, in path style."""

from __future__ import annotations

import base64
import binascii
import email.utils
import functools
import html
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote_plus, unquote

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.local.authorization import SignedRequest
from aiosmrt.local.objects import ObjectStore, StoredObject
from aiosmrt.local.upload import read_upload
from aiosmrt.threads import run_in_thread

__all__ = ["PATH", "S3", "S3Answer", "encode_s3_error"]

PATH = "/s3"
"""Where it is served; a bucket's name and an object's key come behind it."""

_XML = {"Content-Type": "application/xml"}
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_MAX_KEYS = 1000  # per page; the limit of ListObjectsV2
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
# JavaScript's SDK says with x-id what it is calling.
_LISTING = {"list-type", "prefix", "continuation-token", "start-after", "max-keys", "encoding-type"}


@attrs.frozen
class S3Answer:
    """An answer; that to HEAD has the body whose length is told."""

    status: int
    headers: dict[str, str]
    body: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class S3:
    """Answers PutObject, GetObject, HeadObject, ListObjectsV2, CreateBucket and HeadBucket.

    Of an object's headers only its content type is kept.

    Args:
        objects: where they are kept.
        list_permission: whether callers have `s3:ListBucket`; S3 tells those without it 403
            AccessDenied of a key that does not exist, so that nobody learns what does.
    """

    objects: ObjectStore
    list_permission: bool = True

    async def answer(self, request: SignedRequest) -> S3Answer:
        """Carry out a request whose signature is sound.

        Raises:
            ServiceError: under S3's names.
        """
        path, _, query = request.target.partition("?")
        bucket, _, key = _decode(path.removeprefix(PATH).removeprefix("/")).partition("/")
        given = dict(parse_qsl(query, keep_blank_values=True))
        given.pop("x-id", None)
        location = f"s3://{bucket}/{key}"
        match request.method:
            case "PUT" if key and not given and "x-amz-copy-source" not in request.headers:
                # In a thread, as hashing may take seconds; and not in one of the loop's pool,
                # where blocking clients of this very S3 may wait.
                work = functools.partial(read_upload, request.headers, request.body)
                stored = await run_in_thread(work)
                self.objects.put(location, stored)
                return S3Answer(200, {"ETag": stored.etag})
            case "PUT" if bucket and not key and not given:
                self.objects.make_bucket(bucket)
                return S3Answer(200, {"Location": f"/{bucket}"})
            case "GET" | "HEAD" if key and not given:
                return _give(self._get(location), request.headers.get("range", ""))
            case "HEAD" if bucket and not key and not given:
                self._find_keys(bucket)
                return S3Answer(200, {})
            case "GET" if not key and given.get("list-type") == "2" and given.keys() <= _LISTING:
                return self._list(bucket, given)
        raise ServiceError(
            f"{request.method} {request.target} is not implemented. The local S3 has PutObject, "
            "GetObject, HeadObject, ListObjectsV2 without a delimiter, CreateBucket and "
            "HeadBucket: no copies, no multipart uploads, no presigned URLs.",
            code="NotImplemented",
            status=501,
        )

    def _get(self, location: str) -> StoredObject:
        try:
            return self.objects.get(location)
        except ServiceError as error:
            if error.code == "NoSuchKey" and not self.list_permission:
                raise _deny() from None
            raise

    def _find_keys(self, bucket: str, prefix: str = "") -> list[str]:
        if not self.list_permission:
            raise _deny()
        return self.objects.find_keys(bucket, prefix)

    def _list(self, bucket: str, given: dict[str, str]) -> S3Answer:
        prefix, start_after = given.get("prefix", ""), given.get("start-after", "")
        limit = _read_limit(given.get("max-keys", str(_MAX_KEYS)))
        token = given.get("continuation-token")
        last = start_after if token is None else _read_token(token)
        keys = [key for key in self._find_keys(bucket, prefix) if key > last]
        page = keys[:limit]
        truncated = bool(page) and len(page) < len(keys)
        encode = _encode_key if given.get("encoding-type") == "url" else str
        inner = _write(
            {
                "Name": bucket,
                "Prefix": encode(prefix),
                "StartAfter": encode(start_after) or None,
                "KeyCount": str(len(page)),
                "MaxKeys": str(limit),
                "EncodingType": given.get("encoding-type"),
                "IsTruncated": str(truncated).lower(),
                "ContinuationToken": token,
                "NextContinuationToken": _write_token(page[-1]) if truncated else None,
            }
        )
        for key in page:
            contents = _describe(encode(key), self.objects.get(f"s3://{bucket}/{key}"))
            inner += f"<Contents>{_write(contents)}</Contents>"
        return S3Answer(200, _XML, _document("ListBucketResult", inner, f' xmlns="{_NAMESPACE}"'))


def encode_s3_error(error: ServiceError, resource: str, request_id: str) -> S3Answer:
    """Put an error into S3's shape; `resource` is the path that was asked for."""
    fields = {
        "Code": error.code,
        "Message": error.message,
        "Resource": resource,
        "RequestId": request_id,
    }
    return S3Answer(error.status, _XML, _document("Error", _write(fields)))


def _deny() -> ServiceError:
    return ServiceError(
        "Access Denied: without s3:ListBucket nobody is told what does not exist.",
        code="AccessDenied",
        status=403,
    )


def _decode(path: str) -> str:
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise ServiceError(
            f"Couldn't parse the specified URI: {path}", code="InvalidURI", status=400
        ) from None


def _encode_key(key: str) -> str:
    return quote_plus(key, safe="/")


def _give(stored: StoredObject, wanted: str) -> S3Answer:
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": stored.content_type,
        "ETag": stored.etag,
        "Last-Modified": email.utils.format_datetime(stored.last_modified, usegmt=True),
    }
    size = len(stored.body)
    match = _RANGE.fullmatch(wanted)
    if match is None or match[0] == "bytes=-" or _is_reversed(match[1], match[2]):
        # Several ranges, or none that can be read, are as good as no range (RFC 9110, 14.2).
        return S3Answer(200, headers, stored.body)
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first >= size:
        raise ServiceError(
            f"The requested range is not satisfiable: {wanted} of {size} bytes",
            code="InvalidRange",
            status=416,
        )
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return S3Answer(206, headers, stored.body[first : last + 1])


def _is_reversed(first: str, last: str) -> bool:
    return bool(first and last) and int(first) > int(last)


def _read_limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise _refuse_argument("max-keys", text)
    return min(int(text), _MAX_KEYS)


def _read_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError):
        raise _refuse_argument("continuation-token", token) from None


def _write_token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _refuse_argument(name: str, value: str) -> ServiceError:
    return ServiceError(
        f"The {name} provided is incorrect: {value!r}", code="InvalidArgument", status=400
    )


def _describe(key: str, stored: StoredObject) -> dict[str, str]:
    return {
        "Key": key,
        "LastModified": f"{stored.last_modified:%Y-%m-%dT%H:%M:%S}.000Z",
        "ETag": stored.etag,
        "Size": str(len(stored.body)),
        "StorageClass": "STANDARD",
    }


def _write(fields: Mapping[str, str | None]) -> str:
    return "".join(
        f"<{name}>{html.escape(value)}</{name}>"
        for name, value in fields.items()
        if value is not None
    )


def _document(name: str, inner: str, attributes: str = "") -> bytes:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f"{head}<{name}{attributes}>{inner}</{name}>".encode(errors="replace")
