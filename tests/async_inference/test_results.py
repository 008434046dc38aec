"""Waiting for many: each once, by listings, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiosmrt import (
    AsyncInferenceError,
    AsyncInferenceTimeout,
    AsyncInvocation,
    ParameterError,
    RetryPolicy,
    SageMakerRuntimeClient,
    ServiceError,
    UnexpectedResponse,
)
from aiosmrt.http import Request
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure, StoredObject
from aiosmrt.transport import Pool

_AT_ONCE = RetryPolicy(base_delay=0.0, throttle_base_delay=0.0)


def _model(request: InvocationRequest) -> object:
    if request.body.startswith(b"fail"):
        raise ModelFailure(400, "as asked")
    return request.body


class Bed:
    """A local endpoint, a client, and a count of what is asked of S3."""

    def __init__(self, endpoint: LocalEndpoint, client: SageMakerRuntimeClient) -> None:
        self.endpoint = endpoint
        self.client = client
        self.asked: list[Request] = []

    @property
    def listings(self) -> int:
        return sum("list-type" in request.query for request in self.asked)

    def put(self, location: str | None, body: bytes) -> None:
        self.endpoint.objects.put(str(location), StoredObject(body))

    def make(self, number: int, folder: str = "s3://bucket/p") -> AsyncInvocation:
        return self.client.resume_async_invocation(
            json.dumps(
                {
                    "inference_id": str(number),
                    "output_location": f"{folder}/{number}.out",
                    "failure_location": f"{folder}/{number}-error.out",
                }
            )
        )


@contextlib.asynccontextmanager
async def _open_bed(
    monkeypatch: pytest.MonkeyPatch, *, may_list: bool = True
) -> AsyncIterator[Bed]:
    async with (
        LocalEndpoint(_model, s3_list_permission=may_list) as endpoint,
        endpoint.client(
            poll_interval=0.02, max_poll_interval=0.1, retry=RetryPolicy(base_delay=0.0)
        ) as client,
    ):
        bed = Bed(endpoint, client)
        endpoint.objects.make_bucket("bucket")
        send = Pool.send

        async def count(self: Pool, request: Request, *rest: Any) -> Any:
            bed.asked.append(request)
            return await send(self, request, *rest)

        monkeypatch.setattr(Pool, "send", count)
        yield bed


@pytest.mark.asyncio
async def test_all_come_once_with_their_output_or_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _open_bed(monkeypatch) as bed:
        invocations = [
            await bed.client.invoke_endpoint_async(
                endpoint_name="e", body=f"{'fail' if number % 3 == 0 else 'go'} {number}"
            )
            for number in range(30)
        ]
        seen = {}
        async for result in bed.client.wait_for_results(invocations * 2):
            assert result.invocation not in seen
            seen[result.invocation] = result
        for number, invocation in enumerate(invocations):
            result = seen.pop(invocation)
            if number % 3 == 0:
                assert isinstance(result.error, AsyncInferenceError)
                assert result.error.endpoint_name == "e"
            else:
                assert result.output is not None
                assert result.output.body == b"go %d" % number
        assert not seen


@pytest.mark.asyncio
async def test_five_hundred_cost_one_listing_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _open_bed(monkeypatch) as bed:
        invocations = [bed.make(number) for number in range(500)]
        rounds = 0
        rest = asyncio.sleep

        async def pause(seconds: float) -> None:
            nonlocal rounds
            # Between two rounds a fifth becomes complete, one in ten of it a failure.
            for number in range(rounds * 100, min(500, rounds * 100 + 100)):
                ending = "-error.out" if number % 10 == 0 else ".out"
                bed.put(f"s3://bucket/p/{number}{ending}", b"%d" % number)
            rounds += 1
            await rest(0)

        with monkeypatch.context() as patched:
            patched.setattr("aiosmrt.async_inference.invocation.asyncio.sleep", pause)
            results = [result async for result in bed.client.wait_for_results(invocations)]
        assert Counter(result.invocation for result in results) == Counter(invocations)
        assert sum(isinstance(result.error, AsyncInferenceError) for result in results) == 50
        # Those complete earlier come earlier.
        order = [int(result.invocation.inference_id or "") // 100 for result in results]
        assert order == sorted(order)
        assert bed.listings <= rounds + 1
        # One look at each that is complete; for a failure four: output, is there one, output, it.
        assert len(bed.asked) - bed.listings <= 450 + 4 * 50


@pytest.mark.asyncio
async def test_after_a_result_the_next_look_is_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _open_bed(monkeypatch) as bed:
        pauses: list[float] = []
        rest = asyncio.sleep

        async def pause(seconds: float) -> None:
            if seconds:  # or others were let run
                pauses.append(seconds)
            if len(pauses) in (5, 8):
                bed.put(f"s3://bucket/p/{len(pauses)}.out", b"done")
            await rest(0)

        with monkeypatch.context() as patched:
            patched.setattr("aiosmrt.randomness.generator.uniform", lambda low, high: high)
            patched.setattr("aiosmrt.async_inference.invocation.asyncio.sleep", pause)
            waiting = bed.client.wait_for_results([bed.make(5), bed.make(8)])
            assert len([result async for result in waiting]) == 2
        assert pauses[4] == 0.1  # the longest
        assert pauses[5:] == pytest.approx([0.02, 0.032, 0.0512])


@pytest.mark.asyncio
async def test_what_is_not_complete_is_given_at_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _open_bed(monkeypatch) as bed:
        invocations = [bed.make(number) for number in range(5)]
        bed.put(invocations[3].output_location, b"done")
        pending = pickle.loads(pickle.dumps(invocations))  # without a client of their own
        late: list[object] = []
        for timeout in (0, 0.1):
            results = [r async for r in bed.client.wait_for_results(pending, timeout=timeout)]
            assert results[0].output is not None
            assert results[0].invocation == invocations[3]
            late = [result.error for result in results[1:]]
            assert len(late) == 4
            assert all(isinstance(e, AsyncInferenceTimeout) and e.may_have_run for e in late)
        for invocation in invocations:
            bed.put(invocation.output_location, b"done")
        left = [e.invocation for e in late if isinstance(e, AsyncInferenceTimeout) and e.invocation]
        results = [result async for result in bed.client.wait_for_results(left)]
        assert {r.invocation for r in results} == set(invocations) - {invocations[3]}


@pytest.mark.asyncio
async def test_who_took_their_time_over_a_result_is_given_what_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _open_bed(monkeypatch) as bed:
        invocations = [bed.make(number) for number in range(4)]
        bed.put(invocations[0].output_location, b"done")
        results = bed.client.wait_for_results(invocations, timeout=0.2)
        assert (await anext(results)).invocation == invocations[0]
        for invocation in invocations[1:3]:
            bed.put(invocation.output_location, b"done")
        await asyncio.sleep(0.3)
        others = [result async for result in results]
        assert [result.output is not None for result in others] == [True, True, False]
        assert isinstance(others[2].error, AsyncInferenceTimeout)


@pytest.mark.asyncio
async def test_without_permission_to_list_each_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with _open_bed(monkeypatch, may_list=False) as bed:
        invocations = [bed.make(number) for number in range(6)]
        for invocation in invocations[:4]:
            bed.put(invocation.output_location, b"done")
        results = [r async for r in bed.client.wait_for_results(invocations, timeout=0.1)]
        assert [r.output is not None for r in results] == [True] * 4 + [False] * 2
        assert all(isinstance(r.error, ServiceError) for r in results[4:])
        assert bed.listings == 1
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert "s3:ListBucket" in warnings[0].getMessage()
        # Nor is it silent where all are there, since each costs a request of its own.
        caplog.clear()
        assert len([r async for r in bed.client.wait_for_results(invocations[:4])]) == 4
        assert "s3:ListBucket" in caplog.text


@pytest.mark.asyncio
async def test_a_folder_full_of_old_outputs_is_not_listed_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _open_bed(monkeypatch) as bed:
        old = StoredObject(b"")
        for number in range(7000):
            bed.endpoint.objects.put(f"s3://bucket/p/0-{number}", old)
        invocations = [bed.make(number) for number in range(1, 4)]
        waiting = asyncio.create_task(_collect(bed, invocations))
        await asyncio.sleep(0.1)
        for invocation in invocations:
            bed.put(invocation.output_location, b"done")
        assert len(await waiting) == 3
        assert bed.listings == 6  # pages, as many as objects are awaited


async def _collect(bed: Bed, invocations: list[AsyncInvocation]) -> list[bytes]:
    results = bed.client.wait_for_results(invocations)
    return [result.output.body async for result in results if result.output]


@pytest.mark.asyncio
async def test_few_are_looked_at_and_wrong_ones_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _open_bed(monkeypatch) as bed:
        root = AsyncInvocation("r", "s3://bucket/root.out", None)
        nowhere = AsyncInvocation("n", None, None)
        odd = AsyncInvocation("o", "https://bucket/o", None)
        missing = AsyncInvocation("m", "s3://no-bucket/o", None)
        bed.put("s3://bucket/root.out", b"done")
        given = [root, nowhere, odd, missing]
        results = {r.invocation: r async for r in bed.client.wait_for_results(given)}
        assert results[root].output is not None
        assert isinstance(results[nowhere].error, AsyncInferenceError)
        assert isinstance(results[odd].error, ParameterError)
        assert isinstance(results[missing].error, ServiceError)
        assert bed.listings == 0


@pytest.mark.asyncio
async def test_what_is_no_invocation_is_refused_with_what_makes_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _open_bed(monkeypatch) as bed:
        given: list[Any] = [bed.make(1), bed.make(2).to_json()]
        with pytest.raises(TypeError, match=r"resume_async_invocation\(\) .* not '{"):
            await anext(bed.client.wait_for_results(given))


@pytest.mark.asyncio
async def test_leaving_early_leaves_nothing_behind_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _open_bed(monkeypatch) as bed:
        invocations = [bed.make(number) for number in range(40)]
        for invocation in invocations:
            bed.put(invocation.output_location, bytes(100_000))
        pool = None
        for steps in range(0, 200, 20):
            task = asyncio.create_task(_collect(bed, invocations))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            pool = bed.client._builder.pools.find() or pool
            if pool is not None:
                assert pool._slots.free == 100
                assert not pool._calls
        async with contextlib.aclosing(bed.client.wait_for_results(invocations)) as results:
            async for _ in results:
                break
        assert pool is not None
        assert pool._slots.free == 100
        assert len(await _collect(bed, invocations)) == 40


@pytest.mark.asyncio
async def test_s3s_trouble_is_outlasted(serve: Any, connect: Any, respond: Any) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        count = len(server.requests)
        if count < 5:
            writer.write(respond(503, b"<Error><Code>SlowDown</Code></Error>"))
        elif "list-type" in request.target:
            keys = "".join(f"<Contents><Key>p/{n}.out</Key></Contents>" for n in range(5))
            writer.write(respond(200, f"<L><IsTruncated>false</IsTruncated>{keys}</L>".encode()))
        elif count < 20 and "/p/3" in request.target:
            writer.write(respond(500, b"<Error><Code>InternalError</Code></Error>"))
        else:
            writer.write(respond(200, b"done"))

    options = {
        "poll_interval": 0.01,
        "retry": RetryPolicy(max_attempts=2, base_delay=0.0, throttle_base_delay=0.0),
    }
    async with serve(answer) as server:  # noqa: SIM117 - the answers need the server
        async with connect(server, s3_endpoint_url=server.url, **options) as client:
            given = _make(client, 5)
            results = [result async for result in client.wait_for_results(given)]
    assert [r.invocation.output_location for r in results if r.output] != []
    assert Counter(r.invocation for r in results if r.output) == Counter(given)
    assert results[-1].invocation == given[3]
    # What fails to be listed for once is listed again, and not looked at one by one.
    assert all("list-type" in request.target for request in server.requests[:5])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.asyncio
async def test_an_s3_that_hangs_does_not_hold_up_the_deadline(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        await request.reader.read()

    monkeypatch.setattr("aiosmrt.async_inference.invocation._LAST_LOOK", 0.05)
    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        given = _make(client, count)
        results = [result async for result in client.wait_for_results(given, timeout=0.05)]
        assert [result.invocation for result in results] == given
        assert all(isinstance(result.error, AsyncInferenceTimeout) for result in results)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.asyncio
async def test_what_will_not_pass_is_given_at_once(
    serve: Any, connect: Any, respond: Any, count: int
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>"))

    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        given = _make(client, count)
        results = [result async for result in client.wait_for_results(given)]
        assert {result.invocation for result in results} == set(given)
        for result in results:
            assert isinstance(result.error, ServiceError)
            assert result.error.code == "InvalidAccessKeyId"
        listings = sum("list-type" in request.target for request in server.requests)
        assert listings == (1 if count == 3 else 0)
        assert len(server.requests) == count + listings


@pytest.mark.asyncio
async def test_an_output_that_is_replaced_while_it_is_read_is_an_error(
    serve: Any, connect: Any
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        etag, size = ('"1"', 8) if "range" not in request.headers else ('"2"', 4)
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\netag: {etag}\r\n\r\n"
        writer.write(head.encode() + b"half")
        await writer.drain()
        writer.close()

    async with serve(answer) as server, connect(server, s3_endpoint_url=server.url) as client:
        [result] = [result async for result in client.wait_for_results(_make(client, 1))]
        assert isinstance(result.error, UnexpectedResponse)
        assert "replaced" in str(result.error)
        assert result.error.may_have_run is True


_FAULTS = {
    "500": b"HTTP/1.1 500 E\r\ncontent-length: 0\r\n\r\n",
    "SlowDown": b"HTTP/1.1 503 E\r\ncontent-length: 0\r\n\r\n",
    "cut": b'HTTP/1.1 200 OK\r\ncontent-length: 8\r\netag: "1"\r\n\r\nhalf',
    "lost": b"",
    "redirect": (b"HTTP/1.1 301 E\r\ncontent-length: 0\r\nx-amz-bucket-region: us-west-2\r\n\r\n"),
}


@pytest.mark.parametrize("fault", _FAULTS)
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.asyncio
async def test_no_fault_loses_or_doubles_anything(
    *, serve: Any, connect: Any, respond: Any, fault: str, at_once: int
) -> None:
    """Each look and each listing meets the fault at first, then goes well."""
    met: set[str] = set()
    regions: set[str] = set()

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        region = request.headers["authorization"].split("/")[2]
        regions.add(region)
        listing = "list-type" in request.target
        if request.target not in met and not (
            (listing and fault == "cut") or (fault == "redirect" and region == "us-west-2")
        ):
            met.add(request.target)
            writer.write(_FAULTS[fault])
            if fault in ("cut", "lost"):
                writer.close()
        elif listing:
            keys = "".join(f"<Contents><Key>p/{n}.out</Key></Contents>" for n in range(4))
            writer.write(respond(200, f"<L><IsTruncated>false</IsTruncated>{keys}</L>".encode()))
        elif "range" in request.headers:
            fields = {"etag": '"1"', "content_range": "bytes 4-7/8"}
            writer.write(respond(206, b"half", **fields))
        else:
            writer.write(respond(200, b"halfhalf"))

    options = {"poll_interval": 0.01, "retry": _AT_ONCE}
    async with serve(answer) as server:  # noqa: SIM117 - the options need the server
        async with connect(server, s3_endpoint_url=server.url, **options) as client:
            given = _make(client, at_once)
            if at_once == 1:
                assert (await given[0].result(timeout=30)).body == b"halfhalf"
            results = [result async for result in client.wait_for_results(given)]
    assert Counter(result.invocation for result in results) == Counter(given)
    assert [result.output and result.output.body for result in results] == [b"halfhalf"] * at_once
    assert regions == ({"eu-west-1", "us-west-2"} if fault == "redirect" else {"eu-west-1"})


def _make(client: SageMakerRuntimeClient, count: int) -> list[AsyncInvocation]:
    saved = [json.dumps({"output_location": f"s3://bucket/p/{n}.out"}) for n in range(count)]
    return [client.resume_async_invocation(one) for one in saved]


@pytest.mark.asyncio
async def test_a_listing_that_fails_to_the_end_is_told(
    serve: Any, connect: Any, respond: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(respond(503, b"<Error><Code>SlowDown</Code></Error>"))

    options = {"poll_interval": 0.01, "retry": _AT_ONCE}
    async with serve(answer) as server:  # noqa: SIM117 - the options need the server
        async with connect(server, s3_endpoint_url=server.url, **options) as client:
            results = [r async for r in client.wait_for_results(_make(client, 4), timeout=0.1)]
    assert all("list-type" in request.target for request in server.requests)
    for result in results:
        assert isinstance(result.error, AsyncInferenceTimeout)
        assert "the last look into S3 failed: SlowDown" in str(result.error)
        assert "neither" not in str(result.error)
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
