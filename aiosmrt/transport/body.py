"""A request's body on its way into the socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, cast

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from aiosmrt.http import Progress

if TYPE_CHECKING:
    import asyncio

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.http import StreamWriter

__all__ = ["Body", "cut", "drain", "is_flushed"]

# How much of a body is handed to the socket between two looks at the time limit.
_CHUNK = 1 << 16
# What the system does with unsent bytes when a socket is closed (`struct linger` of socket(7)).
_RESET = struct.pack("ii", 1, 0)
_LINGER = struct.pack("ii", 0, 0)


class Body(aiohttp.Payload):
    """A request's body that knows how much of it the socket took.

    aiohttp writes a whole body at once, has no limit on that, and warns of large ones.

    Attributes:
        begun_at: when the request was begun, on the performance counter; an answer that comes
            before is not its own.
        taken: how many bytes of the body the socket took.
        sent: whether it took all of them, and the head.
    """

    def __init__(self, body: bytes, progress: Progress) -> None:
        super().__init__(body)
        self._body = body
        self._size: int = len(body)
        self._progress = progress
        self.begun_at: float | None = None
        self.taken = 0
        self.sent = False
        self._written = 0  # bytes that the transport has, if it did not pass them on yet
        self._transport: asyncio.WriteTransport | None = None

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
        # Held here, since aiohttp lets go of it when it closes the connection.
        self._transport = writer.transport
        try:
            await self._write(writer)
        except BaseException as error:
            self.give_up(error)
            raise
        self._note_sent()

    def give_up(self, error: BaseException) -> None:
        """Cut the connection unless the socket has the whole body, `error` being why."""
        transport = self._transport
        if transport is None or self.sent:
            return
        written = self.begun_at is not None and self._written == self._size
        # Who waited for the last piece may not have noticed that it is gone.
        if written and is_flushed(transport, error):
            self._note_sent()
        cut(transport)

    def _note_sent(self) -> None:
        self.taken = self._size
        self.sent = True
        self._progress.sent()

    async def _write(self, writer: AbstractStreamWriter) -> None:
        connection = cast("ResponseHandler", cast("StreamWriter", writer).protocol)
        if connection.should_close:
            # aiohttp looks at that only when a connection comes back to the pool, and would take
            # what came later for the answer to this request.
            raise ConnectionResetError("there were unasked bytes on the idle connection")
        self.begun_at = time.perf_counter()
        # aiohttp keeps the head back for the first piece of the body.
        if not self._body:
            writer.send_headers()
        view = memoryview(self._body)
        for start in range(0, self._size, _CHUNK):
            self._progress.writing()
            self._written = min(start + _CHUNK, self._size)
            await writer.write(view[start : start + _CHUNK])
            await drain(writer)
            self.taken = self._written


async def drain(writer: AbstractStreamWriter) -> None:
    """Wait until the socket took everything; aiohttp's drain alone is content with less.

    Whoever cuts the connection meanwhile, resets it: else the system would go on offering what it
    has of the body to a peer that does not read.
    """
    transport = writer.transport
    if transport is not None and transport.get_write_buffer_size():
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.set_write_buffer_limits(high=0)
        await writer.drain()
        # The peer may have closed it, after the last byte was out; uvloop calls that RuntimeError.
        with contextlib.suppress(OSError, RuntimeError):
            transport.set_write_buffer_limits()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)


def is_flushed(transport: asyncio.WriteTransport, error: BaseException) -> bool:
    """Tell whether the socket took all that was written before `error` ended it.

    A transport passes on what it has even where it is closed meanwhile; only one that fails, which
    is an OSError, forgets it.
    """
    return not isinstance(error, OSError) and not transport.get_write_buffer_size()


def cut(transport: asyncio.WriteTransport) -> None:
    """Close a connection at once.

    Closing politely would wait for a peer that does not read; what is half sent is worthless.
    """
    # One that asyncio has closed after its last flush has no loop any longer.
    with contextlib.suppress(AttributeError):
        transport.abort()
