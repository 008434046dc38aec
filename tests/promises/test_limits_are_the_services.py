"""Limits are the service's.

What the service's model states is checked before anything is sent, and named; it can be switched
off. Nothing else is limited.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from aiosmrt import (
    ConfigurationError,
    ParameterError,
    ResponseStream,
    SageMakerRuntimeClient,
)
from aiosmrt.service.model import OPERATIONS

if TYPE_CHECKING:
    from tests.conftest import (
        Connect,
        EventStreams,
        Leftovers,
        Serve,
    )

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]

each_operation = pytest.mark.parametrize("operation", OPERATIONS)


class _Unreadable:
    def read(self, _size: int, /) -> object:
        return 17


class _Numbers:
    async def __aiter__(self) -> AsyncIterator[int]:
        yield 17


@each_operation
@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"endpoint_name": ""}, "endpoint_name must not be empty"),
        ({"endpoint_name": None}, "endpoint_name is required"),
        ({"endpoint_name": 5}, "endpoint_name must be a str, not int"),
        ({"endpoint_name": "e" * 64}, "endpoint_name must be at most 63 characters, not 64"),
        ({"endpoint_name": "a/../b"}, r"endpoint_name must match \^\[a-zA-Z0-9\]"),
        ({"body": {"a": 1}}, "body must be bytes, .*, not dict"),
        ({"body": 5}, "body must be bytes, .*, not int"),
        ({"body": bytes(6_291_457)}, "body must be at most [0-9]+ bytes, not 6291457"),
        ({"body": memoryview(bytes(6_291_457))}, "body must be at most [0-9]+ bytes"),
        ({"body": "ä" * 3_145_729}, "body must be at most [0-9]+ bytes, not 6291458"),
        ({"body": _Unreadable()}, "body: its source gave a int, not bytes or str"),
        ({"body": _Numbers()}, "body: its source gave a int, not bytes or str"),
        ({"custom_attributes": "a\r\nx-evil: 1"}, "custom_attributes contains CR, LF or NUL"),
        ({"accept": "x" * 1025}, "accept must be at most 1024 characters, not 1025"),
        ({"headers": {"x y": "1"}}, "headers: 'x y' is not a header name"),
        ({"headers": {"Host": "a"}}, "headers: Host is set by the client itself"),
        ({"headers": {"x": "1\n2"}}, "headers: x contains CR, LF or NUL"),
    ],
)
@pytest.mark.asyncio
async def test_a_wrong_parameter_is_named(
    operation: str, parameters: dict[str, Any], words: str, leftovers: Leftovers
) -> None:
    client = leftovers.connect("http://127.0.0.1:9")
    with pytest.raises(ParameterError, match=words) as caught:
        await leftovers.call(client, operation, **parameters)
    error = caught.value
    assert error.operation == operation
    assert error.attempts == ()
    assert not error.may_have_run
    assert len(error.problems) == 1
    assert len(str(error)) < 1000  # a wrong body is not shown
    await leftovers.check(client)


@each_operation
@pytest.mark.asyncio
async def test_an_unknown_parameter_is_a_type_error(operation: str, leftovers: Leftovers) -> None:
    client = leftovers.connect("http://127.0.0.1:9")
    with pytest.raises(TypeError, match=r"'Accept'.*did you mean 'accept'"):
        await leftovers.call(client, operation, Accept="x")
    await leftovers.check(client)


@pytest.mark.asyncio
async def test_an_async_call_takes_its_input_from_one_place(leftovers: Leftovers) -> None:
    client = leftovers.connect("http://127.0.0.1:9")
    error = await leftovers.fail(client, "InvokeEndpointAsync", input_location="s3://b/k")
    assert "body and input_location exclude each other" in str(error)
    error = await leftovers.fail(client, "InvokeEndpointAsync", body=None)
    assert "one of body and input_location is required" in str(error)
    await leftovers.check(client)


@pytest.mark.parametrize("limit", [0, -1, True, "5", float("nan")])
@pytest.mark.asyncio
async def test_a_wrong_time_limit_is_named(limit: object, leftovers: Leftovers) -> None:
    client = leftovers.connect("http://127.0.0.1:9")
    error = await leftovers.fail(client, timeout=limit)
    assert isinstance(error, ConfigurationError)
    assert f"Timeout(total={limit!r}): seconds above 0, or None for no limit" in str(error)
    await leftovers.check(client)


# --- the service's, and switched off


@each_operation
@pytest.mark.parametrize("parameter", ["endpoint_name", "body"])
@pytest.mark.asyncio
async def test_a_limit_of_the_model_holds_exactly_and_can_be_switched_off(
    *,
    operation: str,
    parameter: str,
    serve: Serve,
    events: Events,
    respond: Respond,
    leftovers: Leftovers,
) -> None:
    limit = OPERATIONS[operation].parameters[parameter].shape.max
    assert limit is not None
    at_limit, beyond = (b"e" * limit, b"e" * (limit + 1))
    text = parameter == "endpoint_name"
    at_limit_given, beyond_given = (
        {parameter: value.decode() if text else value} for value in (at_limit, beyond)
    )
    answer = {
        "InvokeEndpoint": respond(200, b"a"),
        "InvokeEndpointAsync": respond(202, b'{"InferenceId": "i"}'),
        "InvokeEndpointWithResponseStream": events.whole(),
    }[operation]
    async with serve(events.play(answer)) as server:
        client = leftovers.connect(server.url)

        async def call(caller: SageMakerRuntimeClient, **given: Any) -> int:
            outcome = await leftovers.call(caller, operation, **given)
            if isinstance(outcome, ResponseStream):
                await outcome.aclose()
            return len(server.requests)

        assert await call(client, **at_limit_given) == 1
        with pytest.raises(ParameterError, match=f"{parameter} must be at most {limit}"):
            await call(client, **beyond_given)
        assert len(server.requests) == 1
        assert await call(client.with_options(parameter_validation=False), **beyond_given) == 2
        sent = server.requests[-1]
        assert (sent.target.encode() if text else sent.body).count(beyond) == 1
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_an_answer_may_be_larger_than_any_request(
    serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    """The model states limits for what is sent, and none for what comes back."""
    large = bytes(30_000_000)
    async with serve(events.play(respond(200, large))) as server, connect(server) as client:
        response = await client.invoke_endpoint(endpoint_name="e", body=b"")
        assert response.body == large
    part = large[:15_000_000]
    async with (
        serve(events.play(events.whole(part, part))) as server,
        connect(server) as client,
        events.open(client) as stream,
    ):
        assert await events.collect(stream) == [part, part]
