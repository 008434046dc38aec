"""Real containers on loopback behind a real endpoint."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import aiohttp
import pytest
from aiohttp import web
from botocore.eventstream import EventStreamBuffer

from aiosmrt.local import LocalEndpoint

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
RunContainer: TypeAlias = Callable[[Handler], AbstractAsyncContextManager[str]]

_INVOKE = "/endpoints/e/invocations"
_STREAM = "/endpoints/e/invocations-response-stream"


@pytest.mark.parametrize("name", ["X-Amzn-SageMaker-New-Session-Id", "X-Amzn-SageMaker-Session-Id"])
@pytest.mark.asyncio
async def test_a_container_keeps_its_own_sessions(run_container: RunContainer, name: str) -> None:
    seen = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.headers.get("X-Amzn-SageMaker-Session-Id"))
        return web.Response(headers={name: "s; Expires=2030-01-01T00:00:00Z"})

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream) as endpoint,
        endpoint.client(params={"endpoint_name": "e"}) as client,
    ):
        opened = await client.invoke_endpoint(body=b"", session_id="NEW_SESSION")
        assert opened.new_session_id == "s"
        await client.invoke_endpoint(body=b"", session_id="unknown-here")
        async with client.invoke_endpoint_with_response_stream(body=b"", session_id="s") as stream:
            await stream.read()
    assert seen == ["NEW_SESSION", "unknown-here", "s"]


def _abort(request: web.BaseRequest) -> None:
    assert request.transport is not None
    request.transport.abort()


@pytest.mark.asyncio
async def test_a_request_and_its_answer_pass(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    seen = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.method, request.path, dict(request.headers), await request.read()))
        return web.Response(
            body=b"out",
            headers={
                "Content-Type": "text/csv",
                "Content-Encoding": "gzip",
                "X-Amzn-SageMaker-Custom-Attributes": "k=v",
                "X-Amzn-SageMaker-New-Session-Id": "s; Expires=2030-01-01T00:00:00Z",
                "X-Amzn-SageMaker-Closed-Session-Id": "t",
                "X-Other": "private",
            },
        )

    headers = {
        "Content-Type": "image/png",
        "Accept": "text/csv",
        "X-Amzn-SageMaker-Custom-Attributes": "a=b",
        "X-Amzn-SageMaker-Target-Model": "m.tar.gz",
        "X-Amzn-SageMaker-Session-Id": "NEW_SESSION",
        "X-Other": "private",
    }
    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream + "/", auth=False) as endpoint,
        http.post(endpoint.url + _INVOKE, data=b"in", headers=headers) as response,
    ):
        assert await response.read() == b"out"
        assert response.headers["Content-Type"] == "text/csv"
        assert response.headers["X-Amzn-SageMaker-Custom-Attributes"] == "k=v"
        session = response.headers["X-Amzn-SageMaker-New-Session-Id"]
        assert session == "s; Expires=2030-01-01T00:00:00Z"
        assert response.headers["X-Amzn-SageMaker-Closed-Session-Id"] == "t"
        assert "X-Other" not in response.headers
    ((method, path, received, body),) = seen
    assert (method, path, body) == ("POST", "/invocations", b"in")
    del received["Host"], headers["X-Other"]
    assert received == {**headers, "Content-Length": "2", "Connection": "close"}


@pytest.mark.asyncio
async def test_a_container_knows_one_name_of_accept(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert not any(name.startswith("X-Amzn") for name in request.headers)
        return web.Response(body=request.headers["Accept"].encode())

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream, auth=False) as endpoint,
        http.post(endpoint.url + _STREAM, headers={"X-Amzn-SageMaker-Accept": "a/b"}) as response,
    ):
        assert b"a/b" in await response.read()


@pytest.mark.asyncio
async def test_a_large_body_passes(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        sizes = [len(chunk) async for chunk in request.content.iter_any()]
        return web.Response(text=str(sum(sizes)))

    body = io.BytesIO(b"x" * 6_291_456)
    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream, auth=False) as endpoint,
        http.post(endpoint.url + _INVOKE, data=body) as response,
    ):
        assert await response.text() == "6291456"


@pytest.mark.asyncio
async def test_a_part_passes_before_the_container_has_finished(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    seen: asyncio.Queue[None] = asyncio.Queue()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(3):
            await response.write(b"data: %d\n\n" % number)
            await seen.get()
        return response

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream, auth=False) as endpoint,
        http.post(endpoint.url + _STREAM) as response,
    ):
        assert response.headers["X-Amzn-SageMaker-Content-Type"] == "text/event-stream"
        frames = EventStreamBuffer()
        for number in range(3):
            frames.add_data(await asyncio.wait_for(response.content.readany(), 10))
            assert [frame.payload for frame in frames] == [b"data: %d\n\n" % number]
            seen.put_nowait(None)
        assert await response.read() == b""


@pytest.mark.parametrize("path", [_INVOKE, _STREAM])
@pytest.mark.parametrize("status", [400, 404, 500, 503, 302])
@pytest.mark.asyncio
async def test_an_error_of_the_container_is_a_model_error(
    path: str, status: int, run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=b'{"error": "\xff"}', headers={"Location": "/"})

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream, auth=False) as endpoint,
        http.post(endpoint.url + path) as response,
    ):
        assert (response.status, response.headers["x-amzn-errortype"]) == (424, "ModelError")
        answer = await response.json()
    assert answer["OriginalStatusCode"] == status
    assert answer["OriginalMessage"] == '{"error": "\N{REPLACEMENT CHARACTER}"}'


@pytest.mark.asyncio
async def test_no_container_is_service_unavailable(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async with run_container(handle) as upstream:
        pass
    async with LocalEndpoint(upstream=upstream, auth=False) as endpoint:
        for path in (_INVOKE, _STREAM):
            async with http.post(endpoint.url + path) as response:
                assert response.status == 503
                assert response.headers["x-amzn-errortype"] == "ServiceUnavailable"
                message = (await response.json())["Message"]
                assert f"No connection to the model container at {upstream}" in message


@pytest.mark.parametrize("path", [_INVOKE, _STREAM])
@pytest.mark.asyncio
async def test_a_container_that_dies_before_its_answer_is_a_model_error(
    path: str, run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        _abort(request)
        return web.Response()

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream, auth=False) as endpoint,
        http.post(endpoint.url + path) as response,
    ):
        assert response.status == 424
        answer = await response.json()
    assert answer["OriginalStatusCode"] == 0
    assert "closed the connection before its answer was whole" in answer["OriginalMessage"]


@pytest.mark.asyncio
async def test_a_container_that_dies_in_its_answer_breaks_the_stream(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    seen = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await seen.wait()
        _abort(request)
        return response

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream, auth=False) as endpoint,
        http.post(endpoint.url + _STREAM) as response,
    ):
        frames = EventStreamBuffer()
        frames.add_data(await response.content.readany())
        assert [frame.payload for frame in frames] == [b"first"]
        seen.set()
        frames.add_data(await response.read())
        (frame,) = frames
    assert frame.headers[":message-type"] == "exception"
    assert frame.headers[":exception-type"] == "ModelStreamError"
    assert json.loads(frame.payload)["ErrorCode"] == "StreamBroken"


@pytest.mark.asyncio
async def test_half_an_answer_is_none(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"12345")
        assert request.transport is not None
        request.transport.close()
        return response

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream, auth=False) as endpoint,
        http.post(endpoint.url + _INVOKE) as response,
    ):
        assert response.status == 424
        assert (await response.json())["OriginalStatusCode"] == 0


@pytest.mark.asyncio
async def test_a_hang_up_reaches_the_container(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    left = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return response

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream, auth=False) as endpoint,
    ):
        response = await http.post(endpoint.url + _STREAM)
        await response.content.readany()
        response.close()
        await asyncio.wait_for(left.wait(), 10)


@pytest.mark.asyncio
async def test_ping_asks_the_container(
    run_container: RunContainer, http: aiohttp.ClientSession
) -> None:
    statuses = [500, 200]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert (request.method, request.path) == ("GET", "/ping")
        return web.Response(status=statuses.pop(0))

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream) as endpoint,
    ):
        for status in (503, 200):
            async with http.get(f"{endpoint.url}/ping") as response:
                assert response.status == status
    async with (
        LocalEndpoint(upstream=upstream) as endpoint,
        http.get(f"{endpoint.url}/ping") as response,
    ):
        assert response.status == 503
