from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiosmrt.errors import (
    AiosmrtError,
    InvalidJSON,
    ModelStreamError,
    PayloadError,
    TruncatedStream,
)
from aiosmrt.openai.chunks import ChunkDecoder, NoChoices
from aiosmrt.openai.invocation import Invocation
from aiosmrt.service import INVOKE_ENDPOINT_WITH_RESPONSE_STREAM

if TYPE_CHECKING:
    from tests.conftest import Decoding
    from tests.openai.conftest import Chats

_find_ends = re.compile(rb"\n\n").finditer

Make: TypeAlias = Callable[[], ChunkDecoder]

_TOKENS = [
    {"token": {"id": 1, "text": "Hel", "log_prob": -0.1}},
    {"token": {"id": 2, "text": "lö", "log_prob": -0.1}},
    {
        "token": {"id": 3, "text": "", "special": True},
        "generated_text": "Hellö",
        "details": {"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 5},
    },
]


@pytest.fixture(autouse=True)
def _one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all that one test decodes be created in the same second."""
    monkeypatch.setattr("aiosmrt.openai.chunks.time", SimpleNamespace(time=lambda: 1_796_000_000))


def making(task: str = "chat/completions", choices: int = 1) -> Make:
    operation = INVOKE_ENDPOINT_WITH_RESPONSE_STREAM
    invocation = Invocation(task, operation, "asked", choices, {})
    return lambda: ChunkDecoder(invocation, None, "chatcmpl-7")


def decode(decoding: type[Decoding], make: Make, data: bytes) -> tuple[bytes, AiosmrtError | None]:
    """Decode in every split; the pieces differ, all of them together do not."""
    seen = set()
    error: AiosmrtError | None = None
    cuts = [list(range(0, len(data), size)) for size in (1, 2, 3, 7, 100, len(data) or 1)]
    for cut in (*cuts, [found.end() for found in _find_ends(data)]):
        decoded = decoding.run(make, decoding.cut(data, cut))
        error = decoded.error
        seen.add((b"".join(decoded.values), type(error), error and str(error)))
    ((events, _, _),) = seen
    return events, error


def read(events: bytes) -> list[Any]:
    """Give the documents of events that end as OpenAI's."""
    *found, done, rest = events.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in found]


def test_chunks_are_passed_on_as_they_are(decoding: type[Decoding], chats: type[Chats]) -> None:
    odd = b'{"choices": [{"delta": {"content": "\\ud83d \xc3\xb6"}}],  "x":1.50, "object": "%b"}'
    events = b"data: " + odd % b"chat.completion.chunk" + b"\n\n" + b"".join(chats.stream("b"))
    assert decode(decoding, making(), events) == (events, None)


_choice: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "index": st.sampled_from([0, 1, None]),
        "delta": st.sampled_from(
            [
                {"content": "a"},
                {"content": "b"},
                {"content": None},
                {},
                None,
                {"role": "assistant", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": None},
                {"tool_calls": [{}]},
            ]
        ),
        "logprobs": st.sampled_from([None, {"content": [{"logprob": -0.5}]}]),
        "finish_reason": st.sampled_from([None, "", "stop", "error"]),
    },
)
_document = st.fixed_dictionaries(
    {"choices": st.one_of(st.none(), st.lists(_choice, max_size=2), st.just([{"delta": {}}]))},
    optional={
        "object": st.sampled_from(["chat.completion.chunk", "chat.completion.chunk", "other"]),
        "usage": st.sampled_from([None, {"total_tokens": 3}]),
        "error": st.sampled_from([None, "", {"message": "no GPU"}]),
    },
)
_event = st.one_of(
    _document.map(lambda document: f"data: {json.dumps(document)}".encode()),
    st.sampled_from(
        [
            b"data: [DONE]",
            b"data:{}",
            b"data: 1",
            b"data: \xff",
            b": ping",
            b"event: error\ndata: {}",
            b'data: {"choices":\ndata: []}',
            b'data: {"choices":\r[]}',
            b"",
        ]
    ),
)


@given(events=st.lists(_event, max_size=6))
@example(events=[b"data: [DONE]", b"data: \xff"])
@example(
    events=[
        f'data: {{"object": "chat.completion.chunk", "choices": {choices}}}'.encode()
        for choices in (
            '[{"delta": {"role": "assistant"}}, {"delta": {"role": "assistant"}}]',
            '[{"delta": {"role": "assistant"}}, {"delta": {"role": null}}]',
        )
    ]
)
def test_events_that_come_alone_are_read_as_those_that_come_together(
    decoding: type[Decoding], events: list[bytes]
) -> None:
    decode(decoding, making(), b"".join(event + b"\n\n" for event in events))


def test_what_says_nothing_is_left_out(decoding: type[Decoding], chats: type[Chats]) -> None:
    """Comments, ids, marks, breaks inside of a document: readers of the SDK need none of them."""
    one = chats.event(chats.chunk("a"))
    framed = b": alive\n\nid: 1\nevent: message\n\xef\xbb\xbf" + one.replace(b"\n\n", b"\r\n\r\n")
    framed += b'data: {\ndata: "choices": []}\n\n' + chats.event(chats.chunk(reason="stop"))
    events, error = decode(decoding, making(), framed)
    assert error is None
    assert read(events) == [
        chats.chunk("a"),
        {"choices": [], "object": "chat.completion.chunk"},
        chats.chunk(reason="stop"),
    ]


def test_the_marker_comes_once_and_last(decoding: type[Decoding], chats: type[Chats]) -> None:
    usage = {**chats.chunk(), "choices": [], "usage": {"total_tokens": 3}}
    one, end = chats.event(chats.chunk("a")), chats.event(chats.chunk(reason="length"))
    for sent in (
        one + end + chats.event(usage) + chats.DONE,
        one + end + chats.event(usage),
        one + end + chats.DONE + chats.event(usage),
    ):
        events, error = decode(decoding, making(), sent)
        assert error is None
        assert read(events) == [chats.chunk("a"), chats.chunk(reason="length"), usage]
    # Without a reason to end, the marker is as good, and there is one.
    for task, chunk in (
        ("chat/completions", chats.chunk("a")),
        (
            "completions",
            {
                "object": "text_completion",
                "choices": [{"index": 0, "text": "a", "finish_reason": ""}],
            },
        ),
    ):
        events, error = decode(decoding, making(task), chats.event(chunk) + chats.DONE)
        assert error is None
        first, last = read(events)
        assert (first, last["choices"][0]["finish_reason"]) == (chunk, "stop")
        events, error = decode(decoding, making(task), chats.event(_TOKENS[0]) + chats.DONE)
        assert error is None
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in read(events)]
        assert reasons == [None, "stop"]


def test_json_lines_of_chunks_become_events(decoding: type[Decoding], chats: type[Chats]) -> None:
    chunks = [chats.chunk("a"), chats.chunk("b", "stop")]
    events, error = decode(decoding, making(), b"".join(map(chats.line, chunks)))
    assert (read(events), error) == (chunks, None)


def test_a_usage_in_front_ends_nothing(decoding: type[Decoding], chats: type[Chats]) -> None:
    counted = {"prompt_tokens": 3, "completion_tokens": 0}
    sent = [{"choices": None, "usage": counted}, chats.chunk("a"), chats.chunk(reason="length")]
    events, error = decode(decoding, making(), b"".join(map(chats.event, sent)) + chats.DONE)
    assert error is None
    chunks = read(events)
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert (reasons, chunks[0]["usage"]["total_tokens"]) == ([None, None, "length"], 3)


@pytest.mark.parametrize("framing", ["lines", "events"])
def test_tokens_become_chunks(framing: str, decoding: type[Decoding], chats: type[Chats]) -> None:
    write = chats.line if framing == "lines" else chats.event
    events, error = decode(decoding, making(), b"".join(map(write, _TOKENS)))
    assert error is None
    chunks = read(events)
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {
        ("chatcmpl-7", "chat.completion.chunk", "asked")
    }
    texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert (texts, reasons) == (["Hel", "lö", ""], [None, None, "stop"])
    assert chunks[-1]["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def test_tokens_become_pieces_of_a_completion(decoding: type[Decoding], chats: type[Chats]) -> None:
    lines = b"".join(map(chats.line, _TOKENS))
    events, error = decode(decoding, making("completions"), lines)
    assert error is None
    pieces = read(events)
    assert {piece["object"] for piece in pieces} == {"text_completion"}
    assert [piece["choices"][0]["text"] for piece in pieces] == ["Hel", "lö", ""]


def test_older_lines_of_lmi_become_chunks(decoding: type[Decoding], chats: type[Chats]) -> None:
    last = {"outputs": ["b"], "details": {"finish_reason": "length"}}
    lines = chats.line({"outputs": ["a"]}) + chats.line(last)
    events, error = decode(decoding, making(), lines)
    assert error is None
    choices = [chunk["choices"][0] for chunk in read(events)]
    assert [choice["delta"]["content"] for choice in choices] == ["a", "b"]
    assert choices[-1]["finish_reason"] == "length"


def test_an_answer_that_came_whole_becomes_a_chunk(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    whole = chats.whole("Hello")
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    whole["choices"][0]["message"] |= {"tool_calls": [call], "reasoning": "hm", "refusal": "no"}
    events, error = decode(decoding, making(), json.dumps(whole).encode())
    assert error is None
    (chunk,) = read(events)
    assert (chunk["id"], chunk["object"]) == ("chatcmpl-1", "chat.completion.chunk")
    assert chunk["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "delta": {
                "role": "assistant",
                "content": "Hello",
                "reasoning_content": "hm",
                "refusal": "no",
                "tool_calls": [{**call, "index": 0}],
            },
        }
    ]


@pytest.mark.parametrize("sent", [b"", b"\n", b": alive\n\n"])
def test_nothing_is_no_end(sent: bytes, decoding: type[Decoding]) -> None:
    events, error = decode(decoding, making(), sent)
    assert (events, type(error)) == (b"", TruncatedStream)


def test_an_end_needs_a_reason_for_each_choice(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    one = chats.chunk("a", "stop")
    two = {**one, "choices": [{"index": 1, "delta": {"content": "b"}}]}
    sent = chats.event(one) + chats.event(two)
    events, error = decode(decoding, making(choices=2), sent)
    assert (events, type(error)) == (sent, TruncatedStream)
    two["choices"][0]["finish_reason"] = "stop"
    events, error = decode(decoding, making(choices=2), sent + chats.event(two))
    assert error is None


def test_an_end_has_the_reason_that_openai_names(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    chunks = [chats.chunk("a"), chats.chunk("b", "eos_token")]
    events, error = decode(decoding, making(), b"".join(map(chats.event, chunks)))
    assert error is None
    assert [chunk["choices"][0]["finish_reason"] for chunk in read(events)] == [None, "stop"]


def test_tokens_without_a_last_one_are_no_answer(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    events, error = decode(decoding, making(), chats.line(_TOKENS[0]))
    assert events.count(b"data: ") == 1
    assert type(error) is TruncatedStream


def test_several_answers_are_refused_where_there_is_one(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    events, error = decode(decoding, making(choices=3), b"".join(map(chats.line, _TOKENS)))
    assert (events, type(error)) == (b"", NoChoices)
    assert "3 answers were asked for" in str(error)


@pytest.mark.parametrize(
    "report",
    [
        b'data: {"error": {"message": "out of memory", "code": 500}}\n\n',
        b'data: {"object": "error", "message": "out of memory", "code": 500}\n\n',
        b'event: error\ndata: {"message": "out of memory", "code": 500}\n\n',
        b'data: {"choices": [], "error": {"message": "out of memory", "code": 500}}\n\n',
    ],
)
def test_a_report_of_a_failure_is_raised_behind_what_came_before(
    report: bytes, decoding: type[Decoding], chats: type[Chats]
) -> None:
    one = chats.event(chats.chunk("a"))
    events, error = decode(decoding, making(), one + report + chats.DONE)
    assert events == one
    assert isinstance(error, ModelStreamError)
    assert (error.message, error.error_code) == ("out of memory", "500")


def test_a_reason_that_is_a_failure_is_raised_behind_its_text(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    last = chats.event(chats.chunk("a", "abort"))
    events, error = decode(decoding, making(), last + chats.DONE)
    assert (events, type(error)) == (last, ModelStreamError)


def test_what_is_no_json_is_placed(decoding: type[Decoding], chats: type[Chats]) -> None:
    one = chats.event(chats.chunk("a"))
    events, error = decode(decoding, making(), one + b"data: {\n\n")
    assert events == one
    assert isinstance(error, InvalidJSON)
    assert error.offset == len(one)


def test_documents_of_another_kind_are_named(decoding: type[Decoding], chats: type[Chats]) -> None:
    for document in ({"predictions": [1]}, {"predictions": [1], "choices": None}):
        for data in (chats.line(document), chats.event(document) + chats.DONE):
            events, error = decode(decoding, making(), data)
            assert (events, type(error)) == (b"", PayloadError)
            assert "predictions" in str(error)


def test_what_an_end_or_a_usage_leaves_out_is_put_there(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    """The SDK's users read `chunk.choices[0].delta.content`."""
    usage = {"total_tokens": 3}
    for end in ({"index": 0, "finish_reason": "stop"}, {"delta": None, "finish_reason": "stop"}):
        for last in ({"usage": usage}, {"choices": None, "usage": usage}):
            data = b"".join(map(chats.event, [chats.chunk("a"), {"choices": [end]}, last]))
            events, error = decode(decoding, making(), data)
            assert error is None
            assert read(events) == [
                chats.chunk("a"),
                {"choices": [{**end, "delta": {}}], "object": "chat.completion.chunk"},
                {"choices": [], "usage": usage, "object": "chat.completion.chunk"},
            ]
    said = {"choices": [{"index": 0, "text": "a", "finish_reason": None}]}
    ended = {"choices": [{"index": 0, "finish_reason": "stop"}]}
    data = b"".join(map(chats.line, [said, ended]))
    events, error = decode(decoding, making("completions"), data)
    assert error is None
    assert read(events)[1]["choices"] == [{"index": 0, "finish_reason": "stop", "text": ""}]


def test_a_role_is_said_once(decoding: type[Decoding], chats: type[Chats]) -> None:
    """The SDK's own accumulator adds up whatever is said again."""
    events, error = decode(decoding, making(), b"".join(map(chats.line, _TOKENS)))
    assert error is None
    roles = [chunk["choices"][0]["delta"].get("role") for chunk in read(events)]
    assert roles == ["assistant", None, None]


def test_a_document_about_the_answer_says_nothing_of_its_shape(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    for answer in ([chats.whole("Hellö")], _TOKENS):
        data = b"".join(map(chats.event, [{"event": "start"}, *answer]))
        events, error = decode(decoding, making(), data)
        assert error is None
        text = "".join(document["choices"][0]["delta"]["content"] for document in read(events))
        assert text == "Hellö"


def test_an_end_is_proven_by_as_many_choices_as_were_asked_for(
    decoding: type[Decoding], chats: type[Chats]
) -> None:
    one, other = chats.chunk("a", "stop"), chats.chunk("b", "stop")
    other["choices"][0]["index"] = 1
    events, error = decode(decoding, making(choices=2), chats.event(one))
    assert (events, type(error)) == (chats.event(one), TruncatedStream)
    assert "a finish reason of each of 2 choices" in str(error)
    events, error = decode(decoding, making(choices=2), chats.event(one) + chats.event(other))
    assert error is None
    assert read(events) == [one, other]


def test_a_long_document_is_left_for_steps(chats: type[Chats]) -> None:
    decoder = making()()
    decoder.leave_large()
    event = chats.event(chats.chunk("x" * 200_000, "stop"))
    assert decoder.receive(event) == []
    assert decoder.large is not None
    assert decoder.receive(b"") == [event]
    assert decoder.finish() == [chats.DONE]
    assert decoder.finish() == []
