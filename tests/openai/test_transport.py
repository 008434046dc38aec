from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import openai
import pytest

import aiosmrt
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelResponse
from aiosmrt.openai import SageMakerTransport, connect
from aiosmrt.openai.family import AsyncClient, Request

if TYPE_CHECKING:
    from tests.openai.conftest import Chats, StartTalk

pytestmark = pytest.mark.asyncio

Until: TypeAlias = Callable[..., Awaitable[None]]


def is_stream(request: InvocationRequest) -> bool:
    return request.operation == "InvokeEndpointWithResponseStream"


# --- what is served


async def test_a_chat_is_an_invocation(talk: StartTalk, chats: type[Chats]) -> None:
    async with talk(lambda _: chats.whole("Hello")) as there:
        completion = await there.say(temperature=0.5)
        assert completion.choices[0].message.content == "Hello"
        (request,) = there.endpoint.requests
        assert (request.operation, request.endpoint_name) == ("InvokeEndpoint", "llm")
        assert (request.content_type, request.accept) == ("application/json", "application/json")
        assert json.loads(request.body) == {**chats.ASK, "temperature": 0.5}


async def test_a_streamed_chat_is_a_response_stream(talk: StartTalk, chats: type[Chats]) -> None:
    async with talk(lambda _: iter(chats.stream("Hel", "lo"))) as there:
        chunks = await there.stream()
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["Hel", "lo", ""]
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert is_stream(there.endpoint.requests[0])
        # The connection was given back: the stream was read to its end.
        assert there.client.stats().idle_connections == 1


async def test_parts_are_passed_on_as_they_come(talk: StartTalk, chats: type[Chats]) -> None:
    go_on = asyncio.Event()

    async def model(_: InvocationRequest) -> AsyncIterator[bytes]:
        for part in chats.stream("a", "b"):
            yield part
            await go_on.wait()

    async with talk(model) as there:
        stream = await there.ai.chat.completions.create(**chats.ASK, stream=True)
        async with asyncio.timeout(5):
            assert (await anext(stream)).choices[0].delta.content == "a"
        go_on.set()
        assert len([chunk async for chunk in stream]) == 2


@pytest.mark.parametrize("behind", ["half a chunk", "a comment", "the marker"])
async def test_a_chunk_waits_for_nothing_that_came_with_it(
    behind: str, serve: Any, events: Any, connect: Any, chats: type[Chats]
) -> None:
    first, chunk, *_ = chats.stream("a", "b")
    last = chats.event(chats.chunk("c", "stop"))
    came, comes = {
        "half a chunk": (last[:20], last[20:] + chats.DONE),
        "a comment": (b": still there\n\n", last + chats.DONE),
        "the marker": (chats.DONE, b": bye\n\n"),
    }[behind]
    go_on = asyncio.Event()
    play = events.play(
        events.head(),
        events.chunk(events.part(first), events.part(chunk), events.part(came)),
        go_on,
        events.chunk(events.part(comes)) + events.END,
    )
    async with serve(play) as server, connect(server) as client:
        ai = aiosmrt.openai.connect(client, endpoint_name="llm")
        async with asyncio.timeout(5):
            stream = await ai.chat.completions.create(**chats.ASK, stream=True)
            texts = [(await anext(stream)).choices[0].delta.content for _ in "ab"]
        go_on.set()
        assert texts == ["a", "b"]
        assert len([chunk async for chunk in stream]) == 1


async def test_what_a_hook_raises_comes_behind_what_was_sound(
    serve: Any, events: Any, connect: Any, chats: type[Chats]
) -> None:
    bursts = 0

    def fail(_: object) -> None:
        nonlocal bursts
        bursts += 1
        if bursts == 2:
            raise ZeroDivisionError("mine")

    first, chunk, *_ = chats.stream("a", "b")
    go_on = asyncio.Event()
    play = events.play(
        events.head(),
        events.chunk(*map(events.part, (first, chunk, chunk[:20]))),
        go_on,
        events.chunk(events.part(chunk[20:])),
    )
    async with serve(play) as server, connect(server, hooks=aiosmrt.Hooks(on_parts=fail)) as client:
        ai = aiosmrt.openai.connect(client, endpoint_name="llm")
        stream = await ai.chat.completions.create(**chats.ASK, stream=True)
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        assert [(await anext(stream)).choices[0].delta.content for _ in "ab"] == ["a", "b"]
        with pytest.raises(openai.APIConnectionError, match="ZeroDivisionError: mine"):
            await anext(stream)


async def test_completions_and_embeddings_are_served_too(talk: StartTalk) -> None:
    def model(request: InvocationRequest) -> object:
        asked = json.loads(request.body)
        if "input" in asked:
            return {"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "model": "m"}
        choice = {"index": 0, "text": "upon a time", "finish_reason": "stop"}
        whole = {"id": "cmpl-1", "object": "text_completion", "choices": [choice]}
        return iter([f"data: {json.dumps(whole)}\n\n"]) if is_stream(request) else whole

    async with talk(model) as there:
        completion = await there.ai.completions.create(model="", prompt="once")
        assert completion.choices[0].text == "upon a time"
        pieces = await there.ai.completions.create(model="", prompt="once", stream=True)
        assert [piece.choices[0].text async for piece in pieces] == ["upon a time"]
        embeddings = await there.ai.embeddings.create(model="", input="x", encoding_format="float")
        assert embeddings.data[0].embedding == [0.5]


async def test_another_name_makes_a_body_no_longer(talk: StartTalk, chats: type[Chats]) -> None:
    """The service takes 6 MiB; who asks in Japanese would have twice as much."""
    text = "日" * 10_000 + '"é\t'
    async with talk(lambda _: chats.whole("a")) as there:
        transport = SageMakerTransport(there.client, endpoint_name="llm")
        async with AsyncClient(transport=transport) as browser:
            ask = {"messages": [{"role": "user", "content": text}], "seed": 10**30, "model": "llm"}
            body = json.dumps(ask, ensure_ascii=False, separators=(",", ":"))
            half = body.replace("é", r"\ud83d").encode()
            await browser.post("http://any/chat/completions", content=half)
        (sent,) = [request.body for request in there.endpoint.requests]
    assert sent == half.replace(b'"llm"', b'""')


async def test_models_are_listed_without_a_request(talk: StartTalk) -> None:
    async with talk(lambda _: None) as there:
        assert [model.id async for model in there.ai.models.list()] == ["llm"]
        assert (await there.ai.models.retrieve("llm")).owned_by == "sagemaker"
        with pytest.raises(openai.NotFoundError, match=r"'other'.*'llm'"):
            await there.ai.models.retrieve("other")
        assert not there.endpoint.requests


@pytest.mark.parametrize("name", ["llm", "small"])
async def test_the_name_that_is_listed_can_be_asked_for(
    name: str, talk: StartTalk, chats: type[Chats]
) -> None:
    """A container does not know it: an empty one it takes for its own."""
    async with talk(lambda _: chats.whole("yes"), inference_component_name="small") as there:
        listed = [model.id async for model in there.ai.models.list()]
        assert listed == ["small"]
        await there.ai.chat.completions.create(**{**chats.ASK, "model": name})
        await there.ai.chat.completions.create(**{**chats.ASK, "model": "served-name"})
        asked = [json.loads(request.body)["model"] for request in there.endpoint.requests]
        assert asked == ["", "served-name"]


async def test_answers_can_be_had_raw(talk: StartTalk, chats: type[Chats]) -> None:
    def model(request: InvocationRequest) -> object:
        body: Any = iter(chats.stream("a")) if is_stream(request) else chats.whole("a")
        return ModelResponse(body, custom_attributes="c1")

    async with talk(model) as there:
        raw = await there.ai.chat.completions.with_raw_response.create(**chats.ASK)
        assert raw.headers["x-amzn-sagemaker-custom-attributes"] == "c1"
        assert raw.headers["x-should-retry"] == "false"
        assert raw.headers["x-request-id"] == raw.headers["x-amzn-requestid"]
        assert raw.parse().choices[0].message.content == "a"
        async with there.ai.chat.completions.with_streaming_response.create(
            **chats.ASK, stream=True
        ) as response:
            assert response.headers["content-type"] == "text/event-stream"
            assert response.headers["x-should-retry"] == "false"
            assert [line async for line in response.iter_lines()][-2:] == ["data: [DONE]", ""]


# --- where it goes


async def test_every_request_goes_where_the_client_was_told(
    talk: StartTalk, chats: type[Chats]
) -> None:
    route = {
        "inference_component_name": "small",
        "target_variant": "blue",
        "session_id": "session-1",
        "custom_attributes": "tenant=1",
    }
    opened = ModelResponse(chats.whole("a"), new_session_id="session-1")
    async with talk(lambda _: opened, **route) as there:
        await there.client.invoke_endpoint(endpoint_name="llm", body=b"", session_id="NEW_SESSION")
        await there.say()
        _, request = there.endpoint.requests
        assert {name: getattr(request, name) for name in route} == route


async def test_headers_of_the_service_are_parameters(talk: StartTalk, chats: type[Chats]) -> None:
    def model(request: InvocationRequest) -> object:
        if is_stream(request):
            return iter(chats.stream("a"))
        return ModelResponse(chats.whole("a"), new_session_id="session-1")

    said = {
        "X-Amzn-SageMaker-Custom-Attributes": "tenant=1",
        "X-Amzn-SageMaker-Session-Id": "session-1",
        "X-Amzn-SageMaker-Target-Variant": "blue",
        "X-Amzn-SageMaker-Inference-Id": "i1",
        "Accept": "application/jsonlines",
        "X-Mine": "nothing",
    }
    async with talk(model) as there:
        await there.client.invoke_endpoint(endpoint_name="llm", body=b"", session_id="NEW_SESSION")
        await there.say(extra_headers=said)
        await there.stream(extra_headers=said)
        for request in there.endpoint.requests[1:]:
            assert request.custom_attributes == "tenant=1"
            assert request.session_id == "session-1"
            assert request.target_variant == "blue"
            assert request.inference_id == "i1"
            assert request.accept == "application/jsonlines"


async def test_nothing_of_the_sdks_own_headers_is_sent(
    serve: Any, connect: Any, respond: Any, events: Any, chats: type[Chats]
) -> None:
    body = json.dumps(chats.whole("a")).encode()
    async with serve(events.play(respond(200, body))) as server, connect(server) as client:
        ai = aiosmrt.openai.connect(client, endpoint_name="llm")
        newer = {"X-Amzn-SageMaker-Newer-Than-This": "1", "X-Mine": "2"}
        await ai.chat.completions.create(**chats.ASK, extra_headers=newer)
        (request,) = server.requests
        assert request.headers["x-amzn-sagemaker-newer-than-this"] == "1"
        assert not {name for name in request.headers if name.startswith("x-stainless")}
        assert "x-mine" not in request.headers
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
        assert "Authorization: Bearer" not in request.raw_head.decode()
        assert "openai" not in request.raw_head.decode().lower()


async def test_the_environment_of_the_sdk_has_no_say(
    talk: StartTalk, chats: type[Chats], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:1"
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_ORG_ID", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, nowhere)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # for the endpoint, which our client asks
    async with talk(lambda _: chats.whole("a")) as there:
        assert (await there.say()).id == "chatcmpl-1"
        assert there.ai.base_url.host == "sagemaker"


async def test_what_says_nothing_of_a_route_is_refused_by_name() -> None:
    async with aiosmrt.SageMakerRuntimeClient() as client:
        with pytest.raises(TypeError, match="'endpont_name': did you mean 'endpoint_name'"):
            connect(client, endpont_name="llm")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="'body': there are endpoint_name, "):
            SageMakerTransport(client, endpoint_name="llm", body=b"")  # type: ignore[call-arg]


# --- limits of time


@pytest.fixture
def hung(serve: Any, events: Any, connect: Any) -> Any:
    async def run(ask: Callable[[openai.AsyncOpenAI], Awaitable[object]], **limits: Any) -> Any:
        async with serve(events.play(events.hang)) as server, connect(server, **limits) as client:
            ai = aiosmrt.openai.connect(client, endpoint_name="llm")
            with pytest.raises(openai.APITimeoutError) as caught:
                await ask(ai)
            assert len(server.requests) == 1
            return caught.value

    return run


async def test_a_timeout_of_the_sdk_is_a_limit_of_the_call(hung: Any, chats: type[Chats]) -> None:
    for stream in (False, True):
        asked = {**chats.ASK, "stream": stream}
        errors = [
            await hung(lambda ai, a=asked: ai.chat.completions.create(**a, timeout=0.5)),
            await hung(
                lambda ai, a=asked: ai.with_options(timeout=0.5).chat.completions.create(**a)
            ),
            await hung(
                lambda ai, a=asked: ai.chat.completions.create(
                    **a, timeout=openai.Timeout(None, read=0.5)
                )
            ),
        ]
        for error in errors:
            assert isinstance(error, aiosmrt.FirstByteTimeout)
            assert (error.limit, error.seconds, error.may_have_run) == ("first_byte", 0.5, True)


async def test_the_clients_limits_hold_where_the_sdk_was_told_none(
    hung: Any, chats: type[Chats]
) -> None:
    error = await hung(
        lambda ai: ai.chat.completions.create(**chats.ASK),
        timeout=aiosmrt.Timeout(first_byte=0.1),
    )
    assert isinstance(error, aiosmrt.FirstByteTimeout)
    # A total is no limit that the SDK knows: it stays.
    error = await hung(
        lambda ai: ai.chat.completions.create(**chats.ASK, timeout=5),
        timeout=aiosmrt.Timeout(total=0.1),
    )
    assert isinstance(error, aiosmrt.TotalTimeout)


async def test_pool_is_the_wait_for_a_place(
    serve: Any, events: Any, connect: Any, chats: type[Chats], until: Until
) -> None:
    async with (
        serve(events.play(events.hang)) as server,
        connect(server, max_connections=1) as client,
    ):
        ai = aiosmrt.openai.connect(client, endpoint_name="llm")
        first = asyncio.create_task(ai.chat.completions.create(**chats.ASK))
        await until(lambda: len(server.requests) == 1, seconds=30)
        with pytest.raises(aiosmrt.SlotTimeout):
            await ai.chat.completions.create(**chats.ASK, timeout=openai.Timeout(5, pool=0.05))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert len(server.requests) == 1


# --- who owns what


async def test_closing_the_sdk_client_leaves_ours_open(talk: StartTalk, chats: type[Chats]) -> None:
    async with talk(lambda _: chats.whole("a")) as there:
        await there.ai.close()
        response = await there.client.invoke_endpoint(endpoint_name="llm", body=b"{}")
        assert response.json()["id"] == "chatcmpl-1"


async def _close(stream: Any) -> None:
    await anext(stream)
    await stream.close()


async def _leave_block(stream: Any) -> None:
    async with stream:
        async for _ in stream:
            break


async def _raise(stream: Any) -> None:
    async with stream:
        async for _ in stream:
            raise ZeroDivisionError


async def _time_out(stream: Any) -> None:
    async with asyncio.timeout(0.05):
        async for _ in stream:
            pass


LEAVING = {"close": _close, "block": _leave_block, "raise": _raise, "cancelled": _time_out}


@pytest.mark.parametrize("way", LEAVING)
async def test_leaving_the_sdks_stream_stops_the_model(
    way: str, talk: StartTalk, chats: type[Chats], until: Until
) -> None:
    running = 0

    async def model(_: InvocationRequest) -> AsyncIterator[bytes]:
        nonlocal running
        running += 1
        try:
            while True:
                yield chats.event(chats.chunk("more"))
                await asyncio.sleep(0.01)
        finally:
            running -= 1

    async with talk(model) as there:
        stream = await there.ai.chat.completions.create(**chats.ASK, stream=True)
        with contextlib.suppress(ZeroDivisionError, TimeoutError):
            await LEAVING[way](stream)
        assert there.client.stats().in_flight == 0
        await until(lambda: running == 0)


@pytest.mark.filterwarnings("ignore:a response stream:ResourceWarning")
async def test_a_stream_of_the_sdks_that_is_dropped_is_left_to_the_collector(
    talk: StartTalk, chats: type[Chats], until: Until
) -> None:
    """A `break` alone closes nothing, under any transport."""

    async def drop() -> None:
        async for _ in await there.ai.chat.completions.create(**chats.ASK, stream=True):
            break

    async with talk(lambda _: iter(chats.stream("a", "b", "c"))) as there:
        await drop()
        await until(lambda: gc.collect() >= 0 and there.client.stats().in_flight == 0, 30)


async def test_closing_the_sdk_client_stops_what_it_has_open(
    talk: StartTalk, chats: type[Chats]
) -> None:
    async def model(_: InvocationRequest) -> AsyncIterator[bytes]:
        while True:
            yield chats.event(chats.chunk("more"))
            await asyncio.sleep(0.01)

    async with talk(model) as there:
        stream = await there.ai.chat.completions.create(**chats.ASK, stream=True)
        await anext(stream)
        await there.ai.close()
        assert there.client.stats().in_flight == 0
        with pytest.raises(openai.APIConnectionError) as caught:
            [chunk async for chunk in stream]
        assert isinstance(caught.value, aiosmrt.StreamClosed)


# --- the two families


async def test_a_client_of_the_other_family_takes_the_same_transport(chats: type[Chats]) -> None:
    """Where both are installed: httpx2 below the SDK of version 3, httpx below 2 and litellm."""
    assert Request.__module__ in ("httpx", "httpx2")

    def model(request: InvocationRequest) -> object:
        return iter(chats.stream("a")) if is_stream(request) else chats.whole("a")

    async with LocalEndpoint(model) as endpoint, endpoint.client() as client:
        transport: Any = SageMakerTransport(client, endpoint_name="llm")
        kinds: list[Any] = [AsyncClient, httpx.AsyncClient]
        for kind in kinds:
            async with kind(transport=transport) as browser:
                answer = await browser.post("http://any/v1/chat/completions", json=chats.ASK)
                assert type(answer).__module__ == kind.__module__
                assert answer.json()["id"] == "chatcmpl-1"
                refusal = await browser.get("http://any/v1/files")
                assert (refusal.status_code, refusal.json()["error"]["code"]) == (404, "NotServed")
                ai = openai.AsyncOpenAI(api_key="x", base_url="http://any/v1", http_client=browser)
                stream = await ai.chat.completions.create(**chats.ASK, stream=True)
                assert len([chunk async for chunk in stream]) == 2


@pytest.mark.parametrize("prompt", [["x", "y"], [[1, 2], [3]], "x", [1, 2]])
async def test_an_end_needs_a_reason_for_each_prompt(
    prompt: Any, talk: StartTalk, chats: type[Chats]
) -> None:
    chunk = {**chats.chunk(), "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}
    texts: list[str] = []
    expected: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if prompt in (["x", "y"], [[1, 2], [3]]):
        expected = pytest.raises(aiosmrt.TruncatedStream, match="each of 2 choices")
    async with talk(lambda _: iter([chats.event(chunk)])) as there:
        with expected:
            async for piece in await there.ai.completions.create(
                model="", prompt=prompt, stream=True
            ):
                texts += [choice.text for choice in piece.choices]
    assert texts == ["a"]


async def test_the_sdk_can_tell_how_long_it_took(talk: StartTalk, chats: type[Chats]) -> None:
    async with talk(lambda _: chats.whole("a")) as there:
        raw = await there.ai.chat.completions.with_raw_response.create(**chats.ASK)
        assert raw.elapsed.total_seconds() > 0
        models = await there.ai.models.with_raw_response.list()
        assert models.elapsed.total_seconds() > 0


async def test_a_client_that_would_block_is_refused(talk: StartTalk, chats: type[Chats]) -> None:
    def ask(transport: Any) -> None:
        blocking = openai.DefaultHttpxClient(transport=transport)
        ai = openai.OpenAI(api_key="k", base_url="http://x", http_client=blocking)
        with pytest.raises(aiosmrt.ConfigurationError, match="AsyncOpenAI") as caught:
            ai.chat.completions.create(**chats.ASK)
        assert isinstance(caught.value, openai.APIConnectionError)

    async with talk(lambda _: chats.whole("a")) as there:
        await asyncio.to_thread(ask, SageMakerTransport(there.client, endpoint_name="llm"))
        assert not there.endpoint.requests
