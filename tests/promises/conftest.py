"""What relays a model's stream to a browser, by aiohttp and by an ASGI server."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias

import aiohttp
import attrs
import pytest
import pytest_asyncio
import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.sse import EventDecoder, ServerSentEvent

Running: TypeAlias = contextlib.AbstractAsyncContextManager[str]
Relay: TypeAlias = Callable[[aiosmrt.SageMakerRuntimeClient], Running]
ReadEvents: TypeAlias = Callable[[aiohttp.ClientResponse], Awaitable[list[ServerSentEvent]]]


# --- the relays, as the README has them


def relay_by_aiohttp(client: aiosmrt.SageMakerRuntimeClient) -> web.Application:
    async def relay(request: web.Request) -> web.StreamResponse:
        try:
            async with client.invoke_endpoint_with_response_stream(
                endpoint_name="llm", body=await request.read()
            ) as stream:
                response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
                await response.prepare(request)
                try:
                    async for text in stream.iter_text():
                        await response.write(aiosmrt.sse.encode(text))
                    await response.write(aiosmrt.sse.encode("", event="done"))
                except aiosmrt.AiosmrtError as error:
                    await response.write(aiosmrt.sse.encode(error.public_text, event="error"))
                return response
        except aiosmrt.AiosmrtError as error:  # before the first part: a status of its own
            return web.json_response({"error": error.public_text}, status=502)

    application = web.Application()
    application.router.add_post("/chat", relay)
    return application


class RelayResponse(Response):
    """Asks the model when it is sent, and drops that when the browser leaves, whenever it does."""

    def __init__(self, opening: aiosmrt.ResponseStreamOpening) -> None:
        super().__init__()
        self.opening = opening
        self.begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(self.answer(scope, receive, send))
            leaving = tasks.create_task(self.wait_for_disconnect(receive))
            answering.add_done_callback(lambda _: leaving.cancel())
            leaving.add_done_callback(lambda _: answering.cancel())
        if answering.cancelled() and not self.begun:  # nobody reads it, but a middleware waits
            await Response(status_code=499)(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self.opening as stream:
                self.begun = True
                headers = [(b"content-type", b"text/event-stream")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                async for event in self.relay(stream):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except aiosmrt.AiosmrtError as error:  # before the first part: a status of its own
            refusal = JSONResponse({"error": error.public_text}, status_code=502)
            await refusal(scope, receive, send)

    async def relay(self, stream: aiosmrt.ResponseStream) -> AsyncIterator[bytes]:
        try:
            async for text in stream.iter_text():
                yield aiosmrt.sse.encode(text)
            yield aiosmrt.sse.encode("", event="done")
        except aiosmrt.AiosmrtError as error:
            yield aiosmrt.sse.encode(error.public_text, event="error")

    async def wait_for_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class PartsRelayResponse(RelayResponse):
    """Not in the README: text may be cut inside a character."""

    async def relay(self, stream: aiosmrt.ResponseStream) -> AsyncIterator[bytes]:
        async for part in stream:
            yield aiosmrt.sse.encode(part.bytes.decode())
        yield aiosmrt.sse.encode("", event="done")


class _Middleware(BaseHTTPMiddleware):
    """One that waits for the beginning of a response, as most do."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def relay_by_starlette(
    client: aiosmrt.SageMakerRuntimeClient,
    response_type: type[RelayResponse] = RelayResponse,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    async def chat(request: Request) -> Response:
        return response_type(
            client.invoke_endpoint_with_response_stream(
                endpoint_name="llm", body=await request.body()
            )
        )

    routes = [Route("/chat", chat, methods=["POST"])]
    return Starlette(routes=routes, middleware=middleware)


# --- their servers


@contextlib.asynccontextmanager
async def _run_aiohttp(client: aiosmrt.SageMakerRuntimeClient) -> AsyncIterator[str]:
    runner = web.AppRunner(
        relay_by_aiohttp(client), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/chat"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _run_uvicorn(
    client: aiosmrt.SageMakerRuntimeClient,
    response_type: type[RelayResponse] = RelayResponse,
    middleware: Sequence[Middleware] = (),
) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    application = relay_by_starlette(client, response_type, middleware)
    server = uvicorn.Server(
        uvicorn.Config(application, log_config=None, lifespan="off", loop="none", ws="none")
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        # The socket listens already: who comes early waits.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/chat"
    finally:
        server.should_exit = True
        await serving
        listener.close()


def _run_uvicorn_by_parts(client: aiosmrt.SageMakerRuntimeClient) -> Running:
    return _run_uvicorn(client, PartsRelayResponse)


def _run_uvicorn_with_middleware(client: aiosmrt.SageMakerRuntimeClient) -> Running:
    return _run_uvicorn(client, middleware=[Middleware(_Middleware)])


_RELAYS: dict[str, Relay] = {
    "aiohttp": _run_aiohttp,
    "uvicorn": _run_uvicorn,
    "uvicorn by parts": _run_uvicorn_by_parts,
    "uvicorn with a middleware": _run_uvicorn_with_middleware,
}


@pytest.fixture
def relay_sources() -> list[str]:
    """Give what the README has of the relays, word by word."""
    aiohttp_relay = inspect.getsource(relay_by_aiohttp).partition(":\n")[2].partition("\n\n")[0]
    return [textwrap.dedent(aiohttp_relay), inspect.getsource(RelayResponse)]


@pytest.fixture
def relay(request: pytest.FixtureRequest) -> Relay:
    """Give what serves a relay, by its name: a test says which it is about."""
    return _RELAYS[request.param]


# --- what they stand between


@attrs.define
class Upstream:
    """A model that streams until it is told how to end, and what became of it."""

    client: aiosmrt.SageMakerRuntimeClient
    go_on: asyncio.Event = attrs.field(factory=asyncio.Event)
    running: int = 0


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async def model(request: InvocationRequest) -> object:
        if request.body == b"refuse":
            raise ModelFailure(400, "no such prompt")
        return stream(request.body)

    async def stream(body: bytes) -> AsyncIterator[str]:
        seen.running += 1
        try:
            if body == b"prefill":
                await seen.go_on.wait()
            yield "zwölf\n"
            if body == b"fail":
                raise ModelFailure(500, "out of memory")
            given_up = time.monotonic() + 3  # or a server that goes on would never end
            while body == b"flood" and time.monotonic() < given_up:
                yield "x" * 1000
            while body == b"push":
                await asyncio.sleep(0.001)
                yield "x" * 100_000
            if body == b"hang":
                await seen.go_on.wait()
            yield "and more"
        finally:
            seen.running -= 1

    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client(
            max_connections=1,
            timeout=aiosmrt.Timeout(slot=5),
            retry=aiosmrt.RetryPolicy(mode="off"),
        ) as client,
    ):
        seen = Upstream(client)
        yield seen


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session


async def _read_events(response: aiohttp.ClientResponse) -> list[ServerSentEvent]:
    decoder = EventDecoder(drop_incomplete=True)
    return [*decoder.receive(await response.read()), *decoder.finish()]


@pytest.fixture
def read_events() -> ReadEvents:
    """Give a coroutine function that reads an answer's events to their end."""
    return _read_events
