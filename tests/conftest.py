"""What the tests of several rooms need: servers that are real, and an environment that is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import attrs
import pytest


@pytest.fixture(autouse=True)
def _no_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own AWS settings or proxies reaches a test."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def vectors() -> Path:
    """The folder of test vectors."""
    folder = os.environ.get("AIOSMRT_VECTORS")
    if not folder:
        pytest.skip("AIOSMRT_VECTORS does not name the folder of test vectors")
    return Path(folder)


@attrs.define
class SeenRequest:
    """A request as it came off the wire."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    raw_head: bytes


@attrs.define
class WireServer:
    """A server that hands out bytes as it is told to."""

    port: int
    requests: list[SeenRequest] = attrs.field(factory=list)
    connections: int = 0  # ever made
    open_connections: int = 0
    closed: asyncio.Event = attrs.field(factory=asyncio.Event)  # set whenever one is closed

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


Answer: TypeAlias = Callable[[SeenRequest, asyncio.StreamWriter], Awaitable[None]]
Serve: TypeAlias = Callable[[Answer], contextlib.AbstractAsyncContextManager[WireServer]]


async def _read_request(reader: asyncio.StreamReader) -> SeenRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    try:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return SeenRequest(method, target, headers, body, head)


@contextlib.asynccontextmanager
async def _serve(answer: Answer) -> AsyncIterator[WireServer]:
    tasks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
        seen.connections += 1
        seen.open_connections += 1
        try:
            while not writer.is_closing() and (request := await _read_request(reader)) is not None:
                seen.requests.append(request)
                await answer(request, writer)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            seen.open_connections -= 1
            seen.closed.set()
            if task is not None:
                tasks.discard(task)

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    seen = WireServer(server.sockets[0].getsockname()[1])
    try:
        yield seen
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks)


@pytest.fixture
def serve() -> Serve:
    """Give a server that answers each request by a coroutine that writes raw bytes."""
    return _serve


def _respond(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    fields = {"content-length": str(len(body)), "content-type": "application/json"}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Because\r\n{head}\r\n".encode() + body


@pytest.fixture
def respond() -> Callable[..., bytes]:
    """Give a function that writes a whole HTTP answer: status, body, header_names=values."""
    return _respond
