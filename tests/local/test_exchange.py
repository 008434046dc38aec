"""HTTP as it is on the wire: edge cases that SDKs do not show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from botocore.eventstream import EventStreamBuffer

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure
from aiosmrt.local.exchange import Exchange

_STREAM = "/endpoints/e/invocations-response-stream"


def _parse(body: bytes) -> list[tuple[dict[str, str], bytes]]:
    frames = EventStreamBuffer()
    frames.add_data(body)
    return [(frame.headers, frame.payload) for frame in frames]


def _is_service_error(response: aiohttp.ClientResponse, status: int, code: str) -> bool:
    return (
        response.status == status
        and response.headers["x-amzn-errortype"] == code
        and "x-amzn-RequestId" in response.headers
        and "Date" in response.headers
        and response.content_type == "application/json"
    )


@pytest.mark.asyncio
async def test_frames_are_those_of_the_service(http: aiohttp.ClientSession) -> None:
    async def model(request: InvocationRequest) -> AsyncIterator[bytes | str]:
        yield b"\x00\xff"
        yield "ä"
        yield b""
        raise ModelFailure(500, "broken")

    async with (
        LocalEndpoint(model, auth=False) as endpoint,
        http.post(endpoint.url + _STREAM) as response,
    ):
        frames = _parse(await response.read())
    part = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    assert frames[:3] == [(part, b"\x00\xff"), (part, "ä".encode()), (part, b"")]
    ((headers, payload),) = frames[3:]
    assert headers == {
        ":message-type": "exception",
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
    }
    assert json.loads(payload) == {
        "Message": 'Received server error (500) from primary with message "broken"',
        "ErrorCode": "StreamBroken",
    }


@pytest.mark.asyncio
async def test_a_stream_of_no_parts_ends_properly(http: aiohttp.ClientSession) -> None:
    async with (
        LocalEndpoint(lambda request: iter(()), auth=False) as endpoint,
        http.post(endpoint.url + _STREAM) as response,
    ):
        assert await response.read() == b""
        assert response.status == 200
        assert response.headers["X-Amzn-SageMaker-Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"x", "application/octet-stream"),
        ("x", "text/plain; charset=utf-8"),
        (["x"], "application/json"),
        (iter(["x", b"y"]), "text/plain; charset=utf-8"),
    ],
)
@pytest.mark.asyncio
async def test_a_content_type_follows_from_the_body(
    body: object, content_type: str, http: aiohttp.ClientSession
) -> None:
    async with (
        LocalEndpoint(lambda request: body, auth=False) as endpoint,
        http.post(f"{endpoint.url}/endpoints/e/invocations") as response,
    ):
        assert response.headers["Content-Type"] == content_type


@pytest.mark.asyncio
async def test_an_iterator_is_joined_for_a_plain_call(http: aiohttp.ClientSession) -> None:
    async with (
        LocalEndpoint(lambda request: iter(["a", b"b"]), auth=False) as endpoint,
        http.post(f"{endpoint.url}/endpoints/e/invocations") as response,
    ):
        assert await response.read() == b"ab"
        assert response.headers["Content-Length"] == "2"


@pytest.mark.asyncio
async def test_each_part_goes_out_before_the_next_is_made(http: aiohttp.ClientSession) -> None:
    seen: asyncio.Queue[None] = asyncio.Queue()

    async def model(request: InvocationRequest) -> AsyncIterator[str]:
        for number in range(3):
            yield str(number)
            await seen.get()

    async with (
        LocalEndpoint(model, auth=False) as endpoint,
        http.post(endpoint.url + _STREAM) as response,
    ):
        frames = EventStreamBuffer()
        for number in range(3):
            frames.add_data(await asyncio.wait_for(response.content.readany(), 10))
            assert [frame.payload for frame in frames] == [str(number).encode()]
            seen.put_nowait(None)


@pytest.mark.asyncio
async def test_a_slow_reader_slows_the_model() -> None:
    made = 0
    limit = 2000  # parts; 200 MB, which no socket buffer takes

    async def model(request: InvocationRequest) -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(limit):
            made += 1
            yield b"x" * 100_000

    async with LocalEndpoint(model, auth=False) as endpoint:
        port = int(endpoint.url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(f"POST {_STREAM} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
        before = -1
        while before < made or made == 0:
            before = made
            await asyncio.sleep(0.05)
        assert made < limit / 2
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/endpoints/e/invocations"), ("POST", "/"), ("POST", "/ping"), ("PUT", "/ping")],
)
@pytest.mark.asyncio
async def test_an_unknown_path_is_an_unknown_operation(
    method: str, path: str, http: aiohttp.ClientSession
) -> None:
    async with (
        LocalEndpoint() as endpoint,
        http.request(method, endpoint.url + path) as response,
    ):
        assert _is_service_error(response, 404, "UnknownOperationException")
        assert f"{method} {path} is no operation" in (await response.json())["Message"]


@pytest.mark.asyncio
async def test_an_error_leaves_the_connection_usable() -> None:
    async with LocalEndpoint(auth=False) as endpoint:
        port = int(endpoint.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for path, status in (("/", b"404"), ("/endpoints/e/invocations", b"200")):
            head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.split(b" ")[1] == status
            length = int(answer.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()


@pytest.mark.asyncio
async def test_a_client_that_asks_first_is_told_to_continue() -> None:
    async with LocalEndpoint(auth=False) as endpoint:
        port = int(endpoint.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /endpoints/e/invocations HTTP/1.1\r\nHost: h\r\n"
            b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        asked = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()
    assert [request.body for request in endpoint.requests] == [b"{}"]


@pytest.mark.asyncio
async def test_a_body_is_left_as_it_was_sent(http: aiohttp.ClientSession) -> None:
    packed = zlib.compress(b"{}")

    async def chunks() -> AsyncIterator[bytes]:
        yield packed[:3]
        yield packed[3:]

    async with LocalEndpoint(auth=False) as endpoint:
        url = f"{endpoint.url}/endpoints/e/invocations"
        async with http.post(url, data=chunks(), headers={"Content-Encoding": "deflate"}):
            pass
    assert [request.body for request in endpoint.requests] == [packed]


@pytest.mark.asyncio
async def test_a_fault_of_the_endpoint_is_an_internal_failure(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("aiosmrt.local.dispatcher.read_invocation", fail)
    async with (
        LocalEndpoint(auth=False) as endpoint,
        http.post(f"{endpoint.url}/endpoints/e/invocations") as response,
    ):
        assert _is_service_error(response, 500, "InternalFailure")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("size", [0, 1 << 24, 50_000_000])
@pytest.mark.asyncio
async def test_a_part_of_any_size_goes_out_in_frames_that_clients_take(size: int) -> None:
    async def model(request: InvocationRequest) -> AsyncIterator[bytes]:
        yield bytes(size)
        yield b"end"

    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client() as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x") as stream,
    ):
        sizes = [len(part.bytes) async for part in stream]
    assert sum(sizes) == size + 3
    assert sizes[-1] == 3
    # With its headers; 16 MiB is the least of what the SDKs take.
    assert max(sizes) + 200 < 1 << 24
    assert len(sizes) == max(1, -(-size // ((1 << 24) - 1024))) + 1


_STATUSES = [
    (aiosmrt.ThrottlingException("slow down"), 400),
    (aiosmrt.ThrottlingException("slow down", status=429), 429),
    (aiosmrt.ModelNotReadyException("loading"), 429),
    (aiosmrt.ServiceUnavailable("later"), 503),
    (aiosmrt.InternalFailure("broken"), 500),
    (aiosmrt.InternalDependencyException("broken"), 530),
    (aiosmrt.ValidationError("no"), 400),
    (aiosmrt.ModelError("no", fields={"OriginalStatusCode": 418, "OriginalMessage": "tea"}), 424),
    (aiosmrt.ServiceError("no", code="AccessDeniedException", status=403), 403),
    (aiosmrt.ServiceError("no", code="Odd"), 500),
]


@pytest.mark.parametrize(("error", "status"), _STATUSES)
@pytest.mark.parametrize("how", ["at once", "async", "in a generator"])
@pytest.mark.asyncio
async def test_a_service_error_of_a_model_is_the_answer(
    error: aiosmrt.ServiceError, status: int, how: str
) -> None:
    def fail(request: InvocationRequest) -> bytes:
        raise error

    async def fail_async(request: InvocationRequest) -> bytes:
        raise error

    async def generate(request: InvocationRequest) -> AsyncIterator[bytes]:
        if request.body:
            raise error
        yield b""

    models = {"at once": fail, "async": fail_async, "in a generator": generate}
    policy = aiosmrt.RetryPolicy(mode="off")
    async with LocalEndpoint(models[how]) as endpoint, endpoint.client(retry=policy) as client:
        with pytest.raises(aiosmrt.ServiceError) as caught:
            await client.invoke_endpoint(endpoint_name="e", body=b"x")
        with pytest.raises(aiosmrt.ServiceError) as streamed:
            await client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")
        invocation = await client.invoke_endpoint_async(endpoint_name="e", body=b"x")
        with pytest.raises(aiosmrt.AsyncInferenceError, match=error.message):
            await invocation.result()
    for came in (caught.value, streamed.value):
        assert type(came) is type(error)
        assert (came.status, came.code, came.message) == (status, error.code, error.message)
        if isinstance(came, aiosmrt.ModelError):
            assert (came.original_status_code, came.original_message) == (418, "tea")
            assert "/aws/sagemaker/Endpoints/e" in (came.log_stream_arn or "")


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (aiosmrt.ModelStreamError("oom"), aiosmrt.ModelStreamError, "StreamBroken: oom"),
        (
            aiosmrt.ModelStreamError("late", fields={"ErrorCode": "ModelInvocationTimeExceeded"}),
            aiosmrt.ModelStreamError,
            "ModelInvocationTimeExceeded: late",
        ),
        (aiosmrt.InternalStreamFailure("oops"), aiosmrt.InternalStreamFailure, "oops"),
        # A stream has no throttling: it is told in words.
        (
            aiosmrt.ThrottlingException("slow down"),
            aiosmrt.ModelStreamError,
            "ThrottlingException: slow down",
        ),
    ],
)
@pytest.mark.asyncio
async def test_a_service_error_in_a_stream_is_one_that_streams_have(
    error: aiosmrt.ServiceError, kind: type[aiosmrt.ServiceError], said: str
) -> None:
    async def model(request: InvocationRequest) -> AsyncIterator[bytes]:
        yield b"1"
        raise error

    async with LocalEndpoint(model) as endpoint, endpoint.client() as client:
        parts = []
        with pytest.raises(kind, match=said):  # noqa: PT012 - what came before counts, too
            async with client.invoke_endpoint_with_response_stream(
                endpoint_name="e", body=b"x"
            ) as stream:
                async for part in stream:
                    parts.append(part.bytes)  # noqa: PERF401 - it ends in an error
        assert parts == [b"1"]


@pytest.mark.asyncio
async def test_an_error_of_streams_where_there_is_none_is_that_of_calls() -> None:
    for error, status in (
        (aiosmrt.ModelStreamError("x"), 424),
        (aiosmrt.InternalStreamFailure("x"), 500),
    ):

        def model(request: InvocationRequest, error: aiosmrt.ServiceError = error) -> bytes:
            raise error

        async with LocalEndpoint(model) as endpoint, endpoint.client() as client:
            with pytest.raises((aiosmrt.ModelError, aiosmrt.InternalFailure)) as caught:
                await client.invoke_endpoint(endpoint_name="e", body=b"x")
            assert caught.value.status == status
            with pytest.raises(type(error)):
                await client.invoke_endpoint_with_response_stream(endpoint_name="e", body=b"x")


@pytest.mark.asyncio
async def test_a_connection_that_a_script_closes_before_the_body_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receive = Exchange.receive

    async def close_and_receive(self: Exchange, limit: int | None) -> bytes:
        self.request.protocol.force_close()  # as for a step that is for connections
        return await receive(self, limit)

    monkeypatch.setattr(Exchange, "receive", close_and_receive)
    async with LocalEndpoint(auth=False) as endpoint:
        host, _, port = endpoint.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /endpoints/e/invocations HTTP/1.1\r\nHost: e\r\nContent-Length: 9\r\n\r\nx"
        )
        assert await reader.read() == b""
        writer.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
