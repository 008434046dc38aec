"""Where asynchronous invocations find their input, and leave an output or a failure."""

from __future__ import annotations

import functools
import re
from typing import Protocol
from urllib.parse import unquote

import attrs

from aiosmrt.async_inference import S3, S3Location, read_output
from aiosmrt.errors import ServiceError
from aiosmrt.local.objects import ObjectStore, StoredObject
from aiosmrt.threads import run_in_thread

__all__ = ["LocalStorage", "S3Storage", "Storage"]

_HTTPS = re.compile(r"https://[^/]+/s3/([^?#]+)")


class Storage(Protocol):
    """Reads and writes objects by location, `s3://<bucket>/<key>`; raises `AiosmrtError`."""

    async def make_bucket(self, bucket: str) -> None:
        """Let a bucket exist; one that is there stays as it is."""
        ...

    async def read(self, location: str) -> bytes:
        """Give an object's body."""
        ...

    async def write(self, location: str, body: bytes, content_type: str) -> None:
        """Store an object, in place of the one that may be there."""
        ...


@attrs.frozen
class LocalStorage:
    """The S3 that the local endpoint serves; its objects may be named by their URLs, too."""

    objects: ObjectStore

    async def make_bucket(self, bucket: str) -> None:
        """Whoever polls is to be told that the object is missing, not that its bucket is."""
        self.objects.make_bucket(bucket)

    async def read(self, location: str) -> bytes:
        """Give an object's body."""
        match = _HTTPS.match(location)
        return self.objects.get(f"s3://{unquote(match[1])}" if match else location).body

    async def write(self, location: str, body: bytes, content_type: str) -> None:
        """Store an object; hashing a large one takes its time."""
        make = functools.partial(StoredObject, body, content_type)
        self.objects.put(location, await run_in_thread(make))


@attrs.frozen
class S3Storage:
    """An S3 elsewhere."""

    s3: S3

    async def make_bucket(self, bucket: str) -> None:
        """Make it, unless it is there and the caller's own."""
        try:
            await self.s3.make_bucket(bucket)
        except ServiceError as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise

    async def read(self, location: str) -> bytes:
        """Give an object's body."""
        found = await self.s3.open(S3Location.parse(location))
        if found is None:
            raise ServiceError("The specified key does not exist.", code="NoSuchKey", status=404)
        return (await read_output(found)).body

    async def write(self, location: str, body: bytes, content_type: str) -> None:
        """Store an object."""
        await self.s3.put(S3Location.parse(location), body, content_type)
