"""One look into S3: for an output, for a failure, and into a listing where S3 denies to tell."""

from __future__ import annotations

import copy

import attrs

from aiosmrt.async_inference.s3 import S3, S3Object
from aiosmrt.async_inference.s3_protocol import S3Location, may_be_absent
from aiosmrt.calls import FailureKind, classify
from aiosmrt.errors import AiosmrtError, ServiceError
from aiosmrt.tracebacks import drop_tracebacks

__all__ = ["Listings", "find_failure", "find_output", "read_failure"]

# Bytes of a failure file that go into the error.
_FAILURE = 1 << 16
_FORBIDDEN = 403


@attrs.define(eq=False)
class Listings:
    """What listings tell; a folder that cannot be listed is not asked for again."""

    _s3: S3
    _closed: set[S3Location] = attrs.field(factory=set, init=False)  # folders

    async def shows(self, location: S3Location) -> bool | None:
        """Tell whether there is an object; `None`: it cannot be listed."""
        if location.folder in self._closed:
            return None
        try:
            return await self._s3.lists(location)
        except AiosmrtError as error:
            if classify(error) is FailureKind.OTHER:
                self.close(location.folder)
            return None

    def close(self, folder: S3Location) -> None:
        """Note that a folder cannot be listed."""
        self._closed.add(folder)


async def find_output(
    s3: S3, location: S3Location, listings: Listings
) -> tuple[S3Object | None, ServiceError | None]:
    """Open an output; where S3 denies to say whether there is one, give that.

    Raises:
        ServiceError: access is denied to what is there.
        AiosmrtError: S3 did not tell.
    """
    found, denied = await _open(s3, location)
    if denied is None:
        return found, None
    there = await listings.shows(location)
    if there:
        # It may have come since it was denied.
        found, denied = await _open(s3, location)
        if denied is not None:
            raise _confirm(denied)
        return found, None
    return None, denied if there is None else None


async def _open(s3: S3, location: S3Location) -> tuple[S3Object | None, ServiceError | None]:
    try:
        return await s3.open(location), None
    except ServiceError as error:
        if not may_be_absent(error):
            raise
        return None, drop_tracebacks(error)


def _confirm(denied: ServiceError) -> ServiceError:
    """Give the error of access to an object that is there."""
    confirmed = copy.copy(denied)
    confirmed.advice = (
        "A listing shows that it is there: allow s3:GetObject on it, and kms:Decrypt on the key "
        "that it may be encrypted with."
    )
    return confirmed


async def find_failure(
    s3: S3, location: S3Location, listings: Listings
) -> tuple[bool, ServiceError | None]:
    """Tell whether there is a failure; where S3 denies to say so, give that.

    By HEAD: what else could be wrong, the look for the output has told by name.

    Raises:
        AiosmrtError: S3 did not tell.
    """
    try:
        return await s3.exists(location), None
    except ServiceError as error:
        if not may_be_absent(error):
            raise
        denied = drop_tracebacks(error)
    there = await listings.shows(location)
    return bool(there), denied if there is None else None


async def read_failure(s3: S3, location: S3Location) -> str:
    """Give the text of a failure that is there.

    Raises:
        AiosmrtError: it cannot be read; but one that may not be is told in words.
    """
    try:
        found = await s3.open(location)
    except ServiceError as error:
        if error.status != _FORBIDDEN:
            raise
        return f"there is a failure file, which may not be read: {error}"
    text = b""
    if found is not None:
        try:
            while len(text) < _FAILURE and (chunk := await found.receive()):
                text += chunk
        finally:
            found.close()
    return text[:_FAILURE].decode("utf-8", "replace").strip() or "the failure file is empty or gone"
