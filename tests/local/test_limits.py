"""The service's limits to a model, with seconds that are shorter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from aiosmrt import ModelError, ModelStreamError
from aiosmrt.local import InvocationRequest, LocalEndpoint, ServiceLimits

_LIMITS = ServiceLimits(seconds=0.1, stream_seconds=0.2, body_bytes=1000)


async def _dawdle(request: InvocationRequest) -> object:
    if request.body == b"at once":
        return b"x" * 1000
    if request.body == b"much":
        return b"x" * 1001
    if request.body == b"parts":
        return _drip()
    await asyncio.sleep(5)
    return b""


async def _drip() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"x"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "what"),
    [("late", "timed out"), ("parts", "timed out"), ("much", "longer than 1000 bytes")],
)
@pytest.mark.asyncio
async def test_a_model_that_takes_or_gives_too_much_has_failed(body: str, what: str) -> None:
    async with (
        LocalEndpoint(_dawdle, service_limits=_LIMITS) as endpoint,
        endpoint.client() as client,
    ):
        whole = await client.invoke_endpoint(endpoint_name="e", body="at once")
        assert len(whole.body) == 1000
        with pytest.raises(ModelError, match=what) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=body)
        assert caught.value.status == 424
        assert caught.value.original_status_code == 0


@pytest.mark.asyncio
async def test_a_stream_ends_when_its_time_is_over() -> None:
    async def read(body: str) -> None:
        async with client.invoke_endpoint_with_response_stream(
            endpoint_name="e", body=body
        ) as stream:
            async for _ in stream:
                pass

    endpoint = LocalEndpoint(_dawdle, service_limits=_LIMITS)
    async with endpoint, endpoint.client() as client:
        began = time.monotonic()
        with pytest.raises(ModelStreamError) as caught:
            await read("parts")
        assert caught.value.error_code == "ModelInvocationTimeExceeded"
        assert time.monotonic() - began > 0.15  # longer than a whole answer may take
        with pytest.raises(ModelError):
            await read("late")


@pytest.mark.asyncio
async def test_there_is_none_unless_it_is_asked_for() -> None:
    async with LocalEndpoint(_dawdle) as endpoint, endpoint.client() as client:
        response = await client.invoke_endpoint(endpoint_name="e", body="much")
        assert len(response.body) == 1001


def test_they_are_those_that_are_documented() -> None:
    assert ServiceLimits() == ServiceLimits(60.0, 480.0, 6_291_456)
