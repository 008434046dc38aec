"""The client of this project."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosmrt
from benchmarks.peers.peer import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, AsyncPeer


class Client(AsyncPeer):
    def __init__(self, client: aiosmrt.SageMakerRuntimeClient) -> None:
        super().__init__()
        self.client = client

    async def invoke(self, endpoint: str, body: bytes) -> object:
        response = await self.client.invoke_endpoint(
            endpoint_name=endpoint, body=body, content_type="application/json"
        )
        return response.body

    async def stream(self, endpoint: str, body: bytes) -> None:
        async with self.client.invoke_endpoint_with_response_stream(
            endpoint_name=endpoint, body=body, content_type="application/json"
        ) as stream:
            async for part in stream:
                self.received += len(part.bytes)

    async def hold(self, endpoint: str, body: bytes) -> object:
        stream = await self.client.invoke_endpoint_with_response_stream(
            endpoint_name=endpoint, body=body, content_type="application/json"
        )
        await anext(stream)
        return stream


@asynccontextmanager
async def connect(
    url: str, connections: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Client]:
    async with aiosmrt.SageMakerRuntimeClient(
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        max_connections=connections,
        verify=tls,
    ) as client:
        yield Client(client)
