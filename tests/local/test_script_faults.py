"""Each fault as this client and boto3 meet it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import urllib3
from botocore import exceptions as boto3_errors
from botocore.eventstream import ChecksumMismatch

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint

pytestmark = pytest.mark.asyncio

Say = Callable[[LocalEndpoint], None]

PARTS = [b"one ", "zwölf ".encode(), b"three"]


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[LocalEndpoint]:
    async with LocalEndpoint(strict=True) as endpoint:
        yield endpoint


async def _stream(endpoint: LocalEndpoint, **options: Any) -> tuple[list[bytes], Exception | None]:
    """Give the parts, and what they ended with."""
    parts: list[bytes] = []
    policy = aiosmrt.RetryPolicy(mode="off")
    async with endpoint.client(retry=policy, **options) as client:
        try:
            async with client.invoke_endpoint_with_response_stream(
                endpoint_name="e", body=b"x"
            ) as stream:
                async for part in stream:
                    parts.append(part.bytes)  # noqa: PERF401 - those before a fault count
        except aiosmrt.AiosmrtError as error:
            return parts, error
    return parts, None


async def _stream_by_boto3(client: Any) -> tuple[list[bytes], Exception | None]:
    parts: list[bytes] = []

    def read() -> None:
        answer = client.invoke_endpoint_with_response_stream(EndpointName="e", Body=b"x")
        with contextlib.closing(answer["Body"]) as events:
            for event in events:
                parts.append(event["PayloadPart"]["Bytes"])  # noqa: PERF401 - as above

    try:
        await asyncio.to_thread(read)
    except Exception as error:  # noqa: BLE001 - whatever it makes of it
        return parts, error
    return parts, None


LOST = (urllib3.exceptions.ProtocolError, boto3_errors.ConnectionClosedError)

# What is said of a stream; how many parts come before it, and as what it is met: by this client,
# and by boto3, which takes a stream that ends in a frame for one that has ended.
FAULTS: dict[str, tuple[Say, int, type[Exception], type[Exception] | tuple[Any, ...] | None]] = {
    "cut between frames": (
        lambda e: e.cut(2, stream=PARTS),
        2,
        aiosmrt.StreamConnectionLost,
        LOST,
    ),
    "cut in a chunk": (
        lambda e: e.cut(2, "chunk", stream=PARTS),
        2,
        aiosmrt.StreamConnectionLost,
        LOST,
    ),
    "cut in a frame": (lambda e: e.cut(2, "frame", stream=PARTS), 2, aiosmrt.TruncatedStream, None),
    "cut in a prelude": (
        lambda e: e.cut(1, "prelude", stream=PARTS),
        1,
        aiosmrt.TruncatedStream,
        None,
    ),
    "cut at the end": (lambda e: e.cut(9, stream=PARTS), 3, aiosmrt.StreamConnectionLost, LOST),
    "cut behind parts of its own": (lambda e: e.cut(5), 5, aiosmrt.StreamConnectionLost, LOST),
    "corrupt prelude": (
        lambda e: e.corrupt(2, "prelude", stream=PARTS),
        1,
        aiosmrt.PreludeChecksumMismatch,
        ChecksumMismatch,
    ),
    "corrupt headers": (
        lambda e: e.corrupt(2, "headers", stream=PARTS),
        1,
        aiosmrt.MessageChecksumMismatch,
        ChecksumMismatch,
    ),
    "corrupt payload": (
        lambda e: e.corrupt(3, "payload", stream=PARTS),
        2,
        aiosmrt.MessageChecksumMismatch,
        ChecksumMismatch,
    ),
    "corrupt crc": (
        lambda e: e.corrupt(1, "crc", stream=PARTS),
        0,
        aiosmrt.MessageChecksumMismatch,
        ChecksumMismatch,
    ),
    "model error": (
        lambda e: e.stream_error(1, "ModelInvocationTimeExceeded", "too slow", stream=PARTS),
        1,
        aiosmrt.ModelStreamError,
        boto3_errors.EventStreamError,
    ),
    "model error before the first part": (
        lambda e: e.stream_error(stream=PARTS),
        0,
        aiosmrt.ModelStreamError,
        boto3_errors.EventStreamError,
    ),
    "internal failure": (
        lambda e: e.internal_stream_failure(2, stream=PARTS),
        2,
        aiosmrt.InternalStreamFailure,
        boto3_errors.EventStreamError,
    ),
    "reset": (lambda e: e.reset("part 3", stream=PARTS), 2, aiosmrt.StreamConnectionLost, LOST),
    "reset before the head": (lambda e: e.reset(), 0, aiosmrt.ConnectionLost, LOST),
    "reset before the first part": (
        lambda e: e.reset("first_part", stream=PARTS),
        0,
        aiosmrt.StreamConnectionLost,
        LOST,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_in_a_stream(
    endpoint: LocalEndpoint, connect: Callable[..., Any], name: str
) -> None:
    say, count, kind, told = FAULTS[name]
    say(endpoint)
    say(endpoint)
    wanted = PARTS[:count] if "own" not in name else [b"part %d\n" % n for n in range(1, count + 1)]
    parts, error = await _stream(endpoint)
    assert parts == wanted
    assert isinstance(error, kind), error

    parts, error = await _stream_by_boto3(connect(endpoint))
    assert parts == wanted
    assert isinstance(error, told) if told is not None else error is None
    endpoint.assert_complete()


async def test_a_model_error_in_a_stream_says_its_code(endpoint: LocalEndpoint) -> None:
    endpoint.stream_error(1, "ModelInvocationTimeExceeded", "too slow", text="a")
    _, error = await _stream(endpoint)
    assert isinstance(error, aiosmrt.ModelStreamError)
    assert (error.error_code, error.message) == ("ModelInvocationTimeExceeded", "too slow")
    assert error.status == 200


@pytest.mark.parametrize(
    ("at", "count", "kind"),
    [
        ("head", 0, aiosmrt.FirstByteTimeout),
        ("first_part", 0, aiosmrt.FirstByteTimeout),
        ("part 3", 2, aiosmrt.IdleTimeout),
    ],
)
async def test_a_stream_that_hangs(
    endpoint: LocalEndpoint, connect: Callable[..., Any], at: str, count: int, kind: type[Exception]
) -> None:
    endpoint.hang(at, stream=PARTS, times=2)
    parts, error = await _stream(endpoint, timeout=aiosmrt.Timeout(first_byte=0.2, idle=0.2))
    assert (parts, type(error)) == (PARTS[:count], kind)
    parts, error = await _stream_by_boto3(connect(endpoint, read_timeout=0.2))
    assert parts == PARTS[:count]
    assert isinstance(error, boto3_errors.ReadTimeoutError | urllib3.exceptions.ReadTimeoutError)


async def _invoke(endpoint: LocalEndpoint, **options: Any) -> aiosmrt.AiosmrtError:
    policy = aiosmrt.RetryPolicy(mode="off")
    async with endpoint.client(retry=policy, **options) as client:
        with pytest.raises(aiosmrt.AiosmrtError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
    return caught.value


@pytest.mark.parametrize(
    ("say", "came"),
    [
        (lambda e: e.cut(text="hello"), b""),
        (lambda e: e.cut(1, stream=PARTS), PARTS[0]),
        (lambda e: e.cut(1, "frame", stream=["a", "bcde"]), b"abc"),
        (lambda e: e.cut(1, "chunk", stream=["a", "bcde"]), b"abc"),
        (lambda e: e.cut(1, text="hello"), b"hello"),  # of more that was announced
        (lambda e: e.cut(text=""), b""),
        (lambda e: e.reset("part 2", stream=PARTS), PARTS[0]),
        (lambda e: e.reset(), b""),
    ],
)
async def test_a_whole_answer_that_breaks_off(
    endpoint: LocalEndpoint, connect: Callable[..., Any], say: Say, came: bytes
) -> None:
    say(endpoint)
    error = await _invoke(endpoint)
    assert isinstance(error, aiosmrt.ConnectionLost)
    assert error.body == came
    assert error.may_have_run
    say(endpoint)
    boto3 = connect(endpoint)

    def read() -> None:
        with boto3.invoke_endpoint(EndpointName="e", Body=b"x")["Body"] as body:
            body.read()

    with pytest.raises((*LOST, boto3_errors.IncompleteReadError)):
        await asyncio.to_thread(read)
    endpoint.assert_complete()


@pytest.mark.parametrize("operation", ["invocations", "invocations-response-stream"])
async def test_a_reset_is_one_on_the_wire(operation: str) -> None:
    async with LocalEndpoint(auth=False) as open_endpoint:
        open_endpoint.reset("part 2", stream=PARTS)
        open_endpoint.cut(1, stream=PARTS)
        for ends in (pytest.raises(ConnectionResetError), contextlib.nullcontext()):
            port = int(open_endpoint.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST /endpoints/e/{operation} HTTP/1.1\r\nhost: e\r\ncontent-length: 1"
            writer.write(f"{head}\r\n\r\nx".encode())
            assert (await reader.readuntil(PARTS[0])).startswith(b"HTTP/1.1 200 OK\r\n")
            with ends:
                await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()


@pytest.mark.parametrize("at", ["head", "part 2"])
async def test_a_whole_answer_that_hangs(endpoint: LocalEndpoint, at: str) -> None:
    endpoint.hang(at, stream=PARTS)
    limits = aiosmrt.Timeout(first_byte=0.2, idle=0.2)
    kind = aiosmrt.FirstByteTimeout if at == "head" else aiosmrt.IdleTimeout
    assert isinstance(await _invoke(endpoint, timeout=limits), kind)


async def test_a_fault_leaves_the_content_type_alone(endpoint: LocalEndpoint) -> None:
    async with endpoint.client() as client:
        endpoint.split(2, text="abc")
        endpoint.stream_error(1, text="abc")
        for ending in (contextlib.nullcontext(), pytest.raises(aiosmrt.ModelStreamError)):
            opening = client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
            with ending:
                async with opening as stream:
                    assert stream.content_type == "text/plain; charset=utf-8"
                    await stream.read()


async def test_a_connection_is_reset_whatever_was_asked_for(endpoint: LocalEndpoint) -> None:
    endpoint.reset()
    async with endpoint.client() as client:
        with pytest.raises(aiosmrt.ConnectionLost) as caught:
            await client.invoke_endpoint_async(endpoint_name="e", body=b"x")
    assert caught.value.may_have_run


async def test_parts_may_end_anywhere(endpoint: LocalEndpoint) -> None:
    endpoint.split(2, stream=PARTS)
    parts, error = await _stream(endpoint)
    assert error is None
    assert b"".join(parts) == b"".join(PARTS)
    assert {len(part) for part in parts[:-1]} == {2}
    endpoint.split(1, tokens="zwölf")
    async with (
        endpoint.client() as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x") as stream,
    ):
        assert "".join([token async for token in stream.iter_tokens("openai-completion")]) == (
            "zwölf"
        )


async def test_parts_come_at_a_pace(endpoint: LocalEndpoint) -> None:
    endpoint.answer(stream=PARTS, pace=0.1)
    endpoint.slow(0.1, stream=PARTS)
    endpoint.answer(stream=PARTS, pace=[0.3, 0.0])
    for least in (0.2, 0.3, 0.3):
        began = time.perf_counter()
        assert await _stream(endpoint) == (PARTS, None)
        assert time.perf_counter() - began >= least


async def test_the_end_of_an_answer_has_no_delay_of_its_own(endpoint: LocalEndpoint) -> None:
    endpoint.slow(0.5, text="whole")
    endpoint.slow(0.5, stream=["one"])
    endpoint.answer(stream=["one", "two"], pace=0.5)
    async with endpoint.client() as client:
        began = time.perf_counter()
        assert (await client.invoke_endpoint(endpoint_name="e", body=b"x")).text() == "whole"
        assert time.perf_counter() - began < 0.95
        for parts in ([b"one"], [b"one", b"two"]):
            began = time.perf_counter()
            assert await _stream(endpoint) == (parts, None)
            assert time.perf_counter() - began < 0.95


async def test_a_delay_without_an_answer_makes_as_many_parts_as_it_needs() -> None:
    async with LocalEndpoint() as endpoint:
        endpoint.hang("part 2", seconds=0.2)
        began = time.perf_counter()
        parts, error = await _stream(endpoint)
        assert time.perf_counter() - began >= 0.2
        assert (parts[:2], error) == ([b"part 1\n", b"part 2\n"], None)
        endpoint.slow(0.01)
        assert (await _stream(endpoint))[0]


async def test_a_fault_happens_to_what_is_answered_as_a_rule(endpoint: LocalEndpoint) -> None:
    endpoint.cut(1)
    endpoint.answer(stream=PARTS, times=None, on="e")
    assert (await _stream(endpoint))[0] == PARTS[:1]
    endpoint.assert_complete()

    def model(request: InvocationRequest) -> object:
        return iter(["a", "b"])

    async with LocalEndpoint(model) as served:
        served.cut(1)
        assert (await _stream(served))[0] == [b"a"]
        assert await _stream(served) == ([b"a", b"b"], None)


async def test_a_rule_keeps_its_pace_and_its_own_faults(endpoint: LocalEndpoint) -> None:
    endpoint.cut(2, stream=PARTS, pace=[0.0, 0.2], times=None)
    endpoint.split(1)
    began = time.perf_counter()
    parts, error = await _stream(endpoint)
    assert parts == [PARTS[0][:1], PARTS[0][1:2]]
    assert isinstance(error, aiosmrt.StreamConnectionLost)
    assert time.perf_counter() - began >= 0.2


async def test_a_failure_of_the_model_goes_before_the_fault(endpoint: LocalEndpoint) -> None:
    def fail(request: InvocationRequest) -> object:
        def parts() -> Any:
            yield b"a"
            raise aiosmrt.ModelStreamError("broken")

        return parts()

    endpoint.cut(3, model=fail)
    parts, error = await _stream(endpoint)
    assert parts == [b"a"]
    assert isinstance(error, aiosmrt.ModelStreamError)


async def test_a_fault_leaves_other_calls_alone(
    endpoint: LocalEndpoint, until: Callable[..., Any]
) -> None:
    endpoint.answer(text="well", times=None)
    endpoint.hang(on="hangs")
    async with endpoint.client() as client:
        hanging = asyncio.create_task(client.invoke_endpoint(endpoint_name="hangs", body=b"x"))
        await until(lambda: len(endpoint.requests) > 0)
        for _ in range(3):
            assert (await client.invoke_endpoint(endpoint_name="e", body=b"x")).text() == "well"
        hanging.cancel()
        await asyncio.wait([hanging])


async def test_leaving_ends_what_hangs(until: Callable[..., Any]) -> None:
    async with LocalEndpoint() as endpoint:
        endpoint.hang("part 2", text="a")
        task = asyncio.create_task(_stream(endpoint))
        await until(lambda: len(endpoint.requests) > 0)
    _, error = await task
    assert isinstance(error, aiosmrt.ConnectionLost)


async def test_the_log_names_the_step(
    endpoint: LocalEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aiosmrt.local")
    endpoint.cut(1, text="a")
    endpoint.hang("first_part", text="a")
    endpoint.reset(text="a")
    for _ in range(3):
        await _stream(endpoint, timeout=aiosmrt.Timeout(first_byte=0.1))
    await asyncio.sleep(0.05)  # the server sees that the client has left
    logged = [record.getMessage() for record in caplog.records]
    for told in (r"cut\(after=1, .*\), 200 ", r"hang\(.*\), 200 ", r"reset\(.*\), no answer "):
        assert any(re.search(rf"POST /endpoints/e/.*: {told}", line) for line in logged)


async def test_the_openai_route_follows_the_script_as_far_as_it_has_frames(
    http: aiohttp.ClientSession,
) -> None:
    asked = {"messages": [], "stream": True}
    async with LocalEndpoint(strict=True, auth=False) as open_endpoint:
        url = f"{open_endpoint.url}/endpoints/e/openai/v1/chat/completions"
        open_endpoint.corrupt(1)  # for others
        open_endpoint.answer(chat="a b")
        open_endpoint.cut(2, chat="a b")
        open_endpoint.cut(2, "chunk", chat="a b")
        open_endpoint.throttle()
        async with http.post(url, json=asked) as response:
            events = (await response.read()).split(b"\n\n")
        assert events[-2] == b"data: [DONE]"
        for _ in range(2):
            async with http.post(url, json=asked) as response:
                assert response.content_type == "text/event-stream"
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
        async with http.post(url, json=asked) as response:
            assert response.status == 400
            assert (await response.json())["error"]["code"] == "throttling"
        assert open_endpoint.requests.where(path="/v1/chat/completions", json=asked) != []
