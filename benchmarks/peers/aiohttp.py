"""Plain aiohttp: nothing is signed, checked or decoded; what any client upon it costs at least."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.peers.peer import AsyncPeer

_HEADERS = {"Content-Type": "application/json"}


class Client(AsyncPeer):
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        super().__init__()
        self._session = session
        self._url = url

    async def invoke(self, endpoint: str, body: bytes) -> object:
        url = f"{self._url}/endpoints/{endpoint}/invocations"
        async with self._session.post(url, data=body, headers=_HEADERS) as response:
            return await response.read()

    async def stream(self, endpoint: str, body: bytes) -> None:
        url = f"{self._url}/endpoints/{endpoint}/invocations-response-stream"
        async with self._session.post(url, data=body, headers=_HEADERS) as response:
            async for data in response.content.iter_any():
                self.received += len(data)

    async def hold(self, endpoint: str, body: bytes) -> object:
        url = f"{self._url}/endpoints/{endpoint}/invocations-response-stream"
        response = await self._session.post(url, data=body, headers=_HEADERS)
        await response.content.readany()
        return response


@asynccontextmanager
async def connect(
    url: str, connections: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Client]:
    connector = aiohttp.TCPConnector(limit=connections, ssl=True if tls is None else tls)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(session, url)
