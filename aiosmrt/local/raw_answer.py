"""An answer byte by byte, for those that end as no server means to."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

__all__ = ["RawAnswer", "reset_connection"]

# Linger on, for no time: the connection ends with a reset (SO_LINGER, POSIX; winsock2.h).
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_FLUSHING = 0.001  # seconds between looks at what is not sent yet


def reset_connection(transport: asyncio.Transport) -> None:
    """Close a connection with a reset (RST)."""
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class RawAnswer:
    """Writes an answer on a connection and ends both; it is the only one to write there.

    Every method raises `ConnectionError` where the client has left.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._chunked = False
        self.over: bool = False

    async def begin(
        self, headers: Mapping[str, str], length: int | None, status: int = 200
    ) -> None:
        """Send the head of an answer; a body without a length comes in chunks."""
        self._chunked = length is None
        framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": length}
        fields = {**headers, **framing, "Connection": "close"}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += (f"{name}: {value}" for name, value in fields.items())
        await self._send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))

    async def write(self, piece: bytes) -> None:
        """Send a piece of the body as HTTP frames it."""
        if not piece:
            return  # in chunks it would be the end
        await self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    async def write_torn(self, piece: bytes) -> None:
        """Send the announcement of a piece, and half of it."""
        half = piece[: len(piece) // 2]
        await self._send(b"%x\r\n%b" % (len(piece) or 1, half) if self._chunked else half)

    async def hang(self) -> None:
        """Send nothing more, until the client leaves: then this is cancelled."""
        await asyncio.Event().wait()

    async def end(self) -> None:
        """Say properly that the body is at its end."""
        if self._chunked:
            await self._send(b"0\r\n\r\n")
        await self.close()

    async def close(self) -> None:
        """Close the connection, once all is sent."""
        self.over = True
        if self._request.transport is not None:
            self._request.transport.close()

    async def reset(self) -> None:
        """Close the connection with a reset, once all is sent."""
        transport = self._request.transport
        while transport is not None and not transport.is_closing():
            if transport.get_write_buffer_size():
                await asyncio.sleep(_FLUSHING)
                continue
            reset_connection(transport)
        self.over = True

    async def _send(self, data: bytes) -> None:
        await self._request.writer.write(data)
