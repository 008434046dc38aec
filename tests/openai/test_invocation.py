from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

import aiosmrt
from aiosmrt.openai import Route, SageMakerTransport
from aiosmrt.openai.family import AsyncClient, Request
from aiosmrt.openai.invocation import find_task, read_invocation
from aiosmrt.service import INVOKE_ENDPOINT

if TYPE_CHECKING:
    from tests.openai.conftest import Chats, StartTalk


def test_a_route_has_every_parameter_but_what_a_request_says() -> None:
    named = {*INVOKE_ENDPOINT.parameters} - {"body", "content_type", "accept"}
    assert set(Route.__annotations__) == named


@pytest.mark.parametrize("base", ["", "/v1", "/openai/v1", "/models", "/a/models/b"])
@pytest.mark.parametrize("task", ["chat/completions", "completions", "embeddings"])
def test_a_path_is_known_by_its_end(base: str, task: str) -> None:
    assert find_task(Request("POST", f"http://any{base}/{task}")) == task
    if "/models" not in base:  # else a model might have that name
        assert find_task(Request("GET", f"http://any{base}/models")) == "models"
        assert find_task(Request("GET", f"http://any{base}/models/a/b")) == "models/a/b"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/audio/speech"),
        ("POST", "/v1/audio/transcriptions"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("POST", "/v1/images/generations"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/v1/chat/completions/id"),
        ("DELETE", "/v1/models/m"),
        ("POST", "/v1/mycompletions"),
        ("GET", "/"),
    ],
)
def test_what_is_not_served_is_told_with_what_is(method: str, path: str) -> None:
    with pytest.raises(aiosmrt.ParameterError) as caught:
        find_task(Request(method, f"http://any{path}"))
    assert f"{method} {path} is not served" in str(caught.value)
    assert "POST chat/completions, completions and embeddings, and GET models" in str(caught.value)
    assert ("use chat.completions" in str(caught.value)) == (path == "/v1/responses")


@pytest.mark.asyncio
async def test_the_sdks_other_resources_are_not_found(talk: StartTalk) -> None:
    async with talk(lambda _: None) as there:
        calls = [
            there.ai.responses.create(model="", input="x"),
            there.ai.audio.speech.create(model="", input="x", voice="alloy"),
            there.ai.audio.transcriptions.create(model="", file=("a.wav", b"RIFF")),
            there.ai.files.create(file=("a.txt", b"x"), purpose="batch"),
            there.ai.images.generate(model="", prompt="x"),
        ]
        for call in calls:
            with pytest.raises(openai.NotFoundError, match="GET models") as caught:
                await call
            assert caught.value.status_code == 404
            assert isinstance(caught.value.body, dict)
        assert not there.endpoint.requests


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[]", "another value"),
        (b'"x"', "another value"),
        (b"\xff", "can't decode|invalid start"),
        (b"[" * 200_000, "recursion|Expecting|nested"),
        (b'{"a": "' + b"x" * 200_000, "Unterminated"),
    ],
)
@pytest.mark.asyncio
async def test_a_body_that_is_no_json_object_is_refused(
    body: bytes, problem: str, talk: StartTalk
) -> None:
    async with talk(lambda _: None) as there:
        transport = SageMakerTransport(there.client, endpoint_name="llm")
        async with AsyncClient(transport=transport) as browser:
            answer = await browser.post("http://any/v1/chat/completions", content=body)
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert message.startswith("the body is no JSON object: ")
        assert pytest.raises(ValueError, match=problem).matches(ValueError(message))
        assert not there.endpoint.requests


@pytest.mark.asyncio
async def test_what_is_said_twice_is_refused_by_name(talk: StartTalk, chats: type[Chats]) -> None:
    async with talk(lambda _: chats.whole("a"), inference_component_name="small") as there:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match="inference_component_name is given"):
                await there.ai.chat.completions.create(
                    **chats.ASK,
                    stream=stream,
                    extra_headers={"X-Amzn-SageMaker-Inference-Component": "small"},
                )
        assert not there.endpoint.requests


@pytest.mark.asyncio
async def test_a_session_sends_its_own_id(talk: StartTalk, chats: type[Chats]) -> None:
    async with (
        talk(lambda _: chats.whole("a")) as there,
        there.client.session(endpoint_name="stateful") as session,
    ):
        ai = aiosmrt.openai.connect(session)
        await ai.chat.completions.create(**chats.ASK)
        await ai.chat.completions.create(**chats.ASK)
        (listed,) = [model.id async for model in ai.models.list()]
        assert listed == "stateful"
        await ai.chat.completions.create(**{**chats.ASK, "model": listed})
        assert json.loads(there.endpoint.requests[-1].body)["model"] == ""
        with pytest.raises(openai.BadRequestError, match="session_id is given twice"):
            await ai.chat.completions.create(
                **chats.ASK, extra_headers={"X-Amzn-SageMaker-Session-Id": "other"}
            )
        asked = [(request.endpoint_name, request.session_id) for request in there.endpoint.requests]
        assert asked == [("stateful", "NEW_SESSION"), *[("stateful", session.session_id)] * 2]
        with pytest.raises(TypeError, match="a session sends its own session_id"):
            aiosmrt.openai.connect(session, session_id="other")


@pytest.mark.asyncio
async def test_what_a_stream_cannot_take_is_refused(talk: StartTalk, chats: type[Chats]) -> None:
    async with talk(lambda _: chats.whole("a"), target_model="a.tar.gz") as there:
        await there.say()
        assert there.endpoint.requests[0].target_model == "a.tar.gz"
        with pytest.raises(openai.BadRequestError, match="takes no target_model: ask without str"):
            await there.stream()


@pytest.mark.asyncio
async def test_a_large_body_lets_others_run(chats: type[Chats]) -> None:
    parts = [{"type": "text", "text": "x" * 1000} for _ in range(5000)]
    asked = {"model": "", "messages": [{"role": "user", "content": parts}]}
    request = Request("POST", "http://any/chat/completions", json=asked)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    before = turns
    invocation = await read_invocation(request, "chat/completions", {}, (), ())
    counting.cancel()
    assert turns - before > 10
    assert invocation.parameters["body"] == request.content


# --- nothing of a prompt is shown


def _show(error: BaseException | None) -> Iterator[str]:
    """Give what a tool that shows local variables sees of the frames of this package."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "/aiosmrt/" in frame.f_code.co_filename:
                yield from map(repr, frame.f_locals.values())
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "asked",
    [
        {"extra_headers": {"X-Amzn-SageMaker-Session-Id": "a b"}},
        {"extra_headers": {"X-Amzn-SageMaker-Target-Variant": "blue"}},
        {"n": 2},
        {"stream": True, "n": 2},
        {"timeout": 0},
    ],
    ids=str,
)
@pytest.mark.asyncio
async def test_no_frame_shows_a_prompt_or_an_answer(asked: dict[str, Any], talk: StartTalk) -> None:
    secret = "kept-to-oneself"
    answer = json.dumps({"generated_text": secret, "detail": secret, "predictions": secret})
    said: dict[str, Any] = {
        "X-Amzn-SageMaker-Custom-Attributes": secret,
        **asked.get("extra_headers", {}),
    }
    messages: Any = [{"role": "user", "content": secret}]
    async with talk(lambda _: answer, target_variant="green") as there:
        with pytest.raises(openai.APIError) as caught:
            await there.ai.chat.completions.create(
                model="", messages=messages, **{**asked, "extra_headers": said}
            )
    assert not [shown for shown in _show(caught.value) if secret in shown]
    assert secret not in str(caught.value)
