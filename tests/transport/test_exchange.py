"""A small request straight on a connection: what it writes, and what may be in its way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from aiosmrt.config import Timeout
from aiosmrt.errors import ConfigurationError, ConnectionLost, WriteTimeout
from aiosmrt.http import Request
from aiosmrt.limits import Limits
from aiosmrt.transport import Pool, PooledResponse, PoolOptions
from aiosmrt.transport.exchange import SMALL, Exchange, encode_head

pytestmark = pytest.mark.usefixtures("quiet_loop")

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_BODY = b"x" * SMALL


class _Server(Protocol):
    url: str
    connections: int
    open_connections: int


Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ServeRaw = Callable[..., AbstractAsyncContextManager[_Server]]
Send = Callable[..., Coroutine[None, None, PooledResponse]]
Until = Callable[..., Awaitable[None]]


def _make_narrow_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return made


@pytest_asyncio.fixture
async def narrow() -> AsyncIterator[Pool]:
    """Give a pool whose sockets take less at a time than a small request has."""
    connector = aiohttp.TCPConnector(socket_factory=_make_narrow_socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        contextlib.aclosing(Pool(PoolOptions(session=session))) as pool,
    ):
        yield pool


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
@pytest.mark.parametrize("body", [b"", _BODY + b"x"], ids=["small", "large"])
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


@pytest.mark.parametrize("body", [b"small", _BODY + b"x"], ids=["small", "large"])
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
        assert await reader.readexactly(SMALL) == _BODY
        writer.write(_OK)
        await reader.read()

    async with serve_raw(converse) as server:
        response = await exchange(narrow, server.url, _BODY)
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
    sending = asyncio.create_task(exchange(pool, url, _BODY, timeout=Timeout(write=0.3)))
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


@pytest.mark.asyncio
async def test_a_connection_that_is_gone_already_is_no_connection(serve_raw: ServeRaw) -> None:
    class Progress:
        def connecting(self) -> None: ...
        def writing(self) -> None: ...
        def sent(self) -> None: ...

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
        exchange = Exchange()
        with pytest.raises(ConnectionResetError, match="closed as soon as it was made"):
            await exchange.begin(connection, Request("POST", server.url, "/", {}), Progress())
        assert exchange.begun_at is None
        assert connection.closed
