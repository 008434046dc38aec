"""An object in S3, read as a file is: in a thread, from its beginning to its end."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Coroutine
from typing import Any, BinaryIO, Final, TypeVar, cast

import attrs

from aiosmrt.async_inference import S3, S3Location, S3Object
from aiosmrt.errors import ParameterError

__all__ = ["S3Content"]

T = TypeVar("T")

_BUFFER: Final = 1 << 18  # bytes


@attrs.define(eq=False)
class S3Content:
    """The bytes of an object; every further time those of the same version.

    It is used in other threads than that of the loop.

    Args:
        s3: where it is.
        location: of the object.
        loop: on which S3 is asked.
    """

    _s3: S3
    _location: S3Location
    _loop: asyncio.AbstractEventLoop
    _etag: str | None = attrs.field(default=None, init=False)

    def open(self) -> BinaryIO:
        """Ask for it anew.

        Raises:
            ParameterError: there is no such object.
            AiosmrtError: it cannot be had, or is another version.
        """
        found = _wait(self._loop, self._s3.open(self._location, etag=self._etag))
        if found is None:
            raise ParameterError(f"{self._location}: there is no such object")
        self._etag = found.metadata.headers.get("etag")
        return cast("BinaryIO", io.BufferedReader(_S3File(found, self._loop), _BUFFER))

    def digest(self) -> str:
        """Give its ETag, which other bytes have another of."""
        if self._etag is None:
            self.open().close()
        return self._etag or ""


class _S3File(io.RawIOBase):
    def __init__(self, found: S3Object, loop: asyncio.AbstractEventLoop) -> None:
        self._found = found
        self._loop = loop
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a buffer, which Python 3.11 cannot name
        if not self._rest:
            self._rest = memoryview(_wait(self._loop, self._found.receive()))
        target = memoryview(buffer)
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        loop = getattr(self, "_loop", None)  # one whose constructor has failed is closed, too
        if not self.closed and loop is not None:
            # Where the loop is closed, so is the connection.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._found.close)
        super().close()


def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[object, object, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result()
