"""Objects in memory, found by location, `s3://<bucket>/<key>`. Pure."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.value import Shown

__all__ = ["ObjectStore", "StoredObject"]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@attrs.frozen(repr=False)
class StoredObject(Shown):
    """A body with what S3 tells about it; making one hashes the body, unless its tag is given.

    Attributes:
        body: the object's bytes.
        content_type: its media type; by default what S3 says where nothing was said.
        last_modified: when it was stored, in UTC; whole seconds, as in HTTP.
        headers: what else was said of it, names in lower case: `cache-control` and its
            like, `x-amz-meta-*`.
        etag: the body's MD5 in hex, in quotation marks.
    """

    body: bytes = attrs.field(repr=False)
    content_type: str = "binary/octet-stream"
    last_modified: datetime.datetime = attrs.field(factory=_now)
    headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    etag: str = attrs.field(kw_only=True)

    @etag.default
    def _hash(self) -> str:
        return f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'

    @property
    def modified(self) -> str:
        """When it was stored, as S3's XML has it."""
        return f"{self.last_modified:%Y-%m-%dT%H:%M:%S}.000Z"


class ObjectStore:
    """Buckets of objects; a bucket exists as soon as it has an object."""

    def __init__(self) -> None:
        self._buckets: dict[str, dict[str, StoredObject]] = {}

    def __contains__(self, location: str) -> bool:
        bucket, key = _split(location)
        return key in self._buckets.get(bucket, {})

    def make_bucket(self, bucket: str) -> None:
        """Make an empty bucket; one that exists stays as it is."""
        self._buckets.setdefault(bucket, {})

    def find_buckets(self) -> list[str]:
        """Give the names of all buckets, in order."""
        return sorted(self._buckets)

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket.

        Raises:
            ServiceError: 404 NoSuchBucket; 409 BucketNotEmpty.
        """
        if self._open(bucket):
            raise ServiceError(
                f"The bucket you tried to delete is not empty: {bucket}",
                code="BucketNotEmpty",
                status=409,
            )
        del self._buckets[bucket]

    def delete(self, location: str) -> None:
        """Delete an object; that there is none is no error.

        Raises:
            ServiceError: 404 NoSuchBucket; 400 InvalidURI.
        """
        bucket, key = _split(location)
        self._open(bucket).pop(key, None)

    def put(self, location: str, stored: StoredObject) -> None:
        """Store an object, in place of the one that may be there.

        Raises:
            ServiceError: 400 InvalidURI, not `s3://<bucket>/<key>`.
        """
        bucket, key = _split(location)
        self._buckets.setdefault(bucket, {})[key] = stored

    def get(self, location: str) -> StoredObject:
        """Give an object.

        Raises:
            ServiceError: 404 NoSuchBucket or NoSuchKey; 400 InvalidURI.
        """
        bucket, key = _split(location)
        stored = self._open(bucket).get(key)
        if stored is None:
            raise ServiceError(
                f"The specified key does not exist: {location}", code="NoSuchKey", status=404
            )
        return stored

    def find_keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Give the keys that begin with `prefix`, in order.

        Raises:
            ServiceError: 404 NoSuchBucket.
        """
        return sorted(key for key in self._open(bucket) if key.startswith(prefix))

    def _open(self, bucket: str) -> dict[str, StoredObject]:
        if bucket not in self._buckets:
            raise ServiceError(
                f"The specified bucket does not exist: {bucket}; the first PUT into it makes it.",
                code="NoSuchBucket",
                status=404,
            )
        return self._buckets[bucket]


def _split(location: str) -> tuple[str, str]:
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise ServiceError(
            f"{location!r} is not the location of an object in the local S3; write it as "
            "s3://<bucket>/<key>",
            code="InvalidURI",
            status=400,
        )
    return bucket, key
