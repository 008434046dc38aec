"""Rows on their way: pulled as places come free, carried out, given once, or left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure

pytestmark = pytest.mark.asyncio


async def _model(request: InvocationRequest) -> object:
    if request.body == b"hang":
        await asyncio.sleep(60)
    if request.body == b"fail":
        raise ModelFailure(400, "as asked")
    return request.body


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiosmrt.SageMakerRuntimeClient]:
    async with LocalEndpoint(_model) as endpoint, endpoint.client() as made:
        yield made


def _ask(body: str) -> aiosmrt.InvokeEndpointParameters:
    return {"endpoint_name": "e", "body": body}


async def test_each_row_has_one_outcome(client: aiosmrt.SageMakerRuntimeClient) -> None:
    outcomes = [one async for one in client.map((str(n), _ask(str(n))) for n in range(100))]
    assert sorted(one.index for one in outcomes) == list(range(100))
    for one in outcomes:
        assert one.key == str(one.index)
        assert one.response is not None
        assert one.response.text() == one.key
        assert len(one.attempts) == 1
        assert one.error is None


async def test_rows_without_keys_have_their_index(client: aiosmrt.SageMakerRuntimeClient) -> None:
    outcomes = [one async for one in client.map([_ask("a"), _ask("b")], ordered=True)]
    assert [one.key for one in outcomes] == [0, 1]


async def test_a_bad_row_stops_nothing(client: aiosmrt.SageMakerRuntimeClient) -> None:
    rows: list[Any] = [_ask("fail"), "no row", {"endpoint_name": "e!"}, ("k", 5), _ask("good")]
    outcomes = [one async for one in client.map(rows, ordered=True)]
    assert [type(one.error) for one in outcomes] == [
        aiosmrt.ModelError,
        aiosmrt.ParameterError,
        aiosmrt.ParameterError,
        aiosmrt.ParameterError,
        type(None),
    ]
    assert "row 1 is no request, but a str" in str(outcomes[1].error)
    assert outcomes[3].key == "k"


async def test_rows_are_pulled_as_places_come_free(client: aiosmrt.SageMakerRuntimeClient) -> None:
    pulled = 0

    def rows() -> Iterator[aiosmrt.InvokeEndpointParameters]:
        nonlocal pulled
        for number in range(100):
            pulled += 1
            yield _ask(str(number))

    taken = 0
    async for _ in client.map(rows(), max_in_flight=4):
        taken += 1
        await asyncio.sleep(0.001)
        assert pulled <= taken + 4
    assert taken == 100


@pytest.mark.parametrize("way", ["break", "dropped", "aclose", "error"])
async def test_leaving_breaks_off_what_is_in_flight(
    client: aiosmrt.SageMakerRuntimeClient, way: str
) -> None:
    before = asyncio.all_tasks()
    rows = [_ask("good"), *[_ask("hang")] * 10]
    if way == "break":
        async for _ in client.map(rows):
            break
    elif way == "dropped":
        batch = client.map(rows)
        await anext(batch)
        del batch
    elif way == "aclose":
        async with client.map(rows) as batch:
            await anext(batch)
        assert client.stats().in_flight == 0
    else:
        with contextlib.suppress(ZeroDivisionError):
            async for _ in client.map(rows):
                raise ZeroDivisionError
    for _ in range(3):
        await asyncio.sleep(0)
    assert client.stats().in_flight == 0
    await asyncio.sleep(0.01)
    gc.collect()
    mine = {task for task in asyncio.all_tasks() - before if "Run" in repr(task)}
    assert not mine


async def test_an_unknown_keyword_stops_the_batch(client: aiosmrt.SageMakerRuntimeClient) -> None:
    rows: list[Any] = [{"endpoint_nam": "e"}] * 5
    with pytest.raises(TypeError, match="did you mean 'endpoint_name'"):
        await anext(client.map(rows))
