"""A request's body on its way into the socket."""

from __future__ import annotations

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from aiosmrt.http import Progress

__all__ = ["Body"]

# How much of a body is handed to the socket between two looks at the time limit.
_CHUNK = 1 << 16


class Body(aiohttp.Payload):
    """A request's body that knows how much of it the socket took.

    aiohttp writes a whole body at once, has no limit on that, and warns of large ones.
    """

    def __init__(self, body: bytes, progress: Progress) -> None:
        super().__init__(body)
        self._body = body
        self._size: int = len(body)
        self._progress = progress
        self.taken = 0
        self.sent = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Give the body as text; aiohttp asks every payload for it."""
        return self._body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body, piece by piece, and wait until the socket has all of it."""
        await self.write_with_length(writer, None)

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - aiohttp's signature
    ) -> None:
        """Write the body, whose length is known."""
        try:
            await self._write(writer)
        except BaseException:
            # Closing would wait for a peer that does not read; what is half sent is worthless.
            if writer.transport is not None:
                writer.transport.abort()
            raise
        self.sent = True
        self._progress.sent()

    async def _write(self, writer: AbstractStreamWriter) -> None:
        body = self._body
        if not body:
            # The head otherwise waits for the first piece of the body.
            writer.send_headers()
        elif self._size <= _CHUNK:
            await writer.write(body)
        else:
            view = memoryview(body)
            for start in range(0, self._size, _CHUNK):
                self._progress.writing()
                await writer.write(view[start : start + _CHUNK])
                self.taken = start
        transport = writer.transport
        if transport is not None and transport.get_write_buffer_size():
            self._progress.writing()
            # A drain that waits for the last byte instead of the low-water mark.
            transport.set_write_buffer_limits(high=0)
            await writer.drain()
            transport.set_write_buffer_limits()
        self.taken = self._size
