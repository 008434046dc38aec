from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import aiohttp
import pytest

from aiosmrt.errors import ModelError
from aiosmrt.local import InvocationRequest, LocalEndpoint, Model, ModelFailure, ModelResponse
from aiosmrt.local.python_model import PythonModel

Fixture: TypeAlias = Iterator[ThreadPoolExecutor]

_REQUEST = InvocationRequest("InvokeEndpointWithResponseStream", "e", b"input")


@pytest.fixture
def executor() -> Fixture:
    with ThreadPoolExecutor(2) as executor:
        yield executor


async def _run(model: Model, executor: ThreadPoolExecutor) -> tuple[ModelResponse, list[object]]:
    async with PythonModel(model, executor).answer(_REQUEST) as answer:
        return answer.head, [part async for part in answer.parts]


def _count(request: InvocationRequest) -> Iterator[str]:
    yield from ("1", "2")


async def _count_async(request: InvocationRequest) -> AsyncIterator[bytes]:
    for part in (b"1", b"2"):
        await asyncio.sleep(0)
        yield part


async def _echo_async(request: InvocationRequest) -> bytes:
    return request.body


async def _choose_async(request: InvocationRequest) -> AsyncIterator[bytes]:
    return _count_async(request)


def _promise(request: InvocationRequest) -> Awaitable[bytes]:
    return _echo_async(request)


def _open(request: InvocationRequest) -> AsyncIterator[bytes]:
    return _count_async(request)


class _Async:
    async def __call__(self, request: InvocationRequest) -> bytes:
        await asyncio.sleep(0)
        return request.body


class _Parts:
    """An async iterable that is no generator, and closes nothing."""

    def __init__(self, request: InvocationRequest) -> None:
        self.left = [b"1", b"2"]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        (lambda request: request.body, [b"input"]),
        (lambda request: "text", ["text"]),
        (lambda request: bytearray(b"input"), [b"input"]),
        (lambda request: memoryview(b"input"), [b"input"]),
        (lambda request: b"", [b""]),
        (lambda request: ModelResponse(b"input"), [b"input"]),
        (lambda request: iter(["1", b"2"]), ["1", b"2"]),
        (lambda request: iter([]), []),
        (_promise, [b"input"]),
        (_open, [b"1", b"2"]),
        (_count, ["1", "2"]),
        (_count_async, [b"1", b"2"]),
        (_echo_async, [b"input"]),
        (_choose_async, [b"1", b"2"]),
        (functools.partial(_count), ["1", "2"]),
        (functools.partial(_echo_async), [b"input"]),
        (_Async(), [b"input"]),
        (_Parts, [b"1", b"2"]),
        (lambda request: {"a": [1, None]}, [b'{"a": [1, null]}']),
        (lambda request: [1, 2], [b"[1, 2]"]),
        (lambda request: None, [b"null"]),
    ],
)
@pytest.mark.asyncio
async def test_a_model_may_answer_in_many_ways(
    model: Model, parts: list[object], executor: ThreadPoolExecutor
) -> None:
    head, found = await _run(model, executor)
    assert found == parts
    json = isinstance(parts[0], bytes) and parts[0][:1] in (b"{", b"[", b"n") if parts else False
    assert head.content_type == ("application/json" if json else None)


@pytest.mark.asyncio
async def test_a_content_type_of_ones_own_is_kept(executor: ThreadPoolExecutor) -> None:
    head, parts = await _run(lambda request: ModelResponse([1], "application/x"), executor)
    assert (head.content_type, parts) == ("application/x", [b"[1]"])


@pytest.mark.parametrize(
    "model", [_echo_async, _count_async, functools.partial(_echo_async), _Async()]
)
@pytest.mark.asyncio
async def test_an_async_model_needs_no_thread(model: Model, executor: ThreadPoolExecutor) -> None:
    executor.shutdown()
    assert (await _run(model, executor))[1]


@pytest.mark.asyncio
async def test_a_sync_model_does_not_block_the_loop(executor: ThreadPoolExecutor) -> None:
    # Each step of the model waits for the loop to move: were it run there, both would hang.
    steps = [threading.Event() for _ in range(3)]
    reached: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def step(number: int) -> str:
        loop.call_soon_threadsafe(reached.put_nowait, number)
        assert steps[number].wait(10)
        return str(number)

    def model(request: InvocationRequest) -> Iterator[str]:
        step(0)
        return (step(number) for number in (1, 2))

    run = asyncio.create_task(_run(model, executor))
    for number in range(3):
        assert await asyncio.wait_for(reached.get(), 10) == number
        steps[number].set()
    assert (await run)[1] == ["1", "2"]


def _raise(error: BaseException) -> Model:
    def model(request: InvocationRequest) -> bytes:
        raise error

    return model


def _raise_late(error: BaseException) -> Model:
    def model(request: InvocationRequest) -> Iterator[bytes]:
        yield b"1"
        raise error

    return model


def _raise_late_async(error: BaseException) -> Model:
    async def model(request: InvocationRequest) -> AsyncIterator[bytes]:
        yield b"1"
        raise error

    return model


@pytest.mark.parametrize("wrap", [_raise, _raise_late, _raise_late_async])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModelFailure(400, "bad input"), (400, "bad input")),
        (KeyError("inputs"), (500, "KeyError: 'inputs'")),
        (ConnectionResetError("database"), (500, "ConnectionResetError: database")),
        # That of something the model awaits; nobody has cancelled the call.
        (asyncio.CancelledError("database"), (500, "CancelledError: database")),
    ],
)
@pytest.mark.asyncio
async def test_what_a_model_raises_is_a_model_error(
    wrap: Callable[[BaseException], Model],
    error: BaseException,
    told: tuple[int, str],
    executor: ThreadPoolExecutor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(ModelError) as caught:
        await _run(wrap(error), executor)
    assert (caught.value.original_status_code, caught.value.original_message) == told
    # A failure that the model chose is no news for the developer; any other comes with traceback.
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [bool(record.exc_info) for record in logged] == [True] * (told[0] == 500)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda request: next(iter(())), "RuntimeError: the model raised StopIteration"),
        (lambda request: object(), "TypeError: Object of type object is not JSON serializable"),
        (
            lambda request: {"scores": [0.5, float("nan")]},
            "ParameterError: the value at ['scores'][1] is nan, which JSON cannot say",
        ),
        (lambda request: iter([1]), "TypeError: a part of a stream is bytes or str, not int"),
        (
            lambda request: ModelResponse(b"", "a\nb"),
            "ValueError: content_type goes out as a header",
        ),
    ],
)
@pytest.mark.asyncio
async def test_what_cannot_be_sent_is_a_model_error_too(
    model: Model, message: str, executor: ThreadPoolExecutor
) -> None:
    with pytest.raises(ModelError) as caught:
        await _run(model, executor)
    assert caught.value.original_message.startswith(message)


async def _hang_up(http: aiohttp.ClientSession, endpoint: LocalEndpoint) -> None:
    """Take the first part of a stream, and no more."""
    response = await http.post(f"{endpoint.url}/endpoints/e/invocations-response-stream")
    assert response.status == 200
    await response.content.readany()
    response.close()


@pytest.mark.parametrize("busy", [True, False], ids=["waiting for a part", "writing parts"])
@pytest.mark.asyncio
async def test_a_hang_up_closes_an_async_generator(busy: bool, http: aiohttp.ClientSession) -> None:
    closed = asyncio.Event()

    async def model(request: InvocationRequest) -> AsyncIterator[bytes]:
        try:
            yield b"1"
            if busy:
                await asyncio.Event().wait()
            while True:
                yield b"x" * 100_000
        finally:
            closed.set()

    async with LocalEndpoint(model, auth=False) as endpoint:
        await _hang_up(http, endpoint)
        await asyncio.wait_for(closed.wait(), 10)


@pytest.mark.asyncio
async def test_a_model_that_ignores_a_hang_up_cannot_go_on(
    http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    closed = asyncio.Event()

    async def model(request: InvocationRequest) -> AsyncIterator[bytes]:
        try:
            yield b"1"
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            while True:
                yield b"2"
        finally:
            closed.set()

    async with LocalEndpoint(model, auth=False) as endpoint:
        await _hang_up(http, endpoint)
        await asyncio.wait_for(closed.wait(), 10)
    # Clients hang up; that is no fault of anybody's.
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("busy", [True, False], ids=["making a part", "writing parts"])
@pytest.mark.asyncio
async def test_a_hang_up_closes_a_generator(busy: bool, http: aiohttp.ClientSession) -> None:
    hung_up, closed = threading.Event(), threading.Event()
    generators = []  # held, so that nothing but the endpoint closes them

    def generate() -> Iterator[bytes]:
        try:
            yield b"1"
            if busy:
                # Python refuses to close a generator that runs.
                hung_up.wait(10)
            while True:
                yield b"x" * 100_000
        finally:
            closed.set()

    def model(request: InvocationRequest) -> Iterator[bytes]:
        generators.append(generate())
        return generators[-1]

    async with LocalEndpoint(model, auth=False) as endpoint:
        await _hang_up(http, endpoint)
        await asyncio.sleep(0.1)  # the endpoint may notice while the generator still runs
        hung_up.set()
        assert await asyncio.to_thread(closed.wait, 10)


@pytest.mark.asyncio
async def test_a_hang_up_cancels_an_async_model(http: aiohttp.ClientSession) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def model(request: InvocationRequest) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async with LocalEndpoint(model, auth=False) as endpoint:
        call = asyncio.create_task(http.post(f"{endpoint.url}/endpoints/e/invocations"))
        await asyncio.wait_for(began.wait(), 10)
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 10)


@pytest.mark.asyncio
async def test_a_failure_while_closing_does_not_hide_the_cancellation(
    executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    began = asyncio.Event()

    async def model(request: InvocationRequest) -> AsyncIterator[bytes]:
        try:
            yield b"1"
        finally:
            raise RuntimeError("cannot let go")

    async def consume() -> None:
        async with PythonModel(model, executor).answer(_REQUEST) as answer:
            await anext(answer.parts)
            began.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "the model failed while its stream was closed" in caplog.text


@pytest.mark.asyncio
async def test_blocking_models_leave_the_pool_of_the_loop_alone(
    http: aiohttp.ClientSession,
) -> None:
    # More models than the loop's own pool has threads wait for something that runs in that pool.
    together = threading.Barrier(32)

    def model(request: InvocationRequest) -> str:
        together.wait(10)
        return "met"

    async with LocalEndpoint(model, auth=False) as endpoint:
        url = f"{endpoint.url}/endpoints/e/invocations"

        async def call() -> str:
            async with http.post(url) as response:
                return await response.text()

        calls = [asyncio.create_task(call()) for _ in range(31)]
        await asyncio.to_thread(together.wait, 10)
        assert await asyncio.gather(*calls) == ["met"] * 31


@pytest.mark.parametrize("body", ["\ud800", ["\ud800"], float("nan"), {"x": float("inf")}])
@pytest.mark.asyncio
async def test_what_cannot_be_written_is_a_failure_of_the_model(
    body: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def model(request: InvocationRequest) -> object:
        return iter(body) if isinstance(body, list) else body

    async with LocalEndpoint(model) as endpoint, endpoint.client() as client:
        with pytest.raises(ModelError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body="x")
        said = str(caught.value)
        assert "surrogates" in said if isinstance(body, str | list) else "JSON" in said
    assert "the model failed" in caplog.text
