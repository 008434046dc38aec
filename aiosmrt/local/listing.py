"""A page of a bucket's keys, as ListObjects and ListObjectsV2 give it. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote_plus

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.local.objects import ObjectStore, StoredObject
from aiosmrt.local.s3_xml import Content, write_document

__all__ = ["list_objects", "read_limit"]

_MAX_KEYS = 1000  # per page; the limit of both operations
_OWNER = (("DisplayName", "local"), ("ID", "local"))


@attrs.frozen
class _Page:
    """What of the keys is on a page."""

    keys: list[str]
    prefixes: list[str]  # of the keys that have the delimiter behind the prefix that is asked for
    last: str  # what the next page begins behind
    truncated: bool


def list_objects(objects: ObjectStore, bucket: str, given: Mapping[str, str]) -> bytes:
    """Answer ListObjectsV2, or ListObjects where `given` has no `list-type`.

    Args:
        objects: where they are.
        bucket: whose keys.
        given: the parameters of the query.

    Raises:
        ServiceError: 404 NoSuchBucket; 400 InvalidArgument.
    """
    second = "list-type" in given
    if given.get("list-type", "2") != "2":
        raise _refuse_argument("list-type", given["list-type"])
    if given.get("encoding-type", "url") != "url":
        raise _refuse_argument("encoding-type", given["encoding-type"])
    prefix, delimiter = given.get("prefix", ""), given.get("delimiter", "")
    limit = read_limit(given)
    token = given.get("continuation-token") if second else None
    begin = given.get("start-after" if second else "marker", "")
    keys = objects.find_keys(bucket, prefix)
    page = _turn(keys, prefix, delimiter, begin if token is None else _read_token(token), limit)
    encode = _encode_key if "encoding-type" in given else str
    head: dict[str, Content] = {"Name": bucket, "Prefix": encode(prefix)}
    if second:
        head |= {
            "StartAfter": encode(begin) or None,
            "KeyCount": str(len(page.keys) + len(page.prefixes)),
            "ContinuationToken": token,
            "NextContinuationToken": _write_token(page.last) if page.truncated else None,
        }
    else:
        head |= {
            "Marker": encode(begin),
            # Without a delimiter clients take the last key.
            "NextMarker": encode(page.last) if page.truncated and delimiter else None,
        }
    head |= {
        "MaxKeys": str(limit),
        "Delimiter": encode(delimiter) or None,
        "EncodingType": given.get("encoding-type"),
        "IsTruncated": str(page.truncated).lower(),
    }
    with_owner = not second or given.get("fetch-owner") == "true"
    contents = _describe(objects, bucket, page.keys, encode, with_owner=with_owner)
    prefixes = (("CommonPrefixes", (("Prefix", encode(prefix)),)) for prefix in page.prefixes)
    return write_document("ListBucketResult", (*head.items(), *contents, *prefixes))


def read_limit(given: Mapping[str, str]) -> int:
    """Read how many keys are wanted on a page.

    Raises:
        ServiceError: 400 InvalidArgument.
    """
    text = given.get("max-keys", str(_MAX_KEYS))
    if not re.fullmatch("[0-9]{1,9}", text):
        raise _refuse_argument("max-keys", text)
    return min(int(text), _MAX_KEYS)


def _turn(keys: list[str], prefix: str, delimiter: str, begin: str, limit: int) -> _Page:
    """Turn to the page behind `begin`, a key or a common prefix."""
    found: list[str] = []
    prefixes: list[str] = []
    last = begin
    for key in keys:
        common = _find_common(key, prefix, delimiter)
        if key <= begin or (common is not None and common in (begin, *prefixes[-1:])):
            continue
        if len(found) + len(prefixes) == limit:
            return _Page(found, prefixes, last, truncated=limit > 0)
        last = key if common is None else common
        (found if common is None else prefixes).append(last)
    return _Page(found, prefixes, last, truncated=False)


def _find_common(key: str, prefix: str, delimiter: str) -> str | None:
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return None if at < 0 else key[: at + len(delimiter)]


def _describe(
    objects: ObjectStore,
    bucket: str,
    keys: list[str],
    encode: Callable[[str], str],
    *,
    with_owner: bool,
) -> Iterator[tuple[str, Content]]:
    for key in keys:
        stored: StoredObject = objects.get(f"s3://{bucket}/{key}")
        described: dict[str, Content] = {
            "Key": encode(key),
            "LastModified": stored.modified,
            "ETag": stored.etag,
            "Size": str(len(stored.body)),
            "Owner": _OWNER if with_owner else None,
            "StorageClass": "STANDARD",
        }
        yield "Contents", described.items()


def _encode_key(key: str) -> str:
    # As S3 writes them: a space is a plus.
    return quote_plus(key, safe="/")


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
