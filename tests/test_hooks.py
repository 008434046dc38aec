from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import aiosmrt
from aiosmrt.local import LocalEndpoint
from aiosmrt.service.model import OPERATIONS, spell

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


@pytest.mark.asyncio
async def test_a_derived_client_keeps_the_hooks_that_it_was_not_given() -> None:
    told: list[tuple[str, object]] = []

    def tell(name: str) -> Callable[[object], None]:
        return lambda event: told.append((name, type(event)))

    hooks = aiosmrt.Hooks(after_headers=tell("client"), on_end=tell("client"))
    async with LocalEndpoint() as endpoint, endpoint.client(hooks=hooks) as client:
        more = client.with_options(hooks=aiosmrt.Hooks(before_send=tell("derived")))
        other = more.with_options(hooks=aiosmrt.Hooks(on_end=tell("other"), after_headers=None))
        for one in (more, other, client):
            await one.invoke_endpoint(endpoint_name="e", body="x")
    assert told == [
        ("derived", aiosmrt.BeforeSend),
        ("client", aiosmrt.AfterHeaders),
        ("client", aiosmrt.OnEnd),
        ("derived", aiosmrt.BeforeSend),
        ("other", aiosmrt.OnEnd),
        ("client", aiosmrt.AfterHeaders),
        ("client", aiosmrt.OnEnd),
    ]


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


class _Broken:
    def read(self, _: int) -> bytes:
        raise OSError("the disk is gone")


async def _wait_for_ever() -> AsyncIterator[bytes]:
    await asyncio.sleep(3600)
    yield b""


@pytest.mark.parametrize("later", [False, True], ids=["function", "coroutine function"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"content_type": "\n"}, aiosmrt.ParameterError),
        ({"body": object()}, aiosmrt.ParameterError),
        ({"body": b"x" * 10_000_000}, aiosmrt.ParameterError),
        ({"headers": {"not a name": "x"}}, aiosmrt.ParameterError),
        ({"endpoint_name": ""}, aiosmrt.ParameterError),
        ({"body": _Broken()}, OSError),
        ({"timeout": 0.01, "body": _wait_for_ever}, aiosmrt.TotalTimeout),
    ],
)
@pytest.mark.asyncio
async def test_a_call_that_fails_before_it_is_sent_is_told_once(
    *, given: dict[str, object], kind: type[Exception], operation: str, later: bool
) -> None:
    told: list[object] = []

    async def note(event: object) -> None:
        await asyncio.sleep(0)
        told.append(event)

    hooks = aiosmrt.Hooks(on_end=note if later else told.append)
    client = aiosmrt.SageMakerRuntimeClient(region_name="eu-west-1", hooks=hooks)
    call: Any = getattr(client, spell(operation))
    parameters: dict[str, Any] = {"endpoint_name": "e", "body": b"x", **given}
    if callable(parameters["body"]):
        parameters["body"] = parameters["body"]()
    async with client:
        with pytest.raises(kind) as caught:
            await call(**parameters)
    (end,) = told
    assert isinstance(end, aiosmrt.OnEnd)
    assert (end.operation, end.endpoint_name) == (operation, given.get("endpoint_name", "e"))
    assert end.error is caught.value
    assert (end.outcome, end.metadata) == ("failed", None)
    assert end.duration > 0


@pytest.mark.asyncio
async def test_a_client_without_settings_tells_its_observer() -> None:
    told: list[aiosmrt.OnEnd] = []
    async with aiosmrt.SageMakerRuntimeClient(hooks=aiosmrt.Hooks(on_end=told.append)) as client:
        with pytest.raises(aiosmrt.ConfigurationError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
    assert [event.error for event in told] == [caught.value]


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_before_it_is_sent_is_told() -> None:
    told: list[aiosmrt.OnEnd] = []
    hooks = aiosmrt.Hooks(on_end=told.append)
    async with aiosmrt.SageMakerRuntimeClient(region_name="eu-west-1", hooks=hooks) as client:
        call = client.invoke_endpoint(endpoint_name="e", body=_wait_for_ever())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.01)
    assert [(event.outcome, event.endpoint_name) for event in told] == [("cancelled", "e")]
