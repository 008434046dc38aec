"""Asynchronous invocations: by the queue alone, whose seconds are short here, and by boto3."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
from aiohttp import web

from aiosmrt.errors import ConfigurationError
from aiosmrt.local import (
    InvocationRequest,
    LocalEndpoint,
    Model,
    ModelFailure,
    ModelResponse,
    ObjectStore,
    StoredObject,
)
from aiosmrt.local.answers import Answer, QueuedInvocation
from aiosmrt.local.invocation_queue import InvocationQueue
from aiosmrt.local.storage import LocalStorage

Connect: TypeAlias = Callable[..., Any]
Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]
Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
RunContainer: TypeAlias = Callable[[Handler], AbstractAsyncContextManager[str]]
Run: TypeAlias = Callable[[InvocationRequest], Awaitable[bytes]]

_REQUEST = InvocationRequest("InvokeEndpointAsync", "e", b"{}")


class _Queues:
    """Makes queues before a coroutine function, and closes them after the test."""

    def __init__(self, until: Until) -> None:
        self.objects = ObjectStore()
        self.made: list[InvocationQueue] = []
        self._until = until

    def make(self, run: Run, workers: int = 1, second: float = 0.001) -> InvocationQueue:
        @contextlib.asynccontextmanager
        async def answer(request: InvocationRequest) -> AsyncIterator[Answer]:
            async def parts() -> AsyncIterator[bytes]:
                yield await run(request)

            yield Answer(ModelResponse(b"", "text/csv"), parts())

        self.made.append(InvocationQueue(answer, LocalStorage(self.objects), workers, second))
        return self.made[-1]

    async def read(self, location: str) -> str:
        await self._until(lambda: location in self.objects)
        return self.objects.get(location).body.decode()


@pytest_asyncio.fixture
async def queues(until: Until) -> AsyncIterator[_Queues]:
    made = _Queues(until)
    yield made
    for queue in made.made:
        await queue.aclose()


@pytest.mark.asyncio
async def test_an_output_is_filed_with_its_content_type(queues: _Queues) -> None:
    async def run(request: InvocationRequest) -> bytes:
        return request.body + (request.inference_id or "").encode()

    queue = queues.make(run)
    queued = queue.put(_REQUEST)
    # The model is told the id that was made for it.
    assert await queues.read(queued.output_location) == "{}" + queued.inference_id
    assert queues.objects.get(queued.output_location).content_type == "text/csv"
    assert queued.failure_location not in queues.objects


@pytest.mark.asyncio
async def test_an_output_is_hashed_off_the_loop(
    queues: _Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def store(body: bytes, content_type: str) -> StoredObject:
        threads.append(threading.current_thread())
        return StoredObject(body, content_type)

    async def run(request: InvocationRequest) -> bytes:
        return b"output"

    monkeypatch.setattr("aiosmrt.local.storage.StoredObject", store)
    queue = queues.make(run)
    assert await queues.read(queue.put(_REQUEST).output_location) == "output"
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    "location", ["s3://bucket/a b", "https://127.0.0.1:1/s3/bucket/a%20b?versionId=1"]
)
@pytest.mark.asyncio
async def test_input_is_read_when_its_turn_comes(location: str, queues: _Queues) -> None:
    async def run(request: InvocationRequest) -> bytes:
        return request.body.upper()

    queue = queues.make(run)
    request = InvocationRequest("InvokeEndpointAsync", "e", input_location=location)
    queued = queue.put(request)
    queues.objects.put("s3://bucket/a b", StoredObject(b"input"))
    assert await queues.read(queued.output_location) == "INPUT"


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("s3://bucket/other", "NoSuchKey: The specified key does not exist: s3://bucket/other"),
        ("s3://other/key", "NoSuchBucket: The specified bucket does not exist: other"),
        ("s3://bucket", "InvalidURI: 's3://bucket' is not the location of an object"),
        ("https://bucket.s3.amazonaws.com/key", "write it as s3://<bucket>/<key>"),
    ],
)
@pytest.mark.asyncio
async def test_input_that_is_missing_is_a_failure(
    location: str, told: str, queues: _Queues
) -> None:
    async def run(request: InvocationRequest) -> bytes:
        pytest.fail("there is nothing to run on")

    queue = queues.make(run)
    queues.objects.put("s3://bucket/key", StoredObject(b""))
    request = InvocationRequest("InvokeEndpointAsync", "e", input_location=location)
    failure = await queues.read(queue.put(request).failure_location)
    assert failure.startswith(f"InputLocation {location} cannot be read: ")
    assert told in failure


@pytest.mark.asyncio
async def test_a_fault_of_the_endpoint_is_a_failure_too(
    queues: _Queues, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(request: InvocationRequest) -> bytes:
        raise ZeroDivisionError

    queue = queues.make(run)
    queued = queue.put(_REQUEST)
    failure = await queues.read(queued.failure_location)
    assert failure == "The local endpoint failed; its log says why."
    assert "ZeroDivisionError" in caplog.text
    assert queued.output_location not in queues.objects


@pytest.mark.asyncio
async def test_so_many_run_at_a_time_in_the_order_they_came(queues: _Queues) -> None:
    began: list[bytes] = []
    turn = asyncio.Semaphore(0)

    async def run(request: InvocationRequest) -> bytes:
        began.append(request.body)
        await turn.acquire()
        return b""

    queue = queues.make(run, workers=2, second=1.0)
    bodies = [str(number).encode() for number in range(6)]
    placed = [queue.put(InvocationRequest("InvokeEndpointAsync", "e", body)) for body in bodies]
    for done in range(5):
        for _ in range(20):
            await asyncio.sleep(0)
        assert began == bodies[: done + 2]
        turn.release()
        await queues.read(placed[done].output_location)
    turn.release()
    await queues.read(placed[-1].output_location)
    assert began == bodies


@pytest.mark.asyncio
async def test_a_request_expires_in_the_queue(queues: _Queues) -> None:
    ran: list[bytes] = []
    finish = asyncio.Event()

    async def run(request: InvocationRequest) -> bytes:
        ran.append(request.body)
        await finish.wait()
        return b""

    queue = queues.make(run, second=0.001)

    def put(body: bytes, ttl: int) -> QueuedInvocation:
        return queue.put(
            InvocationRequest(
                "InvokeEndpointAsync",
                "e",
                body,
                request_ttl_seconds=ttl,
                invocation_timeout_seconds=20_000,
            )
        )

    # What runs does not expire any more, and what expired does not keep its place.
    first, second, third = put(b"1", 60), put(b"2", 60), put(b"3", 20_000)
    failure = await queues.read(second.failure_location)
    assert failure == "The request expired: RequestTTLSeconds, 60, went by while it was queued."
    assert first.output_location not in queues.objects
    finish.set()
    for queued in (first, third):
        await queues.read(queued.output_location)
        assert queued.failure_location not in queues.objects
    assert ran == [b"1", b"3"]
    assert second.output_location not in queues.objects


@pytest.mark.asyncio
async def test_a_model_that_takes_too_long_is_cancelled(queues: _Queues) -> None:
    cancelled = []

    async def run(request: InvocationRequest) -> bytes:
        if request.body:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(request.body)
        return b"quick"

    queue = queues.make(run, second=0.01)
    slow = queue.put(
        InvocationRequest("InvokeEndpointAsync", "e", b"1", invocation_timeout_seconds=2)
    )
    quick = queue.put(InvocationRequest("InvokeEndpointAsync", "e"))
    failure = await queues.read(slow.failure_location)
    assert failure == "The model did not answer within InvocationTimeoutSeconds, 2."
    assert cancelled == [b"1"]
    assert slow.output_location not in queues.objects
    # Its place went to the next.
    assert await queues.read(quick.output_location) == "quick"


@pytest.mark.asyncio
async def test_the_limits_of_the_service_hold_where_none_is_asked_for(queues: _Queues) -> None:
    async def run(request: InvocationRequest) -> bytes:
        await asyncio.Event().wait()
        return b""

    queue = queues.make(run, second=0.000_01)
    running = queue.put(_REQUEST)
    failure = await queues.read(running.failure_location)
    assert "InvocationTimeoutSeconds, 900." in failure
    queue = queues.make(run, second=0.000_01)
    await queue._places.acquire()
    failure = await queues.read(queue.put(_REQUEST).failure_location)
    assert "RequestTTLSeconds, 21600," in failure


@pytest.mark.asyncio
async def test_closing_cancels_and_waits_and_files_nothing(queues: _Queues) -> None:
    began, ended = asyncio.Event(), []

    async def run(request: InvocationRequest) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(request.body)
        return b""

    before = asyncio.all_tasks()
    queue = queues.make(run, second=1.0)
    placed = [queue.put(_REQUEST) for _ in range(3)]
    await began.wait()
    await queue.aclose()
    assert ended == [b"{}"]
    assert asyncio.all_tasks() == before
    for queued in placed:
        assert queued.output_location not in queues.objects
        assert queued.failure_location not in queues.objects


# Through the endpoint.


async def _invoke(client: Any, **parameters: object) -> dict[str, Any]:
    def invoke() -> dict[str, Any]:
        answer: dict[str, Any] = client.invoke_endpoint_async(**{"EndpointName": "e", **parameters})
        return answer

    return await asyncio.to_thread(invoke)


async def _poll(s3: Any, location: str) -> tuple[str, str]:
    """Poll as users do, and give body and content type."""
    bucket, _, key = location.removeprefix("s3://").partition("/")

    def read() -> tuple[str, str]:
        s3.get_waiter("object_exists").wait(
            Bucket=bucket, Key=key, WaiterConfig={"Delay": 0.01, "MaxAttempts": 500}
        )
        answer = s3.get_object(Bucket=bucket, Key=key)
        with answer["Body"] as body:
            return body.read().decode(), answer["ContentType"]

    return await asyncio.to_thread(read)


@pytest.mark.newest_botocore
@pytest.mark.asyncio
async def test_boto3_from_input_to_output(connect: Connect, connect_s3: Connect) -> None:
    seen = []

    def model(request: InvocationRequest) -> dict[str, int]:
        seen.append(request)
        return {"length": len(request.body)}

    async with LocalEndpoint(model) as endpoint:
        client, s3 = connect(endpoint), connect_s3(endpoint)
        await asyncio.to_thread(s3.put_object, Bucket="in", Key="a/b.csv", Body=b"1,2,3")
        placed = await _invoke(
            client,
            InputLocation="s3://in/a/b.csv",
            ContentType="text/csv",
            S3OutputPathExtension="team/run-1",
            Filename="c.json",
        )
        inline = await _invoke(client, Body=b"1234", InferenceId="mine")
        assert await _poll(s3, placed["OutputLocation"]) == ('{"length": 5}', "application/json")
        assert await _poll(s3, inline["OutputLocation"]) == ('{"length": 4}', "application/json")
        listed = await asyncio.to_thread(
            s3.list_objects_v2, Bucket="aiosmrt-local", Prefix="async-endpoint-outputs/e/"
        )
    assert [found["Key"] for found in listed["Contents"]] == [
        "async-endpoint-outputs/e/mine.out",
        "async-endpoint-outputs/e/team/run-1/c.json",
    ]
    assert [request.operation for request in seen] == ["InvokeEndpointAsync"] * 2
    assert [request.content_type for request in seen] == ["text/csv", None]
    # What came in is told with its input, so that steps and tests can ask for that.
    assert [request.body for request in endpoint.requests] == [b"1,2,3", b"1234"]


def _fail(request: InvocationRequest) -> bytes:
    raise ModelFailure(503, "no GPU left")


def _fail_late(request: InvocationRequest) -> Iterator[str]:
    yield "half an answer"
    raise ModelFailure(503, "no GPU left")


@pytest.mark.newest_botocore
@pytest.mark.parametrize("model", [_fail, _fail_late])
@pytest.mark.asyncio
async def test_boto3_finds_the_failure_of_a_model(
    model: Model, connect: Connect, connect_s3: Connect
) -> None:
    async with LocalEndpoint(model) as endpoint:
        answer = await _invoke(connect(endpoint), Body=b"{}")
        found = await _poll(connect_s3(endpoint), answer["FailureLocation"])
    told = 'Received server error (503) from primary with message "no GPU left"'
    assert found == (told, "text/plain; charset=utf-8")
    assert answer["OutputLocation"] not in endpoint.objects


@pytest.mark.newest_botocore
@pytest.mark.asyncio
async def test_the_limits_of_a_request_are_honoured(
    connect: Connect, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = functools.partial(InvocationQueue, second=0.002)
    monkeypatch.setattr("aiosmrt.local.endpoint.InvocationQueue", quick)
    go = asyncio.Event()

    async def model(request: InvocationRequest) -> bytes:
        await (asyncio.Event() if request.body == b"hang" else go).wait()
        return b""

    async with LocalEndpoint(model, workers=1) as endpoint:

        async def find(location: str) -> str:
            await until(lambda: location in endpoint.objects)
            return endpoint.objects.get(location).body.decode()

        client = connect(endpoint)
        first = await _invoke(client, Body=b"1", InvocationTimeoutSeconds=3600)
        second = await _invoke(client, Body=b"2", RequestTTLSeconds=60)
        assert "RequestTTLSeconds, 60," in await find(second["FailureLocation"])
        go.set()
        assert await find(first["OutputLocation"]) == ""
        hanging = await _invoke(client, Body=b"hang", InvocationTimeoutSeconds=60)
        assert "InvocationTimeoutSeconds, 60." in await find(hanging["FailureLocation"])


@pytest.mark.asyncio
async def test_a_client_of_ours_gets_its_answer_at_once(until: Until) -> None:
    go = asyncio.Event()

    async def model(request: InvocationRequest) -> bytes:
        await go.wait()
        return request.body

    async with LocalEndpoint(model) as endpoint, endpoint.client() as client:
        invocation = await client.invoke_endpoint_async(endpoint_name="e", body=b"x")
        assert invocation.output_location is not None
        assert invocation.output_location not in endpoint.objects
        go.set()
        location = invocation.output_location
        await until(lambda: location in endpoint.objects)
    assert endpoint.objects.get(location).body == b"x"


@pytest.mark.asyncio
async def test_a_container_is_called_as_for_invoke_endpoint(
    run_container: RunContainer, until: Until
) -> None:
    seen: list[dict[str, str]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append({"path": request.path, **request.headers})
        if await request.read() == b"fail":
            return web.Response(status=400, text="no such tensor")
        return web.Response(body=b"a,b", content_type="text/csv")

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream) as endpoint,
        endpoint.client(params={"endpoint_name": "e"}) as client,
    ):
        good = await client.invoke_endpoint_async(
            body=b"{}",
            content_type="application/json",
            accept="text/csv",
            inference_id="id",
            custom_attributes="a=b",
            filename="c",
            request_ttl_seconds=60,
        )
        bad = await client.invoke_endpoint_async(body=b"fail")
        output, failure = str(good.output_location), str(bad.failure_location)
        await until(lambda: output in endpoint.objects and failure in endpoint.objects)
    stored = endpoint.objects.get(output)
    assert (stored.body, stored.content_type) == (b"a,b", "text/csv")
    told = 'Received client error (400) from primary with message "no such tensor"'
    assert endpoint.objects.get(failure).body.decode() == told
    del seen[0]["Host"]
    assert seen[0] == {
        "path": "/invocations",
        "Content-Type": "application/json",
        "Accept": "text/csv",
        "X-Amzn-SageMaker-Inference-Id": "id",
        "X-Amzn-SageMaker-Custom-Attributes": "a=b",
        "Content-Length": "2",
        "Connection": "close",
    }


@pytest.mark.asyncio
async def test_no_container_is_a_failure(run_container: RunContainer, until: Until) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async with run_container(handle) as upstream:
        pass
    async with LocalEndpoint(upstream=upstream) as endpoint, endpoint.client() as client:
        invocation = await client.invoke_endpoint_async(endpoint_name="e", body=b"{}")
        failure = str(invocation.failure_location)
        await until(lambda: failure in endpoint.objects)
    assert b"No connection to the model container" in endpoint.objects.get(failure).body


async def _leave(model: Model, began: threading.Event, left: Callable[[], object]) -> None:
    """Leave an endpoint of one worker with one invocation running and two queued."""
    before = asyncio.all_tasks()
    async with LocalEndpoint(model, workers=1) as endpoint, endpoint.client() as client:
        for _ in range(3):
            await client.invoke_endpoint_async(endpoint_name="e", body=b"{}")
        await asyncio.to_thread(began.wait, 10)
        left()
    assert asyncio.all_tasks() == before
    assert endpoint.objects.find_keys("aiosmrt-local") == []


@pytest.mark.asyncio
async def test_leaving_ends_the_workers() -> None:
    began, ended = threading.Event(), []

    async def model(request: InvocationRequest) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(1)

    await _leave(model, began, lambda: None)
    assert ended == [1]


@pytest.mark.asyncio
async def test_leaving_waits_for_a_worker_in_a_thread() -> None:
    began, finish = threading.Event(), threading.Event()
    ended = []

    def model(request: InvocationRequest) -> None:
        began.set()
        finish.wait(10)
        ended.append(1)

    loop = asyncio.get_running_loop()
    await _leave(model, began, lambda: loop.call_later(0.05, finish.set))
    assert ended == [1]


def test_at_least_one_worker_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="workers must be 1 or more, not 0"):
        LocalEndpoint(workers=0)
