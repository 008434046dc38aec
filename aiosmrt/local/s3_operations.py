"""The operations of the local S3: each answers one kind of request, whose signature is sound."""

from __future__ import annotations

import email.utils
import functools
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from urllib.parse import unquote

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.local.listing import list_objects
from aiosmrt.local.multipart import MultipartUpload, MultipartUploads, read_part_number
from aiosmrt.local.objects import ObjectStore, StoredObject
from aiosmrt.local.s3_xml import Content, read_document, read_text, write_document
from aiosmrt.local.upload import read_kept_headers, read_upload
from aiosmrt.threads import run_in_thread

__all__ = [
    "OPERATIONS",
    "S3_OPERATIONS",
    "SUBRESOURCES",
    "XML",
    "Operation",
    "S3Answer",
    "S3Request",
    "Store",
]

XML = {"Content-Type": "application/xml"}
"""Headers of what is answered as a document."""

SUBRESOURCES = ("location", "uploads", "uploadId", "delete")
"""Parameters of the query that choose the operation; `list-type` only chooses its version."""

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_LISTING = frozenset(
    (
        *("list-type", "prefix", "delimiter", "max-keys", "encoding-type", "marker"),
        *("continuation-token", "start-after", "fetch-owner"),
    )
)
_OVERRIDES = {
    f"response-{name.lower()}": name
    for name in (
        *("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language"),
        *("Content-Type", "Expires"),
    )
}


@attrs.frozen
class S3Request:
    """What is asked of S3."""

    method: str
    bucket: str
    key: str
    given: dict[str, str]  # the parameters of the query
    headers: Mapping[str, str] = attrs.field(repr=False)  # names in lower case
    body: bytes = attrs.field(repr=False)

    @property
    def location(self) -> str:
        """Of the object."""
        return f"s3://{self.bucket}/{self.key}"


@attrs.frozen
class S3Answer:
    """An answer; that to HEAD has the body whose length is told."""

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class Store:
    """What the operations work on.

    Args:
        objects: where they are kept.
        list_permission: whether callers have `s3:ListBucket`.
    """

    objects: ObjectStore
    list_permission: bool = True
    uploads: MultipartUploads = attrs.field(init=False, factory=MultipartUploads)


Operation: TypeAlias = Callable[[Store, S3Request], Awaitable[S3Answer]]


# --- buckets


async def _list_buckets(store: Store, _: S3Request) -> S3Answer:
    buckets = [
        ("Bucket", (("Name", name), ("CreationDate", "2024-01-01T00:00:00.000Z")))
        for name in store.objects.find_buckets()
    ]
    owner = (("ID", "local"), ("DisplayName", "local"))
    content = (("Owner", owner), ("Buckets", buckets))
    return S3Answer(200, XML, write_document("ListAllMyBucketsResult", content))


async def _create_bucket(store: Store, asked: S3Request) -> S3Answer:
    store.objects.make_bucket(asked.bucket)
    return S3Answer(200, {"Location": f"/{asked.bucket}"})


async def _head_bucket(store: Store, asked: S3Request) -> S3Answer:
    _allow_listing(store)
    store.objects.find_keys(asked.bucket)
    return S3Answer(200, {"x-amz-bucket-region": "us-east-1"})


async def _locate_bucket(store: Store, asked: S3Request) -> S3Answer:
    store.objects.find_keys(asked.bucket)
    return S3Answer(200, XML, write_document("LocationConstraint", ""))


async def _delete_bucket(store: Store, asked: S3Request) -> S3Answer:
    store.objects.delete_bucket(asked.bucket)
    return S3Answer(204, {})


async def _list_objects(store: Store, asked: S3Request) -> S3Answer:
    _allow_listing(store)
    return S3Answer(200, XML, list_objects(store.objects, asked.bucket, asked.given))


async def _delete_objects(store: Store, asked: S3Request) -> S3Answer:
    root = read_document(asked.body, "Delete")
    told: list[tuple[str, Content]] = []
    for item in root.findall("{*}Object"):
        key = read_text(item, "Key")
        try:
            store.objects.delete(f"s3://{asked.bucket}/{key}")
        except ServiceError as error:
            if error.code == "NoSuchBucket":
                raise
            fields = (("Key", key), ("Code", error.code), ("Message", error.message))
            told.append(("Error", fields))
        else:
            told.append(("Deleted", (("Key", key),)))
    if read_text(root, "Quiet").strip() == "true":
        told = [entry for entry in told if entry[0] == "Error"]
    return S3Answer(200, XML, write_document("DeleteResult", told))


# --- objects


async def _put_object(store: Store, asked: S3Request) -> S3Answer:
    if "x-amz-copy-source" in asked.headers:
        return await _copy_object(store, asked)
    if asked.headers.get("if-none-match") == "*" and asked.location in store.objects:
        raise _refuse_precondition("If-None-Match")
    stored = await _receive(asked)
    store.objects.put(asked.location, stored)
    return S3Answer(200, {"ETag": stored.etag})


async def _receive(asked: S3Request) -> StoredObject:
    # In a thread, as hashing may take seconds; and not in one of the loop's pool, where
    # blocking clients of this very S3 may wait.
    return await run_in_thread(functools.partial(read_upload, asked.headers, asked.body))


async def _copy_object(store: Store, asked: S3Request) -> S3Answer:
    source = _find_source(store, asked)
    headers, content_type = source.headers, source.content_type
    if asked.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE":
        headers = read_kept_headers(asked.headers)
        content_type = asked.headers.get("content-type", StoredObject(b"").content_type)
    # A copy of what was uploaded in parts is one object, with a tag of its own.
    copied = await run_in_thread(lambda: StoredObject(source.body, content_type, headers=headers))
    store.objects.put(asked.location, copied)
    return _tell_of_copy("CopyObjectResult", copied)


def _find_source(store: Store, asked: S3Request) -> StoredObject:
    source = unquote(asked.headers["x-amz-copy-source"]).removeprefix("/")
    if "?" in source:
        raise ServiceError(
            "The local S3 has no versions to copy.", code="NotImplemented", status=501
        )
    stored = _get(store, f"s3://{source}")
    wanted = asked.headers.get("x-amz-copy-source-range")
    if wanted is None:
        return stored
    first, last = _cut(len(stored.body), wanted) or (0, len(stored.body) - 1)
    return StoredObject(stored.body[first : last + 1], stored.content_type)


async def _get_object(store: Store, asked: S3Request) -> S3Answer:
    stored = _get(store, asked.location)
    if _matches(asked.headers.get("if-none-match"), stored):
        return S3Answer(304, {"ETag": stored.etag})
    if "if-match" in asked.headers and not _matches(asked.headers["if-match"], stored):
        raise _refuse_precondition("If-Match")
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": stored.content_type,
        "ETag": stored.etag,
        "Last-Modified": email.utils.format_datetime(stored.last_modified, usegmt=True),
        **stored.headers,
        **{_OVERRIDES[n]: value for n, value in asked.given.items() if n in _OVERRIDES},
    }
    cut = _cut(len(stored.body), asked.headers.get("range", ""))
    if cut is None:
        return S3Answer(200, headers, stored.body)
    first, last = cut
    headers["Content-Range"] = f"bytes {first}-{last}/{len(stored.body)}"
    return S3Answer(206, headers, stored.body[first : last + 1])


async def _delete_object(store: Store, asked: S3Request) -> S3Answer:
    store.objects.delete(asked.location)
    return S3Answer(204, {})


# --- uploads in parts


async def _begin_upload(store: Store, asked: S3Request) -> S3Answer:
    store.objects.make_bucket(asked.bucket)  # as PutObject would
    content_type = asked.headers.get("content-type", StoredObject(b"").content_type)
    kept = read_kept_headers(asked.headers)
    upload_id = store.uploads.begin(MultipartUpload(asked.location, content_type, kept))
    content = (("Bucket", asked.bucket), ("Key", asked.key), ("UploadId", upload_id))
    return S3Answer(200, XML, write_document("InitiateMultipartUploadResult", content))


async def _put_part(store: Store, asked: S3Request) -> S3Answer:
    upload = _find_upload(store, asked)
    number = read_part_number(asked.given.get("partNumber", ""))
    if "x-amz-copy-source" in asked.headers:
        source = _find_source(store, asked)
        part = await run_in_thread(lambda: StoredObject(source.body))
        upload.parts[number] = part
        return _tell_of_copy("CopyPartResult", part)
    upload.parts[number] = part = await _receive(asked)
    return S3Answer(200, {"ETag": part.etag})


async def _list_parts(store: Store, asked: S3Request) -> S3Answer:
    upload = _find_upload(store, asked)
    parts: list[tuple[str, Content]] = [
        (
            "Part",
            (
                ("PartNumber", str(number)),
                ("LastModified", part.modified),
                ("ETag", part.etag),
                ("Size", str(len(part.body))),
            ),
        )
        for number, part in sorted(upload.parts.items())
    ]
    content = (
        ("Bucket", asked.bucket),
        ("Key", asked.key),
        ("UploadId", asked.given["uploadId"]),
        ("IsTruncated", "false"),
        *parts,
    )
    return S3Answer(200, XML, write_document("ListPartsResult", content))


async def _list_uploads(store: Store, asked: S3Request) -> S3Answer:
    _allow_listing(store)
    store.objects.find_keys(asked.bucket)
    uploads: list[tuple[str, Content]] = [
        ("Upload", (("Key", key), ("UploadId", upload_id)))
        for key, upload_id in store.uploads.list_of(asked.bucket)
        if key.startswith(asked.given.get("prefix", ""))
    ]
    content = (("Bucket", asked.bucket), ("IsTruncated", "false"), *uploads)
    return S3Answer(200, XML, write_document("ListMultipartUploadsResult", content))


async def _complete_upload(store: Store, asked: S3Request) -> S3Answer:
    upload = _find_upload(store, asked)
    root = read_document(asked.body, "CompleteMultipartUpload")
    wanted = [
        (read_part_number(read_text(part, "PartNumber")), read_text(part, "ETag"))
        for part in root.findall("{*}Part")
    ]
    stored = await run_in_thread(functools.partial(upload.complete, wanted))
    store.objects.put(asked.location, stored)
    store.uploads.end(asked.given["uploadId"])
    content = (
        ("Location", f"/{asked.bucket}/{asked.key}"),
        ("Bucket", asked.bucket),
        ("Key", asked.key),
        ("ETag", stored.etag),
    )
    return S3Answer(200, XML, write_document("CompleteMultipartUploadResult", content))


async def _abort_upload(store: Store, asked: S3Request) -> S3Answer:
    _find_upload(store, asked)
    store.uploads.end(asked.given["uploadId"])
    return S3Answer(204, {})


def _find_upload(store: Store, asked: S3Request) -> MultipartUpload:
    return store.uploads.find(asked.given["uploadId"], asked.location)


# --- what several of them do


def _get(store: Store, location: str) -> StoredObject:
    try:
        return store.objects.get(location)
    except ServiceError as error:
        if error.code == "NoSuchKey" and not store.list_permission:
            raise _deny() from None
        raise


def _allow_listing(store: Store) -> None:
    if not store.list_permission:
        raise _deny()


def _deny() -> ServiceError:
    return ServiceError(
        "Access Denied: without s3:ListBucket nobody is told what does not exist.",
        code="AccessDenied",
        status=403,
    )


def _refuse_precondition(header: str) -> ServiceError:
    return ServiceError(
        f"At least one of the pre-conditions you specified did not hold: {header}",
        code="PreconditionFailed",
        status=412,
    )


def _tell_of_copy(name: str, stored: StoredObject) -> S3Answer:
    content = (("LastModified", stored.modified), ("ETag", stored.etag))
    return S3Answer(200, XML, write_document(name, content))


def _matches(tags: str | None, stored: StoredObject) -> bool:
    return tags is not None and (
        tags.strip() == "*" or stored.etag.strip('"') in re.findall(r'[^\s,"]+', tags)
    )


def _cut(size: int, wanted: str) -> tuple[int, int] | None:
    """Give the first and the last byte of a range, `None` where all is wanted.

    Several ranges, or none that can be read, are as good as no range (RFC 9110, section 14.2).

    Raises:
        ServiceError: 416 InvalidRange.
    """
    match = _RANGE.fullmatch(wanted)
    if match is None or match[0] == "bytes=-" or _is_reversed(match[1], match[2]):
        return None
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(int(match[2]), size - 1) if match[1] and match[2] else size - 1
    if first >= size:
        raise ServiceError(
            f"The requested range is not satisfiable: {wanted} of {size} bytes",
            code="InvalidRange",
            status=416,
        )
    return first, last


def _is_reversed(first: str, last: str) -> bool:
    return bool(first and last) and int(first) > int(last)


OPERATIONS: Mapping[tuple[str, str, str], tuple[str, Operation, frozenset[str]]] = {
    ("GET", "service", ""): ("ListBuckets", _list_buckets, frozenset(("max-buckets", "prefix"))),
    ("PUT", "bucket", ""): ("CreateBucket", _create_bucket, frozenset()),
    ("HEAD", "bucket", ""): ("HeadBucket", _head_bucket, frozenset()),
    ("DELETE", "bucket", ""): ("DeleteBucket", _delete_bucket, frozenset()),
    ("GET", "bucket", ""): ("ListObjectsV2", _list_objects, _LISTING),
    ("GET", "bucket", "location"): ("GetBucketLocation", _locate_bucket, frozenset()),
    ("GET", "bucket", "uploads"): (
        "ListMultipartUploads",
        _list_uploads,
        _LISTING | {"max-uploads"},
    ),
    ("POST", "bucket", "delete"): ("DeleteObjects", _delete_objects, frozenset()),
    ("PUT", "object", ""): ("PutObject", _put_object, frozenset()),
    ("GET", "object", ""): ("GetObject", _get_object, frozenset(_OVERRIDES)),
    ("HEAD", "object", ""): ("HeadObject", _get_object, frozenset(_OVERRIDES)),
    ("DELETE", "object", ""): ("DeleteObject", _delete_object, frozenset()),
    ("POST", "object", "uploads"): ("CreateMultipartUpload", _begin_upload, frozenset()),
    ("PUT", "object", "uploadId"): ("UploadPart", _put_part, frozenset(("partNumber",))),
    ("GET", "object", "uploadId"): ("ListParts", _list_parts, frozenset(("max-parts",))),
    ("POST", "object", "uploadId"): ("CompleteMultipartUpload", _complete_upload, frozenset()),
    ("DELETE", "object", "uploadId"): ("AbortMultipartUpload", _abort_upload, frozenset()),
}
"""By method, what the path names, and the parameter that chooses it: its name, what to do, and
parameters."""

S3_OPERATIONS = tuple(dict.fromkeys(name for name, _, _ in OPERATIONS.values()))
"""The names that the API reference has for them."""
