"""One loop's connections: slots, what is sent, reuse, closing, other people's sessions."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import aiohttp
import pytest
import pytest_asyncio

from aiosmrt.config import Timeout
from aiosmrt.errors import (
    ClientClosed,
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    FirstByteTimeout,
    SlotTimeout,
    TotalTimeout,
)
from aiosmrt.http import Request
from aiosmrt.transport import Pool, PooledResponse, PoolOptions
from aiosmrt.transport.limits import Limits

pytestmark = pytest.mark.usefixtures("quiet_loop")

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Seen(Protocol):
    raw_head: bytes
    headers: dict[str, str]


class _Server(Protocol):
    url: str
    port: int
    connections: int
    open_connections: int
    requests: list[_Seen]


class _Tls(Protocol):
    server: ssl.SSLContext
    client: ssl.SSLContext


Serve = Callable[..., AbstractAsyncContextManager[_Server]]
Exchange = Callable[..., Coroutine[None, None, PooledResponse]]
Until = Callable[..., Awaitable[None]]


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    async with contextlib.aclosing(Pool(PoolOptions(max_connections=1))) as pool:
        yield pool


async def _say_ok(request: object, writer: asyncio.StreamWriter) -> None:
    writer.write(_OK)


async def _say_nothing(request: object, writer: asyncio.StreamWriter) -> None:
    """Leave the request without an answer; the next thing read is the connection's end."""


async def _begin_a_body(request: object, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun")


def _free(pool: Pool) -> int:
    return pool._slots.free


def _acquired(pool: Pool) -> int:
    """How many connections are in use, those that are being made included."""
    connector = pool._connector.session.connector
    assert connector is not None
    return len(connector._acquired) - len(pool._connector._idle)


# --- what is sent and seen


@pytest.mark.asyncio
async def test_nothing_is_sent_that_nobody_asked_for(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_say_ok) as server:
        headers = {"content-type": "text/csv", "x-amz-date": "20261122T000000Z"}
        await (await exchange(pool, server.url, b"1,2", headers=headers)).read()
        await (await exchange(pool, server.url, b"")).read()
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    path = b"POST /endpoints/e/invocations HTTP/1.1\r\n"
    assert [seen.raw_head for seen in server.requests] == [
        path + host + b"accept-encoding: identity\r\ncontent-type: text/csv\r\n"
        b"x-amz-date: 20261122T000000Z\r\nContent-Length: 3\r\n\r\n",
        path + host + b"accept-encoding: identity\r\nContent-Length: 0\r\n\r\n",
    ]


@pytest.mark.asyncio
async def test_an_encoding_that_was_asked_for_is_sent(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_say_ok) as server:
        headers = {"accept-encoding": "gzip", "user-agent": "aiosmrt/1"}
        await (await exchange(pool, server.url, headers=headers)).read()
    assert server.requests[0].headers["accept-encoding"] == "gzip"
    assert server.requests[0].headers["user-agent"] == "aiosmrt/1"


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("/endpoints/a%2Fb/invocations", "", "/endpoints/a%2Fb/invocations"),
        ("/a%7Eb/%c3%a4", "", "/a%7Eb/%c3%a4"),
        ("/../a//b/.", "x=%2F&y=a%20b", "/../a//b/.?x=%2F&y=a%20b"),
    ],
)
@pytest.mark.asyncio
async def test_the_target_is_sent_as_it_was_signed(
    path: str, query: str, target: str, pool: Pool, serve: Serve
) -> None:
    async with serve(_say_ok) as server:
        for _ in range(2):  # the second time from the memory
            limits = Limits(Timeout())
            with limits:
                slot = await pool.acquire(limits)
                request = Request("POST", server.url, path, {}, b"", query)
                response = await pool.send(request, slot, limits)
            await response.read()
    for seen in server.requests:
        assert seen.raw_head.split(b" ")[1] == target.encode()


@pytest.mark.asyncio
async def test_a_redirect_is_not_followed(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async def redirect(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 307 Elsewhere\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")

    async with serve(redirect) as server:
        response = await exchange(pool, server.url)
        assert response.head.status == 307
        assert response.head.headers["location"] == "/elsewhere"
        assert await response.read() == b""
    assert len(server.requests) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
@pytest.mark.asyncio
async def test_a_body_is_not_decoded(
    encoding: str, pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: 9\r\n\r\n"
        writer.write(head.encode() + b"not %b it" % encoding.encode()[:2])

    async with serve(answer) as server:
        response = await exchange(pool, server.url)
        assert response.head.headers["content-encoding"] == encoding
        assert (await response.read()).startswith(b"not ")


@pytest.mark.asyncio
async def test_cookies_are_neither_kept_nor_sent(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_OK.replace(b"\r\n\r\n", b"\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n"))

    async with serve(answer) as server:
        for _ in range(2):
            response = await exchange(pool, server.url)
            assert response.head.headers["set-cookie"] == "a=1, b=2"
            await response.read()
    assert "cookie" not in server.requests[1].headers


def _socket_of(response: PooledResponse) -> socket.socket:
    found: socket.socket = response._exchange._transport.get_extra_info("socket")
    return found


@pytest.mark.asyncio
async def test_the_system_probes_idle_connections(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_begin_a_body) as server:
        response = await exchange(pool, server.url)
        raw = _socket_of(response)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for option, seconds in (("KEEPIDLE", 60), ("KEEPINTVL", 15), ("KEEPCNT", 3)):
            if hasattr(socket, f"TCP_{option}"):
                number = getattr(socket, f"TCP_{option}")
                assert raw.getsockopt(socket.IPPROTO_TCP, number) == seconds
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        response.close()


@pytest.mark.asyncio
async def test_a_system_without_these_options_still_probes(
    pool: Pool, serve: Serve, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for option in ("KEEPIDLE", "KEEPINTVL", "KEEPCNT"):
        monkeypatch.delattr(socket, f"TCP_{option}", raising=False)
    async with serve(_begin_a_body) as server:
        response = await exchange(pool, server.url)
        assert _socket_of(response).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        response.close()


# --- connections


@pytest.mark.asyncio
async def test_a_finished_response_gives_its_connection_back(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_say_ok) as server:
        for _ in range(3):
            response = await exchange(pool, server.url)
            assert _free(pool) == 0
            assert await response.read() == b"ok"
            assert _free(pool) == 1
            response.close()
    assert server.connections == 1
    assert len(server.requests) == 3


@pytest.mark.asyncio
async def test_a_server_that_wants_no_more_is_not_asked_again(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))

    async with serve(answer) as server:
        for _ in range(2):
            assert await (await exchange(pool, server.url)).read() == b"ok"
    assert server.connections == 2


@pytest.mark.asyncio
async def test_a_reused_connection_that_dies_without_an_answer_may_have_run_the_model(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 1:
            writer.write(_OK)
        else:
            writer.close()

    async with serve(answer) as server:
        await (await exchange(pool, server.url)).read()
        with pytest.raises(ConnectionLost) as caught:
            await exchange(pool, server.url)
    assert server.connections == 1
    assert caught.value.may_have_run
    # Sent once: aiohttp resends some methods by itself.
    assert len(server.requests) == 2
    assert _free(pool) == 1


@pytest.mark.parametrize("size", [2, 100_000])
@pytest.mark.asyncio
async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(
    size: int, pool: Pool, serve: Serve, exchange: Exchange, until: Until
) -> None:
    stray = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 5\r\n\r\nstray"

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_OK)
        if len(server.requests) == 1:
            asyncio.get_running_loop().call_later(0.01, writer.write, stray)

    async with serve(answer) as server:
        response = await exchange(pool, server.url)
        assert await response.read() == b"ok"
        await asyncio.sleep(0.05)
        assert await (await exchange(pool, server.url, b"x" * size)).read() == b"ok"
        assert _free(pool) == 1
        await until(lambda: server.open_connections == 1)
        assert len(server.requests) == 2
    assert server.connections == 2


@pytest.mark.asyncio
async def test_more_than_the_answer_ends_the_connection(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(_OK + _OK)

    async with serve(answer) as server:
        for _ in range(2):
            assert await (await exchange(pool, server.url)).read() == b"ok"
    assert server.connections == 2


@pytest.mark.asyncio
async def test_the_time_to_the_first_byte_leaves_out_connecting(
    pool: Pool, serve: Serve, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def connect_slowly(sock: socket.socket, address: tuple[str, int]) -> None:
        await asyncio.sleep(0.2)
        await connect(sock, address)

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(_OK)

    monkeypatch.setattr(loop, "sock_connect", connect_slowly)
    async with serve(answer) as server:
        response = await exchange(pool, server.url)
        await response.read()
    assert 0.04 < response.time_to_first_byte < 0.2


# --- slots


@pytest.mark.asyncio
async def test_slots_are_given_in_the_order_of_arrival(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_say_ok) as server:

        async def call(number: int) -> None:
            headers = {"number": str(number)}
            await (await exchange(pool, server.url, headers=headers)).read()

        await asyncio.gather(*[call(number) for number in range(10)])
    assert [seen.headers["number"] for seen in server.requests] == [str(n) for n in range(10)]
    assert server.connections == 1


@pytest.mark.asyncio
async def test_no_more_connections_than_allowed(serve: Serve, exchange: Exchange) -> None:
    busy = most = 0

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.005)
        busy -= 1
        writer.write(_OK)

    async with (
        serve(answer) as server,
        contextlib.aclosing(Pool(PoolOptions(max_connections=3))) as pool,
    ):

        async def call() -> None:
            await (await exchange(pool, server.url)).read()

        await asyncio.gather(*[call() for _ in range(12)])
        assert most == 3
        assert server.connections == 3
        assert _free(pool) == 3


@pytest.mark.asyncio
async def test_slot_timeout(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async with serve(_begin_a_body) as server:
        response = await exchange(pool, server.url)
        with pytest.raises(SlotTimeout, match=r"0\.05 s \(Timeout\.slot\)") as caught:
            await exchange(pool, server.url, timeout=Timeout(slot=0.05))
        assert not caught.value.may_have_run
        response.close()
        assert _free(pool) == 1
    assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_the_wait_for_a_slot_ends_with_the_slot(pool: Pool) -> None:
    first = await pool.acquire(Limits(Timeout()))
    limits = Limits(Timeout(slot=0.1))
    asyncio.get_running_loop().call_later(0.05, first.release)
    with limits:
        slot = await pool.acquire(limits)
        await asyncio.sleep(0.15)  # as a fetch of credentials may
    slot.release()
    slot.release()
    assert _free(pool) == 1


@pytest.mark.asyncio
async def test_a_cancelled_wait_leaves_the_queue(pool: Pool) -> None:
    slot = await pool.acquire(Limits(Timeout()))
    first, second = [asyncio.create_task(pool.acquire(Limits(Timeout()))) for _ in range(2)]
    await asyncio.sleep(0)
    slot.release()
    first.cancel()  # the slot was given to it already
    (await second).release()
    assert first.cancelled()
    assert _free(pool) == 1


# --- limits


@pytest.mark.asyncio
async def test_connect_timeout_where_nobody_accepts(
    pool: Pool, exchange: Exchange, until: Until
) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = listener.getsockname()
    full = [socket.socket() for _ in range(3)]
    try:
        for filler in full:
            filler.setblocking(False)
            filler.connect_ex(address)
        with pytest.raises(ConnectTimeout, match=r"0\.1 s \(Timeout\.connect\)") as caught:
            await exchange(pool, f"http://127.0.0.1:{address[1]}", timeout=Timeout(connect=0.1))
        assert not caught.value.may_have_run
        assert _free(pool) == 1
        assert _acquired(pool) == 0
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    finally:
        for filler in full:
            filler.close()
        listener.close()


@pytest.mark.asyncio
async def test_connect_timeout_where_nobody_shakes_hands(
    tls: _Tls, serve_raw: Serve, exchange: Exchange, until: Until
) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        serve_raw(converse) as server,
        contextlib.aclosing(Pool(PoolOptions(max_connections=1, tls=tls.client))) as pool,
    ):
        url = f"https://127.0.0.1:{server.port}"
        with pytest.raises(ConnectTimeout) as caught:
            await exchange(pool, url, timeout=Timeout(connect=0.1))
        assert not caught.value.may_have_run
        assert _free(pool) == 1
        assert _acquired(pool) == 0
        await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize(
    ("limits", "kind"),
    [(Timeout(first_byte=0.1), FirstByteTimeout), (Timeout(total=0.1), TotalTimeout)],
)
@pytest.mark.asyncio
async def test_a_server_that_never_answers(
    limits: Timeout, kind: type[Exception], serve: Serve, exchange: Exchange, until: Until
) -> None:
    async with (
        serve(_say_nothing) as server,
        contextlib.aclosing(Pool(PoolOptions(max_connections=1))) as pool,
    ):
        before = asyncio.all_tasks()
        with pytest.raises(kind, match=r"within 0\.1 s") as caught:
            await exchange(pool, server.url, timeout=limits)
        assert getattr(caught.value, "may_have_run", None)
        assert _free(pool) == 1
        assert _acquired(pool) == 0
        await until(lambda: server.open_connections == 0)
        await until(lambda: asyncio.all_tasks() <= before)


# --- closing


@pytest.mark.asyncio
async def test_closing_ends_every_wait(
    serve: Serve, serve_raw: Serve, exchange: Exchange, tls: _Tls, until: Until
) -> None:
    async def mumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    pool = Pool(PoolOptions(max_connections=4, tls=tls.client))
    await pool.keep()
    before = asyncio.all_tasks()
    async with serve(_say_nothing) as silent, serve(_begin_a_body) as slow, serve_raw(mumble) as no:
        streaming, idle = await exchange(pool, slow.url), await exchange(pool, slow.url)
        assert await streaming.receive() == b"begun"
        calls = [
            asyncio.create_task(streaming.receive()),
            asyncio.create_task(exchange(pool, f"https://127.0.0.1:{no.port}")),
            asyncio.create_task(exchange(pool, silent.url)),
            asyncio.create_task(exchange(pool, silent.url)),
        ]
        await until(lambda: silent.requests and no.connections)
        assert not pool._slots.free
        await pool.aclose()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [ClientClosed] * 4
        # Reading, connecting, awaiting the first byte, awaiting a slot.
        may_have_run = [getattr(error, "may_have_run", None) for error in errors]
        assert may_have_run == [True, False, True, False]
        with pytest.raises(ClientClosed):
            await idle.receive()
        assert pool.closed
        assert _free(pool) == 4
        for server in (silent, slow, no):
            await until(lambda server=server: server.open_connections == 0)
        await until(lambda: asyncio.all_tasks() - before == set())
        await pool.aclose()
        with pytest.raises(ClientClosed, match="closed during the call"):
            await exchange(pool, silent.url)


@pytest.mark.asyncio
async def test_closing_twice_at_once(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async with serve(_say_nothing) as server:
        task = asyncio.create_task(exchange(pool, server.url))
        await asyncio.sleep(0.02)
        await asyncio.gather(pool.aclose(), pool.aclose())
        with pytest.raises(ClientClosed):
            await task


@pytest.mark.asyncio
async def test_closing_while_a_limit_fires(pool: Pool, serve: Serve, exchange: Exchange) -> None:
    async with serve(_say_nothing) as server:
        call = asyncio.create_task(exchange(pool, server.url, timeout=Timeout(first_byte=0.05)))
        await asyncio.sleep(0.02)
        closing = asyncio.get_running_loop().create_future()
        (limits,) = pool._calls
        when = limits._alarm._waits[limits]
        # After the limit's own timer, and before its task goes on.
        asyncio.get_running_loop().call_at(
            when, lambda: closing.set_result(asyncio.ensure_future(pool.aclose()))
        )
        await (await closing)
        with pytest.raises((ClientClosed, FirstByteTimeout)):
            await call
        assert pool.closed


@pytest.mark.asyncio
async def test_closing_leaves_finished_responses_alone(
    pool: Pool, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_say_ok) as server:
        response = await exchange(pool, server.url)
        assert await response.receive() == b"ok"
        assert await response.receive() == b""
        await pool.aclose()
        assert await response.receive() == b""


# --- proxies


@pytest.mark.parametrize(
    ("user", "headers", "sent"),
    [
        ("", {}, b""),
        ("us%20er:p%40ss@", {}, b"proxy-authorization: Basic dXMgZXI6cEBzcw==\r\n"),
        ("user@", {"X-Proxy": "1"}, b"x-proxy: 1\r\nproxy-authorization: Basic dXNlcjo=\r\n"),
        ("user@", {"Proxy-Authorization": "Token x"}, b"proxy-authorization: Token x\r\n"),
    ],
)
@pytest.mark.asyncio
async def test_plain_http_through_a_proxy(
    user: str, headers: dict[str, str], sent: bytes, serve: Serve, exchange: Exchange
) -> None:
    async with serve(_say_ok) as server:
        proxy = f"http://{user}127.0.0.1:{server.port}"
        options = PoolOptions(proxy=proxy, proxy_headers=headers)
        async with contextlib.aclosing(Pool(options)) as pool:
            for _ in range(2):
                assert await (await exchange(pool, "http://host.example")).read() == b"ok"
    assert server.requests[1].raw_head == (
        b"POST http://host.example/endpoints/e/invocations HTTP/1.1\r\nHost: host.example\r\n"
        b"accept-encoding: identity\r\n" + sent + b"Content-Length: 2\r\n\r\n"
    )
    assert server.connections == 1


@pytest.mark.parametrize(
    "proxy", ["http://user:se#cret@host:1", "http://[host", "socks5://host:1", "http://", "host"]
)
@pytest.mark.asyncio
async def test_a_proxy_that_is_none(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the proxy .* no usable URL") as caught:
        Pool(PoolOptions(proxy=proxy))
    assert "cret@" not in "".join(traceback.format_exception(caught.value))


def _make_tunnel(
    port: Callable[[], int], heads: list[bytes]
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        there, back = await asyncio.open_connection("127.0.0.1", port())
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(1 << 16):
                    to.write(data)
            to.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    return tunnel


@pytest.mark.asyncio
async def test_tls_through_the_tunnel_of_a_proxy(
    tls: _Tls, serve: Serve, serve_raw: Serve, exchange: Exchange, until: Until
) -> None:
    heads: list[bytes] = []
    tunnel = _make_tunnel(lambda: server.port, heads)
    async with serve(_say_ok, tls=tls.server) as server, serve_raw(tunnel) as proxy:
        options = PoolOptions(
            tls=tls.client,
            proxy=f"http://user:secret@127.0.0.1:{proxy.port}",
            proxy_headers={"x-proxy": "1"},
        )
        pool = Pool(options)
        for _ in range(2):
            assert await (await exchange(pool, server.url)).read() == b"ok"
        await pool.aclose()
        await until(lambda: proxy.open_connections == 0 == server.open_connections)
    (head,) = heads
    assert head.startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n".encode())
    assert b"\r\nx-proxy: 1\r\n" in head
    assert b"\r\nproxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in head
    for seen in server.requests:
        assert b"proxy" not in seen.raw_head


@pytest.mark.asyncio
async def test_what_comes_through_the_tunnel_is_not_said_by_the_proxy(
    tls: _Tls, serve: Serve, serve_raw: Serve, exchange: Exchange
) -> None:
    async def refuse(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 407 Odd\r\ncontent-length: 3\r\n\r\nodd")

    async with (
        serve(refuse, tls=tls.server) as server,
        serve_raw(_make_tunnel(lambda: server.port, [])) as proxy,
    ):
        options = PoolOptions(tls=tls.client, proxy=f"http://127.0.0.1:{proxy.port}")
        async with contextlib.aclosing(Pool(options)) as pool:
            response = await exchange(pool, server.url)
            assert response.head.status == 407
            assert await response.read() == b"odd"


# --- places


@pytest.mark.asyncio
async def test_who_waits_for_a_place_says_so_once(
    serve: Serve,
    exchange: Exchange,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiosmrt.transport.pool._PATIENCE", 0.05)

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "aiosmrt"]

    async with serve(_begin_a_body) as server:
        pool = Pool(PoolOptions(max_connections=1))
        for pause in (0.0, 0.15):
            response = await exchange(pool, server.url)
            waiting = [asyncio.create_task(exchange(pool, server.url)) for _ in range(3)]
            await asyncio.sleep(pause)
            if not pause:
                waiting.pop().cancel()
            response.close()
            for _ in range(len(waiting)):
                (await waiting.pop(0)).close()
            if not pause:
                await asyncio.sleep(0.1)
                assert not said()  # nobody has waited for so long
        assert len(said()) == 1
        assert "waited 0.05 s for one of the 1 places" in said()[0]
        assert "hold 1 of them" in said()[0]
        assert "max_connections" in said()[0]
        await pool.aclose()


# --- closing with grace


@pytest.mark.asyncio
async def test_what_is_in_flight_finishes_within_the_grace(
    serve: Serve, exchange: Exchange, until: Until
) -> None:
    go_on = asyncio.Event()

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun")
        await go_on.wait()
        writer.write(b"ended")

    async with serve(answer) as server:
        pool = Pool(PoolOptions(max_connections=2))
        streams = [await exchange(pool, server.url) for _ in range(2)]
        queued = asyncio.create_task(exchange(pool, server.url))
        await asyncio.sleep(0)
        closing = [asyncio.create_task(pool.aclose(5)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in closing)
        go_on.set()
        for stream in streams:
            assert await stream.read() == b"begunended"
        last = await queued
        assert not any(task.done() for task in closing)
        assert await last.read() == b"begunended"
        await asyncio.wait_for(asyncio.gather(*closing), 1)
        assert pool.closed
        await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("way", ["over", "cancelled", "at once"])
@pytest.mark.asyncio
async def test_what_does_not_finish_within_the_grace_is_cut(
    way: str, serve: Serve, exchange: Exchange, until: Until
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        if request.body == b"stream":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun")
        await request.reader.read()

    async with serve(answer) as server:
        pool = Pool(PoolOptions())
        stream = await exchange(pool, server.url, b"stream")
        call = asyncio.create_task(exchange(pool, server.url, b"call"))
        await until(lambda: len(server.requests) == 2)
        closing = asyncio.create_task(pool.aclose(0.05 if way == "over" else 60))
        await asyncio.sleep(0)
        if way == "cancelled":
            closing.cancel()
        elif way == "at once":
            await pool.aclose()
        await asyncio.wait([closing], timeout=2)
        assert closing.done()
        with pytest.raises(ClientClosed):
            await call
        with pytest.raises(ClientClosed):
            await stream.receive()
        await until(lambda: server.open_connections == 0)


# --- sessions of other people


@pytest.mark.asyncio
async def test_nothing_of_a_borrowed_session_but_its_connections(
    serve: Serve, exchange: Exchange
) -> None:
    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 503 Busy\r\ncontent-encoding: gzip\r\nset-cookie: b=2\r\n"
            b"content-length: 3\r\n\r\nraw"
        )

    async with (
        serve(answer) as server,
        aiohttp.ClientSession(
            headers={"x-own": "1", "user-agent": "theirs", "accept": "text/html"},
            cookies={"a": "1"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            auth=None,
            raise_for_status=True,
            auto_decompress=True,
            timeout=aiohttp.ClientTimeout(total=0.001),
            base_url="http://elsewhere/",
        ) as session,
    ):
        pool = Pool(PoolOptions(session=session))
        for _ in range(2):
            response = await exchange(pool, server.url)
            assert response.head.status == 503
            assert await response.read() == b"raw"
        host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
        assert server.requests[1].raw_head == (
            b"POST /endpoints/e/invocations HTTP/1.1\r\n" + host + b"accept-encoding: identity\r\n"
            b"Content-Length: 2\r\n\r\n"
        )
        assert server.connections == 1
        assert len(session.cookie_jar) == 1
        await pool.aclose()
        assert pool.closed
        assert not session.closed
        assert server.open_connections == 1  # it is the session's


def _trace(seen: list[tuple[str, Any]]) -> aiohttp.TraceConfig:
    """Give a trace that notes what it is told."""
    config = aiohttp.TraceConfig()

    def note(name: str) -> Callable[..., Coroutine[None, None, None]]:
        async def told(session: object, context: object, params: object) -> None:
            seen.append((name, params))

        return told

    for name in (
        "request_start",
        "request_headers_sent",
        "request_chunk_sent",
        "request_end",
        "request_exception",
        "connection_create_start",
        "connection_create_end",
        "connection_reuseconn",
    ):
        getattr(config, f"on_{name}").append(note(name))
    return config


@pytest.mark.asyncio
async def test_the_traces_of_a_borrowed_session_go_on(serve: Serve, exchange: Exchange) -> None:
    seen: list[tuple[str, Any]] = []
    trace = _trace(seen)
    async with serve(_say_ok) as server, aiohttp.ClientSession(trace_configs=[trace]) as session:
        pool = Pool(PoolOptions(session=session))
        assert await (await exchange(pool, server.url, b"body", headers={"a": "1"})).read() == b"ok"
        made = ["connection_create_start", "connection_create_end"]
        sent = ["request_headers_sent", "request_chunk_sent", "request_end"]
        assert [name for name, _ in seen] == ["request_start", *made, *sent]
        params = dict(seen)
        assert str(params["request_start"].url) == f"{server.url}/endpoints/e/invocations"
        assert params["request_start"].headers["A"] == "1"
        assert params["request_chunk_sent"].chunk == b"body"
        answer = params["request_end"].response
        assert isinstance(answer, aiohttp.ClientResponse)
        assert (answer.status, answer.reason, answer.ok, answer.method) == (200, "OK", True, "POST")
        assert answer.headers["Content-Length"] == "2"
        assert answer.url == answer.request_info.url == params["request_end"].url
        seen.clear()
        assert await (await exchange(pool, server.url, b"")).read() == b"ok"
        names = [name for name, _ in seen]
        assert names == [
            "request_start",
            "connection_reuseconn",
            "request_headers_sent",
            "request_end",
        ]
        await pool.aclose()


@pytest.mark.asyncio
async def test_a_trace_is_told_of_what_fails(serve_raw: Serve, exchange: Exchange) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    seen: list[tuple[str, Any]] = []
    trace = _trace(seen)
    async with (
        serve_raw(converse) as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
    ):
        pool = Pool(PoolOptions(session=session))
        with pytest.raises(ConnectionLost):
            await exchange(pool, server.url)
        assert seen[-1][0] == "request_exception"
        assert isinstance(seen[-1][1].exception, EOFError)
        await pool.aclose()


@pytest.mark.parametrize("signal", ["on_request_headers_sent", "on_request_end"])
@pytest.mark.asyncio
async def test_a_trace_that_fails_holds_no_connection(
    signal: str, serve: Serve, exchange: Exchange
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    trace = aiohttp.TraceConfig()
    getattr(trace, signal).append(fail)
    async with serve(_say_ok) as server, aiohttp.ClientSession(trace_configs=[trace]) as session:
        pool = Pool(PoolOptions(session=session))
        with pytest.raises(ZeroDivisionError):
            await exchange(pool, server.url)
        assert _acquired(pool) == 0
        await pool.aclose()


@pytest.mark.parametrize(
    ("limit", "per_host", "slots"),
    [(3, 0, 3), (0, 0, 7), (50, 0, 7), (0, 2, 2), (3, 5, 3)],
)
@pytest.mark.asyncio
async def test_a_borrowed_session_has_the_last_word_on_connections(
    limit: int, per_host: int, slots: int
) -> None:
    connector = aiohttp.TCPConnector(limit=limit, limit_per_host=per_host)
    async with aiohttp.ClientSession(connector=connector) as session:
        pool = Pool(PoolOptions(max_connections=7, session=session))
        assert _free(pool) == slots
        await pool.aclose()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4", "socks"])
@pytest.mark.asyncio
async def test_only_a_borrowed_session_can_pass_a_proxy_that_speaks_no_http(
    scheme: str, serve: Serve, exchange: Exchange
) -> None:
    """Its connector may have been made for that."""
    environ = dict.fromkeys(("http_proxy", "HTTP_PROXY"), f"{scheme}://user:secret@127.0.0.1:1")
    async with serve(_say_ok) as server, aiohttp.ClientSession() as session:
        pool = Pool(PoolOptions(session=session, environ=environ))
        for _ in range(2):
            assert await (await exchange(pool, server.url)).read() == b"ok"
        await pool.aclose()
        pool = Pool(PoolOptions(environ=environ))
        with pytest.raises(ConfigurationError, match=r"SOCKS is for .* session=") as caught:
            await exchange(pool, server.url)
        assert "secret" not in str(caught.value)
        await pool.aclose()


@pytest.mark.asyncio
async def test_what_is_no_session_is_refused() -> None:
    session: Any = object()
    with pytest.raises(ConfigurationError, match=r"session=.*: an aiohttp\.ClientSession, or None"):
        Pool(PoolOptions(session=session))


@pytest.mark.asyncio
async def test_a_closed_session_is_refused() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    with pytest.raises(ConfigurationError, match="session: this aiohttp session is closed"):
        Pool(PoolOptions(session=session))


@pytest.mark.asyncio
async def test_a_session_of_another_loop_is_refused() -> None:
    async def make() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    loop = asyncio.new_event_loop()
    try:
        session = await asyncio.to_thread(loop.run_until_complete, make())
        with pytest.raises(ConfigurationError, match="belongs to another event loop"):
            Pool(PoolOptions(session=session))
        await asyncio.to_thread(loop.run_until_complete, session.close())
    finally:
        loop.close()


@pytest.mark.asyncio
async def test_a_session_that_is_closed_under_a_call(
    serve: Serve, exchange: Exchange, until: Until
) -> None:
    async with serve(_say_nothing) as server:
        session = aiohttp.ClientSession()
        pool = Pool(PoolOptions(session=session))
        task = asyncio.create_task(exchange(pool, server.url))
        await until(lambda: server.requests)
        await asyncio.sleep(0.02)
        await session.close()
        with pytest.raises(ClientClosed, match="session") as caught:
            await asyncio.wait_for(task, 2)
        assert caught.value.may_have_run
        assert pool.closed
        await pool.aclose()


@pytest.mark.asyncio
async def test_a_pool_that_is_forgotten_closes_its_connections(
    serve: Serve, exchange: Exchange, until: Until
) -> None:
    async with serve(_say_ok) as server:
        pool = Pool(PoolOptions())
        await pool.keep()
        await (await exchange(pool, server.url)).read()
        session = pool._connector.session
        del pool
        gc.collect()
        await until(lambda: server.open_connections == 0)
        assert session.closed


def test_options_are_shown_without_their_secrets() -> None:
    options = PoolOptions(
        proxy="http://user:secret@proxy", proxy_headers={"x-key": "secret"}, environ={"A": "secret"}
    )
    shown = repr(options)
    assert "secret" not in shown
    assert "proxy='http://****@proxy', proxy_headers=<x-key>" in shown


@pytest.mark.asyncio
async def test_a_trace_that_is_added_to_every_session_is_served(
    serve: Serve, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As instrumentation adds them: by another constructor of aiohttp's sessions."""
    told: list[str] = []
    tracing = aiohttp.TraceConfig()

    async def tell_start(_: object, __: object, what: aiohttp.TraceRequestStartParams) -> None:
        told.append(f"{what.method} {what.url.path}")

    async def tell_reuse(*_: object) -> None:
        told.append("reused")

    tracing.on_request_start.append(tell_start)
    tracing.on_connection_reuseconn.append(tell_reuse)
    constructor = aiohttp.ClientSession.__init__

    def instrumented(self: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
        options["trace_configs"] = [*(options.get("trace_configs") or ()), tracing]
        constructor(self, *args, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrumented)
    async with serve(_say_ok) as server, contextlib.aclosing(Pool(PoolOptions())) as pool:
        for _ in range(2):
            assert await (await exchange(pool, server.url)).read() == b"ok"
    place = "POST /endpoints/e/invocations"
    assert told == [place, place, "reused"]
    assert server.connections == 1
