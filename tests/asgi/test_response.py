from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
import fastapi
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import aiosmrt
from aiosmrt.asgi import RelayResponse
from aiosmrt.sse import EventDecoder

if TYPE_CHECKING:
    from tests.asgi.conftest import Exchange
    from tests.conftest import Connect, EventStreams, Serve

    Events: TypeAlias = type[EventStreams]

Until: TypeAlias = Callable[..., Awaitable[None]]
Respond: TypeAlias = Callable[..., bytes]


@contextlib.asynccontextmanager
async def _run(
    application: Any, **options: Any
) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """Serve an application, and give its URL and what stops the server."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, log_config=None, loop="none", ws="none", **options)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))

    async def stop() -> None:
        server.should_exit = True
        await serving

    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", stop
    finally:
        await stop()
        listener.close()


def _starlette(answer: Callable[[Request], RelayResponse], **options: Any) -> Starlette:
    async def endpoint(request: Request) -> Response:
        return answer(request)

    return Starlette(routes=[Route("/", endpoint)], **options)


@pytest.mark.parametrize("status", [200, 424])
@pytest.mark.asyncio
async def test_it_is_a_response_with_cookies_and_a_background_task(
    *,
    status: int,
    exchange: Exchange,
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
) -> None:
    done: list[int] = []
    answer = events.whole(b"a") if status == 200 else respond(424, x_amzn_errortype="ModelError")
    async with serve(events.play(answer)) as server, connect(server) as client:
        response = RelayResponse(
            events.open(client),
            headers={"x-ours": "1"},
            background=BackgroundTask(done.append, 1),
        )
        assert isinstance(response, Response)
        response.set_cookie("session", "7")
        response.headers["x-later"] = "2"
        assert done == []
        await exchange.ask(response)
    assert done == [1]
    assert exchange.status == (200 if status == 200 else 502)
    assert exchange.headers["set-cookie"].startswith("session=7;")
    assert (exchange.headers["x-ours"], exchange.headers["x-later"]) == ("1", "2")


@pytest.mark.asyncio
async def test_the_background_task_runs_when_the_browser_has_left_too(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events
) -> None:
    done: list[int] = []
    exchange.left.set()
    async with serve(events.play(events.hang)) as server, connect(server) as client:
        background = BackgroundTask(done.append, 1)
        await exchange.ask(RelayResponse(events.open(client), background=background))
    assert done == [1]


class _Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Any:
        return await call_next(request)


@pytest.mark.parametrize("middleware", [[], [Middleware(_Passing), Middleware(_Passing)]])
@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
@pytest.mark.asyncio
async def test_a_get_of_a_page(
    *,
    middleware: list[Middleware],
    framework: str,
    serve: Serve,
    connect: Connect,
    events: Events,
) -> None:
    """Nobody has read the request's body, which is empty."""

    async with serve(events.play(events.whole(b"a"))) as server, connect(server) as client:

        async def chat(request: Request) -> RelayResponse:
            return RelayResponse(events.open(client))

        if framework == "fastapi":
            application: Any = fastapi.FastAPI(middleware=middleware)
            application.get("/", responses={502: {}})(chat)
        else:
            application = Starlette(routes=[Route("/", chat)], middleware=middleware)
        async with (
            _run(application) as (url, _),
            aiohttp.ClientSession() as browser,
            browser.get(url) as response,
        ):
            assert response.status == 200
            assert response.headers["content-type"] == "text/event-stream"
            assert "content-length" not in response.headers
            assert await response.read() == b"data: a\n\nevent: done\ndata: \n\n"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("middleware", [[], [Middleware(_Passing)]])
@pytest.mark.asyncio
async def test_a_head_of_a_page_costs_no_call(
    *, middleware: list[Middleware], serve: Serve, connect: Connect, events: Events
) -> None:
    """Starlette takes it wherever it takes GET; monitors and previews of links send it."""
    async with serve(events.play(events.whole(b"a"))) as server, connect(server) as client:

        async def chat(request: Request) -> RelayResponse:
            return RelayResponse(events.open(client))

        application = Starlette(routes=[Route("/", chat)], middleware=middleware)
        async with (
            _run(application) as (url, _),
            aiohttp.ClientSession() as browser,
            browser.head(url) as response,
        ):
            assert response.status == 200
            assert response.headers["content-type"] == "text/event-stream"
            assert await response.read() == b""
        gc.collect()
        assert server.requests == []


@pytest.mark.parametrize("middleware", [[], [Middleware(_Passing)]])
@pytest.mark.asyncio
async def test_a_server_that_stops_lets_streams_go_on_for_as_long_as_it_waits(
    *, middleware: list[Middleware], serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    go_on = asyncio.Event()
    first = events.head() + events.chunk(events.part(b"a"))
    last = events.chunk(events.part(b"b")) + events.END
    async with serve(events.play(first, go_on, last)) as server, connect(server) as client:
        application = _starlette(
            lambda _: RelayResponse(events.open(client)), middleware=middleware
        )
        async with (
            _run(application, timeout_graceful_shutdown=5) as (url, stop),
            aiohttp.ClientSession() as browser,
            browser.get(url) as response,
        ):
            await response.content.readuntil(b"\n\n")
            stopping = asyncio.ensure_future(stop())
            await asyncio.sleep(0.05)
            go_on.set()
            assert await response.read() == b"data: b\n\nevent: done\ndata: \n\n"
            async with asyncio.timeout(5):
                await stopping


@pytest.mark.asyncio
async def test_a_server_that_waits_no_longer_ends_streams_with_an_event(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    data = events.head() + events.chunk(events.part(b"a"))
    async with serve(events.play(data, events.hang)) as server, connect(server) as client:
        application = _starlette(lambda _: RelayResponse(events.open(client)))
        async with (
            _run(application, timeout_graceful_shutdown=0) as (url, stop),
            aiohttp.ClientSession() as browser,
            browser.get(url) as response,
        ):
            await response.content.readuntil(b"\n\n")
            await stop()
            await until(lambda: server.open_connections == 0)
            decoder = EventDecoder()
            (event,) = decoder.receive(await response.content.readuntil(b"\n\n"))
            assert (event.event, event.data) == ("error", "ServerStopped")


def test_without_starlette_there_is_relay() -> None:
    source = (
        "import sys; sys.modules['starlette'] = None\n"
        "import aiosmrt.asgi\n"
        "print(callable(aiosmrt.asgi.relay))\n"
        "try:\n    aiosmrt.asgi.RelayResponse\n"
        "except ImportError as error:\n    print(error.name.partition('.')[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\nstarlette\n"


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Relayed'"):
        _ = aiosmrt.asgi.Relayed  # type: ignore[attr-defined]
