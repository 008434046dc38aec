"""An endpoint for batches, and rows for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure


async def _model(request: InvocationRequest) -> object:
    if request.body == b"hang":
        await asyncio.sleep(60)
    if request.body == b"fail":
        raise ModelFailure(400, "as asked")
    if request.operation == "InvokeEndpointWithResponseStream":
        return iter([request.body, b" and", b" more"])
    return request.body


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiosmrt.SageMakerRuntimeClient]:
    async with LocalEndpoint(_model) as endpoint, endpoint.client() as made:
        yield made
