"""aiobotocore: botocore's client with its parts that wait replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks.peers.peer import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, AsyncPeer


class Client(AsyncPeer):
    def __init__(self, client: Any) -> None:  # noqa: ANN401 - made at run time, it has no type
        super().__init__()
        self._client = client

    async def invoke(self, endpoint: str, body: bytes) -> object:
        response = await self._client.invoke_endpoint(
            EndpointName=endpoint, Body=body, ContentType="application/json"
        )
        async with response["Body"] as content:
            return await content.read()

    async def stream(self, endpoint: str, body: bytes) -> None:
        response = await self._client.invoke_endpoint_with_response_stream(
            EndpointName=endpoint, Body=body, ContentType="application/json"
        )
        try:
            async for event in response["Body"]:
                self.received += len(event["PayloadPart"]["Bytes"])
        finally:
            response["Body"].close()

    async def hold(self, endpoint: str, body: bytes) -> object:
        response = await self._client.invoke_endpoint_with_response_stream(
            EndpointName=endpoint, Body=body, ContentType="application/json"
        )
        events = aiter(response["Body"])
        await anext(events)
        return response, events


@asynccontextmanager
async def connect(url: str, connections: int) -> AsyncIterator[Client]:
    async with get_session().create_client(
        "sagemaker-runtime",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=AioConfig(max_pool_connections=connections),
    ) as client:
        yield Client(client)
