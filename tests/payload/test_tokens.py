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
from jmespath.exceptions import JMESPathError

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
from aiosmrt.payload.tokens import PRESETS, TokenDecoder, find_error
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
        # An event stream may hold any bytes in what counts for nothing.
        assert decoding.give(_make("t", "text/event-stream"), body) == []


@pytest.mark.parametrize(
    "path", ["", "a b", "a[", "tgii-chat", "`", "[" + "9" * 5000 + "]", "(" * 2000, "\ud800", "\0"]
)
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
    ("t", b"[" * 9000 + b"]" * 9000, RecursionError),
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
    for depth in range(700, 1000, 3):
        for wrap in (b'{"t": %b}', b'data: {"t": %b}\n\n', b'{"error": {"x": %b}}'):
            tokens, error = _run([wrap % (b"[" * depth + b"]" * depth)], path)
            kinds.add((error or "").partition(":")[0])
            assert len(tokens) == (error is None)
    assert kinds <= {"", "InvalidJSON", "ModelStreamError"}


HOSTILE = [*PRESETS, *(path for path, _, _ in MISFITS), "@", "*", "[*].t", "keys(@)[0]", "&t"]
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


@settings(max_examples=300, deadline=None)
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


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"error": "Test error"}, "Test error"),
        ({"error": {"message": "Test error", "code": 500}}, "Test error"),
        ({"error": {"reason": "x"}}, '{"reason": "x"}'),
        ({"error": {"message": 7}}, '{"message": 7}'),
        ({"error": ["x"]}, '["x"]'),
        ({"error": "\ud800"}, "\ufffd"),
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


def test_an_error_that_cannot_be_written_is_one_all_the_same() -> None:
    nested: JSONValue = None
    for _ in range(5000):
        nested = [nested]
    error = find_error({"error": nested})
    assert error is not None
    assert "nested too deeply" in str(error)


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


@pytest.mark.parametrize("path", PRESETS)
@pytest.mark.parametrize("unit", [b"{}", b'""', b"data:0\n\n"])
def test_a_slice_takes_some_milliseconds(path: str, unit: bytes) -> None:
    def once() -> float:
        decoder = TokenDecoder(path)
        data = unit * (decoder.slice_length // len(unit))
        began = time.thread_time()
        decoder.receive(data)
        return time.thread_time() - began

    assert min(once() for _ in range(3)) < 0.03  # measured: 1 to 5 ms


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
