"""The three operations over many rows, and what a batch does with the client's options."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
import pytest_asyncio

import aiosmrt
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.http import Request
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.transport import Pool

pytestmark = pytest.mark.asyncio

Until = Callable[..., Awaitable[None]]


def _ask_all(*bodies: str) -> list[Any]:
    return [{"endpoint_name": "e", "body": body} for body in bodies]


async def test_streams_are_given_whole(client: SageMakerRuntimeClient) -> None:
    operation: Any = "invoke_endpoint_with_response_stream"
    one, failed, two = [
        outcome
        async for outcome in client.map(
            _ask_all("one", "fail", "two"), operation=operation, ordered=True
        )
    ]
    assert isinstance(one.response, aiosmrt.InvokeEndpointResponse)
    assert one.response.text() == "one and more"
    assert one.response.metadata.request_id
    assert len(one.attempts) == 1
    assert isinstance(failed.error, aiosmrt.ModelError)
    assert two.response is not None
    assert client.stats().open_streams == 0


async def test_a_stream_that_is_cut_is_a_row_that_failed(
    serve: Any, connect: Any, events: Any
) -> None:
    answer = events.play(events.head(), events.chunk(events.part(b"half")), events.close)
    async with serve(answer) as server, connect(server) as client:
        operation = "invoke_endpoint_with_response_stream"
        (outcome,) = [one async for one in client.map(_ask_all("x"), operation=operation)]
        assert isinstance(outcome.error, aiosmrt.TruncatedStream)
        assert outcome.error.may_have_run
        assert client.stats().in_flight == 0


# --- asynchronous inference


@attrs.define
class Bed:
    """An endpoint with asynchronous inference, and a count of what S3 is asked."""

    endpoint: LocalEndpoint
    client: SageMakerRuntimeClient
    open: asyncio.Event
    listings: int = 0


@pytest_asyncio.fixture
async def bed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bed]:
    async def model(request: InvocationRequest) -> object:
        if request.body == b"wait":
            await opened.wait()
        if request.body == b"fail":
            raise ModelFailure(400, "as asked")
        return request.body

    opened = asyncio.Event()
    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client(poll_interval=0.02, max_poll_interval=0.1) as client,
    ):
        made = Bed(endpoint, client, opened)
        send = Pool.send

        async def count(self: Pool, request: Request, *rest: Any) -> Any:
            made.listings += "list-type" in request.query
            return await send(self, request, *rest)

        monkeypatch.setattr(Pool, "send", count)
        yield made
        opened.set()


async def test_asynchronous_rows_wait_for_their_outputs_by_listings(bed: Bed) -> None:
    rows = [(body, row) for body in map(str, range(60)) for row in _ask_all(body)]
    rows.append(("bad", _ask_all("fail")[0]))
    came = {}
    async for outcome in bed.client.map(rows, operation="invoke_endpoint_async", max_in_flight=50):
        came[outcome.key] = outcome
        assert len(outcome.attempts) == 1  # of the submission, not of what S3 was asked
        assert outcome.attempts[0].status == 202
    failed = came.pop("bad").error
    assert isinstance(failed, aiosmrt.AsyncInferenceError)
    assert failed.may_have_run
    assert len(came) == 60
    for key, outcome in came.items():
        assert outcome.response is not None
        assert outcome.response.text() == key
    assert bed.listings < 60


@pytest.mark.parametrize("max_in_flight", [1, 3])
@pytest.mark.parametrize(
    "name", [{"filename": "a.out"}, {"inference_id": "a"}, {"filename": "a", "inference_id": "b"}]
)
async def test_no_row_is_given_the_output_of_another_of_its_name(
    bed: Bed, name: dict[str, Any], max_in_flight: int
) -> None:
    rows = [row | name for row in _ask_all("one", "two")] + _ask_all("three")
    batch = bed.client.map(
        rows, operation="invoke_endpoint_async", ordered=True, max_in_flight=max_in_flight
    )
    one, two, three = [outcome async for outcome in batch]
    assert one.response is not None
    assert one.response.body == b"one"
    assert isinstance(two.error, aiosmrt.ParameterError)
    assert "is that of an earlier row, too" in str(two.error)
    assert not two.error.may_have_run
    assert three.response is not None
    assert three.response.body == b"three"


@pytest.mark.parametrize("name", ["filename", "inference_id"])
async def test_a_client_gives_not_every_row_the_same_name(bed: Bed, name: str) -> None:
    named = bed.client.with_options(params={name: "mine"})
    with pytest.raises(aiosmrt.ConfigurationError, match="the outputs of all rows would be one"):
        named.map(_ask_all("one"), operation="invoke_endpoint_async")
    async for outcome in named.map(_ask_all("one")):
        assert outcome.response is not None


async def test_the_endpoint_of_a_name_may_be_the_clients(bed: Bed) -> None:
    client = bed.client.with_options(params={"endpoint_name": "e"})
    rows: Any = [{"body": "one", "inference_id": "a"}, *_ask_all("two")]
    rows[1]["inference_id"] = "a"
    batch = client.map(rows, operation="invoke_endpoint_async", ordered=True)
    one, two = [outcome async for outcome in batch]
    assert one.error is None
    assert isinstance(two.error, aiosmrt.ParameterError)


async def test_outputs_may_have_one_name_in_several_folders(bed: Bed) -> None:
    rows = [
        row | {"filename": "a.out", "s3_output_path_extension": row["body"]}
        for row in _ask_all("one", "two")
    ]
    rows.append(rows[0] | {"endpoint_name": "other", "body": "three"})
    batch = bed.client.map(rows, operation="invoke_endpoint_async", ordered=True)
    came = [outcome.response and outcome.response.body async for outcome in batch]
    assert came == [b"one", b"two", b"three"]


async def test_what_is_not_there_in_time_is_told(bed: Bed) -> None:
    batch = bed.client.map(
        _ask_all("wait", "soon", "wait"),
        operation="invoke_endpoint_async",
        result_timeout=0.3,
    )
    outcomes = [one async for one in batch]
    late = [one.error for one in outcomes if one.error is not None]
    assert [type(error) for error in late] == [aiosmrt.AsyncInferenceTimeout] * 2
    assert "within 0.3 s" in str(late[0])
    assert isinstance(late[0], aiosmrt.AsyncInferenceTimeout)
    bed.open.set()
    assert late[0].invocation is not None
    output = await late[0].invocation.result(10)
    assert output.body == b"wait"


@pytest.mark.parametrize("count", [2, 3])
async def test_an_s3_that_hangs_holds_no_row_up(
    bed: Bed, serve: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    async def hang(request: Any, writer: asyncio.StreamWriter) -> None:
        await request.reader.read()

    monkeypatch.setattr("aiosmrt.async_inference.invocation._LAST_LOOK", 0.05)
    async with serve(hang) as s3, bed.endpoint.client(s3_endpoint_url=s3.url) as client:
        batch = client.map(
            _ask_all(*["soon"] * count), operation="invoke_endpoint_async", result_timeout=0.05
        )
        async with asyncio.timeout(10):
            errors = [outcome.error async for outcome in batch]
        assert [type(error) for error in errors] == [aiosmrt.AsyncInferenceTimeout] * count
        assert "S3 did not tell" in str(errors[0])


async def test_another_row_looks_on_when_the_one_that_looked_has_its_output(bed: Bed) -> None:
    batch = bed.client.map(_ask_all("first", "wait", "wait"), operation="invoke_endpoint_async")
    first = await anext(batch)
    assert first.index == 0
    bed.open.set()
    assert {(await anext(batch)).index, (await anext(batch)).index} == {1, 2}
    with pytest.raises(StopAsyncIteration):
        await anext(batch)


async def test_leaving_asynchronous_rows_leaves_nothing_behind(bed: Bed, until: Until) -> None:
    before = asyncio.all_tasks()
    async with bed.client.map(
        _ask_all("first", *["wait"] * 20), operation="invoke_endpoint_async"
    ) as batch:
        await anext(batch)
    assert bed.client.stats().in_flight == 0
    await until(lambda: not [t for t in asyncio.all_tasks() - before if "_look" in repr(t)])


# --- options


async def test_a_number_is_to_be_given_where_there_is_a_queue(
    client: SageMakerRuntimeClient,
) -> None:
    with pytest.raises(aiosmrt.ConfigurationError, match="has a queue"):
        client.map([], operation="invoke_endpoint_async", max_in_flight="auto")


@pytest.mark.parametrize(
    "options",
    [
        {"operation": "invoke"},
        {"max_in_flight": 0},
        {"max_in_flight": True},
        {"max_in_flight": "some"},
        {"max_failures": -1},
        {"max_failures": 1.0},
        {"max_failures": True},
        {"max_failures": float("nan")},
        {"result_timeout": 0},
        {"result_timeout": True},
        {"result_timeout": "900"},
    ],
)
async def test_wrong_options_are_refused_before_anything_is_pulled(
    client: SageMakerRuntimeClient, options: dict[str, Any]
) -> None:
    (name,) = options
    with pytest.raises(aiosmrt.ConfigurationError, match=f"{name}="):
        client.map(iter([]), **options)


@pytest.mark.parametrize("inputs", [5, "rows", {"endpoint_name": "e"}, None])
async def test_inputs_are_many(client: SageMakerRuntimeClient, inputs: Any) -> None:
    with pytest.raises(TypeError, match=r"map\(\) takes"):
        client.map(inputs)


def _throttle(times: int, respond: Any) -> Any:
    left = iter(range(times))

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        refused = next(left, None) is not None
        error = {"x-amzn-errortype": "ThrottlingException"} if refused else {}
        writer.write(respond(429 if refused else 200, b"{}", **error))

    return answer


async def test_a_row_has_many_attempts_unless_the_client_says_how_many(
    serve: Any, connect: Any, respond: Any
) -> None:
    for retry, attempts in ((None, 5), (aiosmrt.RetryPolicy(max_attempts=1), 1)):
        async with (
            serve(_throttle(4, respond)) as server,
            connect(server, retry=retry) as client,
        ):
            (outcome,) = [one async for one in client.map(_ask_all("x"))]
            assert len(outcome.attempts) == attempts
            assert (outcome.error is None) == (retry is None)


# --- as many as the endpoint takes


async def test_what_is_found_out_can_be_read(
    client: SageMakerRuntimeClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiosmrt")
    assert client.stats().limits == {}
    seen = set()
    async for outcome in client.map(_ask_all(*["x"] * 60), max_in_flight="auto"):
        seen.add((outcome.limit, outcome.limit_reason))
    assert (4, "to begin with") in seen
    (name, limit), *_ = client.stats().limits.items()
    assert name == "e"
    assert limit.calls >= 4
    if limit.settled:
        assert f"batches give e {limit.calls} calls at a time: {limit.reason}" in caplog.text
    assert client.with_options(timeout=5).stats().limits == {"e": limit}


async def test_two_batches_on_one_endpoint_share_what_it_takes(
    client: SageMakerRuntimeClient, until: Until
) -> None:
    hanging = _ask_all(*["hang"] * 20)
    derived = client.with_options(timeout=60)
    async with (
        client.map(hanging, max_in_flight="auto") as one,
        derived.map(hanging, max_in_flight="auto") as other,
    ):
        waiting = [asyncio.ensure_future(batch.__anext__()) for batch in (one, other)]
        await until(lambda: client.stats().in_flight == 4)
        await asyncio.sleep(0.05)
        assert client.stats().in_flight == 4
        for task in waiting:
            task.cancel()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_each_endpoint_has_a_limit_of_its_own(
    client: SageMakerRuntimeClient, asynchronous: bool
) -> None:
    rows: list[Any] = [{"endpoint_name": "ef"[n % 2], "body": "x"} for n in range(40)]
    rows.insert(7, "no row")
    inputs = _give_later(rows) if asynchronous else rows
    outcomes = [one async for one in client.map(inputs, max_in_flight="auto")]
    assert len(outcomes) == 41
    assert sum(one.error is not None for one in outcomes) == 1
    assert client.stats().limits.keys() == {"e", "f"}


async def _give_later(rows: list[Any]) -> AsyncIterator[Any]:
    for row in rows:
        await asyncio.sleep(0)
        yield row


async def test_a_client_that_cannot_call_stops_what_has_no_line_yet() -> None:
    client = SageMakerRuntimeClient(aws_access_key_id="a", aws_secret_access_key="b")
    with pytest.raises(aiosmrt.ConfigurationError, match="region") as caught:
        await anext(client.map(_ask_all("x"), max_in_flight="auto"))
    assert "every row would meet it" in caught.value.__notes__[0]


@pytest.mark.parametrize("row", [{"timeout": 0.05}, {"body": "once"}])
async def test_a_row_that_cannot_wait_fails_alone(
    serve: Any, connect: Any, respond: Any, row: dict[str, Any]
) -> None:
    async def once() -> AsyncIterator[bytes]:
        yield b"x"

    if "body" in row:
        row = {"body": once()}
    retry = aiosmrt.RetryPolicy(throttle_base_delay=10, backoff=lambda *_: 10.0)
    async with serve(_throttle(1, respond)) as server, connect(server, retry=retry) as client:
        rows: Any = [{"endpoint_name": "e", "body": "x", **row}]
        (outcome,) = [one async for one in client.map(rows, max_in_flight="auto")]
        assert isinstance(outcome.error, aiosmrt.ThrottlingException)
        assert outcome.error.not_retried
        assert len(outcome.attempts) == 1


async def test_no_row_is_pulled_ahead_of_its_turn(client: SageMakerRuntimeClient) -> None:
    pulled = 0

    def rows() -> Any:
        nonlocal pulled
        while True:
            pulled += 1
            yield from _ask_all("hang")

    async with client.map(rows(), max_in_flight="auto") as batch:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(batch), 0.1)
        assert pulled == 4


async def test_an_endpoint_that_admits_nobody_stops_the_batch(
    serve: Any, connect: Any, respond: Any
) -> None:
    retry = aiosmrt.RetryPolicy(max_attempts=3, throttle_base_delay=0.01, quota=None)
    async with serve(_throttle(10**6, respond)) as server, connect(server, retry=retry) as client:
        batch = client.map(_ask_all(*["x"] * 100), max_in_flight="auto")
        with pytest.raises(aiosmrt.ThrottlingException, match="no call got through"):
            await anext(batch)
        with pytest.raises(StopAsyncIteration):
            await anext(batch)
        assert len(server.requests) <= 4 * 4


async def test_a_throttled_row_waits_as_often_as_it_must_while_others_get_through(
    serve: Any, connect: Any, respond: Any
) -> None:
    """Its policy allows two attempts."""

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        seen.append(request.body)
        refused = request.body == b"unlucky" and seen.count(b"unlucky") < 6
        error = {"x-amzn-errortype": "ThrottlingException"} if refused else {}
        writer.write(respond(429 if refused else 200, b"{}", **error))

    seen: list[bytes] = []
    retry = aiosmrt.RetryPolicy(max_attempts=2, throttle_base_delay=0.01)
    async with serve(answer) as server, connect(server, retry=retry) as client:
        others = itertools.cycle(_ask_all("lucky"))  # go on for as long as it takes
        rows = itertools.chain(_ask_all("lucky", "unlucky"), others)
        async for outcome in client.map(rows, max_in_flight="auto"):
            if outcome.index == 1:
                assert len(outcome.attempts) == 6
                break
