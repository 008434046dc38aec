from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

import aiosmrt
from aiosmrt.local import InvocationRequest, ModelResponse

if TYPE_CHECKING:
    from tests.openai.conftest import Chats, StartTalk

pytestmark = pytest.mark.asyncio


async def test_an_answer_is_passed_on_as_it_is(talk: StartTalk, chats: type[Chats]) -> None:
    """Whatever its container calls it: the SDK gives a text for what is not called JSON."""
    body = json.dumps({**chats.whole("a"), "x": 1.50}, indent=1)

    def model(_: InvocationRequest) -> object:
        return ModelResponse(body.encode(), content_type="application/octet-stream")

    async with talk(model) as there:
        raw = await there.ai.chat.completions.with_raw_response.create(**chats.ASK)
        assert raw.text == body
        assert raw.parse().choices[0].message.content == "a"


@pytest.mark.parametrize(
    "body",
    [
        {"generated_text": "Hello", "details": {"finish_reason": "length"}},
        [{"generated_text": "Hello", "details": {"finish_reason": "length"}}],
    ],
)
async def test_a_generated_text_becomes_a_completion(
    body: object, talk: StartTalk, chats: type[Chats]
) -> None:
    async with talk(lambda _: json.dumps(body)) as there:
        completion = await there.say()
        assert completion.object == "chat.completion"
        assert completion.id.startswith("chatcmpl-")
        (choice,) = completion.choices
        assert (choice.message.role, choice.message.content) == ("assistant", "Hello")
        assert choice.finish_reason == "length"
        written = await there.ai.completions.create(model="asked", prompt="x")
        assert (written.object, written.model) == ("text_completion", "asked")
        assert written.choices[0].text == "Hello"
        with pytest.raises(openai.BadRequestError, match="2 answers were asked for"):
            await there.say(n=2)


async def test_a_stream_that_came_as_a_body_becomes_a_completion(
    talk: StartTalk, chats: type[Chats]
) -> None:
    function = {"name": "add", "arguments": "{}"}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    chunks = [
        chats.chunk("Hel", reasoning="hm"),
        chats.chunk("lo", tool_calls=[call]),
        {
            **chats.chunk(reason="tool_calls"),
            "usage": {"prompt_tokens": 1, "completion_tokens": 2},
        },
    ]
    async with talk(lambda _: b"".join(map(chats.event, chunks))) as there:
        completion = await there.say()
    (choice,) = completion.choices
    assert (choice.message.content, choice.message.reasoning_content) == ("Hello", "hm")
    assert choice.message.tool_calls[0].function.name == "add"
    assert choice.finish_reason == "tool_calls"
    assert completion.usage.to_dict() == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
    }


async def test_tokens_that_came_as_a_body_become_a_completion(
    talk: StartTalk, chats: type[Chats]
) -> None:
    tokens: list[dict[str, Any]] = [
        {"token": {"text": "Hel"}},
        {"token": {"text": "lo"}, "generated_text": "Hello"},
    ]
    for write in (chats.line, chats.event):
        async with talk(lambda _, write=write: b"".join(map(write, tokens))) as there:
            completion = await there.say()
        assert completion.choices[0].message.content == "Hello"
        async with talk(lambda _, write=write: write(tokens[0])) as there:
            with pytest.raises(aiosmrt.TruncatedStream):
                await there.say()


@pytest.mark.parametrize("details", [None, {"generated_tokens": 2}, {"finish_reason": 7}])
async def test_an_end_has_a_reason_and_what_was_counted_in_part_is_left_out(
    details: object, talk: StartTalk, chats: type[Chats]
) -> None:
    answer = {"generated_text": "a", "details": details}
    async with talk(lambda _: json.dumps(answer)) as there:
        completion = await there.say()
    assert (completion.choices[0].finish_reason, completion.usage) == ("stop", None)
    tokens = {"token": {"text": "a"}, **answer}
    async with talk(lambda _: iter([chats.line({"token": {"text": "b"}}), chats.line(tokens)])) as (
        there
    ):
        chunks = await there.stream()
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, "stop"]
    assert [chunk.usage for chunk in chunks] == [None, None]


@pytest.mark.parametrize(
    ("body", "ours", "theirs"),
    [
        (b"<html>", aiosmrt.PayloadError, openai.APIError),
        (b'{"predictions": [1]}', aiosmrt.PayloadError, openai.APIError),
        (b'{"id": "1", "choices": null}', aiosmrt.PayloadError, openai.APIError),
        (b'{"data": [1]}', aiosmrt.PayloadError, openai.APIError),
        (b'data: {"choices": [{"delta": {}}]}\n\n', aiosmrt.TruncatedStream, openai.APIError),
        (b'{"error": "out of memory"}', aiosmrt.ModelStreamError, openai.InternalServerError),
        (b'{"error": {"message": "x", "code": 400}}', aiosmrt.ModelStreamError, openai.APIError),
    ],
)
async def test_what_is_no_answer_is_an_error_that_tells_of_its_call(
    body: bytes, ours: type[Exception], theirs: type[Exception], talk: StartTalk
) -> None:
    async with talk(lambda _: body) as there:
        with pytest.raises(ours) as caught:
            await there.say()
    assert isinstance(caught.value, theirs)
    error: Any = caught.value
    assert (error.operation, error.endpoint_name) == ("InvokeEndpoint", "llm")
    assert error.may_have_run
    assert (len(error.attempts), bool(error.request_id)) == (1, True)


@pytest.mark.parametrize(
    "choice", [{"text": "a"}, {"message": None}, {}, None, {"message": {"content": "a"}}]
)
async def test_choices_that_say_nothing_of_what_was_asked_are_no_answer(
    choice: object, talk: StartTalk
) -> None:
    async with talk(lambda _: {"choices": [choice]}) as there:
        if choice != {"message": {"content": "a"}}:
            with pytest.raises(aiosmrt.PayloadError):
                await there.say()
        if choice != {"text": "a"}:
            with pytest.raises(aiosmrt.PayloadError):
                await there.ai.completions.create(model="", prompt="x")


async def test_an_end_has_the_reason_that_openai_names(talk: StartTalk, chats: type[Chats]) -> None:
    answer = chats.whole("a")
    answer["choices"][0]["finish_reason"] = "eos_token"  # as TGI 2.0 does
    async with talk(lambda _: answer) as there:
        completion = await there.say()
    assert completion.choices[0].finish_reason == "stop"


async def test_embeddings_of_another_shape_are_left_to_the_sdk(talk: StartTalk) -> None:
    def model(request: InvocationRequest) -> object:
        return {"error": "no"} if b"fail" in request.body else {"embeddings": [[0.5]]}

    async with talk(model) as there:
        raw = await there.ai.embeddings.with_raw_response.create(model="", input="x")
        assert raw.http_response.json() == {"embeddings": [[0.5]]}
        with pytest.raises(aiosmrt.ModelStreamError):
            await there.ai.embeddings.create(model="", input="fail")


async def test_a_large_answer_is_read_as_a_small_one(talk: StartTalk, chats: type[Chats]) -> None:
    text = "x" * 300_000
    answers: list[object] = [
        chats.whole(text),
        {"generated_text": text},
        b"".join(chats.stream(text[1:], "x")),
        {"error": {"message": text, "code": 500}},
    ]
    async with talk(lambda _: answers.pop(0)) as there:
        for _ in range(3):
            completion = await there.say()
            assert completion.choices[0].message.content == text
        with pytest.raises(aiosmrt.ModelStreamError):
            await there.say()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("length", [1, 300_000])
async def test_an_answer_in_another_encoding_is_passed_on_as_it_is(
    encoding: str, length: int, talk: StartTalk, chats: type[Chats]
) -> None:
    body = json.dumps(chats.whole("ö" * length)).encode(encoding)
    async with talk(lambda _: body) as there:
        raw = await there.ai.chat.completions.with_raw_response.create(**chats.ASK)
    assert raw.http_response.content == body
    assert raw.parse().choices[0].message.content == "ö" * length
