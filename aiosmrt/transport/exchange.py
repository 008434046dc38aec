"""One request and its answer on one of aiohttp's connections."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiosmrt.http import Progress, Request, ResponseHead
from aiosmrt.tracebacks import drop_tracebacks
from aiosmrt.transport.response_parser import IncompleteResponse, MalformedResponse, ResponseParser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiosmrt.transport.connection import PooledConnection

__all__ = ["Exchange", "encode_head"]

# Bytes of a body that are handed to the socket between two looks at the time limit. What is not
# larger goes out with the head.
_PIECE: Final = 1 << 16

# Bytes that may wait to be taken before the socket is not read any longer; one read of asyncio's,
# or uvloop's, has at most as many.
_AHEAD: Final = 1 << 18

# What the system does with unsent bytes when a socket is closed (`struct linger` of socket(7)).
_RESET: Final = struct.pack("ii", 1, 0)

# What no field value may hold (RFC 9110, section 5.5): it could begin another line.
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Exchange(asyncio.Protocol):
    """A request on its way and its answer.

    It takes the place of aiohttp's protocol on the connection from its beginning to its end, and
    puts that one back: what aiohttp would do between a socket and its reader costs more than all
    of a call that is our own, and hides what came before a cut. A connection whose answer is there
    to its end goes back to its pool by itself, or is closed if nothing can follow on it.

    Attributes:
        answer: what came so far.
        begun_at: when the request was begun, on the performance counter.
        taken: how many bytes of its body the socket took.
        sent: whether it took all of them, and the head.
        error: what ended the connection before the answer's end.
    """

    __slots__ = (
        "_answered",
        "_body",
        "_connection",
        "_handed_over",
        "_home",
        "_kept",
        "_loop",
        "_origin",
        "_paused",
        "_progress",
        "_transport",
        "_unread",
        "_waiter",
        "_written",
        "answer",
        "begun_at",
        "error",
        "sent",
        "taken",
    )

    def __init__(self, request: Request, progress: Progress) -> None:
        self.answer: ResponseParser = ResponseParser(request.method)
        self.begun_at: float | None = None
        self.taken: int = 0
        self.sent: bool = False
        self.error: Exception | None = None
        self._origin = request.origin
        self._body = request.body  # until it is sent: it may have megabytes
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._connection: PooledConnection | None = None
        self._transport: asyncio.Transport
        self._home: asyncio.Protocol  # aiohttp's
        self._written = 0  # bytes of the body that were given to the transport
        self._handed_over = False  # whether it has the last one
        self._kept = False  # whether it has not passed on all that it was given
        self._answered = False  # whether a byte came
        self._unread = 0  # bytes that came since somebody took some
        self._paused = False  # whether the socket is not read
        self._waiter: asyncio.Future[None] | None = None

    @property
    def may_be_whole(self) -> bool:
        """Whether the peer may have the whole request; `False` is a proof that it has not.

        There are three proofs, and each is that bytes of the request are still here:

        * Its last piece, of at most 64 KiB, was not given to the transport. It is given only when
          the transport has nothing left of the pieces before.
        * Giving it failed at once: the transport closed in that very call. A send that fails has
          taken nothing, and whatever is sent goes in the order of the pieces.
        * The transport has kept some of it. It says in the call that writes (asyncio), or in the
          pass of the loop that does (uvloop), that it has nothing left, before it tells of any
          failure; so what it has not said is not so, unless it is closed in peace: then what it
          had has gone, and uvloop's TLS may not say so. Over TLS "nothing left" is that all is
          enciphered and handed down to the transport below, which may still have some 64 KiB of
          it: what is told there errs to "may be whole".

        A byte of an answer refutes them all: whoever answers may have asked the model.
        """
        return self._answered or (self._handed_over and not self._kept)

    async def begin(self, connection: PooledConnection, head: bytes) -> ResponseHead:
        """Send the request, whose head is `head`, and give the head of the answer.

        Raises:
            OSError, IncompleteResponse: the connection ended.
            MalformedResponse: what came is no answer.
        """
        try:
            self._write(connection, head)
            while True:
                await self.wait()
                if self.answer.head is not None:
                    return self.answer.head
                if self.error is not None:
                    raise self._give_error()  # noqa: TRY301 - as whatever else ends it
        except BaseException:
            # Once it was begun the connection is somebody else's as soon as it was given back.
            if self.begun_at is None and self._connection is None:
                connection.close()
            self.close()
            raise

    def _give_error(self) -> Exception:
        """Give up the error: its traceback will refer to what refers to this."""
        error, self.error = self.error, None
        return error or IncompleteResponse()

    def _write(self, connection: PooledConnection, head: bytes) -> None:
        home, transport = connection.protocol, connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection was closed as soon as it was made")
        self._connection, self._home, self._transport = connection, home, transport
        transport.set_protocol(self)
        self.begun_at = time.perf_counter()
        body = self._body
        if len(body) > _PIECE:
            body = body[:_PIECE]
        self._hand_over(head + body, len(body))

    def _hand_over(self, piece: bytes | memoryview, size: int) -> None:
        """Give a piece to the transport that has nothing left; `size` bytes are of the body."""
        transport = self._transport
        transport.write(piece)
        if transport.is_closing():  # as one is that could not write
            return
        self._written += size
        self._handed_over = self._written == len(self._body)
        self._kept = transport.get_write_buffer_size() > 0
        if self._kept or not self._handed_over:
            self._progress.writing()
        if self._kept:
            # Says so when it is empty, not when it is nearly so.
            transport.set_write_buffer_limits(high=0)
        else:
            self._go_on()

    def _go_on(self) -> None:
        """Go on behind a piece of which nothing is left."""
        self.taken = self._written
        if self._handed_over:
            self.sent = True
            self._body = b""
            self._progress.sent()
        else:
            # Two passes later, since what has come by then, such as a refusal, is to be read
            # before a write that fails for it.
            self._loop.call_soon(self._loop.call_soon, self._write_next)

    def _write_next(self) -> None:
        """Write the next piece."""
        if self._connection is not None and not self._transport.is_closing():
            body, begin = self._body, self._written
            piece = memoryview(body)[begin : begin + _PIECE]
            self._hand_over(piece, len(piece))

    def resume_writing(self) -> None:
        """Take note that the transport has nothing left."""
        if not self._kept:
            return
        self._kept = False
        if self._connection is None:
            return
        # Over TLS it would call an empty buffer a full one from now on; and the next request of
        # the connection finds it as this one did.
        with suppress(OSError, RuntimeError):  # it may be closed; uvloop says RuntimeError
            self._transport.set_write_buffer_limits()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Read on in the answer, and wake whoever waits for it."""
        connection, answer = self._connection, self.answer
        if connection is None:
            return
        self._answered = True
        try:
            answer.receive_data(data)
        except MalformedResponse as error:
            self.error = drop_tracebacks(error)
            self.close()
            return
        if answer.complete:
            self._finish(connection)
        else:
            self._unread += len(data)
            if self._unread > _AHEAD and answer.pieces and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        if self._waiter is not None:
            self._wake()

    def eof_received(self) -> None:
        """Give up a request that is not sent: whoever has ended the connection will not answer it.

        Such a peer may still read all that comes, and a transport of TLS drops what it is given
        behind the end without saying so.
        """
        if self._connection is not None and not self.sent:
            self._end_answer(None)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end of the connection, and pass it on to aiohttp."""
        connection, self._connection = self._connection, None
        self._body = b""
        self._home.connection_lost(error)
        if connection is not None:
            # uvloop's TLS says nothing of what it passes on once the peer has ended the connection
            # without the goodbye of TLS.
            self._kept = self._kept and error is not None
            connection.close()
        self._end_answer(error)
        self._wake()

    def _end_answer(self, error: Exception | None) -> None:
        try:
            self.answer.receive_eof()
        except IncompleteResponse as incomplete:
            self.error = self.error or drop_tracebacks(error or incomplete)

    def is_dry(self) -> bool:
        """Tell whether there is nothing to take until something comes."""
        answer = self.answer
        return not answer.pieces and not answer.complete and self.error is None

    def wait(self) -> asyncio.Future[None]:
        """Give what is done when more of the answer is there, or nothing more will come."""
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def take(self) -> bytes:
        """Give the bytes of the body that are there."""
        pieces = self.answer.pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            if self._connection is not None:
                self._transport.resume_reading()
        return data

    def _finish(self, connection: PooledConnection) -> None:
        """Give the connection back to its pool, or close it if nothing can follow on it."""
        if not self.sent:
            self.close()
            return
        self._connection = None
        if self._paused:
            self._transport.resume_reading()
        self._transport.set_protocol(self._home)
        if self.answer.reusable:
            head = self.answer.head
            if head is not None and "keep-alive" in head.headers:
                connection.heed(head.headers["keep-alive"])
            connection.release()
        else:
            connection.close()

    def close(self) -> None:
        """Give up what is left of the answer, and wake whoever waits for it. Idempotent.

        Closing the connection politely would wait for a peer that does not read, and the system
        would go on offering it what it has of the request.
        """
        if self._connection is not None:
            connection, self._connection = self._connection, None
            # One of TLS that was lost has no socket, one of uvloop's that was closed a bad one, and
            # one that asyncio has closed after its last flush no loop any longer.
            if not self.sent:
                with suppress(OSError, AttributeError, ValueError):
                    self._reset()
            with suppress(AttributeError, RuntimeError):  # or the loop is closed
                self._transport.abort()
            self._body = b""
            # aiohttp's protocol is told by `connection_lost`: what is paused here must not be
            # resumed there.
            connection.close()
        self._wake()

    def _reset(self) -> None:
        """Have the system forget what it has of the request, and take no more of it."""
        # The transport may have passed it on without saying so, as in `connection_lost`.
        self._kept = self._kept and self._transport.get_write_buffer_size() > 0
        raw = self._transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if self._kept:
            # uvloop goes on writing what it has until the pass after its transport was aborted.
            with socket.socket(fileno=os.dup(raw.fileno())) as same:
                same.shutdown(socket.SHUT_WR)


def encode_head(
    request: Request, *, absolute: bool = False, extra: Mapping[str, str] | None = None
) -> bytes:
    """Write the request line and the headers.

    Args:
        request: what is sent.
        absolute: whether the whole URL is named, as for a proxy (RFC 9112, section 3.2.2).
        extra: headers of whoever passes it on.

    Raises:
        ValueError: a value would break out of its line.
    """
    origin = request.origin if absolute else ""
    query = f"?{request.query}" if request.query else ""
    lines = [
        f"{request.method} {origin}{request.path}{query} HTTP/1.1",
        f"Host: {request.host}",
    ]
    headers, size = request.headers, len(request.body)
    if "accept-encoding" not in headers:
        # After the signature: a proxy may well change what encodings it lets through.
        lines.append("accept-encoding: identity")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if extra:
        lines += [f"{name}: {value}" for name, value in extra.items()]
    if size or request.method != "GET":
        lines.append(f"Content-Length: {size}")
    # Of two checks the first is cheap, and mostly enough.
    text = "".join(lines)
    if not text.isprintable() and _FORBIDDEN.search(text):
        raise ValueError("a header holds a control character")
    head = "\r\n".join(lines)
    return f"{head}\r\n\r\n".encode()
