"""What chat models say, out of what their servers send, whatever the split."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    InvalidJSON,
    ModelStreamError,
    PayloadError,
    TruncatedStream,
)
from aiosmrt.models import JSONValue
from aiosmrt.payload import ChatAccumulator, ChatChunk, ChatDecoder, ChatMessage, ToolCall
from aiosmrt.payload.shapes import SHAPES
from aiosmrt.sse import encode
from tests.payload.recordings import RECORDINGS, Recording, write_events, write_lines

if TYPE_CHECKING:
    from tests.conftest import Decoding, MakeDecoder

CHUNK = '{"choices":[{"index":0,"delta":{"content":"good"}}]}'
GOOD = encode(CHUNK)
END = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
DONE = encode("[DONE]")


def _make(
    shape: str = "openai-chat", content_type: str | None = None, *, require_done: bool = True
) -> MakeDecoder:
    return functools.partial(ChatDecoder, shape, content_type, require_done=require_done)


def _add(chunks: Iterable[ChatChunk]) -> tuple[ChatMessage, ...]:
    accumulator = ChatAccumulator()
    for chunk in chunks:
        accumulator.add(chunk)
    return accumulator.messages


def _decode(*documents: JSONValue, shape: str = "openai-chat") -> list[ChatChunk]:
    """Decode as lines and as events, which must agree."""
    found = []
    for body in (write_lines(documents), write_events(documents)):
        decoder = ChatDecoder(shape, require_done=False)
        chunks = decoder.receive(body)
        while more := decoder.finish():
            chunks += more
        found.append(chunks)
    assert found[0] == found[1]
    return found[0]


def _delta(delta: JSONValue) -> ChatChunk:
    (chunk,) = _decode({"choices": [{"index": 0, "delta": delta}]})
    return chunk


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_what_real_servers_send_is_the_same_at_every_split(
    decoding: type[Decoding], recording: Recording
) -> None:
    for content_type in (None, recording.content_type):
        chunks = decoding.give(_make(recording.shape, content_type), recording.payload)
        assert _add(chunks) == recording.messages
        assert all(chunk.raw is not None for chunk in chunks)


@given(st.sampled_from(RECORDINGS), st.lists(st.integers(0, 5000), max_size=30))
def test_chunks_and_messages_are_the_same_at_any_split(
    decoding: type[Decoding], recording: Recording, places: list[int]
) -> None:
    make = _make(recording.shape)
    whole = decoding.run(make, [recording.payload])
    parted = decoding.run(make, decoding.cut(recording.payload, places))
    assert parted.values == whole.values
    assert _add(parted.values) == recording.messages


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_a_decoder_says_how_documents_are_framed_and_whether_the_end_is_proven(
    recording: Recording,
) -> None:
    decoder = ChatDecoder(recording.shape)
    known = []
    for part in (b"", b"\n ", recording.payload):
        decoder.receive(part)
        known.append((decoder.framing, decoder.is_proven))
    framing = "events" if recording.payload.startswith(b"data:") else "documents"
    assert known[:2] == [(None, False), (None, False)]
    assert known[2][0] == framing
    decoder.finish()
    assert decoder.is_proven


def test_a_whole_document_that_has_no_break_is_read_at_its_end(decoding: type[Decoding]) -> None:
    (message,) = _add(decoding.give(_make(), b'{"choices":[{"message":{"content":"good"}}]}'))
    assert (message.text, message.finish_reason) == ("good", None)


# --- the members of a chunk


def test_a_chunk_has_its_document() -> None:
    first: JSONValue = {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": []}}]}
    (chunk,) = _decode(first)
    assert chunk == ChatChunk(0, "a", raw=first)


@pytest.mark.parametrize(
    ("delta", "chunk"),
    [
        ({}, ChatChunk(0)),
        ({"role": "assistant"}, ChatChunk(0)),
        ({"content": None, "tool_calls": [], "function_call": None}, ChatChunk(0)),
        ({"content": "a", "reasoning": "b"}, ChatChunk(0, "a", "b")),
        ({"reasoning_content": "b", "reasoning": None}, ChatChunk(0, reasoning="b")),
        ({"reasoning_content": "b", "reasoning": ""}, ChatChunk(0, reasoning="b")),
        ({"reasoning_content": "b", "reasoning": "b"}, ChatChunk(0, reasoning="b")),
        ({"refusal": "no", "content": None}, ChatChunk(0, refusal="no")),
        ({"content": ["a", {"type": "text", "text": "b"}]}, ChatChunk(0, "ab")),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "c"}]},
                    {"type": "thinking", "thinking": "d"},
                    {"type": "image_url", "image_url": {}},
                    {"type": "text", "text": "a"},
                    1,
                ]
            },
            ChatChunk(0, "a", "cd"),
        ),
    ],
)
def test_the_members_of_a_delta(delta: JSONValue, chunk: ChatChunk) -> None:
    found = _delta(delta)
    chunk.raw = found.raw
    assert found == chunk


def test_choices_are_told_apart_by_their_index_or_their_place() -> None:
    chunks = _decode(
        {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]},
        {"choices": [{"index": 1, "delta": {"content": "B"}}]},
        {"choices": [{"index": True, "delta": {"content": "A"}}]},
    )
    assert [(chunk.index, chunk.text) for chunk in chunks] == [
        (0, "a"),
        (1, "b"),
        (1, "B"),
        (0, "A"),
    ]
    assert chunks[0].raw is chunks[1].raw


def test_several_outputs_of_older_lmi_are_choices() -> None:
    chunks = _decode({"outputs": ["a", "b"]}, {"outputs": ["A", "B"]}, shape="lmi")
    assert [message.text for message in _add(chunks)] == ["aA", "bB"]


def test_a_usage_that_comes_with_every_chunk_or_alone() -> None:
    document: dict[str, JSONValue] = {"choices": [{"delta": {"content": "a"}}]}
    counted: dict[str, JSONValue] = {"completion_tokens": 1}
    chunks = _decode(
        document,
        {**document, "usage": None},
        {**document, "usage": counted},
        {"choices": [], "usage": {"completion_tokens": 2}},
        {"choices": None, "usage": {"completion_tokens": 3}},
        {"choices": []},
    )
    assert [chunk.usage for chunk in chunks] == [
        None,
        None,
        counted,
        {"completion_tokens": 2},
        {"completion_tokens": 3},
    ]
    assert [chunk.text for chunk in chunks] == ["a", "a", "a", "", ""]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ({"delta": {}, "finish_reason": "stop"}, "stop"),
        ({"delta": None, "finish_reason": "content_filter"}, "content_filter"),
        ({"finish_reason": "length"}, "length"),
        ({"delta": {}, "finish_reason": {"type": "length", "length": 5}}, "length"),
        ({"delta": {}, "finish_reason": "st\ud800op"}, "st\ufffdop"),
    ],
)
def test_a_reason_to_end(ending: JSONValue, reason: str) -> None:
    # It is null, or empty, as long as there is none.
    body = write_lines(
        [
            {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": ""}]},
        ]
    )
    decoder = ChatDecoder()
    decoder.receive(body)
    proven = [decoder.is_proven]
    (chunk,) = decoder.receive(json.dumps({"choices": [ending]}).encode() + b"\n")
    assert chunk.finish_reason == reason
    assert [*proven, decoder.is_proven] == [False, True]
    assert decoder.finish() == []


@pytest.mark.parametrize("shape", ["tgi", "lmi"])
def test_the_token_that_ended_an_answer_is_a_reason(shape: str) -> None:
    # As LMI upon vLLM writes it.
    whole: dict[str, JSONValue] = {"generated_text": "a", "details": {"finish_reason": 128009}}
    documents: list[JSONValue] = [whole, [whole]]
    for document in documents:
        (message,) = _add(_decode(document, shape=shape))
        assert (message.text, message.finish_reason) == ("a", "eos_token")


def test_a_message_behind_a_stream_is_not_given_again() -> None:
    # As some servers close a stream with all of it.
    chunks = _decode(
        {"choices": [{"index": 0, "delta": {"content": "a"}}]},
        {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]},
    )
    (message,) = _add(chunks)
    assert (message.text, message.finish_reason) == ("a", "stop")


def test_calls_of_a_message_may_all_have_the_same_id() -> None:
    # As older releases of TGI write them.
    calls: list[JSONValue] = [
        {"id": "0", "function": {"name": name, "arguments": {}}} for name in ("f", "g")
    ]
    (message,) = _add(_decode({"choices": [{"message": {"tool_calls": calls}}]}))
    assert message.tool_calls == (ToolCall(0, "0", "f", "{}"), ToolCall(1, "0", "g", "{}"))


# --- text that JSON can write and UTF-8 cannot hold


def test_halves_of_surrogate_pairs_are_joined_where_they_belong(decoding: type[Decoding]) -> None:
    def piece(index: int, half: str) -> JSONValue:
        call: JSONValue = {"index": 0, "function": {"arguments": half}}
        delta: JSONValue = {"content": half, "reasoning": half, "tool_calls": [call]}
        return {"choices": [{"index": index, "delta": delta}]}

    documents = [piece(0, "\ud83d"), piece(1, "\ud83e"), piece(0, "\ude00"), piece(1, "\udde0")]
    body = b"".join(json.dumps(document).encode() for document in documents)
    for message in _add(decoding.give(_make(require_done=False), body)):
        text = ("😀", "🧠")[message.index]
        assert (message.text, message.reasoning) == (text, text)
        assert message.tool_calls[0].arguments == text


def test_half_of_a_surrogate_pair_at_the_end_is_replaced(decoding: type[Decoding]) -> None:
    delta = {
        "content": "a\ud83d",
        "reasoning": "\ud83d",
        "tool_calls": [{"index": 2, "id": "\ud83d", "function": {"arguments": "[\ud83d"}}],
    }
    body = json.dumps({"choices": [{"index": 1, "delta": delta}]}).encode()
    chunks = decoding.give(_make(require_done=False), body)
    assert chunks[-1] == ChatChunk(
        1, "\ufffd", "\ufffd", tool_calls=(ToolCall(2, "", "", "\ufffd"),)
    )
    (message,) = _add(chunks)
    assert (message.text, message.reasoning) == ("a\ufffd", "\ufffd")
    assert message.tool_calls == (ToolCall(2, "\ufffd", "", "[\ufffd"),)


# --- ends


@pytest.mark.parametrize(
    ("shape", "body", "words"),
    [
        ("openai-chat", GOOD, r"without the event '\[DONE\]' or a finish reason: the model"),
        ("openai-chat", b"", "without a finish reason"),
        ("openai-chat", CHUNK.encode(), "without a finish reason:"),
        (
            "openai-chat",
            write_lines(
                [
                    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                    {"choices": [{"index": 1, "delta": {"content": "good"}}]},
                    {"choices": [{"index": 2, "delta": {"content": "good"}}]},
                ]
            ),
            "without a finish reason of choice 1, 2:",
        ),
        ("openai-completion", b'{"choices":[{"text":"good"}]}', "without a finish reason"),
        ("lmi", b'{"token":{"text":"good"}}', "without its last document"),
        ("tgi", encode('{"token":{"text":"good"},"generated_text":null}'), "its last document"),
    ],
)
def test_an_end_that_is_not_proven_is_a_fault_behind_all_chunks(
    decoding: type[Decoding], shape: str, body: bytes, words: str
) -> None:
    sound = decoding.give(_make(shape, require_done=False), body)
    outcome = decoding.decode(_make(shape), body)
    assert outcome.values == sound
    assert outcome.at_end
    assert isinstance(outcome.error, TruncatedStream)
    with pytest.raises(TruncatedStream, match=words):
        raise outcome.error


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("openai-chat", GOOD + DONE),
        ("openai-chat", GOOD + encode(" [DONE] ")),
        ("openai-chat", GOOD + encode(END)),
        ("openai-chat", CHUNK.encode() + END.encode()),
        ("openai-chat", DONE),
        ("openai-chat", b'{"choices":[{"message":{"content":"good"}}]}'),
        ("tgi", encode('{"token":{"text":"good"},"generated_text":""}')),
        ("tgi", encode('{"token":{"text":"good"}}') + DONE),
        ("lmi", b'{"generated_text":"good"}'),
    ],
)
def test_an_end_that_is_proven(decoding: type[Decoding], shape: str, body: bytes) -> None:
    decoding.give(_make(shape), body)


# --- failures inside a success

FAILURES = [
    (GOOD, b'data: {"error":{"message":"boom","code":500}}\n\n', "boom"),
    (GOOD, b'data: {"object":"error","message":"boom","code":500}\n\n', "boom"),
    (GOOD, b'data: {"error_type":"X","error_message":"boom"}\n\n', "boom"),
    (GOOD, b"event: error\ndata: overloaded\n\n", "overloaded"),
    (GOOD, b'error: {"code":400,"message":"boom"}\n\n', "boom"),
    (GOOD, b'{"error":"boom"}\n\n', "boom"),
    (CHUNK.encode(), b'{"error":"boom","code":424}', "boom"),
    (CHUNK.encode(), b'{"choices":3,"error":"boom"}', "boom"),
    (GOOD, b'data: {"choices":[{"delta":{"content":7}}],"error":"boom"}\n\n', "boom"),
]


@pytest.mark.parametrize(("good", "bad", "message"), FAILURES)
def test_a_failure_comes_behind_all_that_was_sound_at_every_split(
    decoding: type[Decoding], good: bytes, bad: bytes, message: str
) -> None:
    for behind in (b"", DONE) if bad.endswith(b"\n\n") else (b"",):
        outcome = decoding.decode(_make(), good + bad + behind)
        assert [chunk.text for chunk in outcome.values] == ["good"]
        assert isinstance(outcome.error, ModelStreamError)
        assert outcome.error.message == message


@pytest.mark.parametrize(
    ("shape", "document", "message"),
    [
        (
            "openai-chat",
            '{"choices":[{"index":1,"delta":{"content":"good"},"finish_reason":"error"}]}',
            "the model ended for the reason 'error'",
        ),
        ("openai-chat", '{"choices":[{"delta":{"content":"good"}}],"error":"boom"}', "boom"),
        (
            "lmi",
            '{"token":{"text":"good"},"details":{"finish_reason":"error"}}',
            "the model ended for the reason 'error'",
        ),
    ],
)
def test_a_chunk_beside_a_failure_is_given_before_it(
    decoding: type[Decoding], shape: str, document: str, message: str
) -> None:
    outcome = decoding.decode(_make(shape), encode(document))
    assert [chunk.text for chunk in outcome.values] == ["good"]
    assert isinstance(outcome.error, ModelStreamError)
    assert outcome.error.message == message


# --- documents that are not what they should be


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"delta": {"content": 1}}, "the text is a number, not a string"),
        ({"delta": {"content": {"text": "a"}}}, "the text is an object"),
        ({"delta": {"reasoning": ["a"]}}, "the reasoning is an array"),
        ({"delta": {"refusal": True}}, "the refusal is a boolean"),
        ({"delta": {}, "finish_reason": 7}, "the reason to end is a number"),
        ({"delta": {"tool_calls": "f"}}, "the tool calls: a string, not an array"),
        ({"delta": {"tool_calls": ["f"]}}, "a tool call: a string, not an object"),
        ({"delta": {"tool_calls": [{"function": "f"}]}}, "a function: a string, not an object"),
        ({"delta": {"function_call": "f"}}, "a function: a string, not an object"),
        ({"delta": {"tool_calls": [{"id": []}]}}, "the id of a tool call: an array, not a string"),
        ({"delta": {"tool_calls": [{"function": {"name": []}}]}}, "the name of a tool call"),
        ({"delta": {"tool_calls": [{"function": {"arguments": 1}}]}}, "the arguments of a tool"),
    ],
)
def test_a_member_of_another_kind_is_a_fault_behind_what_was_sound(
    decoding: type[Decoding], choice: JSONValue, words: str
) -> None:
    document = json.dumps({"choices": [choice]})
    outcome = decoding.decode(_make(), GOOD + encode(document))
    assert [chunk.text for chunk in outcome.values] == ["good"]
    with pytest.raises(InvalidJSON, match=f"document 2, at byte {len(GOOD)} .*: {words}"):
        raise outcome.error or AssertionError


@pytest.mark.parametrize(
    ("shape", "document", "words"),
    [
        ("openai-chat", {"choices": [{"text": "a", "finish_reason": "stop"}]}, "'openai-comp"),
        (
            "openai-chat",
            {"choices": [{"text": "a"}], "usage": {"total_tokens": 1}},
            r"has what the shape 'openai-chat' \(choices.* 'openai-completion' would fit",
        ),
        ("openai-completion", {"choices": [{"delta": {"content": "a"}}]}, "'openai-chat' would"),
        ("tgi", {"choices": [{"delta": {"content": "a"}}]}, "'openai-chat' would fit"),
        ("openai-chat", {"token": {"text": "a"}}, "'tgi' or 'lmi' would fit"),
        ("openai-chat", {"answer": "a"}, "they have answer: read them with another view"),
        ("lmi", [], "they have an array"),
    ],
)
def test_documents_of_another_shape_are_refused_at_the_end(
    decoding: type[Decoding], shape: str, document: JSONValue, words: str
) -> None:
    for write in (write_lines, write_events):
        outcome = decoding.decode(_make(shape), write([document]))
        assert outcome.values == []
        assert type(outcome.error) is PayloadError
        with pytest.raises(PayloadError, match=words):
            raise outcome.error


def test_what_is_no_answer_at_all_is_refused(decoding: type[Decoding]) -> None:
    body = b"<html>\n<p>502: bad gateway</p>\n"
    outcome = decoding.decode(_make(content_type="text/event-stream"), body)
    assert type(outcome.error) is PayloadError
    assert "<html>" in str(outcome.error)
    assert isinstance(decoding.decode(_make(), body).error, InvalidJSON)


@pytest.mark.parametrize("shape", ["", "openai", "choices[0].delta.content", "OPENAI-CHAT"])
def test_a_shape_that_is_none_is_refused_with_those_there_are(shape: str) -> None:
    with pytest.raises(ConfigurationError, match="openai-chat, openai-completion, tgi, lmi"):
        ChatDecoder(shape)


# --- whatever comes

_words: st.SearchStrategy[JSONValue] = st.one_of(
    st.text(st.characters(), max_size=3), st.none(), st.integers(), st.builds(dict)
)
_calls = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.integers(-1, 3) | st.none() | st.booleans(),
            "id": _words,
            "function": st.fixed_dictionaries({}, optional={"name": _words, "arguments": _words}),
        },
    ),
    max_size=3,
)
_said = st.fixed_dictionaries(
    {},
    optional={
        "content": _words | st.lists(_words, max_size=2),
        "reasoning": _words,
        "refusal": _words,
        "tool_calls": _calls | _words,
        "function_call": _words,
    },
)
_choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(-1, 2) | st.none(),
        "delta": _said | _words,
        "message": _said | _words,
        "text": _words,
        "finish_reason": _words,
    },
)
_documents = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(_choices, max_size=2) | _words,
        "usage": _words,
        "token": st.dictionaries(st.sampled_from(["text", "special"]), _words) | _words,
        "generated_text": _words,
        "details": st.dictionaries(st.sampled_from(["finish_reason", "generated_tokens"]), _words),
        "outputs": st.lists(_words, max_size=2) | _words,
        "error": _words,
    },
)


@given(
    st.lists(_documents | _words, max_size=4),
    st.booleans(),
    st.sampled_from(list(SHAPES)),
    st.lists(st.integers(0, 2000), max_size=6),
)
def test_nothing_but_our_errors_comes_out_and_no_split_matters(
    decoding: type[Decoding],
    documents: list[JSONValue],
    events: bool,
    shape: str,
    places: list[int],
) -> None:
    write = encode if events else str.encode
    body = b"".join(write(json.dumps(document)) for document in documents)
    for require_done in (True, False):
        make = _make(shape, require_done=require_done)
        whole = decoding.run(make, [body])
        assert decoding.run(make, decoding.cut(body, places)).view() == whole.view()
        assert whole.error is None or isinstance(whole.error, AiosmrtError)
        for message in _add(whole.values):
            assert message.text.encode() + message.reasoning.encode() is not None
            for call in message.tool_calls:
                assert call.name.encode() + call.arguments.encode() + call.id.encode() is not None


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4), st.sampled_from([*SHAPES]))
def test_bytes_that_are_anything(
    decoding: type[Decoding], body: bytes, places: list[int], shape: str
) -> None:
    for content_type in (None, "text/event-stream"):
        make = _make(shape, content_type)
        whole = decoding.run(make, [body])
        assert decoding.run(make, decoding.cut(body, places)).view() == whole.view()


# --- cost


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("unit", [b"{}", b'""', b"data:0\n\n", b'{"choices":[{"delta":{}}]}'])
def test_a_slice_takes_some_milliseconds(shape: str, unit: bytes) -> None:
    def once() -> float:
        decoder = ChatDecoder(shape)
        data = unit * (decoder.slice_length // len(unit))
        began = time.thread_time()
        decoder.receive(data)
        return time.thread_time() - began

    assert any(once() < 0.03 for _ in range(3))  # measured: 1 to 5 ms


@pytest.mark.parametrize("write", [write_lines, functools.partial(write_events, done="")])
def test_many_documents_in_one_part_cost_no_more_than_one_by_one(
    write: Callable[[Iterable[JSONValue]], bytes],
) -> None:
    document = write([{"choices": [{"index": 0, "delta": {"content": "ä"}}]}])
    number = 1_000

    def once(chunks: list[bytes]) -> float:
        decoder = ChatDecoder()
        began = time.thread_time()  # of the processor: what else the machine does is not counted
        assert sum(len(decoder.receive(chunk)) for chunk in chunks) == number
        return time.thread_time() - began

    # One undisturbed pair is enough.
    assert any(once([document * number]) < 3 * once([document] * number) for _ in range(3))
