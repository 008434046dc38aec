from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import InvalidJSON
from aiosmrt.openai.chunks import ChunkDecoder
from aiosmrt.openai.deltas import DeltaWriter, cut_role, is_more_than_text
from aiosmrt.openai.invocation import Invocation
from aiosmrt.service import INVOKE_ENDPOINT_WITH_RESPONSE_STREAM

if TYPE_CHECKING:
    from tests.openai.conftest import Chats, StartTalk


def _begin(name: str, arguments: object = "", **members: object) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "function": function, **members}


def _go_on(arguments: str, **members: object) -> dict[str, Any]:
    return {"function": {"arguments": arguments}, **members}


# The pieces of two calls, `add({"a": 1})` and `sub({"b": 2})`, one after the other.
FORMS: dict[str, list[object]] = {
    "as it should be": [
        [_begin("add", index=0, id="1")],
        [_begin("sub", index=1, id="2")],
        [_go_on('{"b"', index=1)],
        [_go_on('{"a": 1}', index=0)],
        [_go_on(": 2}", index=1)],
    ],
    "without an index": [
        [_begin("add", '{"a"', id="1")],
        [_go_on(": 1}")],
        [_begin("sub", '{"b"', id="2"), _go_on(": 2}", id="2")],
    ],
    "without an index, by their ids": [
        [_begin("add", '{"a"', id="1"), _begin("sub", '{"b"', id="2")],
        [_go_on(": 2}", id="2"), _go_on(": 1}", id="1")],
    ],
    "without an index or an id": [
        [_begin("add", '{"a"'), _go_on(": 1}")],
        [_begin("sub", '{"b"')],
        [_go_on(": 2}")],
    ],
    "all of one index": [
        [_begin("add", '{"a": 1}', index=0, id="1")],
        [_begin("sub", '{"b": 2}', index=0, id="2")],
    ],
    "as an older TGI": [
        _begin("add", {"a": 1}, index=0, id=1),
        _begin("sub", {"b": 2}, index=1, id=2),
    ],
    "with an id in each piece": [
        [_begin("add", '{"a"', index=0, id="1")],
        [_go_on(": 1}", index=0, id="1")],
        [_begin("sub", '{"b"', index=0, id="2")],
        [_go_on(": 2}", index=0, id="2")],
    ],
    "with a new id and the name in each piece": [
        [_begin("add", '{"a"', index=-1, id="1")],
        [_begin("add", ": 1}", index=-1, id="3")],
        [_begin("sub", '{"b"', index=-1, id="2")],
        [_begin("sub", ": 2}", index=-1, id="4")],
        [_begin("sub", "", index=-1, id="5")],
    ],
}


def _choose(calls: object) -> list[Any]:
    return [{"index": 0, "delta": {"content": None, "tool_calls": calls}, "finish_reason": None}]


@pytest.mark.asyncio
@pytest.mark.parametrize("form", FORMS)
async def test_the_sdk_adds_up_what_any_container_streams(
    form: str, talk: StartTalk, chats: type[Chats]
) -> None:
    chunks = [{**chats.chunk(), "choices": _choose(calls)} for calls in FORMS[form]]
    parts = [*map(chats.event, [*chunks, chats.chunk(reason="tool_calls")]), chats.DONE]
    async with (
        talk(lambda _: iter(parts)) as there,
        there.ai.chat.completions.stream(**chats.ASK) as stream,
    ):
        completion = await stream.get_final_completion()
    calls = completion.choices[0].message.tool_calls
    assert calls is not None
    said = [(call.function.name, json.loads(call.function.arguments)) for call in calls]
    assert said == [("add", {"a": 1}), ("sub", {"b": 2})]
    ids = [None, None] if form == "without an index or an id" else ["1", "2"]
    assert [call.id for call in calls] == ids


@pytest.mark.asyncio
async def test_arguments_of_a_whole_answer_are_text(talk: StartTalk, chats: type[Chats]) -> None:
    message = {
        "role": "assistant",
        "tool_calls": [_begin("add", {"a": 1}, id=1)],
        "function_call": {"name": "sub", "arguments": {"b": 2}},
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    async with talk(lambda _: {**chats.whole(""), "choices": [choice]}) as there:
        completion = await there.say()
    (call,) = completion.choices[0].message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("1", "add", '{"a": 1}')
    assert completion.choices[0].message.function_call.arguments == '{"b": 2}'


@pytest.mark.asyncio
@pytest.mark.parametrize("together", [False, True])
async def test_a_role_that_is_in_each_chunk_is_said_once(
    together: bool, talk: StartTalk, chats: type[Chats]
) -> None:
    def write(index: int, text: str, reason: str | None = None) -> bytes:
        chunk = chats.chunk(text, reason, role="assistant")
        return chats.event({**chunk, "choices": [{**chunk["choices"][0], "index": index}]})

    ends = [write(index, "c", "stop") for index in (0, 1)]
    sent = [*(write(index, text) for text in "ab" for index in (0, 1)), *ends, chats.DONE]
    async with (
        talk(lambda _: iter([b"".join(sent)] if together else sent)) as there,
        there.ai.chat.completions.stream(**chats.ASK, n=2) as stream,
    ):
        completion = await stream.get_final_completion()
    messages = [choice.message for choice in completion.choices]
    assert [(message.role, message.content) for message in messages] == [("assistant", "abc")] * 2


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["text_completion", "", None])
@pytest.mark.parametrize("framing", ["event", "line"])
async def test_the_sdk_takes_a_chunk_for_one_whatever_a_container_calls_it(
    framing: str, name: str | None, talk: StartTalk, chats: type[Chats]
) -> None:
    """TGI 1.4.3 calls it `text_completion`; older servers of others leave that out."""

    sent = [{**chunk, "object": name} for chunk in (chats.chunk("a"), chats.chunk("b", "stop"))]
    for chunk in sent:
        if name is None:
            del chunk["object"]
    write = chats.event if framing == "event" else chats.line
    async with (
        talk(lambda _: map(write, sent)) as there,
        there.ai.chat.completions.stream(**chats.ASK) as stream,
    ):
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == "ab"


@given(
    st.sampled_from([" ", ""]),
    st.sampled_from(["role", "r\u006fle"]),
    st.recursive(
        st.sampled_from([None, "role", "assistant", '"role": "assistant", ', "é", "\\"]),
        lambda value: st.dictionaries(st.sampled_from(["role", "x", "logprobs"]), value),
    ),
    st.permutations(["content", "role", "x"]),
)
def test_a_role_is_cut_from_the_text_of_a_chunk_or_not_at_all(
    blank: str, name: str, other: object, members: list[str]
) -> None:
    values = {"content": "a", "role": "assistant", "x": other}
    document = {"choices": [{"delta": {member: values[member] for member in members}}]}
    text = json.dumps(document, separators=(f",{blank}", f":{blank}"), ensure_ascii=False)
    if name != "role":
        text = text.replace('"role"', '"\\u0072ole"', 1)  # which one says the same
    cut = cut_role(text.encode())
    if cut is not None:
        del document["choices"][0]["delta"]["role"]
        assert json.loads(cut) == document
    elif other is None and name == "role":
        pytest.fail("it was plain to see")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_numbered_is_not_changed(form: str) -> None:
    numbers, again = DeltaWriter(), DeltaWriter()
    for calls in json.loads(json.dumps(FORMS[form])):
        choices = _choose(calls)
        assert is_more_than_text(choices)
        is_changed = numbers.write(choices)
        assert not (is_changed and form == "as it should be")
        written = json.dumps(choices)
        assert not again.write(choices)
        assert json.dumps(choices) == written


def test_choices_have_numbers_of_their_own() -> None:
    one, two = _choose([_begin("add")]), _choose([_begin("sub")])
    choices = [*one, {**two[0], "index": 1}]
    assert DeltaWriter().write(choices)
    assert [choice["delta"]["tool_calls"][0]["index"] for choice in choices] == [0, 0]


@pytest.mark.parametrize("delta", [{}, {"tool_calls": None}, {"tool_calls": []}, None, "a"])
def test_without_calls_there_is_nothing_to_write(delta: object) -> None:
    choices: list[Any] = [{"index": 0, "delta": delta}, {"index": 1, "text": "a"}, None]
    assert not is_more_than_text(choices)
    assert not DeltaWriter().write(choices)


def test_pieces_are_taken_once_however_they_come(chats: type[Chats]) -> None:
    """A call that has begun twice would be another one."""
    invocation = Invocation("chat/completions", INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, "", 1, {})
    begin = _begin("add", '{"a": {', index=0, id="1")
    sent = [
        chats.event({**chats.chunk(), "choices": _choose(calls)})
        for calls in ([begin], [{**begin, "id": "2"}])
    ]
    written = [
        sent[0],
        chats.event(
            {**chats.chunk(), "choices": _choose([_go_on('{"a": {', type="function", index=0)])}
        ),
    ]
    for split in (sent, [b"".join(sent)]):
        decoder = ChunkDecoder(invocation, None, "chatcmpl-7")
        decoder.receive(chats.event(chats.chunk("a")))
        given = b"".join(value for data in split for value in decoder.receive(data))
        assert [json.loads(event[6:]) for event in given.split(b"\n\n")[:-1]] == [
            json.loads(event[6:]) for event in written
        ]


def test_what_is_no_call_is_placed(chats: type[Chats]) -> None:
    invocation = Invocation("chat/completions", INVOKE_ENDPOINT_WITH_RESPONSE_STREAM, "", 1, {})
    decoder = ChunkDecoder(invocation, None, "chatcmpl-7")
    with pytest.raises(InvalidJSON, match=r"document 1, at byte 0.*a tool call: a number"):
        decoder.receive(chats.event({**chats.chunk(), "choices": _choose([1])}))
