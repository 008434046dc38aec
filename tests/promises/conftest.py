"""What relays a model's stream to a browser, by aiohttp and by an ASGI server."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    MutableMapping,
)
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import attrs
import pytest
import pytest_asyncio
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import aiosmrt
from aiosmrt.asgi import RelayResponse
from aiosmrt.asgi.formats import ViewOf
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.sse import EventDecoder, ServerSentEvent

Running: TypeAlias = contextlib.AbstractAsyncContextManager[str]
Relay: TypeAlias = Callable[[aiosmrt.SageMakerRuntimeClient], Running]
ReadEvents: TypeAlias = Callable[[aiohttp.ClientResponse], Awaitable[list[ServerSentEvent]]]


# --- the relays, as the guide has them


def relay_by_aiohttp(client: aiosmrt.SageMakerRuntimeClient) -> web.Application:
    async def relay(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()

        async def receive() -> MutableMapping[str, Any]:
            await asyncio.Event().wait()  # aiohttp cancels this when the browser leaves
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                response.set_status(message["status"])
                for name, value in message["headers"]:
                    response.headers[name.decode()] = value.decode()
                await response.prepare(request)
            else:
                await response.write(message["body"])

        opening = client.invoke_endpoint_with_response_stream(
            endpoint_name="llm", body=await request.read()
        )
        await aiosmrt.asgi.relay(opening)({"method": request.method}, receive, send)
        return response

    application = web.Application()
    application.router.add_post("/chat", relay)
    return application


def relay_by_fastapi(client: aiosmrt.SageMakerRuntimeClient, view: ViewOf | None = None) -> FastAPI:
    application = FastAPI()

    @application.post("/chat")
    async def chat(request: Request) -> RelayResponse:
        opening = client.invoke_endpoint_with_response_stream(
            endpoint_name="llm", body=await request.body()
        )
        return RelayResponse(opening, view)

    return application


async def _iter_parts(stream: aiosmrt.ResponseStream) -> AsyncIterator[str]:
    """Give text that may be cut inside a character: this model's is not."""
    async for part in stream:
        yield part.bytes.decode()


class PassingMiddleware(BaseHTTPMiddleware):
    """One that waits for the beginning of a response, as most do."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


def relay_by_starlette(client: aiosmrt.SageMakerRuntimeClient) -> Starlette:
    async def chat(request: Request) -> Response:
        return RelayResponse(
            client.invoke_endpoint_with_response_stream(
                endpoint_name="llm", body=await request.body()
            )
        )

    return Starlette(
        routes=[Route("/chat", chat, methods=["POST"])], middleware=[Middleware(PassingMiddleware)]
    )


def relay_by_itself(client: aiosmrt.SageMakerRuntimeClient) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        opening = client.invoke_endpoint_with_response_stream(
            endpoint_name="llm", body=message["body"]
        )
        await aiosmrt.asgi.relay(opening)(scope, receive, send)

    return application


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
async def _run_uvicorn(application: Any) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
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


_RELAYS: dict[str, Relay] = {
    "aiohttp": _run_aiohttp,
    "asgi": lambda client: _run_uvicorn(relay_by_itself(client)),
    "fastapi": lambda client: _run_uvicorn(relay_by_fastapi(client)),
    "fastapi by parts": lambda client: _run_uvicorn(relay_by_fastapi(client, _iter_parts)),
    "starlette with a middleware": lambda client: _run_uvicorn(relay_by_starlette(client)),
}


@pytest.fixture
def relay_sources() -> list[str]:
    """Give what the guide has of the relays, word by word."""
    aiohttp_relay = inspect.getsource(relay_by_aiohttp).partition(":\n")[2]
    aiohttp_relay = aiohttp_relay.partition("    application = web")[0]
    fastapi_relay = inspect.getsource(relay_by_fastapi).partition("FastAPI()\n\n")[2]
    fastapi_relay = fastapi_relay.partition("opening, view")[0]
    return [textwrap.dedent(aiohttp_relay).strip(), textwrap.dedent(fastapi_relay).strip()]


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


@attrs.frozen
class Bookkeeper:
    """The server of `counting_server.py`, in a process of its own."""

    ports: dict[str, int]

    def read_books(self) -> dict[str, int]:
        """Give how often each call was received whole."""
        with socket.create_connection(("127.0.0.1", self.ports["books"])) as connection:
            return dict(json.loads(b"".join(iter(lambda: connection.recv(1 << 16), b""))))


@contextlib.contextmanager
def _keep_books(certificate: Path | None = None) -> Iterator[Bookkeeper]:
    program = Path(__file__).with_name("counting_server.py")
    arguments = [] if certificate is None else [str(certificate)]
    with subprocess.Popen(
        [sys.executable, str(program), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            yield Bookkeeper(json.loads(server.stdout.readline()))
        finally:
            server.kill()


KeepBooks: TypeAlias = Callable[..., contextlib.AbstractContextManager[Bookkeeper]]


@pytest.fixture
def keep_books() -> KeepBooks:
    """Give what runs a server that keeps books, over TLS if it is given a certificate's file."""
    return _keep_books
