"""Text out of the shapes that language models stream, whatever the split."""

from __future__ import annotations

import functools
import itertools
import json
import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    InvalidJSON,
    InvalidText,
    ModelStreamError,
    PayloadError,
    PayloadTooLarge,
)
from aiosmrt.models import JSONValue
from aiosmrt.sse import encode
from aiosmrt.tokens import PRESETS, TokenDecoder, find_error

if TYPE_CHECKING:
    from tests.conftest import Decoding, MakeDecoder

CHAT: list[JSONValue] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Zw"}}]},
    {"choices": [{"index": 0, "delta": {"content": "ölf €"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"completion_tokens": 2}},
]
COMPLETION: list[JSONValue] = [{"choices": [{"text": "Zw"}]}, {"choices": [{"text": "ölf €"}]}]
TGI: list[JSONValue] = [
    {"token": {"id": 1, "text": "Zw", "special": False}, "generated_text": None},
    {"token": {"id": 1, "text": "ölf €", "special": False}, "generated_text": None},
    {"token": {"id": 2, "text": "</s>", "special": True}, "generated_text": "Zwölf €"},
]
LMI: list[JSONValue] = [
    {"token": {"id": 1, "text": "Zw", "log_prob": -0.1}},
    {"token": {"id": 1, "text": "ölf €", "log_prob": -0.1}},
    {"token": {"id": 2, "text": ""}, "generated_text": "Zwölf €", "details": {}},
]
OLD_LMI: list[JSONValue] = [{"outputs": ["Zw"]}, {"outputs": ["ölf €"]}, {"outputs": [""]}]
SHAPES = [
    ("openai-chat", CHAT),
    ("openai-completion", COMPLETION),
    ("tgi", TGI),
    ("lmi", LMI),
    ("lmi", OLD_LMI),
    ("choices[0].delta.content", CHAT),
]


def _write_lines(documents: Iterable[JSONValue]) -> bytes:
    return b"".join(json.dumps(d, ensure_ascii=False).encode() + b"\n" for d in documents)


def _write_events(documents: Iterable[JSONValue]) -> bytes:
    events = [encode(json.dumps(d, ensure_ascii=False)) for d in documents]
    return b": hello\n\n" + b"".join(events) + encode("[DONE]")


def _run(
    chunks: Iterable[bytes], path: str, content_type: str | None = None
) -> tuple[list[str], str | None]:
    decoder = TokenDecoder(path, content_type)
    tokens: list[str] = []
    try:
        for chunk in chunks:
            tokens += decoder.receive(chunk)
        while more := decoder.finish():
            tokens += more
    except AiosmrtError as error:
        return tokens, f"{type(error).__name__}: {error}"
    return tokens, None


def _make(path: str, content_type: str | None = None) -> MakeDecoder:
    return lambda: TokenDecoder(path, content_type)


@pytest.mark.parametrize(("path", "documents"), SHAPES)
@pytest.mark.parametrize("write", [_write_lines, _write_events])
def test_every_shape_gives_its_text_at_every_split(
    decoding: type[Decoding],
    path: str,
    documents: list[JSONValue],
    write: Callable[[Iterable[JSONValue]], bytes],
) -> None:
    for content_type in (None, "application/octet-stream"):
        tokens = decoding.give(_make(path, content_type), write(documents))
        assert tokens == ["Zw", "ölf €"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        # What the first byte says is true, whatever the name.
        (b'{"t": "a"}\n{"t": "b"}', "application/jsonlines"),
        (b'{"t": "a"}\n{"t": "b"}', "text/event-stream"),
        (b'\n {"t": "a"}{"t": "b"}', None),
        (b'data:{"t": "a"}\n\ndata:{"t": "b"}', "application/json"),
        (b'\r\n\nid: 1\ndata:{"t": "a"}\n\ndata:{"t": "b"}\n\n', None),
        (b'event: x\ndata:{"t": "a"}\n\ndata:{"t": "b"}\n\n', None),
        (b'retry: 1\ndata:{"t": "a"}\n\ndata:{"t": "b"}\n\n', "text/plain"),
        # What else there is: a byte order mark, or a field that nobody knows.
        (b'\xef\xbb\xbf{"t": "a"}{"t": "b"}', None),
        (b'\xef\xbb\xbfdata:{"t": "a"}\n\ndata:{"t": "b"}\n\n', "Text/Event-Stream; charset=utf-8"),
        (b'foo: 1\ndata:{"t": "a"}\n\ndata:{"t": "b"}\n\n', "text/event-stream"),
        # Events without text.
        (b'data:{"t": "a"}\n\ndata:\n\ndata: [DONE]\n\ndata:{"t": "b"}\n\n', None),
    ],
)
def test_lines_and_events_are_told_apart(
    decoding: type[Decoding], body: bytes, content_type: str | None
) -> None:
    assert decoding.give(_make("t", content_type), body) == ["a", "b"]


def test_a_list_or_a_string_may_be_a_document() -> None:
    assert _run([b'["a"]["b"]'], "[0]") == (["a", "b"], None)
    assert _run([b'"a" "b"'], "@") == (["a", "b"], None)


def test_nothing_has_no_text(decoding: type[Decoding]) -> None:
    for body in (b"", b" \n\r\t"):
        assert decoding.give(_make("t"), body) == []


@pytest.mark.parametrize("path", ["", "a b", "a[", "tgii-chat", "`"])
def test_a_path_that_is_none_is_refused_with_the_presets(path: str) -> None:
    with pytest.raises(ConfigurationError, match="openai-chat, openai-completion, tgi, lmi") as e:
        TokenDecoder(path)
    assert "\n" not in str(e.value)


def test_presets_are_paths() -> None:
    for path in PRESETS.values():
        assert _run([b"{}"], path) == ([], None)


BAD = [
    (b'{"t": "a"}{"t": 1}{"t": "b"}', InvalidJSON, "document 2, at byte 10 of .* a int, not"),
    (b'{"t": "a"}{"t": ["x"]}', InvalidJSON, "document 2, at byte 10 of .* a list, not"),
    (b'{"t": "a"}{"t": ', InvalidJSON, "ended after 16 bytes"),
    (b'{"t": "a"}]', InvalidJSON, "byte 10 of the payload"),
    (b'{"t": "a"}"\xff"', InvalidText, "byte 11 of the payload"),
    (
        b'data:{"t": "a"}\n\ndata: oops\n\ndata:{"t": "b"}\n\n',
        InvalidJSON,
        "2, at byte 17 of .*'oops'",
    ),
    (b'data:{"t": "a"}\n\ndata: \xff\n\n', InvalidText, "byte 23 of the payload"),
    (b'data:{"t": "a"}\n\ndata:' + b"[" * 9000, InvalidJSON, "2, at byte 17 "),
    (b'{"t": "a"}{"error": "Test error"}{"t": "b"}', ModelStreamError, "Test error"),
    (b'data:{"t": "a"}\n\ndata:{"error": {"message": "no"}}', ModelStreamError, "no"),
    (b'\n {"t": "a"}\r\n{}{"t": 1', InvalidJSON, "ended after"),
    (b'\n {"t": "a"}\r\n{}{"t": 1}', InvalidJSON, "document 3, at byte 16 "),
    (b'\r\ndata:{"t": "a"}\n\n:x\n\nid:1\r\ndata:x', InvalidJSON, "2, at byte 23 "),
    (b'data:{"t": "a"}\r\r: x\n\r\nid:\ndata:{"t": 1}\n\n', InvalidJSON, "2, at byte 23 "),
    (b'data:{"t": "a"}\n\ndata:[\ndata:1\n', InvalidJSON, "2, at byte 17 "),
    (b'\n\n {"t": "a"}]', InvalidJSON, "byte 13 of the payload"),
]


@pytest.mark.parametrize(("body", "kind", "words"), BAD)
def test_what_is_sound_comes_before_the_fault_at_every_split(
    decoding: type[Decoding], body: bytes, kind: type[AiosmrtError], words: str
) -> None:
    assert decoding.decode(_make("t"), body).values == ["a"]
    decoder = TokenDecoder("t")
    assert decoder.receive(body) == ["a"]
    with pytest.raises(kind, match=words) as caught:
        list(iter(decoder.finish, None))  # until it raises
    if isinstance(caught.value, InvalidJSON) and "at byte" in words:
        assert f"at byte {caught.value.offset} of the payload" in str(caught.value)
    for again in (functools.partial(decoder.receive, b'{"t": "c"}'), decoder.finish):
        with pytest.raises(kind) as repeated:
            again()
        assert repeated.value is caught.value
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), kind)


def test_a_path_that_fails_on_a_document_is_an_error_of_the_payload() -> None:
    tokens, error = _run([b'{"t": ["a"]}', b'{"t": 1}'], "join('', t)")
    assert tokens == ["a"]
    assert error is not None
    assert error.startswith('InvalidJSON: document 2, at byte 12 of the payload: the path "join')
    assert "unknown" in (_run([b"{}"], "nothing(t)")[1] or "").lower()


def test_white_space_without_end_is_bounded() -> None:
    decoder = TokenDecoder("t")
    decoder._events._max_event_length = 100
    for _ in range(100):
        assert decoder.receive(b" ") == []
    for more in (b" ", b"{}"):
        with pytest.raises(PayloadTooLarge):
            decoder.receive(more)
    with pytest.raises(PayloadTooLarge):
        decoder.finish()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"error": "Test error"}, "Test error"),
        ({"error": {"message": "Test error", "code": 500}}, "Test error"),
        ({"error": {"reason": "x"}}, '{"reason": "x"}'),
        ({"error": {"message": 7}}, '{"message": 7}'),
        ({"error": ["x"]}, '["x"]'),
        ({"error": None}, None),
        ({"error": ""}, None),
        ({}, None),
        ([{"error": "x"}], None),
        ("error", None),
    ],
)
def test_errors_that_models_report(document: JSONValue, message: str | None) -> None:
    error = find_error(document)
    assert (error and error.message) == message
    if error is not None:
        assert error.status == 200
        assert error.fields == document


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4), st.booleans())
def test_nothing_but_our_errors_comes_out_at_any_split(
    body: bytes, cuts: list[int], events: bool
) -> None:
    content_type = "text/event-stream" if events else None
    whole = _run([body], "t", content_type)
    edges = [0, *sorted(cuts), len(body)]
    chunks = [body[a:b] for a, b in itertools.pairwise(edges) if a <= b]
    if b"".join(chunks) == body:
        assert _run(chunks, "t", content_type) == whole
    assert whole[1] is None or issubclass(InvalidJSON, PayloadError)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.booleans())
def test_the_tokens_are_those_that_were_sent(texts: list[str], events: bool) -> None:
    documents: list[JSONValue] = [{"token": {"text": text}} for text in texts]
    data = (_write_events if events else _write_lines)(documents)
    assert _run([data], "tgi") == ([text for text in texts if text], None)


@pytest.mark.parametrize("write", [_write_lines, _write_events])
def test_many_documents_in_one_part_cost_no_more_than_one_by_one(
    write: Callable[[Iterable[JSONValue]], bytes],
) -> None:
    document = write([{"t": "a"}])
    documents = [document] * 5_000

    def once(chunks: Sequence[bytes]) -> float:
        began = time.thread_time()  # of the processor: what else the machine does is not counted
        assert _run(chunks, "t") == (["a"] * len(documents), None)
        return time.thread_time() - began

    rounds = [(once([b"".join(documents)]), once(documents)) for _ in range(3)]
    whole, singly = map(min, zip(*rounds, strict=True))
    assert whole < 3 * singly  # measured: 0.3 to 0.9
