"""An answer's body: its proven end, its cuts, its limits, its memory."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import random
import socket
import ssl
import struct
import sys
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest
import pytest_asyncio

from aiosmrt.config import Timeout
from aiosmrt.errors import (
    AiosmrtError,
    ClientClosed,
    ConnectionLost,
    FirstByteTimeout,
    IdleTimeout,
    StreamClosed,
    TotalTimeout,
    TransportError,
)
from aiosmrt.transport import Pool, PooledResponse, PoolOptions

pytestmark = pytest.mark.usefixtures("quiet_loop")

_SIX_MB = 6 * 1024 * 1024
_BODY = random.Random(5).randbytes(_SIX_MB)


class _Server(Protocol):
    url: str
    connections: int
    open_connections: int


class _Tls(Protocol):
    server: ssl.SSLContext
    client: ssl.SSLContext


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answer = Callable[[object, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[..., AbstractAsyncContextManager[_Server]]
Exchange = Callable[..., Coroutine[None, None, PooledResponse]]
Until = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture
async def pool(tls: _Tls) -> AsyncIterator[Pool]:
    options = PoolOptions(max_connections=1, tls=tls.client)
    async with contextlib.aclosing(Pool(options)) as pool:
        yield pool


@pytest.fixture(params=["plain", "tls"])
def either(request: pytest.FixtureRequest, serve: Serve, tls: _Tls) -> Serve:
    """A server without and with TLS."""
    return functools.partial(serve, tls=tls.server if request.param == "tls" else None)


def _free(pool: Pool) -> bool:
    connector = pool._connector.session.connector
    assert connector is not None
    used = len(connector._acquired) - len(pool._connector._idle)
    return pool._slots.free > 0 and not used


def _write(*pieces: bytes) -> Answer:
    """Answer with these bytes, and leave the connection open."""

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return answer


def _cut(*pieces: bytes, politely: bool = True) -> Answer:
    """Answer with these bytes, and end the connection."""

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        await _write(*pieces)(request, writer)
        if politely:
            writer.close()
        else:
            await asyncio.sleep(0.05)  # a reset overtakes what has not been read
            _reset(writer)

    return answer


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _chunk(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


async def _receive_all(
    response: PooledResponse, pause: float | None = None
) -> tuple[bytes, AiosmrtError | None]:
    """Receive until the end, or until the error."""
    received = bytearray()
    try:
        while data := await response.receive():
            received += data
            if pause is not None:
                await asyncio.sleep(pause)
    except AiosmrtError as error:
        return bytes(received), error
    return bytes(received), None


_HEAD = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _HEAD + b"transfer-encoding: chunked\r\n\r\n"


def _sized(size: int) -> bytes:
    return _HEAD + b"content-length: %d\r\n\r\n" % size


# --- ends


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ((_sized(5), b"hello"), b"hello"),
        ((_sized(0),), b""),
        ((_CHUNKED, _chunk(b"hel", b"lo"), b"0\r\n\r\n"), b"hello"),
        ((_CHUNKED, b"0\r\n\r\n"), b""),
        ((_CHUNKED, b"5;name=value\r\nhello\r\n", b"0\r\ntrailer: x\r\n\r\n"), b"hello"),
        ((_HEAD + b"Transfer-Encoding: Chunked\r\n\r\n", b"0\r\n\r\n"), b""),
        ((b"HTTP/1.1 204 Nothing\r\n\r\n",), b""),
        ((b"HTTP/1.1 304 As Before\r\n\r\n",), b""),
        ((b"HTTP/1.1 100 Go On\r\n\r\n" + _sized(2) + b"ok",), b"ok"),
    ],
    ids=["sized", "empty", "chunked", "no chunk", "trailer", "case", "204", "304", "100"],
)
@pytest.mark.asyncio
async def test_a_proper_end(
    answer: tuple[bytes, ...], body: bytes, pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_write(*answer)) as server:
        for _ in range(2):
            response = await exchange(pool, server.url)
            assert await _receive_all(response) == (body, None)
            assert await response.receive() == b""
            assert await response.read() == b""
            assert _free(pool)
    assert server.connections == 1  # the connection was given back


@pytest.mark.asyncio
async def test_the_head(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    head = b"HTTP/1.1 299 Fine\r\nX-One: 1\r\nTWO: a\r\nx-one: 2\r\ncontent-length: 0\r\n\r\n"
    async with serve(_write(head)) as server:
        response = await exchange(pool, server.url)
        await response.read()
    assert response.head.status == 299
    assert response.head.headers == {"x-one": "1, 2", "two": "a", "content-length": "0"}
    assert list(response.head.headers) == ["x-one", "two", "content-length"]


@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.asyncio
async def test_a_large_body_arrives_whole(
    framing: str, pool: Pool, either: Serve, exchange: Exchange
) -> None:
    if framing == "sized":
        answer = _write(_sized(_SIX_MB), _BODY)
    else:
        pieces = [_BODY[start : start + 50_000] for start in range(0, _SIX_MB, 50_000)]
        answer = _write(_CHUNKED, *map(_chunk, pieces), b"0\r\n\r\n")
    async with either(answer) as server:
        assert await (await exchange(pool, server.url)).read() == _BODY
        response = await exchange(pool, server.url)
        received, error = await _receive_all(response)
        assert received == _BODY
        assert error is None
        assert server.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
    ],
)
@pytest.mark.parametrize("body", [b"hello", b""])
@pytest.mark.asyncio
async def test_an_end_that_only_the_connection_shows_is_no_proof(
    head: bytes, body: bytes, pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    for busy in (0, 0.05):
        async with serve(_cut(head, body)) as server:
            response = await exchange(pool, server.url)
            await asyncio.sleep(busy)
            received, error = await _receive_all(response)
        assert received == body
        assert isinstance(error, ConnectionLost)
        assert f"after {len(body)} bytes" in str(error)
        assert error.may_have_run
        with pytest.raises(ConnectionLost):
            await response.receive()
        assert _free(pool)


# --- cuts

_CUTS = {
    "sized": (_sized(20), b"twelve", b" bytes"),
    "chunked, between chunks": (_CHUNKED, _chunk(b"twelve", b" bytes")),
    "chunked, in a chunk": (_CHUNKED, _chunk(b"twelve"), b"14\r\n bytes"),
    "chunked, in the size": (_CHUNKED, _chunk(b"twelve", b" bytes"), b"1"),
    "chunked, before the last line": (_CHUNKED, _chunk(b"twelve", b" bytes"), b"0\r\n"),
}


@pytest.mark.parametrize(
    "cut",
    [_cut(*pieces, politely=politely) for pieces in _CUTS.values() for politely in (True, False)],
    ids=[f"{name}, {end}" for name in _CUTS for end in ("FIN", "RST")],
)
@pytest.mark.parametrize("busy", [0, 0.1], ids=["ready", "busy"])
@pytest.mark.asyncio
async def test_what_came_before_a_cut_is_given_first(
    *,
    busy: float,
    cut: Answer,
    pool: Pool,
    either: Serve,
    exchange: Exchange,
    all_it_says: Callable[[BaseException], object],
) -> None:
    """aiohttp alone would hide from a busy consumer what came before the cut."""
    async with either(cut) as server:
        response = await exchange(pool, server.url)
        await asyncio.sleep(busy)
        received, error = await _receive_all(response)
    assert received == b"twelve bytes"
    assert isinstance(error, ConnectionLost)
    assert "the connection was lost after 12 bytes of the answer: " in str(error)
    assert error.__cause__ is not None
    assert error.may_have_run
    with pytest.raises(ConnectionLost) as again:
        await response.receive()
    assert all_it_says(again.value) == all_it_says(error)
    assert _free(pool)


@pytest.mark.parametrize(
    "answer",
    [
        _cut(_HEAD + b"\r\n", b"twelve", b" bytes"),
        _cut(_sized(20), b"twelve", b" bytes"),
        _cut(_sized(20), b"twelve", b" bytes", politely=False),
        _write(_sized(20), b"twelve", b" bytes"),
        _write(_CHUNKED, _chunk(b"twelve", b" bytes"), b"what?\r\n"),
    ],
    ids=["no length", "FIN", "RST", "silence", "no chunk"],
)
@pytest.mark.asyncio
async def test_what_came_of_a_body_that_is_read_whole_is_in_the_error(
    answer: Answer, pool: Pool, either: Serve, exchange: Exchange
) -> None:
    async with either(answer) as server:
        response = await exchange(pool, server.url, timeout=Timeout(idle=0.2))
        with pytest.raises(TransportError) as caught:
            await response.read()
        assert caught.value.body == b"twelve bytes"
        with pytest.raises(TransportError) as again:
            await response.read()
        assert again.value.body == b"twelve bytes"
        for frame, _ in traceback.walk_tb(caught.tb):
            if frame.f_globals["__name__"].startswith("aiosmrt."):
                assert "twelve" not in str(frame.f_locals)


@pytest.mark.asyncio
async def test_a_cut_before_the_body(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async with serve(_cut(_sized(20))) as server:
        response = await exchange(pool, server.url)
        await asyncio.sleep(0.02)
        with pytest.raises(ConnectionLost, match="after 0 bytes of the answer"):
            await response.read()
        assert _free(pool)


@pytest.mark.asyncio
async def test_much_that_came_before_a_cut_is_given_to_a_slow_consumer(
    pool: Pool, either: Serve, exchange: Exchange
) -> None:
    answer = _cut(_sized(_SIX_MB + 1), _BODY)
    async with either(answer) as server:
        response = await exchange(pool, server.url)
        received, error = await _receive_all(response, pause=0.005)
    assert received == _BODY
    assert isinstance(error, ConnectionLost)


@pytest.mark.asyncio
async def test_a_chunk_that_is_none(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_CHUNKED + _chunk(b"fine"))
        await asyncio.sleep(0.02)
        writer.write(b"what?\r\n")

    async with serve(answer) as server:
        response = await exchange(pool, server.url)
        await asyncio.sleep(0.05)
        received, error = await _receive_all(response)
        assert received == b"fine"
        assert isinstance(error, ConnectionLost)
        assert _free(pool)


@pytest.mark.asyncio
async def test_a_head_is_given_even_if_its_body_is_wrong_from_the_first_byte(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    """However the bytes were split on their way."""
    head = b"HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n"
    async with serve(_write(head + _chunk(b"ok") + b"what?\r\n")) as server:
        response = await exchange(pool, server.url)
        assert response.head.status == 500
        received, error = await _receive_all(response)
        assert received == b"ok"
        assert isinstance(error, ConnectionLost)
        assert "no size" in str(error)
        assert _free(pool)


# --- limits


@pytest.mark.asyncio
async def test_idle_between_bytes(
    pool: Pool, serve: Serve, exchange: Exchange, until: Until
) -> None:
    async with serve(_write(_sized(10), b"begun")) as server:
        response = await exchange(pool, server.url, timeout=Timeout(idle=0.1))
        assert await response.receive() == b"begun"
        with pytest.raises(IdleTimeout, match=r"no more .* 0\.1 s \(Timeout\.idle\)") as caught:
            await response.receive()
        assert caught.value.may_have_run
        with pytest.raises(IdleTimeout):
            await response.receive()
        assert _free(pool)
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_idle_before_the_first_byte_of_the_body(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    """Once the head is there it is `idle` that counts."""
    async with serve(_write(_sized(10))) as server:
        response = await exchange(pool, server.url, timeout=Timeout(first_byte=60, idle=0.1))
        with pytest.raises(IdleTimeout):
            await response.read()


@pytest.mark.asyncio
async def test_another_wait_can_be_named(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    """A stream waits for its first frame as for a first byte."""
    async with serve(_write(_sized(10))) as server:
        response = await exchange(pool, server.url, timeout=Timeout(first_byte=0.1))
        response._limits.await_("first_byte")
        with pytest.raises(FirstByteTimeout) as caught:
            await response.receive()
        assert caught.value.may_have_run


@pytest.mark.asyncio
async def test_idle_begins_anew_with_every_byte(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def trickle(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_sized(8))
        for _ in range(8):
            await asyncio.sleep(0.06)
            writer.write(b".")

    async with serve(trickle) as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        response = await exchange(pool, server.url, timeout=Timeout(idle=0.35))
        assert await response.read() == b"." * 8
        assert loop.time() - began > 0.35


@pytest.mark.asyncio
async def test_a_body_that_stops_after_a_while_is_noticed(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def trickle(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_sized(8))
        for _ in range(4):
            await asyncio.sleep(0.05)
            writer.write(b".")

    async with serve(trickle) as server:
        response = await exchange(pool, server.url, timeout=Timeout(idle=0.12))
        received, error = await asyncio.wait_for(_receive_all(response), 5)
    assert received == b"...."
    assert isinstance(error, IdleTimeout)


@pytest.mark.asyncio
async def test_what_only_frames_the_body_is_no_more_of_it(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def trickle(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_CHUNKED)
        for byte in _chunk(b"a"):
            await asyncio.sleep(0.02)
            writer.write(bytes([byte]))
        while True:
            await asyncio.sleep(0.02)
            writer.write(b"0")

    async with serve(trickle) as server:
        response = await exchange(pool, server.url, timeout=Timeout(idle=1))
        assert await response.receive() == b"a"
        with pytest.raises(IdleTimeout):
            await asyncio.wait_for(response.receive(), 5)


@pytest.mark.asyncio
async def test_idle_does_not_run_while_the_consumer_is_busy(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_sized(10))
        await asyncio.sleep(0.02)
        writer.write(b"begun")
        await go.wait()
        await asyncio.sleep(0.05)
        writer.write(b"ended")

    go = asyncio.Event()
    async with serve(answer) as server:
        response = await exchange(pool, server.url, timeout=Timeout(idle=0.15))
        assert await response.receive() == b"begun"
        await asyncio.sleep(0.25)
        go.set()
        assert await response.receive() == b"ended"
        await asyncio.sleep(0.2)
        assert await response.receive() == b""


@pytest.mark.asyncio
async def test_what_came_while_the_loop_was_stuck_came_in_time(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_sized(10) + b"begun")
        await go.wait()
        writer.write(b"ended")
        time.sleep(0.2)  # noqa: ASYNC251 - as applications do

    go = asyncio.Event()
    async with serve(answer) as server:
        response = await exchange(pool, server.url, timeout=Timeout(idle=0.15))
        assert await response.receive() == b"begun"
        asyncio.get_running_loop().call_later(0.02, go.set)
        assert await response.receive() == b"ended"
        assert await response.receive() == b""


@pytest.mark.asyncio
async def test_the_total_ends_the_wait_for_a_body(
    pool: Pool, serve: Serve, exchange: Exchange, until: Until
) -> None:
    async with serve(_write(_sized(10), b"begun")) as server:
        response = await exchange(pool, server.url, timeout=Timeout(total=0.1))
        assert await response.receive() == b"begun"
        with pytest.raises(TotalTimeout, match=r"0\.1 s \(Timeout\.total\); .* more of the answer"):
            await response.receive()
        assert _free(pool)
        await until(lambda: server.open_connections == 0)


async def _gush(request: object, writer: asyncio.StreamWriter) -> None:
    writer.write(_CHUNKED)
    while True:
        writer.write(_chunk(bytes(1000)))
        await writer.drain()


@pytest.mark.asyncio
async def test_the_total_ends_a_body_that_never_makes_its_consumer_wait(
    pool: Pool, serve: Serve, exchange: Exchange, until: Until
) -> None:
    async with serve(_gush) as server:
        response = await exchange(pool, server.url, timeout=Timeout(total=0.15))
        received, error = await _receive_all(response, pause=0.02)
        assert received
        assert isinstance(error, TotalTimeout)
        assert "it was waiting for whoever reads the answer" in str(error)
        assert _free(pool)
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_a_body_that_is_all_there_is_given_after_the_total_too(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_write(_sized(5) + b"hello")) as server:
        response = await exchange(pool, server.url, timeout=Timeout(total=0.1))
        await asyncio.sleep(0.15)
        assert await response.read() == b"hello"
        assert _free(pool)


@pytest.mark.asyncio
async def test_no_limits_no_timers(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async with serve(_write(_sized(10), b"begun")) as server:
        limits = Timeout(connect=None, write=None, first_byte=None, idle=None)
        response = await exchange(pool, server.url, timeout=limits)
        await response.receive()
        reading = asyncio.create_task(response.receive())
        await asyncio.sleep(0.02)
        assert pool.alarm._timer is None
        response.close()
        with pytest.raises(StreamClosed):
            await reading


@pytest.mark.asyncio
async def test_a_limit_that_is_lifted_or_lowered_in_the_middle_of_a_body(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    """As between a stream's first frame and its later ones."""
    limits = Timeout(first_byte=0.1, idle=None)
    async with serve(_write(_sized(10), b"begun")) as server:
        response = await exchange(pool, server.url, timeout=limits)
        await response.receive()
        response._limits.await_("first_byte")
        reading = asyncio.create_task(response.receive())
        await asyncio.sleep(0.02)
        response._limits.await_("idle")
        await asyncio.sleep(0.15)
        assert not reading.done()
        reading.cancel()
        await asyncio.wait([reading])
        response._limits.await_("first_byte")
        with pytest.raises(FirstByteTimeout):
            await response.receive()


@pytest.mark.asyncio
async def test_a_limit_that_is_raised_in_the_middle_of_a_wait(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_write(_sized(10), b"begun")) as server:
        response = await exchange(pool, server.url, timeout=Timeout(first_byte=0.05, idle=0.15))
        await response.receive()
        response._limits.await_("first_byte")
        began = asyncio.get_running_loop().time()
        reading = asyncio.create_task(response.receive())
        await asyncio.sleep(0.01)
        response._limits.await_("idle")
        with pytest.raises(IdleTimeout):
            await reading
        assert asyncio.get_running_loop().time() - began > 0.14


@pytest.mark.asyncio
async def test_a_nearer_limit_moves_the_timer(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async with serve(_write(_sized(10), b"begun")) as server:
        response = await exchange(pool, server.url, timeout=Timeout(first_byte=0.1, idle=60))
        await response.receive()
        reading = asyncio.create_task(response.receive())
        await asyncio.sleep(0.02)
        reading.cancel()
        await asyncio.wait([reading])
        response._limits.await_("first_byte")
        with pytest.raises(FirstByteTimeout):
            await asyncio.wait_for(response.receive(), 5)


# --- closing


@pytest.mark.asyncio
async def test_closing_an_unfinished_body_does_not_drain_it(
    pool: Pool, either: Serve, exchange: Exchange, until: Until
) -> None:
    written = 0

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(_sized(1 << 30))
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            written += 1 << 16

    async with either(answer) as server:
        response = await exchange(pool, server.url)
        await response.receive()
        response.close()
        assert _free(pool)
        response.close()
        with pytest.raises(StreamClosed, match="was closed"):
            await response.receive()
        await until(lambda: server.open_connections == 0)
        assert written < 1 << 26


@pytest.mark.asyncio
async def test_closing_does_not_wait_for_a_peer_that_does_not_read(
    pool: Pool, serve_raw: Serve, exchange: Exchange, until: Until, request: pytest.FixtureRequest
) -> None:
    """A polite end of TLS has two sides."""
    tls: _Tls = request.getfixturevalue("tls")
    read_nothing: Converse = request.getfixturevalue("read_nothing")

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_sized(10) + b"begun")
        await read_nothing(reader, writer)

    async with serve_raw(converse, tls=tls.server) as server:
        response = await exchange(pool, server.url)
        assert await response.receive() == b"begun"
        response.close()
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_nothing_holds_a_response_that_is_over(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_sized(5))
        await asyncio.sleep(0.01)
        writer.write(b"hello")

    async with serve(answer) as server:
        response = await exchange(pool, server.url)
        assert await response.read() == b"hello"
        gone = weakref.ref(response)
        del response
        gc.collect()
        assert gone() is None


@pytest.mark.asyncio
async def test_closing_a_body_that_has_come_whole_keeps_its_connection(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_write(_sized(5) + b"hello")) as server:
        for _ in range(2):
            response = await exchange(pool, server.url)
            await asyncio.sleep(0.01)
            response.close()
            with pytest.raises(StreamClosed):
                await response.receive()
            assert _free(pool)
        assert server.connections == 1


@pytest.mark.asyncio
async def test_closing_ends_a_read_under_way(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async with serve(_write(_sized(10), b"begun")) as server:
        response = await exchange(pool, server.url)
        await response.receive()
        reading = asyncio.create_task(response.receive())
        await asyncio.sleep(0.01)
        response.close()
        with pytest.raises(StreamClosed):
            await reading


@pytest.mark.asyncio
async def test_a_failed_response_stays_as_it_failed_first(
    pool: Pool,
    serve: Serve,
    exchange: Exchange,
    all_it_says: Callable[[BaseException], object],
) -> None:
    async with serve(_write(_sized(10), b"begun")) as server:
        response = await exchange(pool, server.url)
        await response.receive()
        reading = asyncio.create_task(response.receive())
        await asyncio.sleep(0.01)
        error = ClientClosed("first")
        response.fail(error)
        response.fail(ClientClosed("second"))
        response.close()
        for task in (reading, response.receive(), response.read()):
            with pytest.raises(ClientClosed) as caught:
                await task
            assert all_it_says(caught.value) == all_it_says(error)
        assert error.may_have_run
        assert _free(pool)


# --- readers


@pytest.mark.asyncio
async def test_a_cancelled_read_loses_nothing(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async def trickle(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_sized(200))
        for number in range(100):
            writer.write(b"%02d" % number)
            await asyncio.sleep(0)

    async with serve(trickle) as server:
        response = await exchange(pool, server.url)
        received = b""
        cancelled = 0
        for steps in itertools.cycle(range(4)):
            reading = asyncio.create_task(response.receive())
            for _ in range(steps):
                await asyncio.sleep(0)
            reading.cancel()
            try:
                received += await reading
            except asyncio.CancelledError:
                cancelled += 1
            if len(received) == 200:
                break
        assert cancelled
        assert received == b"".join(b"%02d" % number for number in range(100))
        assert await response.receive() == b""


@pytest.mark.asyncio
async def test_a_second_reader_is_sent_away_and_disturbs_nobody(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_sized(5))
        await go.wait()
        writer.write(b"hello")

    go = asyncio.Event()
    async with serve(answer) as server:
        response = await exchange(pool, server.url)
        reading = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="being read by another task"):
            await response.receive()
        go.set()
        assert await reading == b"hello"


# --- memory


@pytest.mark.parametrize("size", [100, 100_000], ids=["small chunks", "large chunks"])
@pytest.mark.asyncio
async def test_a_slow_consumer_stops_the_server(
    size: int, pool: Pool, either: Serve, exchange: Exchange
) -> None:
    written = 0

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(_CHUNKED)
        while True:
            writer.write(_chunk(bytes(size)) * (100_000 // size))
            await writer.drain()
            written += 100_000

    async with either(answer) as server:
        response = await exchange(pool, server.url)
        await response.receive()
        before = -1
        while before < written:  # until the server is stuck
            before = written
            await asyncio.sleep(0.05)
        assert written < 8_000_000
        assert sys.getsizeof(await response.receive()) < 4_000_000
        # It goes on as the consumer does.
        while written < before + 2_000_000:
            assert await response.receive()
        response.close()
