"""Names are looked up by the system, in threads of our own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import pytest

from aiosmrt.config import Timeout
from aiosmrt.errors import ConnectError, ConnectTimeout
from aiosmrt.transport import Pool, PooledResponse, PoolOptions
from aiosmrt.transport.resolver import Resolver

pytestmark = pytest.mark.usefixtures("quiet_loop")


class _Server(Protocol):
    url: str
    port: int
    connections: int


Serve = Callable[..., AbstractAsyncContextManager[_Server]]
Until = Callable[..., Awaitable[None]]
Exchange = Callable[..., Coroutine[None, None, PooledResponse]]


async def _say_ok(request: object, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


class _Names:
    """Stands in for the system's look-up, and notes who asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.threads: set[str] = set()
        self.go_on = threading.Event()
        self.go_on.set()
        self._ask = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, *rest: Any, **named: Any) -> Any:
        self.asked.append(host)
        self.threads.add(threading.current_thread().name)
        self.go_on.wait(10)
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._ask("127.0.0.1", port, *rest, **named)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> _Names:
    return _Names(monkeypatch)


@pytest.mark.asyncio
async def test_a_name_is_looked_up_in_a_thread_of_our_own(
    names: _Names, serve: Serve, exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What aiohttp takes for the better resolver where it is installed.
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", None)
    stuck = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        executor.submit(stuck.wait, 10)
        try:
            async with serve(_say_ok) as server:
                pool = Pool(PoolOptions())
                url = f"http://model.example:{server.port}"
                for _ in range(2):
                    assert await (await exchange(pool, url)).read() == b"ok"
                await pool.aclose()
        finally:
            stuck.set()
    assert names.asked == ["model.example"]
    assert names.threads == {"aiosmrt"}


@pytest.mark.asyncio
async def test_one_look_up_is_for_all_who_wait_and_outlives_who_leaves(
    names: _Names, serve: Serve, exchange: Exchange
) -> None:
    names.go_on.clear()
    async with serve(_say_ok) as server:
        pool = Pool(PoolOptions())
        url = f"http://model.example:{server.port}"
        first, second = (asyncio.create_task(exchange(pool, url)) for _ in range(2))
        with pytest.raises(ConnectTimeout, match=r"model\.example"):
            await exchange(pool, url, timeout=Timeout(connect=0.05))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        names.go_on.set()
        assert await (await second).read() == b"ok"
        await pool.aclose()
    assert names.asked == ["model.example"]


@pytest.mark.asyncio
async def test_a_pool_that_is_closed_does_not_wait_for_a_look_up(
    names: _Names, exchange: Exchange, until: Until
) -> None:
    names.go_on.clear()
    pool = Pool(PoolOptions())
    task = asyncio.create_task(exchange(pool, "http://model.example"))
    await until(lambda: names.asked)
    await asyncio.wait_for(pool.aclose(), 5)
    names.go_on.set()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], Exception)


@pytest.mark.asyncio
async def test_a_name_that_there_is_not_is_said(names: _Names, exchange: Exchange) -> None:
    pool = Pool(PoolOptions())
    with pytest.raises(ConnectError, match=r"the host no\.invalid has no address: .*not known"):
        await exchange(pool, "http://no.invalid")
    await pool.aclose()


@pytest.mark.asyncio
async def test_the_machines_own_name_is_known_in_both_families() -> None:
    found = await Resolver().resolve("LocalHost", 80)
    assert {"127.0.0.1"} <= {address["host"] for address in found} <= {"127.0.0.1", "::1"}
    assert {address["port"] for address in found} == {80}
    (only,) = {
        address["host"] for address in await Resolver().resolve("localhost", 80, socket.AF_INET)
    }
    assert only == "127.0.0.1"


@pytest.mark.asyncio
async def test_the_zone_of_a_link_local_address_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    loopback = socket.if_nametoindex("lo") if sys.platform == "linux" else 1
    found = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, loopback))
    plain = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [found, plain])
    zoned, other = await Resolver().resolve("printer.local", 80)
    assert zoned["host"].startswith("fe80::1%")
    assert other["host"] == "2001:db8::1"
