"""Rows on their way: pulled as places come free, carried out, given once, or left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import aiosmrt
from aiosmrt.batch import Batch
from aiosmrt.client import SageMakerRuntimeClient
from aiosmrt.local import LocalEndpoint
from aiosmrt.models import InvokeEndpointResponse

pytestmark = pytest.mark.asyncio

Row = aiosmrt.InvokeEndpointParameters
Until = Callable[..., Awaitable[None]]


def _ask(body: str) -> Row:
    return {"endpoint_name": "e", "body": body}


def _ask_all(*bodies: str) -> list[Row]:
    return [_ask(body) for body in bodies]


async def _collect(batch: Batch[InvokeEndpointResponse]) -> tuple[list[str], BaseException | None]:
    """Give what rows came to, and what the batch ended with."""
    came = []
    try:
        async for outcome in batch:
            response = outcome.response
            came.append(type(outcome.error).__name__ if response is None else response.text())
    except Exception as error:  # noqa: BLE001 - whatever it is
        return came, error
    return came, None


async def test_each_row_has_one_outcome(client: SageMakerRuntimeClient) -> None:
    outcomes = [one async for one in client.map((str(n), _ask(str(n))) for n in range(100))]
    assert sorted(one.index for one in outcomes) == list(range(100))
    for one in outcomes:
        assert one.key == str(one.index)
        assert one.response is not None
        assert one.response.text() == one.key
        assert [attempt.number for attempt in one.attempts] == [1]
        assert one.error is None
        assert one.seconds > 0
        assert (one.limit, one.limit_reason) == (32, "max_in_flight")


async def test_rows_without_keys_have_their_index(client: SageMakerRuntimeClient) -> None:
    outcomes = [one async for one in client.map(_ask_all("a", "b"), ordered=True)]
    assert [one.key for one in outcomes] == [0, 1]


async def test_no_rows_have_no_outcomes(client: SageMakerRuntimeClient) -> None:
    assert await _collect(client.map([])) == ([], None)


async def test_a_bad_row_stops_nothing(client: SageMakerRuntimeClient) -> None:
    class Torn(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("torn")

    rows: list[Any] = [
        _ask("fail"),
        "no row",
        {"endpoint_name": "e!"},
        ("k", 5),
        {"endpoint_name": "e", "body": Torn()},
        {"endpoint_name": "e", "timeout": -1},
        {1: 2},
        _ask("good"),
    ]
    outcomes = [one async for one in client.map(rows, ordered=True)]
    assert [type(one.error) for one in outcomes] == [
        aiosmrt.ModelError,
        aiosmrt.ParameterError,
        aiosmrt.ParameterError,
        aiosmrt.ParameterError,
        OSError,
        aiosmrt.ConfigurationError,
        aiosmrt.ParameterError,
        type(None),
    ]
    assert "row 1 is no request, but a str" in str(outcomes[1].error)
    assert outcomes[3].key == "k"
    assert len(outcomes[0].attempts) == 1


async def test_rows_are_pulled_as_places_come_free(client: SageMakerRuntimeClient) -> None:
    """What was not taken yet has its place, too: who is slow to take does not fill a list."""
    pulled = 0

    def rows() -> Iterator[Row]:
        nonlocal pulled
        for number in range(60):
            pulled += 1
            yield _ask(str(number))

    taken = 0
    async for _ in client.map(rows(), max_in_flight=4):
        taken += 1
        await asyncio.sleep(0.001)
        assert pulled <= taken + 4
    assert taken == 60


@pytest.mark.parametrize("max_in_flight", [4, "auto"])
async def test_a_row_is_gone_with_its_outcome(
    client: SageMakerRuntimeClient, max_in_flight: Any
) -> None:
    class Key:
        pass

    def rows() -> Iterator[tuple[object, Row]]:
        for number in range(300):
            key = Key()
            alive.add(key)
            row = (key, _ask(str(number)))
            del key
            yield row
            del row

    alive: weakref.WeakSet[Key] = weakref.WeakSet()
    gc.disable()
    try:
        most = limit = 0
        async for outcome in client.map(rows(), max_in_flight=max_in_flight):
            most, limit = max(most, len(alive)), max(limit, outcome.limit)
            del outcome
    finally:
        gc.enable()
    # What is done and not taken yet has a place, but no turn.
    assert most <= (4 if max_in_flight == 4 else 100)
    assert limit == 4 or max_in_flight == "auto"
    assert not alive


async def test_the_next_row_may_have_to_be_waited_for(client: SageMakerRuntimeClient) -> None:
    async def rows() -> AsyncIterator[Row]:
        for number in range(20):
            await asyncio.sleep(0)
            yield _ask(str(number))

    came, error = await _collect(client.map(rows(), max_in_flight=3, ordered=True))
    assert came == [str(number) for number in range(20)]
    assert error is None


async def test_in_order_a_slow_row_holds_up_those_behind_it(client: SageMakerRuntimeClient) -> None:
    batch = client.map(_ask_all("hang", "b", "c"), ordered=True)
    async with batch:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(batch), 0.05)
    batch = client.map(_ask_all("hang", "b", "c"))
    async with batch:
        assert {(await anext(batch)).index, (await anext(batch)).index} == {1, 2}


async def test_a_cancelled_wait_loses_nothing(client: SageMakerRuntimeClient) -> None:
    batch, taken = client.map(_ask(str(number)) for number in range(50)), 0
    while taken < 50:
        waiting = asyncio.ensure_future(batch.__anext__())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
            taken += 1
        if taken < 50:
            await anext(batch)
            taken += 1
    with pytest.raises(StopAsyncIteration):
        await anext(batch)


async def test_two_tasks_do_not_take_at_once(client: SageMakerRuntimeClient) -> None:
    async with client.map(_ask_all("hang")) as batch:
        first = asyncio.ensure_future(batch.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(batch)
        first.cancel()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_the_inputs_raise_comes_behind_what_was_in_flight(
    client: SageMakerRuntimeClient, asynchronous: bool
) -> None:
    def rows() -> Iterator[Row]:
        yield from _ask_all("a", "b", "fail")
        raise OSError("the file is gone")

    async def rows_later() -> AsyncIterator[Row]:
        for row in rows():
            yield row

    batch = client.map(rows_later() if asynchronous else rows())
    came, error = await _collect(batch)
    assert sorted(came) == ["ModelError", "a", "b"]
    assert isinstance(error, OSError)
    with pytest.raises(StopAsyncIteration):
        await anext(batch)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_inputs_raise_that_is_no_exception_is_told_once(
    client: SageMakerRuntimeClient, caplog: pytest.LogCaptureFixture, *, asynchronous: bool
) -> None:
    def rows() -> Iterator[Row]:
        yield from _ask_all("a", "b")
        raise GeneratorExit

    async def rows_later() -> AsyncIterator[Row]:
        for row in rows():
            yield row

    batch = client.map(rows_later() if asynchronous else rows())
    came = [(await anext(batch)).index for _ in range(2)]
    assert sorted(came) == [0, 1]
    with pytest.raises(GeneratorExit):
        await anext(batch)
    del batch
    gc.collect()
    assert not caplog.records


async def test_inputs_that_leak_the_end_of_others_are_not_at_their_end(
    client: SageMakerRuntimeClient,
) -> None:
    def rows() -> Iterator[Row]:
        yield from _ask_all("a", "b")
        raise StopAsyncIteration

    came, error = await _collect(client.map(rows()))
    assert sorted(came) == ["a", "b"]
    assert isinstance(error, RuntimeError)


async def test_an_unknown_keyword_stops_the_batch(client: SageMakerRuntimeClient) -> None:
    rows: list[Any] = [*_ask_all("a", "b"), {"endpoint_nam": "e"}, *_ask_all("c")]
    came, error = await _collect(client.map(rows, max_in_flight=3))
    assert sorted(came) == ["a", "b"]
    assert isinstance(error, TypeError)
    assert "did you mean 'endpoint_name'" in str(error)
    assert error.__notes__ == ["met by row 2, and every row would meet it: the batch stops"]


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_every_row_would_meet_stops_at_once(
    client: SageMakerRuntimeClient, ordered: bool
) -> None:
    """Also where the inputs may never give another row; what was in flight is given."""

    async def rows() -> AsyncIterator[Any]:
        yield _ask("a")
        yield {"endpoint_nam": "e"}
        await asyncio.Event().wait()

    came, error = await asyncio.wait_for(_collect(client.map(rows(), ordered=ordered)), 10)
    assert came == ["a"]
    assert isinstance(error, TypeError)


@pytest.mark.parametrize("max_in_flight", [4, "auto"])
@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("aws_secret_access_key", "InvalidSignatureException"),
        ("aws_access_key_id", "UnrecognizedClientException"),
    ],
)
async def test_wrong_keys_stop_the_batch(max_in_flight: Any, option: str, code: str) -> None:
    options: Any = {option: "wrong"}
    async with LocalEndpoint() as endpoint:
        async with endpoint.client(**options) as client:
            batch = client.map(_ask_all(*["x"] * 500), max_in_flight=max_in_flight)
            came, error = await _collect(batch)
        assert came == []
        assert isinstance(error, aiosmrt.ServiceError)
        assert error.code == code
        assert len(endpoint.requests) <= 4


async def test_an_address_where_nobody_is_stops_the_batch(unused_tcp_port: int) -> None:
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1",
        endpoint_url=f"http://127.0.0.1:{unused_tcp_port}",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        retry=aiosmrt.RetryPolicy(max_attempts=2, base_delay=0.001),
    ) as client:
        came, error = await _collect(client.map(_ask_all(*["x"] * 500), max_in_flight=4))
    assert came == []
    assert isinstance(error, aiosmrt.ConnectError)
    (note,) = error.__notes__  # by one of those in flight, whichever is refused first
    assert note[:12] in [f"met by row {row}" for row in range(4)]
    assert note[12:] == ", and every row would meet it: the batch stops"


async def test_rows_behind_one_that_has_no_outcome_are_given(
    client: SageMakerRuntimeClient,
) -> None:
    rows: list[Any] = [{"endpoint_nam": "e"}, *_ask_all("a", "b")]
    batch = client.map(_late(rows), ordered=True)
    came, error = await _collect(batch)
    assert came in ([], ["a"], ["a", "b"])  # what had begun
    assert isinstance(error, TypeError)


async def _late(rows: list[Any]) -> AsyncIterator[Any]:
    for row in rows:
        yield row


async def test_a_closed_client_stops_the_batch(client: SageMakerRuntimeClient) -> None:
    batch = client.map(_ask_all("a", *["hang"] * 5))
    await anext(batch)
    await client.aclose()
    with pytest.raises(aiosmrt.ClientClosed):
        await anext(batch)


@pytest.mark.parametrize(("max_failures", "given"), [(2, 3), (0, 1), (0.02, 3), (None, 200)])
async def test_so_many_rows_may_fail(
    client: SageMakerRuntimeClient, max_failures: float | None, given: int
) -> None:
    batch = client.map([_ask("fail")] * 200, max_failures=max_failures, max_in_flight=1)
    came, error = await _collect(batch)
    assert came == ["ModelError"] * given
    if max_failures is None:
        assert error is None
    else:
        assert isinstance(error, aiosmrt.TooManyFailures)
        assert isinstance(error.__cause__, aiosmrt.ModelError)
        assert f"{given} of {given} rows have failed, and max_failures={max_failures:g}" in str(
            error
        )


async def test_a_share_is_of_a_hundred_rows_at_least(client: SageMakerRuntimeClient) -> None:
    rows = _ask_all(*["fail"] * 3, *["good"] * 97)
    came, error = await _collect(client.map(rows, max_failures=0.05))
    assert len(came) == 100
    assert error is None


_WAYS = ["break", "dropped", "aclose", "error", "cancelled", "another thread"]


@pytest.mark.parametrize("way", _WAYS)
async def test_leaving_breaks_off_what_is_in_flight(
    client: SageMakerRuntimeClient, way: str, until: Until
) -> None:
    rows = _ask_all("good", *["hang"] * 10)

    async def leave() -> None:
        async for _ in client.map(rows):
            if way == "break":
                break
            if way == "error":
                raise ZeroDivisionError

    if way in ("break", "error"):
        with contextlib.suppress(ZeroDivisionError):
            await leave()
    elif way == "cancelled":
        leaving = asyncio.create_task(leave())
        await until(lambda: client.stats().in_flight == 10)
        leaving.cancel()
        await asyncio.wait([leaving])
    elif way == "aclose":
        async with client.map(rows) as batch:
            await anext(batch)
        assert client.stats().in_flight == 0
        await batch.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(batch)
    else:
        holder = [client.map(rows)]
        await anext(holder[0])
        if way == "dropped":
            holder.clear()
        else:
            thread = threading.Thread(target=holder.clear)
            thread.start()
            thread.join()
    # No collector is needed for it: a turn or two of the loop.
    for _ in range(5):
        await asyncio.sleep(0)
    assert client.stats().in_flight == 0
    await until(lambda: not _list_workers())


def _list_workers() -> list[str]:
    return [text for task in asyncio.all_tasks() if "Run." in (text := repr(task))]


@pytest.mark.parametrize("first", ["good", "hang"])
async def test_who_takes_one_outcome_of_a_batch_that_nobody_keeps_leaves_nothing(
    client: SageMakerRuntimeClient, first: str, until: Until
) -> None:
    """As by `await anext(client.map(rows))`."""
    taking = asyncio.ensure_future(client.map(_ask_all(first, *["hang"] * 10)).__anext__())
    if first == "hang":
        await until(lambda: client.stats().in_flight == 11)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
    else:
        assert (await taking).index == 0
    await until(lambda: not _list_workers())
    assert client.stats().in_flight == 0


async def test_closing_wakes_who_waits(client: SageMakerRuntimeClient) -> None:
    batch = client.map(_ask_all("hang"))
    waiting = asyncio.create_task(_collect(batch))
    await asyncio.sleep(0.01)
    await batch.aclose()
    assert await asyncio.wait_for(waiting, 5) == ([], None)


async def test_one_that_was_never_begun_leaves_nothing(client: SageMakerRuntimeClient) -> None:
    pulled: list[Row] = []

    def rows() -> Iterator[Row]:
        pulled.append(_ask("a"))
        yield pulled[0]

    batch = client.map(rows())
    del batch
    gc.collect()
    assert not pulled


def test_a_loop_that_ends_under_a_batch_says_nothing(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    async def leave() -> None:
        client = SageMakerRuntimeClient(
            region_name="us-east-1",
            endpoint_url="https://192.0.2.1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        batch = client.map(_ask_all("a", "b"))
        waiting = asyncio.ensure_future(batch.__anext__())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        kept.append(batch)

    kept: list[object] = []
    asyncio.run(leave())
    kept.clear()
    gc.collect()
    assert not [warning for warning in recwarn if "Batch" in str(warning.message)]
    assert capfd.readouterr().err == ""


async def test_an_outcome_keeps_no_frame_and_a_fault_shows_no_body(
    client: SageMakerRuntimeClient,
) -> None:
    secret = "my own prompt"
    (failed,) = [one async for one in client.map(_ask_all("fail"))]
    assert failed.error is not None
    assert failed.error.__traceback__ is None
    rows: list[Any] = [{"endpoint_nam": "e", "body": secret}]
    try:
        await anext(client.map(rows))
    except TypeError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        ours = [frame for frame in shown.stack if "/aiosmrt/" in frame.filename]
        assert len(ours) > 3
        assert secret not in str([frame.locals for frame in ours])
