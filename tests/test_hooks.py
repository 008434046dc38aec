from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

import aiosmrt
from aiosmrt.local import LocalEndpoint

STATIONS = ["before_send", "after_headers", "on_retry", "on_first_part", "on_end"]


@pytest.mark.parametrize("station", STATIONS)
def test_a_hook_is_something_to_call(station: str) -> None:
    hooks: dict[str, Any] = {station: "not a function"}
    with pytest.raises(aiosmrt.ConfigurationError, match=station):
        aiosmrt.Hooks(**hooks)


@pytest.mark.asyncio
async def test_every_station_is_told_in_order() -> None:
    told: list[object] = []

    async def later(event: object) -> None:
        await asyncio.sleep(0)
        told.append(event)

    hooks = aiosmrt.Hooks(
        before_send=later, after_headers=told.append, on_first_part=later, on_end=told.append
    )
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(hooks=hooks) as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body="a b") as stream,
    ):
        async for _ in stream:
            pass
    assert [type(event).__name__ for event in told] == [
        "BeforeSend",
        "AfterHeaders",
        "OnFirstPart",
        "OnEnd",
    ]
    end = told[-1]
    assert isinstance(end, aiosmrt.OnEnd)
    assert (end.parts_received, end.bytes_received, end.error) == (2, 3, None)
    assert "secret" not in repr(told)


@pytest.mark.asyncio
async def test_an_added_header_is_signed_and_sent() -> None:
    def add(event: aiosmrt.BeforeSend) -> None:
        event.headers["X-Amzn-SageMaker-Custom-Attributes"] = "tenant=7"

    # The endpoint checks the signature.
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(hooks=aiosmrt.Hooks(before_send=add)) as client,
    ):
        await client.invoke_endpoint(endpoint_name="e", body="x")
        assert endpoint.requests[0].custom_attributes == "tenant=7"


@pytest.mark.parametrize(
    ("name", "value"), [("x-a", "b\r\nc: d"), ("Host", "elsewhere"), ("not a name", "x")]
)
@pytest.mark.asyncio
async def test_an_added_header_cannot_break_the_request(name: str, value: str) -> None:
    def add(event: aiosmrt.BeforeSend) -> None:
        event.headers[name] = value

    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(hooks=aiosmrt.Hooks(before_send=add), max_connections=1) as client,
    ):
        with pytest.raises(aiosmrt.ParameterError, match=re.escape(name)):
            await client.invoke_endpoint(endpoint_name="e", body="x")
        assert not endpoint.requests
        await client.with_options(hooks=None).invoke_endpoint(endpoint_name="e", body="x")


class _OwnError(Exception):
    pass


@pytest.mark.parametrize("error", [_OwnError("mine"), aiosmrt.ConnectError("mine")])
@pytest.mark.parametrize("station", ["before_send", "after_headers", "on_first_part", "on_end"])
@pytest.mark.asyncio
async def test_a_hook_that_raises_fails_the_call_and_leaks_nothing(
    station: str, error: Exception
) -> None:
    def fail(event: object) -> None:
        raise error

    hooks: dict[str, Callable[[object], None]] = {station: fail}
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(max_connections=1) as client,
    ):
        failing = client.with_options(hooks=aiosmrt.Hooks(**hooks))
        with pytest.raises(type(error), match="mine") as caught:
            async with failing.invoke_endpoint_with_response_stream(
                endpoint_name="e", body="a"
            ) as stream:
                await stream.read()
        assert caught.value is error
        # The only slot is free again; what a hook raises is nobody's retry.
        await asyncio.wait_for(client.invoke_endpoint(endpoint_name="e", body="x"), 5)
        assert len(endpoint.requests) == (1 if station == "before_send" else 2)


@pytest.mark.asyncio
async def test_a_failed_call_is_told_once() -> None:
    told: list[aiosmrt.OnEnd] = []
    async with (
        LocalEndpoint() as endpoint,
        endpoint.client(
            hooks=aiosmrt.Hooks(on_end=told.append), aws_secret_access_key="wrong"
        ) as client,
    ):
        with pytest.raises(aiosmrt.ServiceError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body="x")
        assert [event.error for event in told] == [caught.value]
