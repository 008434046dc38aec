"""The OpenAI-compatible route as OpenAI's own client meets it, and as it is on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import aiohttp
import openai
import pytest
from aiohttp import web

import aiosmrt
from aiosmrt import SageMakerRuntimeClient
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelFailure, ModelResponse

RunContainer: TypeAlias = Callable[
    [Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]], AbstractAsyncContextManager[str]
]
Until: TypeAlias = Callable[..., Awaitable[None]]

pytestmark = pytest.mark.asyncio

ASK: dict[str, Any] = {"model": "", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/endpoints/e/openai/v1/chat/completions"
HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _event(text: str, reason: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return f"data: {json.dumps({**HEAD, 'choices': [choice]})}\n\n"


async def model(request: InvocationRequest) -> object:
    """Say hello, in OpenAI's chat shape."""
    if request.operation == "InvokeEndpointWithResponseStream":
        return _chat(json.loads(request.body)["messages"][0]["content"])
    message = {"role": "assistant", "content": "hello there"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**HEAD, "object": "chat.completion", "choices": [choice]}


async def _chat(asked: str) -> AsyncIterator[str]:
    yield _event("hello ")
    if asked == "break":
        raise ModelFailure(500, "out of memory")
    yield _event("there")
    yield _event("", "stop")
    yield "data: [DONE]\n\n"


def connect(client: SageMakerRuntimeClient, *names: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=client.openai_base_url(*(names or ("e",))),
        api_key=client.bearer_token,
        max_retries=0,
    )


async def test_openais_client_chats_with_a_token_of_ours() -> None:
    async with (
        LocalEndpoint(model, region_name="eu-west-1") as endpoint,
        endpoint.client() as client,
        connect(client) as ai,
    ):
        answer = await ai.chat.completions.create(**ASK)
        assert answer.choices[0].message.content == "hello there"
    (request,) = endpoint.requests
    assert (request.operation, request.endpoint_name) == ("InvokeEndpoint", "e")
    assert (request.path, request.content_type) == ("/v1/chat/completions", "application/json")


async def test_openais_client_streams_with_a_token_of_ours() -> None:
    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client() as client,
        connect(client, "e", "part-1") as ai,
        await ai.chat.completions.create(**ASK, stream=True) as stream,
    ):
        pieces = [chunk.choices[0].delta.content async for chunk in stream]
        assert pieces == ["hello ", "there", ""]
        assert stream.response.headers["content-type"] == "text/event-stream"
    (request,) = endpoint.requests
    assert request.operation == "InvokeEndpointWithResponseStream"
    assert request.inference_component_name == "part-1"


async def test_a_stream_comes_as_the_container_sends_it(http: aiohttp.ClientSession) -> None:
    async def stream(request: InvocationRequest) -> ModelResponse:
        return ModelResponse(_halves(), content_type="text/event-stream; charset=utf-8")

    async def _halves() -> AsyncIterator[bytes]:
        yield 'data: {"ö'.encode()[:-1]
        yield b""
        yield "ö".encode()[-1:] + b'": 1}\r\n'

    async with (
        LocalEndpoint(stream, auth=False) as endpoint,
        http.post(endpoint.url + PATH, json={"stream": True}) as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert (await response.read()).decode() == 'data: {"ö": 1}\r\n'


async def test_a_fault_in_a_stream_cuts_it_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "aiosmrt")
    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client() as client,
        connect(client) as ai,
    ):
        ask = {**ASK, "messages": [{"role": "user", "content": "break"}]}
        stream = await ai.chat.completions.create(**ask, stream=True)
        assert (await anext(stream)).choices[0].delta.content == "hello "
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)
        await stream.close()
    assert "the stream is cut: ModelError" in caplog.text
    assert "out of memory" in caplog.text
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_leaving_a_stream_stops_the_model(until: Until) -> None:
    ended = asyncio.Event()

    async def endless(request: InvocationRequest) -> AsyncIterator[str]:
        try:
            while True:
                yield _event("more ")
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    async def run(request: InvocationRequest) -> object:
        return endless(request)

    async with LocalEndpoint(run) as endpoint, endpoint.client() as client, connect(client) as ai:
        async with await ai.chat.completions.create(**ASK, stream=True) as stream:
            async for _ in stream:
                break
        await until(ended.is_set)


# --- refusals


async def _refuse(client: SageMakerRuntimeClient, **ask: Any) -> openai.APIStatusError:
    async with connect(client) as ai:
        with pytest.raises(openai.APIStatusError) as caught:
            await ai.chat.completions.create(**{**ASK, **ask})
        return caught.value


async def test_errors_are_in_openais_envelope() -> None:
    async def fail(request: InvocationRequest) -> object:
        asked = json.loads(request.body)["messages"][0]["content"]
        if asked == "throttle":
            raise aiosmrt.ThrottlingException("slow down", status=429)
        raise ModelFailure(400, '{"error": "no such tensor"}')

    async with LocalEndpoint(fail) as endpoint, endpoint.client() as client:
        for streams in (False, True):
            error = await _refuse(client, stream=streams)
            assert (error.status_code, error.type, error.code) == (
                *(424, "server_error", "model_error"),
            )
            assert "Received client error (400) from primary" in error.message
            assert "no such tensor" in error.message
        error = await _refuse(client, messages=[{"role": "user", "content": "throttle"}])
        assert isinstance(error, openai.RateLimitError)
        assert (error.type, error.code) == ("invalid_request_error", "throttling")


async def test_a_token_of_other_keys_is_refused_until_there_are_right_ones() -> None:
    keys = [("other", "one"), ("local", "local-secret")]

    async def find() -> aiosmrt.Credentials:
        return aiosmrt.Credentials(*keys.pop(0))

    async with (
        LocalEndpoint(model) as endpoint,
        SageMakerRuntimeClient(
            region_name="us-east-1", endpoint_url=endpoint.url, credentials=find
        ) as client,
    ):
        error = await _refuse(client)
        assert isinstance(error, openai.PermissionDeniedError)
        assert "knows the access key id 'local'" in error.message
        await client.bearer_token(refresh=True)
        async with connect(client) as ai:
            assert await ai.chat.completions.create(**ASK)


async def test_a_token_of_another_region_is_refused() -> None:
    async with LocalEndpoint(model, region_name="eu-west-1") as endpoint:
        async with endpoint.client(region_name="us-east-1") as client:
            error = await _refuse(client)
        assert error.status_code == 403
        assert "'eu-west-1', not 'us-east-1'" in error.message


async def test_a_signature_of_another_region_is_refused() -> None:
    async with LocalEndpoint(model, region_name="eu-west-1") as endpoint:
        async with endpoint.client(region_name="us-east-1") as client:
            with pytest.raises(aiosmrt.ServiceError, match="valid region: 'eu-west-1'"):
                await client.invoke_endpoint(endpoint_name="e", body=b"{}")
        async with endpoint.client() as client:
            await client.invoke_endpoint(endpoint_name="e", body=b"{}")


Asked: TypeAlias = tuple[str, str, dict[str, str], bytes]
Expected: TypeAlias = tuple[int, str, str]

COMPONENT = {"X-Amzn-SageMaker-Inference-Component": "c"}


async def _compare(
    http: aiohttp.ClientSession, endpoint: LocalEndpoint, asked: Asked, expected: Expected
) -> None:
    method, path, headers, body = asked
    async with http.request(method, endpoint.url + path, headers=headers, data=body) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == expected[:2]
        assert expected[2] in error["message"]
        assert error["type"] == "invalid_request_error"
    assert not endpoint.requests


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (401, "missing_authentication_token", "Authorization: Bearer")),
        ({"Authorization": "Bearer sk-1"}, (403, "access_denied", "sagemaker-api-key-")),
        ({"Authorization": "AWS4-HMAC-SHA256 x"}, (403, "access_denied", "takes a bearer token")),
    ],
)
async def test_who_does_not_show_a_token_is_refused(
    headers: dict[str, str], expected: Expected, http: aiohttp.ClientSession
) -> None:
    async with LocalEndpoint(model) as endpoint:
        await _compare(http, endpoint, ("POST", PATH, headers, b"{}"), expected)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("GET", PATH, {}, b""), (404, "not_found", "there is POST /chat/completions alone")),
        (("POST", "/endpoints/e/openai/v1/embeddings", {}, b"{}"), (404, "not_found", "/embed")),
        (("GET", "/endpoints/e/openai/v1/models", {}, b""), (404, "not_found", "/models")),
        (("POST", "/endpoints/e/openai/v1", {}, b"{}"), (404, "not_found", "POST / is not")),
        (("POST", PATH, COMPONENT, b"{}"), (400, "validation_error", "is named by the path")),
        (("POST", PATH, {}, b"[1]"), (400, "validation_error", "no JSON object")),
        (("POST", PATH, {}, b"{"), (400, "validation_error", "no JSON")),
        (
            ("POST", PATH.replace("/e/", "/-e/"), {}, b"{}"),
            (400, "validation_error", "endpoint_name must match"),
        ),
        (
            ("POST", PATH.replace("/e/", "/e/inference-components/c%20d/"), {}, b"{}"),
            (400, "validation_error", "inference_component_name must match"),
        ),
    ],
)
async def test_what_is_not_served_is_refused_by_name(
    asked: Asked, expected: Expected, http: aiohttp.ClientSession
) -> None:
    async with LocalEndpoint(model, auth=False) as endpoint:
        await _compare(http, endpoint, asked, expected)


async def test_without_auth_anybody_is_served(http: aiohttp.ClientSession) -> None:
    async with LocalEndpoint(model, auth=False) as endpoint:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "AWS4-HMAC-SHA256"}):
            async with http.post(endpoint.url + PATH, json=ASK, headers=headers) as response:
                assert response.status == 200


# --- containers


async def test_a_container_is_asked_at_its_own_chat_path(run_container: RunContainer) -> None:
    seen = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.path, await request.json(), sorted(request.headers)))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in (_event("hi"), "data: [DONE]\n\n"):
            await response.write(event.encode())
        return response

    async with (
        run_container(handle) as upstream,
        LocalEndpoint(upstream=upstream) as endpoint,
        endpoint.client() as client,
        connect(client, "e", "c") as ai,
        await ai.chat.completions.create(
            **ASK, stream=True, extra_headers={"X-Amzn-SageMaker-Custom-Attributes": "a"}
        ) as stream,
    ):
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["hi"]
    ((path, body, names),) = seen
    assert path == "/v1/chat/completions"
    assert body == {**ASK, "stream": True}
    assert "Authorization" not in names
    assert "X-Amzn-SageMaker-Custom-Attributes" not in names
