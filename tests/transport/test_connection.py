"""Connections that lie idle: how one is looked at, kept, and closed when its time is over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import aiohttp
import attrs
import pytest
import pytest_asyncio

from aiosmrt.transport import Pool, PooledResponse, PoolOptions, connection
from aiosmrt.transport.connection import LentConnections, PooledConnection

pytestmark = pytest.mark.usefixtures("quiet_loop")

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Server(Protocol):
    url: str
    connections: int
    open_connections: int


Serve = Callable[..., AbstractAsyncContextManager[_Server]]
Send = Callable[..., Coroutine[None, None, PooledResponse]]
Until = Callable[..., Awaitable[None]]


class _Idle:
    """A connection of which nothing is known but its socket."""

    should_close = False

    def __init__(self, raw: socket.socket | None) -> None:
        self.protocol = self.transport = self
        self._raw = raw

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self._raw


@pytest.mark.parametrize("poll", [True, False], ids=["poll", "select"])
def test_the_look_is_the_same_where_there_is_no_poll(
    poll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not poll:  # as on Windows
        monkeypatch.setattr(connection, "_poll", None)
    here, there = socket.socketpair()
    found: Any = _Idle(here)
    with here, there:
        idle = PooledConnection(found, "http://h", LentConnections())
        assert not idle.has_news()
        there.send(b"x")
        assert idle.has_news()
    # One whose socket is gone cannot be used, whatever its transport says.
    assert PooledConnection(found, "http://h", LentConnections()).has_news()
    gone: Any = _Idle(None)
    assert PooledConnection(gone, "http://h", LentConnections()).has_news()


@attrs.define
class _Station:
    """A server that answers each request once it may, and tells connections apart."""

    may_answer: asyncio.Event = attrs.field(factory=asyncio.Event)
    used: list[object] = attrs.field(factory=list)
    writers: list[asyncio.StreamWriter] = attrs.field(factory=list)

    async def answer(self, _: object, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if peer not in self.used:
            self.writers.append(writer)
        self.used.append(peer)
        await self.may_answer.wait()
        writer.write(_OK)


@pytest.fixture
def idle_for() -> float:
    """Seconds that a connection is kept."""
    return 0.1


@pytest_asyncio.fixture
async def pool(idle_for: float) -> AsyncIterator[Pool]:
    async with contextlib.aclosing(Pool(PoolOptions(keep_alive=idle_for))) as pool:
        yield pool


async def _use_two(pool: Pool, server: _Server, station: _Station, send: Send) -> None:
    """Have two calls at once, each on a connection of its own, and both of them to their end."""
    calls = [asyncio.create_task(send(pool, server.url)) for _ in range(2)]
    while len(station.used) < 2:  # noqa: ASYNC110 - there is nothing that tells of it
        await asyncio.sleep(0.001)
    station.may_answer.set()
    for call in calls:
        assert await (await call).read() == b"ok"


@pytest.mark.asyncio
async def test_the_one_that_was_used_last_is_used_again(
    pool: Pool, serve: Serve, exchange: Send
) -> None:
    """So that those which are one too many come to the end of their time."""
    station = _Station()
    async with serve(station.answer) as server:
        await _use_two(pool, server, station, exchange)
        for _ in range(4):
            assert await (await exchange(pool, server.url)).read() == b"ok"
        assert server.connections == 2
        assert len(set(station.used[2:])) == 1


@pytest.mark.asyncio
async def test_those_that_nobody_uses_are_closed_and_the_others_kept(
    idle_for: float, pool: Pool, serve: Serve, exchange: Send, until: Until
) -> None:
    station = _Station()
    async with serve(station.answer) as server:
        await _use_two(pool, server, station, exchange)
        for _ in range(8):
            await asyncio.sleep(idle_for / 3)
            assert await (await exchange(pool, server.url)).read() == b"ok"
        assert server.connections == 2
        assert server.open_connections == 1
        await until(lambda: server.open_connections == 0)
        assert len(pool._connector._idle) == 0
        assert pool._connector._idle._timer is None


@pytest.mark.asyncio
async def test_one_whose_time_is_over_is_not_used_though_the_loop_was_held_up(
    idle_for: float, pool: Pool, serve: Serve, exchange: Send
) -> None:
    station = _Station()
    station.may_answer.set()
    async with serve(station.answer) as server:
        for _ in range(2):
            assert await (await exchange(pool, server.url)).read() == b"ok"
        time.sleep(2 * idle_for)  # noqa: ASYNC251 - so that no timer can ring
        assert await (await exchange(pool, server.url)).read() == b"ok"
        assert server.connections == 2


@pytest.mark.asyncio
async def test_those_that_the_peer_has_closed_are_forgotten(
    idle_for: float, pool: Pool, serve: Serve, exchange: Send, until: Until
) -> None:
    station = _Station()
    async with serve(station.answer) as server:
        await _use_two(pool, server, station, exchange)
        for writer in station.writers:
            writer.close()
        await asyncio.sleep(idle_for / 4)
        assert len(pool._connector._idle) == 2
        await until(lambda: len(pool._connector._idle) == 0)


@pytest.mark.asyncio
async def test_what_comes_back_to_a_closed_pool_is_closed(
    pool: Pool, serve: Serve, exchange: Send, until: Until
) -> None:
    station = _Station()
    station.may_answer.set()
    async with serve(station.answer) as server:
        await (await exchange(pool, server.url)).read()
        taken = pool._connector._idle.take(server.url)
        assert taken is not None
        await pool.aclose()
        taken.release()
        assert taken.lost
        assert len(pool._connector._idle) == 0
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_one_that_is_old_is_not_used_however_busy_it_was(
    serve: Serve, exchange: Send, until: Until
) -> None:
    station = _Station()
    station.may_answer.set()
    options = PoolOptions(max_connection_age=0.15)
    async with serve(station.answer) as server, contextlib.aclosing(Pool(options)) as pool:
        for _ in range(4):  # it is never idle for long
            assert await (await exchange(pool, server.url)).read() == b"ok"
            await asyncio.sleep(0.06)
        assert server.connections == 2
        await until(lambda: server.open_connections == 0)  # when its time is over, used or not


@pytest.mark.asyncio
async def test_without_a_limit_none_is_closed(serve: Serve, exchange: Send) -> None:
    station = _Station()
    station.may_answer.set()
    options = PoolOptions(keep_alive=None)
    async with serve(station.answer) as server, contextlib.aclosing(Pool(options)) as pool:
        await (await exchange(pool, server.url)).read()
        assert pool._connector._idle._timer is None
        await asyncio.sleep(0.05)
        await (await exchange(pool, server.url)).read()
        assert server.connections == 1


@pytest.mark.parametrize("borrowed", [False, True], ids=["own", "borrowed"])
@pytest.mark.parametrize(
    ("said", "connections"),
    [
        ("keep-alive: timeout=0.5, max=9", 3),
        ("keep-alive: timeout=1, max=99", 2),
        ('Keep-Alive: TIMEOUT = "1"', 2),
        ("keep-alive: timeout=60\r\nkeep-alive: timeout=1", 2),
        ("keep-alive: timeout=60, max=100", 1),
        ("keep-alive: timeout=60, max=0", 3),
        ("keep-alive: xtimeout=0", 1),
        ("keep-alive: 300", 1),
        (f"keep-alive: {'x' * 300} timeout=0", 1),
    ],
)
@pytest.mark.asyncio
async def test_what_a_server_says_of_idle_connections_is_heeded(
    said: str,
    connections: int,
    *,
    borrowed: bool,
    serve: Serve,
    exchange: Send,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one second the half is used, of more two seconds less."""
    now = 0.0
    monkeypatch.setattr(connection, "monotonic", lambda: now)

    async def answer(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_OK.replace(b"\r\n\r\n", f"\r\n{said}\r\n\r\n".encode()))

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(answer))
        session = None
        if borrowed:
            session = await stack.enter_async_context(aiohttp.ClientSession())
        pool = Pool(PoolOptions(session=session))
        await stack.enter_async_context(contextlib.aclosing(pool))
        for moment in (0.0, 0.4, 0.95):
            now = moment
            assert await (await exchange(pool, server.url)).read() == b"ok"
    assert server.connections == connections
