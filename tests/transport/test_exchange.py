"""A request and its answer on a connection: what is written, and what is known of a stuck one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from unittest.mock import Mock

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from aiosmrt.config import Timeout
from aiosmrt.errors import (
    ClientClosed,
    ConfigurationError,
    ConnectionLost,
    TimeLimitError,
    TotalTimeout,
    WriteTimeout,
)
from aiosmrt.http import Delivery, Request, ResponseHead
from aiosmrt.transport import Pool, PooledResponse, PoolOptions
from aiosmrt.transport.connection import LentConnections, PooledConnection
from aiosmrt.transport.exchange import Exchange, encode_head
from aiosmrt.transport.limits import Limits
from aiosmrt.transport.response_parser import MalformedResponse

pytestmark = pytest.mark.usefixtures("quiet_loop")

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_SMALL = 1 << 16  # bytes up to which a body goes out with its head
_SMALL_BODY = b"x" * _SMALL
_SIX_MB = 6 * 1024 * 1024
_BODY = random.Random(6).randbytes(_SIX_MB)


class _Server(Protocol):
    url: str
    connections: int
    open_connections: int


class _Tls(Protocol):
    server: ssl.SSLContext
    client: ssl.SSLContext


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ServeRaw = Callable[..., AbstractAsyncContextManager[_Server]]
Send = Callable[..., Coroutine[None, None, PooledResponse]]
Until = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    async with contextlib.aclosing(Pool(PoolOptions(max_connections=1))) as pool:
        yield pool


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return await reader.readexactly(int(length.partition(b":")[2]))


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000, _SIX_MB])
@pytest.mark.asyncio
async def test_a_body_of_any_size_arrives(
    size: int, pool: Pool, serve_raw: ServeRaw, exchange: Send
) -> None:
    bodies = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            bodies.append(await _read_request(reader))
            writer.write(_OK)

    async with serve_raw(converse) as server:
        for _ in range(2):
            response = await exchange(pool, server.url, _BODY[:size])
            assert await response.read() == b"ok"
    assert bodies == [_BODY[:size]] * 2
    assert server.connections == 1


@pytest.mark.asyncio
async def test_a_large_body_arrives_over_tls_and_through_a_slow_reader(
    serve_raw: ServeRaw, exchange: Send, tls: _Tls
) -> None:
    bodies = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = bytearray()
        while len(body) < _SIX_MB:
            body += await reader.read(1 << 19)
            await asyncio.sleep(0.002)
        bodies.append(bytes(body))
        writer.write(_OK)
        await reader.read()

    async with (
        serve_raw(converse, tls=tls.server) as server,
        contextlib.aclosing(Pool(PoolOptions(tls=tls.client))) as pool,
    ):
        response = await exchange(pool, server.url, _BODY)
        assert await response.read() == b"ok"
    assert bodies == [_BODY]


@pytest.mark.asyncio
async def test_a_reader_that_never_stops_may_be_slower_than_the_limit(
    pool: Pool, serve_raw: ServeRaw, exchange: Send
) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        received = 0
        while received < _SIX_MB:
            received += len(await reader.read(1 << 18))
            await asyncio.sleep(0.03)
        writer.write(_OK)
        await reader.read()

    async with serve_raw(converse) as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        response = await exchange(pool, server.url, _BODY, timeout=Timeout(write=0.4))
        assert loop.time() - began > 0.4
        assert await response.read() == b"ok"


@pytest.fixture(params=["plain", "tls"])
def stuck(
    request: pytest.FixtureRequest, serve_raw: ServeRaw, read_nothing: Converse, tls: _Tls
) -> AbstractAsyncContextManager[_Server]:
    """A server that takes a head and the first part of a body."""
    return serve_raw(read_nothing, tls=tls.server if request.param == "tls" else None)


@pytest_asyncio.fixture
async def tls_pool(tls: _Tls) -> AsyncIterator[Pool]:
    options = PoolOptions(max_connections=1, tls=tls.client)
    async with contextlib.aclosing(Pool(options)) as pool:
        yield pool


@pytest.mark.asyncio
async def test_a_server_that_stops_reading(
    tls_pool: Pool, stuck: AbstractAsyncContextManager[_Server], exchange: Send, until: Until
) -> None:
    async with stuck as server:
        with pytest.raises(WriteTimeout, match=r"took no more .* 0\.1 s") as caught:
            await exchange(tls_pool, server.url, _BODY, timeout=Timeout(write=0.1))
        assert not caught.value.may_have_run
        assert tls_pool._slots.free
        # Reset, not closed politely: that would wait for the server to read.
        await until(lambda: server.open_connections == 0)
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.mark.asyncio
async def test_the_total_ends_a_body_that_is_stuck(
    tls_pool: Pool, stuck: AbstractAsyncContextManager[_Server], exchange: Send, until: Until
) -> None:
    async with stuck as server:
        with pytest.raises(TotalTimeout) as caught:
            await exchange(tls_pool, server.url, _BODY, timeout=Timeout(total=0.1))
        assert not caught.value.may_have_run
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_a_cancelled_call_resets_a_body_that_is_stuck(
    tls_pool: Pool, stuck: AbstractAsyncContextManager[_Server], exchange: Send, until: Until
) -> None:
    async with stuck as server:
        task = asyncio.create_task(exchange(tls_pool, server.url, _BODY))
        await until(lambda: server.open_connections == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_closing_the_pool_does_not_wait_for_a_body_that_is_stuck(
    tls_pool: Pool, stuck: AbstractAsyncContextManager[_Server], exchange: Send, until: Until
) -> None:
    async with stuck as server:
        task = asyncio.create_task(exchange(tls_pool, server.url, _BODY))
        await until(lambda: server.open_connections == 1)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(tls_pool.aclose(), 2)
        with pytest.raises(ClientClosed) as caught:
            await task
        assert not caught.value.may_have_run
        await until(lambda: server.open_connections == 0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("politely", [True, False], ids=["FIN", "RST"])
@pytest.mark.asyncio
async def test_a_connection_that_dies_before_the_last_byte_did_not_run_the_model(
    politely: bool, secure: bool, serve_raw: ServeRaw, exchange: Send, tls: _Tls
) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100_000)
        if not politely:
            _reset(writer)

    async with (
        serve_raw(converse, tls=tls.server if secure else None) as server,
        contextlib.aclosing(Pool(PoolOptions(tls=tls.client))) as pool,
    ):
        with pytest.raises(ConnectionLost, match=r"while the request was being sent") as caught:
            await exchange(pool, server.url, _BODY)
    assert not caught.value.may_have_run
    assert "a body that is too large" in str(caught.value)
    assert f"of {_SIX_MB} bytes of the body" in str(caught.value)


@pytest.mark.parametrize("politely", [True, False], ids=["FIN", "RST"])
@pytest.mark.parametrize("size", [0, 10, 100_000])
@pytest.mark.asyncio
async def test_a_connection_that_dies_after_the_last_byte_may_have_run_the_model(
    size: int, politely: bool, pool: Pool, serve_raw: ServeRaw, exchange: Send
) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        if not politely:
            _reset(writer)

    async with serve_raw(converse) as server:
        with pytest.raises(ConnectionLost, match="after the whole request had been sent") as caught:
            await exchange(pool, server.url, bytes(size))
    assert caught.value.may_have_run


@pytest.mark.asyncio
async def test_an_answer_may_come_before_the_request_is_out(
    pool: Pool, serve_raw: ServeRaw, exchange: Send, read_nothing: Converse, until: Until
) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await read_nothing(reader, writer)

    async with serve_raw(converse) as server:
        response = await exchange(pool, server.url, _BODY)
        assert response.head.status == 413
        assert await response.read() == b"big"
        assert pool._slots.free > 0
        # What is half sent cannot be gone on with: the connection is not used again.
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_large_bodies_cause_no_warning(
    pool: Pool, serve_raw: ServeRaw, exchange: Send, recwarn: pytest.WarningsRecorder
) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _read_request(reader)
        writer.write(_OK)
        await reader.read()

    async with serve_raw(converse) as server:
        response = await exchange(pool, server.url, bytes(2_000_000))
        await response.read()
        del response
        gc.collect()
    assert not recwarn.list


def _make_small(address: aiohttp.AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return made


@pytest_asyncio.fixture
async def narrow() -> AsyncIterator[Pool]:
    """Give a pool whose sockets take some ten kilobytes that the peer does not read."""
    connector = aiohttp.TCPConnector(socket_factory=_make_small)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        contextlib.aclosing(Pool(PoolOptions(session=session))) as pool,
    ):
        yield pool


@contextlib.contextmanager
def _listen() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(5)
        yield listening


def _read_whole(connection: socket.socket, already: int) -> int:
    """Read until nothing comes any longer, and tell how many bytes there were."""
    size = already
    with contextlib.suppress(OSError):
        while received := connection.recv(1 << 16):
            size += len(received)
    return size


# Both are stuck in their last piece; the larger one has been read up to there.
@pytest.mark.parametrize(("size", "read_before"), [(10_000, 0), (75_536, 65_536)])
@pytest.mark.asyncio
async def test_a_limit_that_fires_as_the_last_byte_goes_does_not_deny_it(
    size: int, read_before: int, narrow: Pool, exchange: Send
) -> None:
    go = threading.Event()

    def serve(listening: socket.socket) -> int:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(5)
            already = 0
            while already < read_before:
                already += len(connection.recv(read_before - already))
            go.wait(5)
            return _read_whole(connection, already)

    async def hold_the_loop_up() -> None:
        await asyncio.sleep(0.1)
        go.set()
        time.sleep(0.2)  # noqa: ASYNC251 - the limit is over before the loop looks again

    with _listen() as listening:
        port = listening.getsockname()[1]
        serving = asyncio.create_task(asyncio.to_thread(serve, listening))
        holding = asyncio.create_task(hold_the_loop_up())
        limits = Timeout(write=0.2, first_byte=0.2)
        with pytest.raises(TimeLimitError) as caught:
            await exchange(narrow, f"http://127.0.0.1:{port}", bytes(size), timeout=limits)
        await holding
        # The system decides how much it takes at a time.
        assert caught.value.may_have_run or await serving <= size
        await serving


# Over TLS what a transport keeps of the last piece is what comes behind 64 KiB of those before.
@pytest.mark.parametrize(
    ("secure", "size", "read_before"),
    [(False, 20_000, 0), (False, 85_536, 65_536), (True, 150_000, 10)],
)
@pytest.mark.asyncio
async def test_a_peer_that_hung_up_and_reads_on_may_have_run_the_model(
    secure: bool, size: int, read_before: int, exchange: Send, tls: _Tls
) -> None:
    def serve(listening: socket.socket) -> int:
        connection, _ = listening.accept()
        connection.settimeout(5)
        if secure:
            connection = tls.server.wrap_socket(connection, server_side=True)
        with connection:
            already = 0
            while already < read_before:
                already += len(connection.recv(read_before - already))
            time.sleep(0.1)
            socket.socket.shutdown(connection, socket.SHUT_WR)  # without the goodbye of TLS
            time.sleep(0.1)
            return _read_whole(connection, already)

    connector = aiohttp.TCPConnector(socket_factory=_make_small)
    with _listen() as listening:
        port = listening.getsockname()[1]
        serving = asyncio.create_task(asyncio.to_thread(serve, listening))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            contextlib.aclosing(Pool(PoolOptions(session=session, tls=tls.client))) as pool,
        ):
            url = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
            with pytest.raises(ConnectionLost) as caught:
                await exchange(pool, url, bytes(size))
        # What the system has not sent yet by the time of the close is thrown away.
        assert caught.value.may_have_run or await serving <= size
        await serving


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.asyncio
async def test_nothing_is_poured_into_a_connection_that_its_peer_has_ended(
    secure: bool, exchange: Send, tls: _Tls, caplog: pytest.LogCaptureFixture
) -> None:
    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        connection.settimeout(5)
        if secure:
            connection = tls.server.wrap_socket(connection, server_side=True)
        with connection, contextlib.suppress(OSError):
            connection.recv(10)
            time.sleep(0.05)
            socket.socket.shutdown(connection, socket.SHUT_WR)
            time.sleep(0.05)
            while connection.recv(1 << 10):
                time.sleep(0.001)

    connector = aiohttp.TCPConnector(socket_factory=_make_small)
    with _listen() as listening:
        port = listening.getsockname()[1]
        serving = asyncio.create_task(asyncio.to_thread(serve, listening))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            contextlib.aclosing(Pool(PoolOptions(session=session, tls=tls.client))) as pool,
        ):
            url = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
            with pytest.raises(ConnectionLost, match="while the request was being sent") as caught:
                await exchange(pool, url, bytes(1_000_000))
        await serving
    assert not caught.value.may_have_run
    assert not caplog.records  # asyncio's TLS complains of what it drops


@pytest.mark.asyncio
async def test_a_limit_that_fires_as_a_reset_comes_in_leaves_nothing_behind(
    tls: _Tls, exchange: Send
) -> None:
    """A lost connection of TLS has no socket any longer, before anybody is told of it."""
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def serve(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with tls.server.wrap_socket(connection, server_side=True) as secure:
            secure.recv(10)
            begun.set()
            go.wait(5)
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        done.set()

    async def hold_the_loop_up() -> None:
        await asyncio.to_thread(begun.wait)
        await asyncio.sleep(0.1)  # until the socket takes no more: a write would meet the reset
        go.set()
        done.wait(5)
        time.sleep(0.6)  # noqa: ASYNC251 - the limit is long over before the loop looks again

    connector = aiohttp.TCPConnector(socket_factory=_make_small)
    with _listen() as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        serving = asyncio.create_task(asyncio.to_thread(serve, listening))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            contextlib.aclosing(Pool(PoolOptions(session=session, tls=tls.client))) as pool,
        ):
            holding = asyncio.create_task(hold_the_loop_up())
            with pytest.raises(WriteTimeout) as caught:
                await exchange(pool, url, bytes(600_000), timeout=Timeout(write=0.2))
            assert not caught.value.may_have_run
            assert not connector._acquired
            await holding
        await serving


# --- heads, and what the small ones get into


def _answer(*pieces: bytes, closing: bool = False) -> Converse:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.01)
            if closing:
                writer.close()

    return converse


@pytest.mark.parametrize(
    ("request_", "lines"),
    [
        (
            Request("POST", "https://a.example:443", "/x", {"a": "1", "b": "é"}, b"1234"),
            (
                "POST /x HTTP/1.1\nHost: a.example\naccept-encoding: identity\na: 1\nb: é\n"
                "Content-Length: 4"
            ),
        ),
        (
            Request("POST", "http://a.example:8080", "/x", {"accept-encoding": "gzip"}),
            "POST /x HTTP/1.1\nHost: a.example:8080\naccept-encoding: gzip\nContent-Length: 0",
        ),
        (
            Request("GET", "http://a.example", "/x", {"tab": "a\tb"}, query="list-type=2&a=%20"),
            (
                "GET /x?list-type=2&a=%20 HTTP/1.1\nHost: a.example\naccept-encoding: identity\n"
                "tab: a\tb"
            ),
        ),
    ],
    ids=["body", "no body", "query"],
)
def test_a_head_has_these_lines(request_: Request, lines: str) -> None:
    assert encode_head(request_).decode() == lines.replace("\n", "\r\n") + "\r\n\r\n"


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "a\x7fb", "\x1f"])
@pytest.mark.parametrize("body", [b"", _SMALL_BODY + b"x"], ids=["small", "large"])
@pytest.mark.asyncio
async def test_a_value_does_not_break_out_of_its_line(
    value: str, body: bytes, serve_raw: ServeRaw, exchange: Send
) -> None:
    async with (
        serve_raw(_answer(_OK)) as server,
        contextlib.aclosing(Pool(PoolOptions())) as pool,
    ):
        with pytest.raises(ConfigurationError, match=r"control character|forbidden") as caught:
            await exchange(pool, server.url, body, headers={"a": value})
        assert not caught.value.may_have_run


@pytest.mark.parametrize("body", [b"small", _SMALL_BODY + b"x"], ids=["small", "large"])
@pytest.mark.asyncio
async def test_a_head_that_only_announces_another_is_passed_over(
    body: bytes, serve_raw: ServeRaw, exchange: Send
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with (
        serve_raw(_answer(hints, hints, _OK)) as server,
        contextlib.aclosing(Pool(PoolOptions())) as pool,
    ):
        response = await exchange(pool, server.url, body)
        assert response.head.status == 200
        assert await response.read() == b"ok"


@pytest.mark.asyncio
async def test_what_ends_http_is_an_answer(serve_raw: ServeRaw, exchange: Send) -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    async with (
        serve_raw(_answer(switching)) as server,
        contextlib.aclosing(Pool(PoolOptions())) as pool,
    ):
        response = await exchange(pool, server.url)
        assert response.head.status == 101
        response.close()


@pytest.mark.asyncio
async def test_an_answer_to_head_has_no_body(serve_raw: ServeRaw) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
    async with (
        serve_raw(_answer(head)) as server,
        contextlib.aclosing(Pool(PoolOptions())) as pool,
    ):
        for _ in range(2):
            limits = Limits(Timeout())
            with limits:
                slot = await pool.acquire(limits)
                request = Request("HEAD", server.url, "/key", {})
                response = await pool.send(request, slot, limits)
            assert response.head.headers["content-length"] == "1000"
            assert await response.read() == b""
        assert server.connections == 1


@pytest.mark.asyncio
async def test_a_socket_that_takes_it_bit_by_bit_gets_all_of_it(
    narrow: Pool, serve_raw: ServeRaw, exchange: Send
) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.05)
        assert await reader.readexactly(_SMALL) == _SMALL_BODY
        writer.write(_OK)
        await reader.read()

    async with serve_raw(converse) as server:
        response = await exchange(narrow, server.url, _SMALL_BODY)
        assert await response.read() == b"ok"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Give a listening socket that takes next to nothing which nobody reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.setblocking(False)
        yield listener


@contextlib.asynccontextmanager
async def _stuck(
    pool: Pool, exchange: Send, listener: socket.socket
) -> AsyncIterator[tuple[socket.socket, asyncio.Task[PooledResponse]]]:
    """Send a request of which no more is taken than its beginning."""
    loop = asyncio.get_running_loop()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    sending = asyncio.create_task(exchange(pool, url, _SMALL_BODY, timeout=Timeout(write=0.3)))
    peer, _ = await loop.sock_accept(listener)
    with peer:
        await loop.sock_recv(peer, 10)
        yield peer, sending


@pytest.mark.asyncio
async def test_a_socket_that_takes_no_more_is_given_up(
    narrow: Pool, exchange: Send, listener: socket.socket
) -> None:
    async with _stuck(narrow, exchange, listener) as (_, sending):
        with pytest.raises(WriteTimeout) as caught:
            await sending
        assert not caught.value.may_have_run


@pytest.mark.asyncio
async def test_an_answer_that_comes_before_the_request_was_taken_is_given(
    narrow: Pool, exchange: Send, listener: socket.socket
) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\nconnection: close\r\n\r\nlarge"
    async with _stuck(narrow, exchange, listener) as (peer, sending):
        peer.sendall(refusal)
        await asyncio.sleep(0.02)
        peer.close()
        response = await sending
        assert response.head.status == 413
        assert await response.read() == b"large"


@pytest.mark.asyncio
async def test_a_connection_that_is_lost_before_the_request_was_taken_has_run_nothing(
    narrow: Pool, exchange: Send, listener: socket.socket
) -> None:
    async with _stuck(narrow, exchange, listener) as (peer, sending):
        peer.close()
        with pytest.raises(ConnectionLost, match="while the request was being sent") as caught:
            await sending
        assert not caught.value.may_have_run


# --- what only a transport can tell


class _Progress:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def connecting(self, delivery: Delivery) -> None:
        self.calls.append("connecting")

    def writing(self) -> None:
        self.calls.append("writing")

    def sent(self) -> None:
        self.calls.append("sent")


class _Transport(asyncio.Transport):
    """A transport that keeps what is written until it is let go."""

    def __init__(self, raw: socket.socket | None = None) -> None:
        super().__init__({"socket": raw or Mock(fileno=Mock(return_value=-1))})
        self.kept = 10
        self.high: int | None = None
        self.written = bytearray()
        self.aborted = self.closing = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.kept

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = True

    def pass_on(self) -> None:
        """Let go what is kept, and say so, as every transport does in one go."""
        self.kept = 0
        assert isinstance(self.protocol, asyncio.Protocol)
        self.protocol.resume_writing()


def _connect(transport: _Transport) -> Any:
    connection = Mock()
    connection.transport = transport
    return connection


def _begin(
    transport: _Transport, body: bytes
) -> tuple[Exchange, _Progress, Any, asyncio.Task[ResponseHead]]:
    progress = _Progress()
    request = Request("POST", "http://host", "/", {}, body)
    exchange = Exchange(request, progress)
    connection = _connect(transport)
    return (
        exchange,
        progress,
        connection,
        asyncio.create_task(exchange.begin(connection, encode_head(request))),
    )


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.asyncio
async def test_a_body_is_sent_when_the_socket_took_its_last_byte(closed: bool) -> None:
    transport = _Transport()
    exchange, progress, connection, beginning = _begin(transport, b"body")
    await asyncio.sleep(0.01)
    assert transport.protocol is exchange
    assert transport.high == 0  # which makes it say when it is empty
    assert (exchange.sent, exchange.taken) == (False, 0)
    assert progress.calls == ["writing"]
    if closed:  # by the peer, which has it all; uvloop's transport says so

        def refuse(high: int | None = None, low: int | None = None) -> None:
            raise RuntimeError("the handler is closed")

        transport.set_write_buffer_limits = refuse  # type: ignore[method-assign]
    transport.pass_on()
    assert exchange.may_be_whole
    assert (exchange.sent, exchange.taken) == (True, 4)
    assert progress.calls == ["writing", "sent"]
    if not closed:
        assert transport.high is None
    exchange.data_received(_OK)
    await beginning
    assert exchange.take() == b"ok"
    assert transport.protocol is connection.protocol
    assert connection.release.called
    assert not transport.aborted


@pytest.mark.asyncio
async def test_a_large_body_goes_out_piece_by_piece_and_each_is_waited_for() -> None:
    transport = _Transport()
    body = random.Random(1).randbytes(150_000)
    exchange, progress, _, beginning = _begin(transport, body)
    for number in (1, 2, 3):
        await asyncio.sleep(0.01)
        written = transport.written.partition(b"\r\n\r\n")[2]
        assert written == body[: number * _SMALL]
        assert exchange.taken == (number - 1) * _SMALL
        assert progress.calls == ["writing"] * number
        assert not exchange.sent
        assert not exchange.may_be_whole
        transport.pass_on()
        transport.kept = 10
    assert exchange.sent
    assert exchange.may_be_whole
    assert progress.calls == ["writing"] * 3 + ["sent"]
    exchange.data_received(_OK)
    await beginning


@pytest.mark.asyncio
async def test_what_came_in_the_pass_of_a_write_is_read_before_the_next_write() -> None:
    """The next one could fail for it, and then nobody would read it."""
    transport = _Transport()
    transport.kept = 0
    exchange, _, _, beginning = _begin(transport, bytes(150_000))
    await asyncio.sleep(0)
    written = len(transport.written)
    refusal = b"HTTP/1.1 413 Large\r\ncontent-length: 3\r\n\r\nbig"
    asyncio.get_running_loop().call_soon(exchange.data_received, refusal)
    assert (await beginning).status == 413
    assert len(transport.written) == written
    assert transport.aborted


@pytest.mark.asyncio
async def test_nothing_more_is_written_to_a_transport_that_closes() -> None:
    transport = _Transport()
    exchange, _, _, beginning = _begin(transport, bytes(150_000))
    await asyncio.sleep(0)
    transport.closing = True
    before = len(transport.written)
    transport.pass_on()
    await asyncio.sleep(0.01)
    assert len(transport.written) == before
    exchange.connection_lost(None)
    with pytest.raises(EOFError):
        await beginning
    assert not exchange.sent
    assert not exchange.may_be_whole


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.asyncio
async def test_who_is_cancelled_knows_what_the_socket_took_meanwhile(*, sent: bool) -> None:
    transport = _Transport(socket.socket())
    exchange, progress, connection, beginning = _begin(transport, b"x")
    await asyncio.sleep(0.01)
    if sent:
        transport.pass_on()
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    assert (exchange.sent, exchange.taken) == (sent, sent)
    assert exchange.may_be_whole is sent
    assert ("sent" in progress.calls) is sent
    assert transport.aborted
    assert connection.close.called
    # What is half sent is forgotten by the system, too.
    raw: socket.socket = transport.get_extra_info("socket")
    lingers, _ = struct.unpack("ii", raw.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    assert bool(lingers) is not sent
    raw.close()


@pytest.mark.parametrize("error", [None, ConnectionResetError("by peer")])
@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.asyncio
async def test_a_connection_that_is_lost_before_anybody_looked_again(
    *, sent: bool, error: Exception | None
) -> None:
    """Its transport has forgotten what it had, and what counts is what it said before.

    Where it was closed in peace, it may have passed on the rest without saying so.
    """
    transport = _Transport()
    exchange, progress, _, beginning = _begin(transport, b"x")
    await asyncio.sleep(0)
    if sent:
        transport.pass_on()  # and then closed by the peer
    transport.kept = 0
    exchange.connection_lost(error)
    with pytest.raises(EOFError if error is None else ConnectionResetError):
        await beginning
    assert exchange.sent is sent
    assert exchange.may_be_whole is (sent or error is None)
    assert progress.calls == (["writing", "sent"] if sent else ["writing"])


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.asyncio
async def test_a_write_that_fails_at_once_has_taken_nothing(size: int) -> None:
    class Broken(_Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            super().write(data)
            self.closing = size < _SMALL or len(self.written) > _SMALL + 1000
            self.kept = 0

    exchange, progress, _, beginning = _begin(Broken(), bytes(size))
    await asyncio.sleep(0.01)
    exchange.connection_lost(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await beginning
    assert not exchange.may_be_whole
    assert "sent" not in progress.calls


@pytest.mark.parametrize(
    "answer", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"GARBAGE\r\n"]
)
@pytest.mark.asyncio
async def test_whoever_answers_may_have_asked_the_model(answer: bytes) -> None:
    exchange, _, _, beginning = _begin(_Transport(), bytes(100_000))
    await asyncio.sleep(0)
    assert not exchange.may_be_whole
    exchange.data_received(answer)
    exchange.connection_lost(ConnectionResetError())
    with pytest.raises((ConnectionResetError, MalformedResponse)):
        await beginning
    assert exchange.may_be_whole


@pytest.mark.asyncio
async def test_what_a_transport_forgets_when_it_is_cut_was_not_sent() -> None:
    class Forgetful(_Transport):
        def abort(self) -> None:
            super().abort()
            self.kept = 0

    transport = Forgetful()
    exchange, _, connection, beginning = _begin(transport, b"x")
    await asyncio.sleep(0.01)
    exchange.data_received(b"GARBAGE\r\n")
    with pytest.raises(MalformedResponse, match="GARBAGE"):
        await beginning
    assert transport.aborted
    assert not exchange.sent
    assert exchange.may_be_whole
    # Its writing was paused here, and is not to be resumed elsewhere.
    assert transport.protocol is exchange
    exchange.resume_writing()
    exchange.data_received(_OK)
    exchange.connection_lost(None)
    assert connection.protocol.connection_lost.called
    assert not connection.protocol.resume_writing.called


@pytest.mark.asyncio
async def test_an_answer_that_is_faster_than_the_loop_keeps_its_connection() -> None:
    transport = _Transport()
    exchange, progress, connection, beginning = _begin(transport, bytes(100_000))
    await asyncio.sleep(0.01)
    transport.pass_on()
    await asyncio.sleep(0.01)  # of the last piece nothing is kept
    exchange.data_received(_OK)
    await beginning
    assert exchange.sent
    assert progress.calls == ["writing", "sent"]
    assert connection.release.called
    assert not transport.aborted


@pytest.mark.asyncio
async def test_a_socket_goes_on_being_read_where_there_is_nothing_to_take() -> None:
    """Whoever takes is who resumes."""
    transport = _Transport()
    transport.kept = 0
    exchange, _, _, beginning = _begin(transport, b"x")
    await asyncio.sleep(0)
    transport.pause_reading = transport.resume_reading = Mock()  # type: ignore[method-assign]
    exchange.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    await beginning
    exchange._unread = 1 << 20
    exchange.data_received(b"5")
    assert not transport.pause_reading.called
    exchange.data_received(b"\r\nhello\r\n")
    assert transport.pause_reading.call_count == 1
    assert exchange.take() == b"hello"
    assert transport.pause_reading.call_count == 2
    exchange.close()


@pytest.mark.asyncio
async def test_what_comes_although_reading_is_paused_is_taken_for_what_it_is() -> None:
    """As from a TLS transport that has deciphered more already."""
    large = bytes(300_000)
    for how_it_ends in ("whole", "lost"):
        transport = _Transport()
        transport.kept = 0
        exchange, _, connection, beginning = _begin(transport, b"x")
        await asyncio.sleep(0)
        transport.pause_reading = Mock()  # type: ignore[method-assign]
        transport.resume_reading = Mock()  # type: ignore[method-assign]
        exchange.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 300002\r\n\r\n" + large)
        await beginning
        assert transport.pause_reading.call_count == 1
        if how_it_ends == "whole":
            exchange.data_received(b"ok")
            # The next request of the connection is to be answered.
            assert transport.resume_reading.call_count == 1
            assert transport.protocol is connection.protocol
            assert connection.release.called
            assert exchange.take() == large + b"ok"
        else:
            exchange.connection_lost(ConnectionResetError())
            assert exchange.take() == large
            assert isinstance(exchange.error, ConnectionResetError)
            assert not transport.resume_reading.called


@pytest.mark.asyncio
async def test_nothing_holds_a_body_that_was_not_sent() -> None:
    request = Request("POST", "http://host", "/", {}, bytes(200_000))
    transport = _Transport()
    exchange = Exchange(request, _Progress())
    beginning = asyncio.create_task(exchange.begin(_connect(transport), encode_head(request)))
    await asyncio.sleep(0.01)
    exchange.connection_lost(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await beginning
    assert exchange._body == b""
    assert exchange.error is None  # whose traceback refers to it


@pytest.mark.asyncio
async def test_a_socket_that_is_gone_is_given_up_all_the_same() -> None:
    with socket.socket() as raw:
        transport = _Transport(raw)
    exchange, _, connection, beginning = _begin(transport, b"x")
    await asyncio.sleep(0.01)
    exchange.close()
    assert transport.aborted
    assert connection.close.called
    beginning.cancel()
    await asyncio.wait([beginning])


@pytest.mark.asyncio
async def test_a_transport_that_asyncio_has_closed_is_given_up_all_the_same() -> None:
    """Closed with something to flush, and then flushed."""
    received = asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        received.set()

    async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        _, writer = await asyncio.open_connection(*address)
        transport = writer.transport
        exchange = Exchange(Request("POST", "http://host", "/", {}, b"x"), _Progress())
        connection = Mock()
        connection.transport = transport
        exchange._write(connection, bytes(_SIX_MB))
        transport.close()
        await received.wait()
        await asyncio.sleep(0.01)
        exchange._connection = connection
        exchange.close()
        assert connection.close.called


@pytest.mark.asyncio
async def test_a_connection_that_is_gone_already_is_no_connection(serve_raw: ServeRaw) -> None:
    async with serve_raw(_answer(_OK)) as server, aiohttp.ClientSession() as session:
        connector = session.connector
        assert connector is not None
        destination = aiohttp.ClientRequest(
            "POST", URL(server.url), loop=asyncio.get_running_loop(), session=session
        )
        connection = await connector.connect(
            destination, traces=[], timeout=aiohttp.ClientTimeout()
        )
        assert connection.protocol is not None
        connection.protocol.close()
        request = Request("POST", server.url, "/", {})
        exchange = Exchange(request, _Progress())
        with pytest.raises(ConnectionResetError, match="closed as soon as it was made"):
            await exchange.begin(
                PooledConnection(connection, server.url, LentConnections()), encode_head(request)
            )
        assert exchange.begun_at is None
        assert connection.closed
