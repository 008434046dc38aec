"""capo-sagemaker-runtime: a generated client upon an HTTP stack of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from capo_sagemaker_runtime import AsyncSageMakerRuntimeClient
from zapros import AsyncStdNetworkHandler

from benchmarks.peers.peer import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, AsyncPeer


class Client(AsyncPeer):
    def __init__(self, client: AsyncSageMakerRuntimeClient) -> None:
        super().__init__()
        self._client = client

    async def invoke(self, endpoint: str, body: bytes) -> object:
        response = await self._client.invoke_endpoint(
            endpoint_name=endpoint, body=body, content_type="application/json"
        )
        return response["body"]

    async def stream(self, endpoint: str, body: bytes) -> None:
        async with self._client.invoke_endpoint_with_response_stream(
            endpoint_name=endpoint, body=body, content_type="application/json"
        ) as response:
            async for event in response["body"]:
                self.received += len(event["PayloadPart"]["bytes"])

    async def hold(self, endpoint: str, body: bytes) -> object:
        stack = AsyncExitStack()
        response = await stack.enter_async_context(
            self._client.invoke_endpoint_with_response_stream(
                endpoint_name=endpoint, body=body, content_type="application/json"
            )
        )
        await anext(response["body"])
        return stack, response


@asynccontextmanager
async def connect(url: str, connections: int) -> AsyncIterator[Client]:
    handler = AsyncStdNetworkHandler(
        http1={
            "max_connections_per_host": connections,
            "max_idle_connections_per_host": connections,
        }
    )
    async with AsyncSageMakerRuntimeClient(
        http_handler=handler,
        region=REGION,
        endpoint=url,
        credentials={"access_key": ACCESS_KEY_ID, "secret_key": SECRET_ACCESS_KEY},
    ) as client:
        yield Client(client)
