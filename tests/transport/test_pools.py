"""One pool for each loop, thread and process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import pytest

from aiosmrt.errors import ClientClosed
from aiosmrt.transport import Pool, PooledResponse, PoolOptions, Pools

pytestmark = pytest.mark.usefixtures("quiet_loop")

T = TypeVar("T")

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Server(Protocol):
    url: str
    connections: int
    open_connections: int


Serve = Callable[..., AbstractAsyncContextManager[_Server]]
Exchange = Callable[..., Coroutine[None, None, PooledResponse]]
Until = Callable[..., Coroutine[None, None, None]]


class _LoopInAThread:
    """An event loop that another thread runs."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(5)

    def stop(self) -> None:
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


@pytest.fixture
def elsewhere() -> Iterator[_LoopInAThread]:
    thread = _LoopInAThread()
    yield thread
    if not thread.loop.is_closed():
        thread.stop()


async def _say_ok(request: object, writer: asyncio.StreamWriter) -> None:
    writer.write(_OK)


async def _call(pools: Pools, url: str, exchange: Exchange) -> Pool:
    pool = await pools.make(PoolOptions())
    assert await (await exchange(pool, url)).read() == b"ok"
    return pool


@pytest.mark.asyncio
async def test_a_loop_has_one_pool() -> None:
    pools = Pools()
    assert pools.find() is None
    pool = await pools.make(PoolOptions())
    assert pools.find() is pool
    assert await pools.make(PoolOptions()) is pool
    assert pools.open
    await pools.aclose()
    assert not pools.open


@pytest.mark.asyncio
async def test_closed_pools_stay_closed() -> None:
    pools = Pools()
    pool = await pools.make(PoolOptions())
    await pools.aclose()
    await pools.aclose()
    assert pool.closed
    with pytest.raises(ClientClosed, match="the client is closed"):
        pools.find()
    with pytest.raises(ClientClosed):
        await pools.make(PoolOptions())


def test_closing_what_was_never_opened() -> None:
    pools = Pools()
    asyncio.run(pools.aclose())
    assert pools.closed


@pytest.mark.asyncio
async def test_a_pool_that_was_closed_is_replaced() -> None:
    pools = Pools()
    pool = await pools.make(PoolOptions())
    await pool.aclose()
    assert pools.find() is None
    assert not pools.open
    other = await pools.make(PoolOptions())
    assert other is not pool
    assert pools.find() is other
    await pools.aclose()


def test_one_asyncio_run_after_another(
    elsewhere: _LoopInAThread, serve: Serve, exchange: Exchange, until: Until
) -> None:
    """As in a Lambda function, with a client at module level that nobody closes."""
    stack = contextlib.AsyncExitStack()
    server: _Server = elsewhere.run(stack.enter_async_context(serve(_say_ok)))
    pools = Pools()
    found = []
    for run in range(3):
        found.append(asyncio.run(_call(pools, server.url, exchange)))
        assert found[-1].closed  # by the loop, at its end
        assert not pools.open
        assert server.connections == run + 1
        elsewhere.run(until(lambda: server.open_connections == 0))
        gc.collect()  # a warning about something left open is an error here
    assert len(set(found)) == 3
    assert len(pools._pools) == 1  # the dead ones are not kept for ever
    asyncio.run(pools.aclose())
    elsewhere.run(stack.aclose())


def test_two_loops_at_once_have_a_pool_each(
    elsewhere: _LoopInAThread, serve: Serve, exchange: Exchange
) -> None:
    pools = Pools()
    theirs: list[Pool] = []

    async def call_often() -> Pool:
        async with serve(_say_ok) as server:
            for _ in range(20):
                pool = await _call(pools, server.url, exchange)
                assert pool.loop is asyncio.get_running_loop()
            return await pools.make(PoolOptions())

    async def call_there() -> None:
        theirs.append(await call_often())

    async def call_here() -> None:
        there = asyncio.run_coroutine_threadsafe(call_there(), elsewhere.loop)
        ours = await call_often()
        await asyncio.wrap_future(there)
        assert theirs[0] is not ours
        assert pools.find() is ours
        # Closes those of other threads in their own loops.
        await pools.aclose()
        assert ours.closed
        assert theirs[0].closed

    asyncio.run(call_here())


@pytest.mark.asyncio
async def test_a_pool_is_never_given_to_another_loop(elsewhere: _LoopInAThread) -> None:
    pools = Pools()
    mine = await pools.make(PoolOptions())
    stop = threading.Event()

    async def find_there() -> None:
        theirs = await pools.make(PoolOptions())
        while not stop.is_set():
            for _ in range(1000):
                assert pools.find() is theirs
            await asyncio.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        there = asyncio.run_coroutine_threadsafe(find_there(), elsewhere.loop)
        for _ in range(20_000):
            assert pools.find() is mine
        stop.set()
        await asyncio.wrap_future(there)
    finally:
        sys.setswitchinterval(interval)
        stop.set()
    await pools.aclose()


@pytest.mark.asyncio
async def test_a_loop_that_stands_still_is_not_waited_for(elsewhere: _LoopInAThread) -> None:
    pools = Pools()
    elsewhere.run(pools.make(PoolOptions()))
    (pool,) = pools._pools.values()
    elsewhere.stop()
    await asyncio.wait_for(pools.aclose(), 5)
    assert pool.closed


@pytest.mark.asyncio
async def test_a_loop_that_stops_meanwhile_is_not_waited_for_for_ever(
    elsewhere: _LoopInAThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosmrt.transport.pools._CLOSING", 0.05)
    pools = Pools()
    elsewhere.run(pools.make(PoolOptions()))
    release = threading.Event()
    elsewhere.loop.call_soon_threadsafe(release.wait, 5)
    try:
        await asyncio.wait_for(pools.aclose(), 2)
    finally:
        release.set()


@pytest.mark.asyncio
async def test_a_new_process_starts_anew_and_keeps_the_old_sockets_from_the_collector() -> None:
    pools = Pools()
    pool = await pools.make(PoolOptions())
    pools._process -= 1
    assert not pools.open
    assert pools.find() is None
    own = await pools.make(PoolOptions())
    assert own is not pool
    await pools.aclose()
    assert own.closed
    assert not pool.closed
    assert pools._parents == [pool]
    await pool.aclose()


_FORK = """
import asyncio, gc, os, warnings
warnings.simplefilter("error")
from aiosmrt.transport import PoolOptions, Pools

pools = Pools()

async def use():
    assert pools.find() is None
    pool = await pools.make(PoolOptions())
    assert pools.find() is pool
    await pools.aclose()
    assert pool.closed

async def close():
    await pools.aclose()

async def parent():
    pool = await pools.make(PoolOptions())
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.events._set_running_loop(None)
            assert not pools.open
            asyncio.run({child}())
            gc.collect()
            assert not pool.closed
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    assert pools.find() is pool and not pool.closed
    await pools.aclose()
    assert pool.closed

asyncio.run(parent())
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("child", ["use", "close"])
def test_a_child_process_leaves_the_parents_pool_alone(child: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _FORK.replace("{child}", child)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (run.stdout, run.stderr, run.returncode) == ("done\n", "", 0)


@pytest.mark.asyncio
async def test_closing_ends_with_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled `aclose` can be called again."""
    pools = Pools()
    pool = await pools.make(PoolOptions())
    begun = asyncio.Event()
    close = pool._connector.aclose

    async def close_slowly() -> None:
        begun.set()
        await asyncio.sleep(5)

    monkeypatch.setattr(pool._connector, "aclose", close_slowly)
    task = asyncio.create_task(pools.aclose())
    await begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not pool.closed
    monkeypatch.setattr(pool._connector, "aclose", close)
    await pools.aclose()
    assert pool.closed


# Somebody else's program: its loop is closed without a word to what hangs on it.
_CLOSED_LOOP = """
import asyncio, gc, socket, sys, threading, uvloop
import aiosmrt

def converse(connection):
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\nok")
    ended.append(connection)

def accept():
    while True:
        threading.Thread(target=converse, args=listening.accept()[:1], daemon=True).start()

ended = []
listening = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, daemon=True).start()
client = aiosmrt.SageMakerRuntimeClient(
    region_name="us-east-1",
    endpoint_url=f"http://127.0.0.1:{listening.getsockname()[1]}",
    aws_access_key_id="a",
    aws_secret_access_key="b",
)

async def call():
    calls = (client.invoke_endpoint(endpoint_name="e", body=b"x") for _ in range(3))
    await asyncio.gather(*calls)

for _ in range(2):
    loop = uvloop.new_event_loop() if sys.argv[1] == "uvloop" else asyncio.new_event_loop()
    loop.run_until_complete(call())
    loop.close()
if sys.argv[2] == "dropped":
    del client, loop
    deadline = 100
    while len(ended) < 6 and deadline:
        gc.collect()
        threading.Event().wait(0.05)
        deadline -= 1
    assert len(ended) == 6, len(ended)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("end", ["dropped", "at exit"])
def test_a_loop_that_is_closed_without_a_word_leaves_neither_socket_nor_noise(
    loop: str, end: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CLOSED_LOOP, loop, end],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
