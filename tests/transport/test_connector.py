"""Connections that lay idle: what their peer did to them meanwhile is seen before they are used."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Literal, Protocol

import aiohttp
import attrs
import pytest
import pytest_asyncio

from aiosmrt.errors import AiosmrtError, ConnectError, ConnectionLost
from aiosmrt.transport import Pool, PooledResponse, PoolOptions, connector

pytestmark = pytest.mark.usefixtures("quiet_loop")

Send = Callable[..., Coroutine[None, None, PooledResponse]]
Habit = Literal["none", "FIN", "RST", "bytes", "bytes, FIN", "half a record"]

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_STRANGERS = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nstranger"


class _Tls(Protocol):
    server: ssl.SSLContext
    client: ssl.SSLContext


@attrs.define
class _Server:
    """Answers, and then does something to the connection, when it is told to."""

    listening: socket.socket
    habit: Habit
    tls: ssl.SSLContext | None
    at_once: bool = False
    connections: int = 0
    requests: int = 0
    go: threading.Event = attrs.field(factory=threading.Event)
    done: threading.Event = attrs.field(factory=threading.Event)

    @property
    def url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.listening.getsockname()[1]}"

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                self.connections += 1
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            stack.enter_context(connection)
            connection.settimeout(10)
            while self._read_request(connection):
                self.requests += 1
                connection.sendall(_OK)
                if self.at_once or self.go.wait(10):
                    self._misbehave(connection)
                    self.done.set()
                    if self.habit not in ("none", "bytes", "half a record"):
                        return

    def _read_request(self, connection: socket.socket) -> bool:
        received = b""
        while b"\r\n\r\n" not in received:
            more = connection.recv(1 << 16)
            if not more:
                return False
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head.lower())
        assert found is not None
        size = len(body)
        while size < int(found[1]):
            size += len(connection.recv(1 << 16))
        return True

    def _misbehave(self, connection: socket.socket) -> None:
        if "bytes" in self.habit:
            connection.sendall(_STRANGERS)
        if self.habit == "half a record":  # of TLS
            os.write(connection.fileno(), b"\x17\x03\x03\x01\x00half")
        if self.habit == "RST":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif "FIN" in self.habit:
            connection.shutdown(socket.SHUT_WR)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening
        # Closing alone would not wake up who accepts.
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=["plain", "tls"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(params=["own", "borrowed"])
async def pool(request: pytest.FixtureRequest, tls: _Tls) -> AsyncIterator[Pool]:
    async with contextlib.AsyncExitStack() as stack:
        session = None
        if request.param == "borrowed":
            session = await stack.enter_async_context(aiohttp.ClientSession())
        options = PoolOptions(session=session, tls=tls.client)
        yield await stack.enter_async_context(contextlib.aclosing(Pool(options)))


def _start(listening: socket.socket, habit: Habit, scheme: str, tls: _Tls) -> _Server:
    server = _Server(listening, habit, tls.server if scheme == "tls" else None)
    threading.Thread(target=server.serve, daemon=True).start()
    return server


def _wait(event: threading.Event) -> None:
    """Hold the loop up until it happened, and the system knows."""
    assert event.wait(10)
    time.sleep(0.02)


@pytest.mark.parametrize("busy", [False, True], ids=["seen", "unseen"])
@pytest.mark.parametrize("habit", ["FIN", "RST", "bytes", "bytes, FIN"])
@pytest.mark.asyncio
async def test_what_happened_to_an_idle_connection_is_seen_before_it_is_used(
    *,
    habit: Habit,
    busy: bool,
    scheme: str,
    pool: Pool,
    listening: socket.socket,
    tls: _Tls,
    exchange: Send,
) -> None:
    """Whether the loop has had time to read it, or was held up until the next call."""
    server = _start(listening, habit, scheme, tls)
    for turn in range(3):
        server.go.clear()
        server.done.clear()
        response = await exchange(pool, server.url, bytes(10 if turn < 2 else 100_000))
        assert await response.read() == b"ok"
        server.go.set()
        if busy:
            _wait(server.done)
        else:
            await asyncio.to_thread(_wait, server.done)
    assert (server.connections, server.requests) == (3, 3)


@pytest.mark.asyncio
async def test_half_a_record_is_seen_before_tls_reads_it(
    pool: Pool, listening: socket.socket, tls: _Tls, exchange: Send
) -> None:
    """Where the loop has read it, it shows nowhere, and what comes next completes it."""
    server = _start(listening, "half a record", "tls", tls)
    assert await (await exchange(pool, server.url)).read() == b"ok"
    server.go.set()
    _wait(server.done)
    assert await (await exchange(pool, server.url)).read() == b"ok"
    assert server.connections == 2


@pytest.mark.asyncio
async def test_a_connection_that_nothing_happened_to_is_used_again(
    *,
    scheme: str,
    pool: Pool,
    listening: socket.socket,
    tls: _Tls,
    exchange: Send,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the moment that a server has to close it behind an answer is given once."""
    moments: list[float] = []
    let_pass = connector._let_pass

    async def count(connection: Any, seconds: float) -> None:
        moments.append(seconds)
        await let_pass(connection, seconds)

    monkeypatch.setattr(connector, "_let_pass", count)
    server = _start(listening, "none", scheme, tls)
    server.at_once = True
    for _ in range(5):
        assert await (await exchange(pool, server.url)).read() == b"ok"
    assert (server.connections, server.requests) == (1, 5)
    assert moments.count(connector._GRACE) == 1


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_in_that_moment_leaves_nothing_behind(
    pool: Pool, listening: socket.socket, tls: _Tls, exchange: Send
) -> None:
    server = _start(listening, "none", "plain", tls)
    server.at_once = True
    assert await (await exchange(pool, server.url)).read() == b"ok"
    second = asyncio.create_task(exchange(pool, server.url))
    await asyncio.sleep(0.001)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    kept = pool._connector.session.connector
    assert kept is not None
    assert not kept._acquired
    assert pool._slots.free == 100
    assert server.requests == 1


@pytest.mark.parametrize("busy", [False, True], ids=["seen", "unseen"])
@pytest.mark.parametrize("habit", ["FIN", "RST", "bytes"])
@pytest.mark.asyncio
async def test_what_happens_while_a_trace_is_told_of_the_request_is_seen(
    *,
    habit: Habit,
    busy: bool,
    scheme: str,
    listening: socket.socket,
    tls: _Tls,
    exchange: Send,
) -> None:
    server = _start(listening, habit, scheme, tls)
    calls = 0

    async def take_time(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            server.go.set()
            if busy:
                _wait(server.done)
            else:
                await asyncio.to_thread(_wait, server.done)

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(take_time)
    async with (
        aiohttp.ClientSession(trace_configs=[tracing]) as session,
        contextlib.aclosing(Pool(PoolOptions(session=session, tls=tls.client))) as pool,
    ):
        assert await (await exchange(pool, server.url)).read() == b"ok"
        with pytest.raises((ConnectError, ConnectionLost)) as caught:
            await exchange(pool, server.url)
        assert not caught.value.may_have_run
        server.go.clear()
        assert await (await exchange(pool, server.url)).read() == b"ok"
        assert session.connector is not None
        assert not session.connector._acquired
    assert server.requests == 2


@pytest.mark.parametrize(
    ("greeting", "kind", "what"),
    [
        (b"", ConnectError, "closed before it was used"),
        (b"HTTP/1.1 503 Overloaded\r\n\r\n", ConnectionLost, "spoke before it was asked"),
    ],
    ids=["closes", "speaks"],
)
@pytest.mark.asyncio
async def test_a_new_connection_is_not_tried_for_ever(
    greeting: bytes,
    kind: type[AiosmrtError],
    what: str,
    listening: socket.socket,
    exchange: Send,
) -> None:
    accepted: list[socket.socket] = []

    def greet() -> None:
        connection, _ = listening.accept()
        accepted.append(connection)
        connection.sendall(greeting)
        if not greeting:
            connection.close()

    greeter = threading.Thread(target=greet, daemon=True)
    greeter.start()

    async def hold_the_loop_up(*_: object) -> None:
        greeter.join()
        time.sleep(0.02)  # noqa: ASYNC251 - as others on the loop may

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(hold_the_loop_up)
    async with (
        aiohttp.ClientSession(trace_configs=[tracing]) as session,
        contextlib.aclosing(Pool(PoolOptions(session=session))) as pool,
    ):
        with pytest.raises(kind, match=what) as caught:
            await exchange(pool, f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert not caught.value.may_have_run
        assert pool._slots.free == 100
        assert session.connector is not None
        assert not session.connector._acquired
    for connection in accepted:
        connection.close()
