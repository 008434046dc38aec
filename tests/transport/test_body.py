"""A request's body on its way into the socket, and what is known when it gets stuck there."""

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
from typing import Protocol, cast
from unittest.mock import AsyncMock, Mock

import aiohttp
import pytest
import pytest_asyncio
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from aiosmrt.config import Timeout
from aiosmrt.errors import ClientClosed, ConnectionLost, TimeLimitError, TotalTimeout, WriteTimeout
from aiosmrt.transport import Pool, PooledResponse, PoolOptions
from aiosmrt.transport.body import Body, drain

pytestmark = pytest.mark.usefixtures("quiet_loop")

_SIX_MB = 6 * 1024 * 1024
_BODY = random.Random(6).randbytes(_SIX_MB)
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Server(Protocol):
    url: str
    connections: int
    open_connections: int


class _Tls(Protocol):
    server: ssl.SSLContext
    client: ssl.SSLContext


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ServeRaw = Callable[..., AbstractAsyncContextManager[_Server]]
Exchange = Callable[..., Coroutine[None, None, PooledResponse]]
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
    size: int, pool: Pool, serve_raw: ServeRaw, exchange: Exchange
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
    serve_raw: ServeRaw, exchange: Exchange, tls: _Tls
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
    pool: Pool, serve_raw: ServeRaw, exchange: Exchange
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
    tls_pool: Pool, stuck: AbstractAsyncContextManager[_Server], exchange: Exchange, until: Until
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
    tls_pool: Pool, stuck: AbstractAsyncContextManager[_Server], exchange: Exchange, until: Until
) -> None:
    async with stuck as server:
        with pytest.raises(TotalTimeout) as caught:
            await exchange(tls_pool, server.url, _BODY, timeout=Timeout(total=0.1))
        assert not caught.value.may_have_run
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_a_cancelled_call_resets_a_body_that_is_stuck(
    tls_pool: Pool, stuck: AbstractAsyncContextManager[_Server], exchange: Exchange, until: Until
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
    tls_pool: Pool, stuck: AbstractAsyncContextManager[_Server], exchange: Exchange, until: Until
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
    politely: bool, secure: bool, serve_raw: ServeRaw, exchange: Exchange, tls: _Tls
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
    size: int, politely: bool, pool: Pool, serve_raw: ServeRaw, exchange: Exchange
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
    pool: Pool, serve_raw: ServeRaw, exchange: Exchange, read_nothing: Converse, until: Until
) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
    pool: Pool, serve_raw: ServeRaw, exchange: Exchange, recwarn: pytest.WarningsRecorder
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


class _Progress:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def connecting(self) -> None:
        self.calls.append("connecting")

    def writing(self) -> None:
        self.calls.append("writing")

    def sent(self) -> None:
        self.calls.append("sent")


class _Connection:
    should_close = False


class _Transport(asyncio.WriteTransport):
    """A transport that keeps what is written until it is let go."""

    def __init__(self, raw: socket.socket) -> None:
        super().__init__({"socket": raw})
        self.kept = 10
        self.high = 1 << 16
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.kept

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = 1 << 16 if high is None else high

    def abort(self) -> None:
        self.aborted = True


class _Writer(AbstractStreamWriter):
    """A writer of aiohttp's, whose connection was lost already unless it has a transport."""

    def __init__(self, transport: asyncio.WriteTransport | None = None) -> None:
        self.protocol = _Connection()
        self.written = bytearray()
        self.drained = asyncio.Event()
        self._transport = transport

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        return self._transport

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        self.written += chunk
        if b"broken" in bytes(chunk):
            raise ConnectionResetError

    async def drain(self) -> None:
        assert isinstance(self._transport, _Transport)
        if self._transport.kept > self._transport.high:
            await self.drained.wait()

    def send_headers(self) -> None:
        raise ConnectionResetError

    async def write_eof(self, chunk: bytes = b"") -> None:
        raise NotImplementedError

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        raise NotImplementedError

    def enable_chunking(self) -> None:
        raise NotImplementedError

    async def write_headers(self, status_line: str, headers: object) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.asyncio
async def test_a_body_is_sent_when_the_socket_took_its_last_byte(closed: bool) -> None:
    progress = _Progress()
    body = Body(b"body", progress)
    with socket.socket() as raw:
        transport = _Transport(raw)
        writer = _Writer(transport)
        writing = asyncio.create_task(body.write(writer))
        await asyncio.sleep(0.01)
        assert body.taken == 0
        assert progress.calls == ["writing"]
        # Who cuts it now, cuts it at once.
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 0)
        if closed:
            raw.close()  # by the peer, which has it all
        writer.drained.set()
        await writing
        assert body.sent
        assert transport.high == 1 << 16
        assert not transport.aborted
        if not closed:
            linger = raw.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
            assert linger == struct.pack("ii", 0, 0)


@pytest.mark.asyncio
async def test_a_head_without_a_body_that_does_not_go_out_was_not_sent() -> None:
    progress = _Progress()
    body = Body(b"", progress)
    with pytest.raises(ConnectionResetError):
        await body.write(_Writer())
    assert not body.sent
    assert not progress.calls


@pytest.mark.asyncio
async def test_aiohttp_may_ask_for_all_that_a_payload_has() -> None:
    progress = _Progress()
    body = Body("tëxt".encode(), progress)
    assert body.decode() == "tëxt"
    assert body.size == 5
    writer = _Writer()
    await body.write(writer)
    assert writer.written == "tëxt".encode()
    assert progress.calls == ["writing", "sent"]
    assert body.sent
    assert body.taken == 5


@pytest.mark.asyncio
async def test_a_connection_that_is_gone_needs_no_reset() -> None:
    progress = _Progress()
    body = Body(b"broken", progress)
    with pytest.raises(ConnectionResetError):
        await body.write(_Writer())
    assert not body.sent
    assert body.taken == 0
    assert progress.calls == ["writing"]


@pytest.mark.asyncio
async def test_a_connection_that_was_closed_behind_aiohttp_hides_no_error() -> None:
    """asyncio's own transport: closed with something to flush, and then flushed."""
    received = asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        received.set()

    async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        _, writer = await asyncio.open_connection(*address)
        transport = writer.transport
        transport.write(bytes(_SIX_MB))
        transport.close()
        await received.wait()
        await asyncio.sleep(0.01)
        with pytest.raises(ConnectionResetError):
            await Body(b"broken", _Progress()).write(_Writer(transport))


@pytest.mark.asyncio
async def test_nothing_is_written_where_bytes_lie_about_that_nobody_asked_for() -> None:
    progress = _Progress()
    body = Body(b"body", progress)
    writer = _Writer()
    writer.protocol.should_close = True
    with pytest.raises(ConnectionResetError, match="unasked"):
        await body.write(writer)
    assert not writer.written
    assert body.begun_at is None
    assert not progress.calls


def _make_small(address: aiohttp.AddrInfoType) -> socket.socket:
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return made


@contextlib.asynccontextmanager
async def _narrow_pool() -> AsyncIterator[Pool]:
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
    size: int, read_before: int, exchange: Exchange
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
        async with _narrow_pool() as pool:
            port = listening.getsockname()[1]
            serving = asyncio.create_task(asyncio.to_thread(serve, listening))
            holding = asyncio.create_task(hold_the_loop_up())
            limits = Timeout(write=0.2, first_byte=0.2)
            with pytest.raises(TimeLimitError) as caught:
                await exchange(pool, f"http://127.0.0.1:{port}", bytes(size), timeout=limits)
            await holding
            # The system decides how much it takes at a time.
            assert caught.value.may_have_run or await serving <= size
            await serving


@pytest.mark.parametrize(("size", "read_before"), [(20_000, 0), (85_536, 65_536)])
@pytest.mark.asyncio
async def test_a_peer_that_hung_up_and_reads_on_may_have_run_the_model(
    size: int, read_before: int, exchange: Exchange
) -> None:
    def serve(listening: socket.socket) -> int:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(5)
            already = 0
            while already < read_before:
                already += len(connection.recv(read_before - already))
            time.sleep(0.1)
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.1)
            return _read_whole(connection, already)

    with _listen() as listening:
        async with _narrow_pool() as pool:
            port = listening.getsockname()[1]
            serving = asyncio.create_task(asyncio.to_thread(serve, listening))
            with pytest.raises(ConnectionLost) as caught:
                await exchange(pool, f"http://127.0.0.1:{port}", bytes(size))
            # What the system has not sent yet by the time of the close is thrown away.
            assert caught.value.may_have_run or await serving <= size
            await serving


class _ClosedMeanwhile(asyncio.WriteTransport):
    """A transport as uvloop has it that is closed as soon as it has passed everything on."""

    def __init__(self, raw: socket.socket) -> None:
        super().__init__({"socket": raw})

    def get_write_buffer_size(self) -> int:
        return 1

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert low is None
        if high is None:
            raise RuntimeError("the handler is closed")


class _ClosingWriter(StreamWriter):
    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    @property
    def transport(self) -> asyncio.Transport:
        return cast("asyncio.Transport", self._transport)

    async def drain(self) -> None:
        pass


@pytest.mark.asyncio
async def test_a_close_after_the_last_byte_is_no_failure_of_the_request() -> None:
    with socket.socket() as raw:
        await drain(_ClosingWriter(_ClosedMeanwhile(raw)))


@pytest.mark.parametrize(("left", "sent"), [(0, True), (1, False)])
@pytest.mark.asyncio
async def test_who_is_cancelled_knows_what_the_socket_took_meanwhile(
    *, left: int, sent: bool
) -> None:
    writer, progress = Mock(), Mock()
    writer.protocol.should_close = False
    writer.write, writer.drain = AsyncMock(), AsyncMock(side_effect=asyncio.CancelledError)
    writer.transport.get_write_buffer_size.side_effect = [1, left]
    body = Body(b"x", progress)
    with pytest.raises(asyncio.CancelledError):
        await body.write(writer)
    assert (body.sent, body.taken) == (sent, sent)
    assert progress.sent.called is sent
    assert writer.transport.abort.called
