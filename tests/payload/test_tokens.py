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
from hypothesis import given
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    InvalidJSON,
    InvalidText,
    ModelStreamError,
    PayloadError,
    PayloadTooLarge,
    TruncatedStream,
)
from aiosmrt.models import JSONValue
from aiosmrt.payload.shapes import SHAPES
from aiosmrt.payload.tokens import TokenDecoder
from aiosmrt.sse import encode

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
SHAPED = [
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


@pytest.mark.parametrize(("path", "documents"), SHAPED)
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
        (b'\xef\xbb\xbfdata:{"t": "a"}\n\n\xef\xbb\xbfdata:{"t": "b"}\n\n', None),
        (b'\xef\xbb\xbf: hi\n\ndata:{"t": "a"}\n\ndata:{"t": "b"}\n\n', "application/json"),
        (b'\n\xef\xbb\xbf {"t": "a"}\n\xef\xbb\xbf{"t": "b"}', "text/event-stream"),
        (b'data:\xef\xbb\xbf{"t": "a"}\n\ndata: \n \n\ndata: \xef\xbb\xbf {"t": "b"}\n\n', None),
        (b'\xbb\ndata:{"t": "a"}\n\ndata:{"t": "b"}\n\n', "text/event-stream"),
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
    for body in (b"", b" \n\r\t", b"\xef\xbb\xbf", b"\n\xef\xbb\xbf\xef\xbb\xbf \n"):
        for content_type in (None, "text/event-stream"):
            assert decoding.give(_make("t", content_type), body) == []


def test_a_payload_of_half_a_byte_order_mark(decoding: type[Decoding]) -> None:
    for body in (b"\xef", b" \xef\xbb"):
        outcome = decoding.decode(_make("t"), body)
        assert isinstance(outcome.error, InvalidText)
        assert outcome.at_end
        assert outcome.error.offset == len(body.rstrip(b"\xbb")) - 1
        # An event stream may hold any bytes in what counts for nothing, but not these alone.
        outcome = decoding.decode(_make("t", "text/event-stream"), body)
        assert type(outcome.error) is PayloadError
        assert outcome.at_end
        events = body + b'\ndata: {"t": "a"}\n\n'
        assert decoding.give(_make("t", "text/event-stream"), events) == ["a"]


@pytest.mark.parametrize(
    "path", ["", "a b", "a[", "tgii-chat", "`", "[" + "9" * 5000 + "]", "(" * 2000, "\ud800", "\0"]
)
def test_a_path_that_is_none_is_refused_with_the_presets(path: str) -> None:
    with pytest.raises(ConfigurationError, match="openai-chat, openai-completion, tgi, lmi") as e:
        TokenDecoder(path)
    assert "\n" not in str(e.value)


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
    decoding: type[Decoding],
    body: bytes,
    kind: type[AiosmrtError],
    words: str,
    all_it_says: Callable[[BaseException], object],
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
        assert all_it_says(repeated.value) == all_it_says(caught.value)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), kind)


def test_a_path_that_fails_on_a_document_is_an_error_of_the_payload() -> None:
    tokens, error = _run([b'{"t": ["a"]}', b'{"t": 1}'], "join('', t)")
    assert tokens == ["a"]
    assert error is not None
    assert error.startswith('InvalidJSON: document 2, at byte 12 of the payload: the path "join')
    assert "unknown" in (_run([b"{}"], "nothing(t)")[1] or "").lower()


# Paths that do not fit a document, and whose error says so first.
MISFITS = [
    ("contains(t, k)", b'{"t": "ab", "k": 1}', TypeError),
    ("to_string(ceil(t))", b'{"t": 1e999}', OverflowError),
    ("to_string(floor(t))", b'{"t": NaN}', ValueError),
    ("to_string(sum(t))", b'{"t": [%b, %b]}' % (b"9" * 4300, b"9" * 4300), ValueError),
    ("to_string(avg(t))", b'{"t": [%b]}' % (b"9" * 4300), OverflowError),
    ("t[::0]", b'{"t": ["a"]}', ValueError),
    ("t < to_string(t)", b'{"t": 1}', TypeError),
    ("max_by(t, &k).k", b'{"t": [{"k": 1}, {"k": "a"}]}', TypeError),
    ("sort_by(t, &k)[0].k", b'{"t": [{"k": 1}, {"k": "a"}]}', JMESPathError),
    ("join('', t)", b'{"t": 1}', JMESPathError),
    ("join('', t)", b'{"t": "\\ud800"}', JMESPathError),
    ("join('', t)", b'{"t": "%b"}' % (b"x" * 10_000), JMESPathError),
    ("nothing(t)", b"{}", JMESPathError),
    ("t" + " | @" * 990, b"{}", RecursionError),
    ("t", b"[" * 100_000 + b"]" * 100_000, RecursionError),
    ("t", b'{"t": %b}' % (b"9" * 5000), ValueError),
]


@pytest.mark.parametrize(("path", "document", "cause"), MISFITS)
@pytest.mark.parametrize("events", [False, True])
def test_whatever_a_path_meets_is_an_error_of_the_payload_behind_what_was_sound(
    path: str, document: bytes, cause: type[Exception], events: bool
) -> None:
    sound = b'{"error": null}'
    frame: Callable[[bytes], bytes] = (lambda d: b"data: %b\n\n" % d) if events else bytes
    decoder = TokenDecoder(f"s || ({path})")
    before = frame(b'{"s": "a"}') + frame(b'{"s": "b"}')
    assert decoder.receive(before + frame(document) + frame(b'{"s": "c"}')) == ["a", "b"]
    with pytest.raises(InvalidJSON) as caught:
        decoder.receive(sound)
    error = caught.value
    assert isinstance(error.__cause__, cause)
    assert error.offset == len(before)
    assert f"at byte {len(before)} of the payload" in str(error)
    assert len(str(error)) < 500 + len(path)
    assert str(error).encode()
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "path", ["to_string(t)", "join('', t)", "t", "t[]", f"abs({'[' * 20}t{']' * 20})"]
)
def test_nesting_near_the_limit_of_recursion_is_an_error_of_the_payload(path: str) -> None:
    kinds = set()
    for depth in range(700, 1000, 7):
        for wrap in (b'{"t": %b}', b'data: {"t": %b}\n\n', b'{"error": {"x": %b}}'):
            tokens, error = _run([wrap % (b"[" * depth + b"]" * depth)], path)
            kinds.add((error or "").partition(":")[0])
            assert len(tokens) == (error is None)
    assert kinds <= {"", "InvalidJSON", "ModelStreamError"}


HOSTILE = [*SHAPES, *(path for path, _, _ in MISFITS), "@", "*", "[*].t", "keys(@)[0]", "&t"]
_signs = st.sampled_from(
    [
        *(bytes([sign]) for sign in b'"\\[]{},:1e-tn \r\n'),
        b"\xef\xbb\xbf",
        b"data:",
        b"\n\n",
        b"\xed",
    ]
)
_members = st.sampled_from(["t", "k", "s", "error", "token", "choices", "outputs", "message"])
_documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_members, inner, max_size=3),
    max_leaves=8,
).map(lambda document: json.dumps(document).encode())
_payloads = st.lists(
    st.one_of(
        _signs,
        st.binary(max_size=3),
        _documents,
        _documents.map(lambda document: b"data: %b\n\n" % document),
    ),
    max_size=12,
).map(b"".join)


@given(_payloads, st.lists(st.integers(0, 200), max_size=4), st.sampled_from(HOSTILE))
def test_nothing_but_our_errors_comes_out_of_any_path_on_anything(
    decoding: type[Decoding], body: bytes, places: list[int], path: str
) -> None:
    for content_type in (None, "text/event-stream"):
        whole = decoding.run(_make(path, content_type), [body])
        parted = decoding.run(_make(path, content_type), decoding.cut(body, places))
        assert parted.view() == whole.view()
        assert all(str(token).encode() for token in whole.values)


# Text that JSON can write and UTF-8 cannot hold


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [
        (["\ud83d\ude00"], ["\U0001f600"]),
        (["a\ud83d", "\ude00b"], ["a", "\U0001f600b"]),
        (["\ud83d", "", "\ude00"], ["\U0001f600"]),
        (["\ud83d", "a"], ["\ufffda"]),
        (["\ud83d", "\ud83d", "\ude00"], ["\ufffd", "\U0001f600"]),
        (["\ude00", "a\ude00ä"], ["\ufffd", "a\ufffdä"]),
        (["ä", "a\ud83d"], ["ä", "a", "\ufffd"]),
    ],
)
@pytest.mark.parametrize("events", [False, True])
def test_halves_of_surrogate_pairs_become_characters(
    decoding: type[Decoding], texts: list[str], tokens: list[str], events: bool
) -> None:
    documents = [json.dumps({"t": text}).encode() for text in texts]
    body = b"".join(b"data: %b\n\n" % d if events else d for d in documents)
    assert decoding.give(_make("t"), body) == tokens


def test_half_of_a_surrogate_pair_is_not_given_before_a_fault(decoding: type[Decoding]) -> None:
    outcome = decoding.decode(_make("t"), b'{"t": "a\\ud83d"}{"t": 1}')
    assert outcome.values == ["a"]
    assert isinstance(outcome.error, InvalidJSON)


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


# --- failures inside a success

GOOD_CHAT = b'data: {"choices":[{"index":0,"delta":{"content":"good"}}]}\n\n'
GOOD_LMI = b'{"token":{"id":1,"text":"good","log_prob":-1}}\n'
DONE = encode("[DONE]")
FAILURES = [
    ("lmi", GOOD_LMI, b'{"error":"","code":424}\n', ""),
    ("lmi", GOOD_LMI, b'{"error":"boom","code":424}\n', "boom"),
    ("lmi", GOOD_LMI, b'{"code":503,"type":"TranslateException","message":"boom"}', "boom"),
    (
        "lmi",
        GOOD_LMI,
        b'{"token":{"text":"","error_msg":"boom"},"details":{"finish_reason":"error"}}\n',
        "boom",
    ),
    ("openai-chat", GOOD_CHAT, b'data: {"error_type":"X","error_message":"boom"}\n\n', "boom"),
    ("openai-chat", GOOD_CHAT, b"event: error\ndata: overloaded\n\n", "overloaded"),
    ("openai-chat", GOOD_CHAT, b"event: error\n\n", ""),
    ("openai-chat", GOOD_CHAT, b"event: error\ndata: [DONE]\n\n", "[DONE]"),
    (
        "openai-chat",
        GOOD_CHAT,
        b'event: error\ndata: {"type":"error","error":{"message":"boom"}}\n\n',
        "boom",
    ),
    (
        "openai-chat",
        GOOD_CHAT,
        b'data: {"object":"error","message":"boom","code":500}\n\n',
        "boom",
    ),
    ("openai-chat", GOOD_CHAT, b'error: {"code":400,"message":"boom"}\n\n', "boom"),
    ("openai-chat", GOOD_CHAT, b'{"error":"boom"}\n\n', "boom"),
    ("openai-chat", GOOD_CHAT, b'{"error":"boom"}', "boom"),
    (
        "openai-chat",
        GOOD_CHAT,
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}\n\n',
        "the model ended for the reason 'error'",
    ),
    ("tgi", encode('{"token":{"text":"good"}}'), encode('{"error":"boom"}'), "boom"),
    (
        "choices[*].delta.content | [0]",
        GOOD_CHAT,
        b'data: {"choices":[{"delta":{},"finish_reason":"abort"}]}\n\n',
        "the model ended for the reason 'abort'",
    ),
    # What an expression would find in it is the report's own.
    (
        "choices[0].delta.content || message",
        GOOD_CHAT,
        b'data: {"type":"error","message":"boom"}\n\n',
        "boom",
    ),
    # It is a failure all the same where the path does not fit.
    ("join('', choices[].delta.content)", GOOD_CHAT, encode('{"error": "boom"}'), "boom"),
]


@pytest.mark.parametrize(("path", "good", "bad", "message"), FAILURES)
def test_a_failure_comes_behind_all_that_was_sound_at_every_split(
    decoding: type[Decoding], path: str, good: bytes, bad: bytes, message: str
) -> None:
    for behind in (b"", DONE) if bad.endswith(b"\n\n") else (b"",):
        outcome = decoding.decode(_make(path), good + bad + behind)
        assert outcome.values == ["good"]
        assert isinstance(outcome.error, ModelStreamError)
        assert outcome.error.message == message


def test_the_code_of_a_failure_is_told() -> None:
    body = GOOD_CHAT + encode('{"object":"error","message":"boom","code":500}')
    decoder = TokenDecoder("openai-chat")
    assert decoder.receive(body) == ["good"]
    with pytest.raises(ModelStreamError, match="500: boom") as caught:
        decoder.receive(b"")
    assert caught.value.error_code == "500"
    assert caught.value.fields["code"] == 500


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("openai-chat", encode('{"choices":[{"delta":{"content":"a"},"finish_reason":"abort"}]}')),
        ("choices[0].text", encode('{"choices":[{"text":"a","finish_reason":"abort"}]}')),
        ("token.text", b'{"token":{"text":"a"},"details":{"finish_reason":"error"}}'),
        ("lmi", b'{"token":{"text":"a"},"error":"boom"}'),
    ],
)
def test_a_text_beside_a_failure_is_given_before_it(
    decoding: type[Decoding], path: str, body: bytes
) -> None:
    outcome = decoding.decode(_make(path), body)
    assert outcome.values == ["a"]
    assert isinstance(outcome.error, ModelStreamError)


def test_a_choice_that_is_left_out_may_fail(decoding: type[Decoding]) -> None:
    left_out = encode('{"choices":[{"index":1,"delta":{},"finish_reason":"error"}]}')
    assert decoding.give(_make("openai-chat"), left_out + GOOD_CHAT) == ["good"]


@pytest.mark.parametrize("write", [_write_lines, _write_events])
def test_members_that_say_nothing_stay_harmless(
    decoding: type[Decoding], write: Callable[[Iterable[JSONValue]], bytes]
) -> None:
    documents: list[JSONValue] = [
        {"token": {"text": text}, "error": nothing, "error_type": None, "code": 200}
        for text, nothing in [("error", None), (": boom", ""), ('{"error": 1}', False)]
    ]
    tokens = decoding.give(_make("lmi"), write(documents))
    assert tokens == ["error", ": boom", '{"error": 1}']


# --- documents that were not expected, and ends


@pytest.mark.parametrize("write", [_write_lines, _write_events])
def test_documents_of_another_shape_are_refused_at_the_end(
    decoding: type[Decoding], write: Callable[[Iterable[JSONValue]], bytes]
) -> None:
    outcome = decoding.decode(_make("openai-chat"), write(TGI))
    assert outcome.values == []
    assert outcome.at_end
    assert type(outcome.error) is PayloadError
    assert "(3) has what 'openai-chat'" in str(outcome.error)
    assert "token, generated_text: 'tgi' or 'lmi' would fit" in str(outcome.error)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("openai-chat", b'{"choices":[{"message":{"content":"hello"}}]}'),
        ("openai-chat", b'data: {"choices":[{"message":{"content":"hello"}}]}\n\n'),
        ("openai-completion", b'{"choices":[{"text":"hello","finish_reason":"stop"}]}'),
        ("tgi", b'[{"generated_text":"hello"}]'),
        ("tgi", b'{"generated_text":"hello","details":{"finish_reason":"length"}}'),
        ("lmi", b'{"generated_text":"hello"}'),
        ("lmi", b'{"outputs":["hello"]}'),
    ],
)
def test_an_answer_that_is_no_stream_gives_its_text(
    decoding: type[Decoding], path: str, body: bytes
) -> None:
    assert decoding.give(_make(path), body) == ["hello"]


@pytest.mark.parametrize("path", SHAPES)
def test_no_document_is_no_fault_but_foreign_lines_alone_are(
    decoding: type[Decoding], path: str
) -> None:
    for body in (b"", b"\n", b": ping\n\n", b"data:\n\n", DONE, b"foo: 1\n\n" + DONE):
        assert decoding.give(_make(path, "text/event-stream"), body) == []
    for body in (b"internal server error", b"<html>\n<p>502: bad gateway</p>\n"):
        outcome = decoding.decode(_make(path, "text/event-stream"), body)
        assert type(outcome.error) is PayloadError
        assert outcome.at_end
        assert body.decode().partition("\n")[0] in str(outcome.error)


@pytest.mark.parametrize("path", ["openai-chat", "openai-completion"])
@pytest.mark.parametrize("write", [_write_lines, _write_events])
def test_choices_are_not_mixed(
    decoding: type[Decoding], path: str, write: Callable[[Iterable[JSONValue]], bytes]
) -> None:
    documents: list[JSONValue] = [
        {"choices": [{"index": index, "text": text, "delta": {"content": text}}]}
        for index, text in [(0, "A"), (1, "B"), (0, "a"), (1, "b")]
    ]
    assert decoding.give(_make(path), write(documents)) == ["A", "a"]


ENDED_CHAT = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n'
ENDED_LMI = b'{"token":{"text":""},"generated_text":"good"}\n'


@pytest.mark.parametrize(
    ("path", "done", "body"),
    [
        ("openai-chat", None, GOOD_CHAT + DONE),
        ("openai-chat", None, GOOD_CHAT + b"data: [DONE]"),
        ("openai-chat", None, GOOD_CHAT + b"data: [DONE] \n\n"),
        ("openai-chat", None, GOOD_CHAT + b"data:  [DONE]\t\n\n: bye\n\n"),
        ("openai-chat", None, GOOD_CHAT[6:] + ENDED_CHAT),  # JSON lines have no such event
        ("openai-chat", "<end>", GOOD_CHAT + encode(" <end>")),
        ("openai-chat", None, b'{"choices":[{"message":{"content":"good"}}]}'),
        ("lmi", None, GOOD_LMI + ENDED_LMI),
        ("lmi", None, b"data: " + GOOD_LMI + b"\ndata: " + ENDED_LMI + b"\n"),
        ("tgi", None, b"data: " + GOOD_LMI + b"\ndata: " + ENDED_LMI + b"\n"),
        ("token.text", "[DONE]", b"data: " + GOOD_LMI + b"\n" + DONE),
    ],
)
def test_an_end_that_is_marked(
    decoding: type[Decoding], path: str, done: str | None, body: bytes
) -> None:
    make = functools.partial(TokenDecoder, path, done=done)
    assert [t for t in decoding.give(make, body) if t] == ["good"]
    assert decoding.give(functools.partial(make, require_done=True), body) == ["good"]


@pytest.mark.parametrize(
    ("path", "done", "body", "words"),
    [
        ("openai-chat", None, GOOD_CHAT, "event '[DONE]'"),
        ("openai-chat", None, GOOD_CHAT + b"data: " + ENDED_CHAT + b"\n", "event '[DONE]'"),
        ("openai-chat", None, b"", "event '[DONE]'"),
        ("openai-chat", "<end>", GOOD_CHAT + DONE, "event '<end>'"),
        ("openai-chat", None, GOOD_CHAT[6:], "its last document"),
        ("lmi", None, GOOD_LMI, "its last document"),
        ("lmi", None, b"data: " + GOOD_LMI + b"\n", "its last document"),
        ("tgi", None, b"", "its last document"),
        ("token.text", "[DONE]", b"data: " + GOOD_LMI + b"\n", "event '[DONE]'"),
    ],
)
def test_an_end_without_its_mark_is_a_fault_where_it_is_required(
    decoding: type[Decoding], path: str, done: str | None, body: bytes, words: str
) -> None:
    make = functools.partial(TokenDecoder, path, done=done)
    sound = decoding.give(make, body)
    outcome = decoding.decode(functools.partial(make, require_done=True), body)
    assert outcome.values == sound
    assert outcome.at_end
    assert isinstance(outcome.error, TruncatedStream)
    assert words in str(outcome.error)


def test_an_expression_needs_the_mark_to_be_named() -> None:
    with pytest.raises(ValueError, match="require_done needs done"):
        TokenDecoder("token.text", require_done=True)


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


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.booleans())
def test_the_tokens_are_those_that_were_sent(texts: list[str], events: bool) -> None:
    documents: list[JSONValue] = [{"token": {"text": text}} for text in texts]
    data = (_write_events if events else _write_lines)(documents)
    assert _run([data], "tgi") == ([text for text in texts if text], None)


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize("unit", [b"{}", b'""', b"data:0\n\n"])
def test_a_slice_takes_some_milliseconds(path: str, unit: bytes) -> None:
    def once() -> float:
        decoder = TokenDecoder(path)
        data = unit * (decoder.slice_length // len(unit))
        began = time.thread_time()
        decoder.receive(data)
        return time.thread_time() - began

    assert any(once() < 0.03 for _ in range(3))  # measured: 1 to 5 ms


@pytest.mark.parametrize("write", [_write_lines, _write_events])
def test_many_documents_in_one_part_cost_no_more_than_one_by_one(
    write: Callable[[Iterable[JSONValue]], bytes],
) -> None:
    document = write([{"t": "a"}])
    documents = [document] * 2_000

    def once(chunks: Sequence[bytes]) -> float:
        began = time.thread_time()  # of the processor: what else the machine does is not counted
        assert _run(chunks, "t") == (["a"] * len(documents), None)
        return time.thread_time() - began

    # Measured: 0.3 to 0.9 times. One undisturbed pair is enough.
    assert any(once([b"".join(documents)]) < 3 * once(documents) for _ in range(3))
