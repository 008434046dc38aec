from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

import aiosmrt
from aiosmrt.local import InvocationRequest, ModelFailure, ModelResponse
from aiosmrt.openai import SageMakerTransport
from aiosmrt.openai.family import AsyncClient

if TYPE_CHECKING:
    from tests.openai.conftest import Chats, StartTalk

pytestmark = pytest.mark.asyncio


async def _fail(there: Any, **asked: Any) -> Any:
    """Give the error of a chat that must fail, with its response."""
    with pytest.raises(openai.APIStatusError) as caught:
        await there.say(**asked)
    error: Any = caught.value
    assert error.response.headers["x-should-retry"] == "false"
    assert error.response.json() == {"error": error.body}
    assert set(error.body) >= {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            json.dumps({"error": {"message": "too long", "type": "invalid", "param": "n"}}),
            ("too long", "invalid", "n", None),
        ),
        # vLLM's, flat.
        (
            json.dumps({"object": "error", "message": "too long", "type": "Bad", "code": 400}),
            ("too long", "Bad", None, "400"),
        ),
        (json.dumps({"detail": "too long"}), ("too long", "invalid_request_error", None, None)),
        (
            json.dumps({"error": "too long", "code": "E1"}),
            ("too long", "invalid_request_error", None, "E1"),
        ),
        ("too long", ("too long", "invalid_request_error", None, "ModelError")),
    ],
)
async def test_a_containers_refusal_is_unwrapped(
    words: str, expected: tuple[str | None, ...], talk: StartTalk
) -> None:
    def model(_: InvocationRequest) -> object:
        raise ModelFailure(422, words)

    async with talk(model) as there:
        error = await _fail(there)
    for kind in (openai.UnprocessableEntityError, aiosmrt.ModelError):
        assert isinstance(error, kind)
    assert (error.message, error.type, error.param, error.code) == expected
    assert (error.status_code, error.original_status_code) == (422, 422)
    assert error.original_message == words
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.log_stream_arn
    # Its text is that of this package: what was asked of whom, and the log.
    assert "InvokeEndpoint, endpoint 'llm', request id" in str(error)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (r'{"error": {"message": "half \ud800", "score": 1}}', "half \ufffd"),
        (r'{"error": {"message": "pair \ud83d\ude00", "score": NaN}}', "pair \U0001f600"),
        (r'{"message": "far", "score": [1e999, -Infinity]}', "far"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_may_have_what_no_json_should_have(
    *, words: str, message: str, stream: bool, talk: StartTalk
) -> None:
    def model(_: InvocationRequest) -> object:
        raise ModelFailure(500, words)

    async with talk(model) as there:
        with pytest.raises(aiosmrt.ModelError) as caught:
            await (there.stream() if stream else there.say())
        error: Any = caught.value
        assert openai.InternalServerError in type(error).__mro__
        assert (error.message, error.status_code) == (message, 500)
        body: Any = error.body
        assert "score" in body
        assert len(there.endpoint.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_paid_answer_is_given_whatever_its_headers_have(
    *, stream: bool, talk: StartTalk, chats: type[Chats]
) -> None:
    def model(_: InvocationRequest) -> object:
        body: Any = iter(chats.stream("a")) if stream else chats.whole("a")
        return ModelResponse(body, custom_attributes="naïve ☃")

    async with talk(model) as there:
        asked: Any = there.ai.chat.completions.with_raw_response
        answer = await asked.create(**chats.ASK, stream=stream)
        name = "x-amzn-sagemaker-custom-attributes"
        assert answer.headers[name] == "naïve ☃"
        chunks: Any = answer.parse()
        assert not stream or [chunk async for chunk in chunks]


def _refuse(respond: Any, status: int, code: str, message: str, **headers: str) -> bytes:
    body = json.dumps({"message": message}).encode()
    answer: bytes = respond(
        status, body, x_amzn_errortype=code, x_amzn_requestid="7-7-7", **headers
    )
    return answer


@pytest.mark.parametrize(
    ("status", "code", "message", "expected", "headers"),
    [
        (400, "ThrottlingException", "Rate exceeded", (429, "RateLimitError"), {}),
        (429, "ModelNotReadyException", "", (429, "RateLimitError"), {"retry_after": "7"}),
        (503, "ServiceUnavailable", "", (503, "InternalServerError"), {}),
        (
            400,
            "ValidationError",
            "Inference Component has no capacity to process this request.",
            (503, "InternalServerError"),
            {},
        ),
        (400, "ValidationError", "Endpoint e not found.", (400, "BadRequestError"), {}),
        (403, "ExpiredTokenException", "", (403, "PermissionDeniedError"), {}),
        (409, "ConflictException", "", (409, "ConflictError"), {}),
        (418, "Teapot", "", (418, "APIStatusError"), {}),
    ],
)
async def test_a_refusal_of_the_service_has_its_status(
    *,
    status: int,
    code: str,
    message: str,
    expected: tuple[int, str],
    headers: dict[str, str],
    serve: Any,
    connect: Any,
    events: Any,
    respond: Any,
    chats: type[Chats],
) -> None:
    answer = events.play(_refuse(respond, status, code, message, **headers))
    once = aiosmrt.RetryPolicy(mode="off")
    async with serve(answer) as server, connect(server, retry=once) as client:
        ai = aiosmrt.openai.connect(client, endpoint_name="llm")
        with pytest.raises(aiosmrt.ServiceError) as caught:
            await ai.chat.completions.create(**chats.ASK)
    error: Any = caught.value
    assert (error.status_code, type(error).__bases__[1].__name__) == expected
    assert (error.code, error.request_id) == (code, "7-7-7")
    assert message in error.message
    assert error.response.headers.get("retry-after") == headers.get("retry_after")
    assert error.type == ("server_error" if expected[0] >= 500 else "invalid_request_error")


async def test_an_error_of_a_request_names_what_is_wrong_with_it(talk: StartTalk) -> None:
    async with talk(lambda _: None, session_id="not a session") as there:
        error = await _fail(there)
        for kind in (openai.BadRequestError, aiosmrt.ParameterError):
            assert isinstance(error, kind)
        assert (error.code, error.may_have_run) == ("ParameterError", False)
        assert "session_id" in error.message
        assert not there.endpoint.requests


async def test_a_body_above_the_services_limit_is_refused_with_it(talk: StartTalk) -> None:
    async with talk(lambda _: None) as there:
        error = await _fail(there, extra_body={"x": "y" * 6_300_000})
        assert isinstance(error, openai.BadRequestError)
        assert "6,291,456" in error.message or "6291456" in error.message
        assert not there.endpoint.requests


async def test_a_refusal_goes_with_its_error_and_not_with_the_garbage(talk: StartTalk) -> None:
    def model(_: InvocationRequest) -> object:
        raise ModelFailure(400, "too long")

    async with talk(model) as there:
        await _fail(there)  # what is made once
        gc.collect()
        gc.disable()
        try:
            responses = []
            try:
                await there.say()
            except openai.BadRequestError as error:
                responses.append(weakref.ref(error.response))
            assert [response() for response in responses] == [None]
        finally:
            gc.enable()


async def test_clients_without_the_sdk_are_answered(
    serve: Any, connect: Any, events: Any, respond: Any, chats: type[Chats]
) -> None:
    answer = events.play(_refuse(respond, 429, "ThrottlingException", "slow down"))
    once = aiosmrt.RetryPolicy(mode="off")
    async with serve(answer) as server, connect(server, retry=once) as client:
        transport = SageMakerTransport(client, endpoint_name="llm")
        async with AsyncClient(transport=transport) as browser:
            response = await browser.post("http://any/chat/completions", json=chats.ASK)
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["message"] == "slow down"
    with pytest.raises(openai.RateLimitError, match="slow down"):
        response.raise_for_status()


async def test_what_a_hook_raises_is_not_asked_for_again(
    talk: StartTalk, chats: type[Chats]
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("mine")

    async with talk(lambda _: chats.whole("a")) as there:
        client = there.client.with_options(hooks=aiosmrt.Hooks(after_headers=fail))
        transport = SageMakerTransport(client, endpoint_name="llm")
        ai = openai.AsyncOpenAI(
            api_key="x", base_url="http://any", http_client=AsyncClient(transport=transport)
        )
        with pytest.raises(openai.APIConnectionError, match="ZeroDivisionError: mine") as caught:
            await ai.chat.completions.create(**chats.ASK)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert len(there.endpoint.requests) == 1


@pytest.mark.parametrize("is_said_to_the_sdk", [True, False])
async def test_nor_what_it_raises_in_the_middle_of_a_stream(
    is_said_to_the_sdk: bool, talk: StartTalk, chats: type[Chats]
) -> None:
    """The SDK reads a stream that it does not know of while it could still ask again."""
    calls = 0

    def fail(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError("mine")

    async def model(_: InvocationRequest) -> AsyncIterator[bytes]:
        for part in chats.stream("a", "b"):
            yield part
            await asyncio.sleep(0.01)

    asked = {"stream": True} if is_said_to_the_sdk else {"extra_body": {"stream": True}}
    async with talk(model) as there:
        client = there.client.with_options(hooks=aiosmrt.Hooks(on_parts=fail))
        transport = SageMakerTransport(client, endpoint_name="llm")
        ai = openai.AsyncOpenAI(
            api_key="x", base_url="http://any", http_client=AsyncClient(transport=transport)
        )
        with pytest.raises(openai.APIConnectionError, match="ZeroDivisionError: mine") as caught:
            async for _ in await ai.chat.completions.create(**chats.ASK, **asked):
                pass
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert len(there.endpoint.requests) == 1
