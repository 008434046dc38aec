"""A small request and the head of its answer, straight on one of aiohttp's connections.

`aiohttp.ClientSession.request` costs more than everything else in a call: cookies, redirects,
middlewares, a task that writes. A request that the socket takes at once needs none of them.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http import StreamWriter

from aiosmrt.errors import ConnectionLost
from aiosmrt.http import Progress, Request
from aiosmrt.transport.body import cut, drain, is_flushed

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from multidict import CIMultiDictProxy

__all__ = ["SMALL", "Exchange", "disown"]

SMALL = 1 << 16
"""Bytes of a body up to which one write takes it; larger ones are written piece by piece."""

# What no field value may hold (RFC 9110, section 5.5): it could begin another line.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# Below, another head comes (RFC 9110, section 15.2), but after the one that ends HTTP.
_FINAL = 200
_SWITCHING_PROTOCOLS = 101


class Exchange:
    """A request on its way and its answer, as `aiohttp.ClientResponse` has it.

    Attributes:
        begun_at: when the request was begun, on the performance counter.
        taken: how many bytes of its body the socket took.
        sent: whether it took all of them, and the head.
        status: of the answer; with `reason`, `headers` and `content` not there before.
        connection: that it is on.
    """

    __slots__ = (
        "begun_at",
        "connection",
        "content",
        "headers",
        "reason",
        "sent",
        "status",
        "taken",
    )

    def __init__(self) -> None:
        self.begun_at: float | None = None
        self.taken = 0
        self.sent = False
        self.status = 0
        self.reason = ""
        self.headers: CIMultiDictProxy[str]
        self.content: aiohttp.StreamReader
        self.connection: Connection

    async def begin(self, connection: Connection, request: Request, progress: Progress) -> None:
        """Send the request, and wait for the head of the answer.

        The connection goes back to the pool by itself where the body ends.
        """
        self.connection = connection
        transport = connection.transport
        try:
            protocol = self._write(request)
            if transport is not None and transport.get_write_buffer_size():
                progress.writing()
                # An answer may be there although the rest of the request was never taken.
                with suppress(ConnectionError):
                    await drain(StreamWriter(protocol, asyncio.get_running_loop()))
                    self._note_sent(request, progress)
            else:
                self._note_sent(request, progress)
            message, self.content = await protocol.read()
            while message.code < _FINAL and message.code != _SWITCHING_PROTOCOLS:
                message, self.content = await protocol.read()
        except BaseException as error:
            if transport is not None:
                written = self.begun_at is not None and not self.sent
                # Who waited for it may not have noticed that the socket has taken everything.
                if written and is_flushed(transport, error):
                    self._note_sent(request, progress)
                cut(transport)
            connection.close()
            raise
        self.status, self.reason, self.headers = message.code, message.reason, message.headers
        self.content.on_eof(connection.release)

    def _write(self, request: Request) -> ResponseHandler:
        head = encode_head(request)
        protocol, transport = self.connection.protocol, self.connection.transport
        if protocol is None or transport is None:
            raise ConnectionResetError("the connection was closed as soon as it was made")
        protocol.set_response_params(
            read_until_eof=True, auto_decompress=False, skip_payload=request.method == "HEAD"
        )
        if protocol.should_close:
            # What came before the question would be taken for the answer.
            raise disown(request)
        self.begun_at = time.perf_counter()
        transport.write(head + request.body)
        return protocol

    def _note_sent(self, request: Request, progress: Progress) -> None:
        self.taken = len(request.body)
        self.sent = True
        progress.sent()

    def close(self) -> None:
        """Give up what is left of the answer, and wake whoever waits for it."""
        if self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        self.connection.close()


def disown(request: Request) -> ConnectionLost:
    """Build the error of an answer that was there before its request."""
    return ConnectionLost(
        f"{request.origin} answered on an idle connection before it was asked; nothing was sent"
    )


def encode_head(request: Request) -> bytes:
    """Write the request line and the headers.

    Raises:
        ValueError: a value would break out of its line.
    """
    query = f"?{request.query}" if request.query else ""
    lines = [f"{request.method} {request.path}{query} HTTP/1.1", f"Host: {request.host}"]
    headers, size = request.headers, len(request.body)
    if "accept-encoding" not in headers:
        # After the signature: a proxy may well change what encodings it lets through.
        lines.append("accept-encoding: identity")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if size or request.method != "GET":
        lines.append(f"Content-Length: {size}")
    # Of two checks the first is cheap, and mostly enough.
    text = "".join(lines)
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise ValueError("a header holds a control character")
    head = "\r\n".join(lines)
    return f"{head}\r\n\r\n".encode()
