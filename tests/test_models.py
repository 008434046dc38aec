"""Results: what they decode, what they show, and that they are values."""

from __future__ import annotations

import contextlib
import datetime
import pickle
import time
from collections.abc import Iterator

import attrs
import pytest

from aiosmrt.errors import (
    AiosmrtError,
    ConfigurationError,
    InvalidJSON,
    InvalidText,
    ModelStreamError,
    PayloadError,
    TruncatedStream,
)
from aiosmrt.models import (
    Attempt,
    InvokeEndpointAsyncResponse,
    InvokeEndpointResponse,
    JSONValue,
    PayloadPart,
    ResponseMetadata,
)
from aiosmrt.sse import ServerSentEvent

ATTEMPT = Attempt(
    number=1,
    started_at=datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC),
    slot_wait=0.5,
    duration=1.5,
)
METADATA = ResponseMetadata(
    request_id="7-7-7",
    status=200,
    headers={"x-amzn-sagemaker-custom-attributes": "trace=secret"},
    attempts=(ATTEMPT,),
    slot_wait=0.5,
    time_to_first_byte=1.0,
    total=2.0,
)
INVOCATION = InvokeEndpointAsyncResponse(
    inference_id="i",
    output_location="s3://bucket/out",
    failure_location="s3://bucket/failure",
    metadata=METADATA,
)


def _response(body: bytes, content_type: str | None = None) -> InvokeEndpointResponse:
    return InvokeEndpointResponse(
        body=body,
        content_type=content_type,
        invoked_production_variant="AllTraffic",
        custom_attributes="trace=secret",
        new_session_id=None,
        new_session_expires_at=None,
        closed_session_id=None,
        metadata=METADATA,
    )


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, "zwölf".encode()),
        ("text/plain", "zwölf".encode()),
        ("text/plain; charset=ISO-8859-1", "zwölf".encode("latin-1")),
        ('text/plain; format=flowed; Charset = "utf-16"', "zwölf".encode("utf-16")),
        ("text/plain; charset=", "zwölf".encode()),
        ("text/plain;", "zwölf".encode()),
    ],
)
def test_text_follows_the_charset(content_type: str | None, body: bytes) -> None:
    assert _response(body, content_type).text() == "zwölf"


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_a_byte_order_mark_is_no_part_of_the_text(charset: str) -> None:
    body = "\ufeffzwölf\ufeff".encode(charset)
    assert _response(body, f"text/plain; charset={charset}").text() == "zwölf\ufeff"


def test_text_that_is_none_is_not_guessed_at() -> None:
    with pytest.raises(UnicodeDecodeError):
        _response(b"\xff\xfe\xfd").text()
    with pytest.raises(LookupError, match="klingon"):
        _response(b"x", "text/plain; charset=klingon").text()


def test_json_is_one_document() -> None:
    assert _response(b' {"a": [1, null]}\n', "text/html").json() == {"a": [1, None]}
    assert _response(b"\xef\xbb\xbf[1]").json() == [1]
    for body in (b"", b"{", b"{}{}", b"\xff", b"9" * 5000, b"[" * 100_000 + b"]" * 100_000):
        with pytest.raises(ValueError):  # noqa: PT011 - the promise is no more than that
            _response(body).json()


def test_the_views_of_a_body_pass_over_byte_order_marks() -> None:
    mark = b"\xef\xbb\xbf"
    assert list(_response(mark + b"a\nb").iter_lines()) == ["a", "b"]
    assert list(_response(mark + b"1" + mark + b"[2]").iter_json()) == [1, [2]]
    events = _response(mark + b"data: a\n\n" + mark + b"data: b").iter_events()
    assert [event.data for event in events] == ["a", "b"]


def test_a_long_body_is_decoded_as_it_is_asked_for() -> None:
    size = 1 << 20
    for views in (
        _response(b"\n" * size).iter_lines(),
        _response(b"1 " * size).iter_json(),
        _response(b"data\n\n" * size).iter_events(),
    ):
        began = time.thread_time()
        next(views)
        assert time.thread_time() - began < 0.03  # measured: 0.5 to 4 ms


def test_a_whole_body_has_the_views_of_a_stream() -> None:
    assert list(_response(b"a\r\n\nb").iter_lines()) == ["a", "", "b"]
    assert list(_response(b'{"a": 1}\n[2] 3').iter_json()) == [{"a": 1}, [2], 3]
    events = list(_response(b"event: x\ndata: a\n\ndata: b").iter_events())
    assert events == [ServerSentEvent("x", "a"), ServerSentEvent(data="b")]
    empty = _response(b"")
    for values in (empty.iter_lines(), empty.iter_json(), empty.iter_events()):
        assert list(values) == []


def test_the_views_of_a_whole_body_can_be_closed() -> None:
    response = _response(b"1\n2\n")
    for values in (response.iter_lines(), response.iter_json(), response.iter_events()):
        with contextlib.closing(values):
            next(values, None)
        assert next(values, None) is None


def test_a_body_has_the_messages_of_a_chat() -> None:
    choices = b'{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}}]}'
    messages = _response(choices).chat()
    assert [(message.index, message.text) for message in messages] == [(0, "a"), (1, "b")]
    assert [message.text for message in _response(b'[{"generated_text":"a"}]').chat("tgi")] == ["a"]
    # A stream that came as a body: twice as many bytes as one slice has.
    piece = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"a" * 1000)
    (message,) = _response(piece * 2 + b"data: [DONE]\n\n").chat()
    assert message.text == "a" * 2000
    assert _response(piece).chat(require_done=False)[0].text == "a" * 1000
    assert _response(b"").chat(require_done=False) == ()


@pytest.mark.parametrize(
    ("body", "shape", "kind"),
    [
        (b"", "openai-chat", TruncatedStream),
        (b'{"choices":[{"delta":{"content":"a"}}]}', "openai-chat", TruncatedStream),
        (b'{"error":{"message":"boom"}}', "openai-chat", ModelStreamError),
        (b'{"choices":[{"text":"a","finish_reason":"stop"}]}', "openai-chat", PayloadError),
        (b'{"choices":[', "openai-chat", InvalidJSON),
        (b"{}", "chat", ConfigurationError),
    ],
)
def test_a_body_without_a_sound_chat(body: bytes, shape: str, kind: type[AiosmrtError]) -> None:
    with pytest.raises(kind) as caught:
        _response(body).chat(shape)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("values", "sound", "fault"),
    [
        (_response(b"a\nb\n\xff").iter_lines(), ["a", "b"], InvalidText),
        (_response(b"a\n\xff\nb").iter_lines(), ["a"], InvalidText),
        (_response(b"1 {} }").iter_json(), [1, {}], InvalidJSON),
        (_response(b"1 [").iter_json(), [1], InvalidJSON),
        (
            _response(b"data: a\n\ndata: \xff\n\n").iter_events(),
            [ServerSentEvent(data="a")],
            InvalidText,
        ),
    ],
)
def test_what_is_sound_in_a_body_comes_before_its_fault(
    values: Iterator[object], sound: list[object], fault: type[PayloadError]
) -> None:
    for value in sound:
        assert next(values) == value
    with pytest.raises(fault):
        next(values)


def test_nothing_confidential_is_shown() -> None:
    shown = repr(_response(b"body-of-a-patient"))
    assert "7-7-7" in shown
    assert "AllTraffic" in shown
    assert "patient" not in shown
    assert "secret" not in shown
    assert "secret" not in repr(INVOCATION)
    assert repr(PayloadPart(b"secret")) == "PayloadPart(bytes=<6 bytes>)"


@pytest.mark.parametrize("value", [ATTEMPT, METADATA, INVOCATION, _response(b"x")])
def test_results_are_frozen_values(value: attrs.AttrsInstance) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, None)


def test_parts_are_values() -> None:
    part = PayloadPart(b"x")
    assert part == PayloadPart(b"x") != PayloadPart(b"y")
    assert len({part, PayloadPart(b"x")}) == 1
    assert pickle.loads(pickle.dumps(part)) == part
    assert type(part.bytes) is bytes


def test_an_attempt_may_be_without_an_answer() -> None:
    assert (ATTEMPT.status, ATTEMPT.error, ATTEMPT.request_id) == (None, None, None)
    assert (ATTEMPT.may_have_run, ATTEMPT.delay) == (False, None)


def test_decoded_json_is_used_without_a_cast() -> None:
    """Which type checkers see to: this is typed."""
    response = _response(b'{"predictions": [1.5]}')
    first: float = response.json()["predictions"][0]
    whole: JSONValue = response.json()
    assert [first, whole] == [1.5, {"predictions": [1.5]}]
