"""Uploads in parts, until they are completed or aborted. Pure."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.local.objects import StoredObject

__all__ = ["MultipartUpload", "MultipartUploads", "read_part_number"]

# Bytes of every part but the last, and their numbers ("Amazon S3 multipart upload limits").
_MIN_PART = 5 << 20
_MAX_NUMBER = 10_000


@attrs.define(eq=False)
class MultipartUpload:
    """One upload."""

    location: str
    content_type: str
    headers: Mapping[str, str]
    parts: dict[int, StoredObject] = attrs.field(init=False, factory=dict)

    def complete(self, wanted: Sequence[tuple[int, str]]) -> StoredObject:
        """Join parts, given by number and tag; slow for large ones.

        Raises:
            ServiceError: 400 InvalidPart, InvalidPartOrder or EntityTooSmall.
        """
        numbers = [number for number, _ in wanted]
        if numbers != sorted(set(numbers)):
            raise _refuse("InvalidPartOrder", "The list of parts was not in ascending order.")
        parts = []
        for number, etag in wanted:
            part = self.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise _refuse(
                    "InvalidPart", f"Part {number} could not be found, or has another tag."
                )
            parts.append(part)
        if not parts or any(len(part.body) < _MIN_PART for part in parts[:-1]):
            raise _refuse(
                "EntityTooSmall", f"Every part but the last must have {_MIN_PART} bytes or more."
            )
        tags = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
        whole = hashlib.md5(tags, usedforsecurity=False).hexdigest()
        return StoredObject(
            b"".join(part.body for part in parts),
            self.content_type,
            headers=self.headers,
            etag=f'"{whole}-{len(parts)}"',
        )


class MultipartUploads:
    """The uploads that were begun and are neither completed nor aborted."""

    def __init__(self) -> None:
        self._uploads: dict[str, MultipartUpload] = {}

    def begin(self, upload: MultipartUpload) -> str:
        """Give an id for a new upload."""
        upload_id = uuid.uuid4().hex
        self._uploads[upload_id] = upload
        return upload_id

    def find(self, upload_id: str, location: str) -> MultipartUpload:
        """Give an upload to this location.

        Raises:
            ServiceError: 404 NoSuchUpload.
        """
        upload = self._uploads.get(upload_id)
        if upload is None or upload.location != location:
            raise ServiceError(
                f"The specified multipart upload does not exist: {upload_id} to {location}",
                code="NoSuchUpload",
                status=404,
            )
        return upload

    def end(self, upload_id: str) -> None:
        """Forget an upload, and its parts."""
        del self._uploads[upload_id]

    def list_of(self, bucket: str) -> list[tuple[str, str]]:
        """Give key and id of each upload into a bucket, in the order of keys."""
        place = f"s3://{bucket}/"
        return sorted(
            (upload.location.removeprefix(place), upload_id)
            for upload_id, upload in self._uploads.items()
            if upload.location.startswith(place)
        )


def read_part_number(text: str) -> int:
    """Read the number of a part.

    Raises:
        ServiceError: 400 InvalidArgument.
    """
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_NUMBER:
        raise _refuse(
            "InvalidArgument", f"Part number must be an integer between 1 and {_MAX_NUMBER}."
        )
    return int(text)


def _refuse(code: str, message: str) -> ServiceError:
    return ServiceError(message, code=code, status=400)
