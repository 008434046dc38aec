"""How answers and errors stand in a line, always whole JSON and never with less than was paid."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.batch_files.answer_view import show_error, show_response
from aiosmrt.errors import (
    AiosmrtError,
    InvalidJSON,
    InvalidText,
    ModelError,
    PayloadError,
    ThrottlingException,
    TruncatedStream,
)
from aiosmrt.models import InvokeEndpointResponse, ResponseMetadata
from aiosmrt.sse import encode

METADATA = ResponseMetadata("id", 200, {}, (), 0.0, 0.0, 0.0)


def _answer(body: bytes, content_type: str | None = None) -> InvokeEndpointResponse:
    return InvokeEndpointResponse(body, content_type, None, None, None, None, None, METADATA)


def _show(body: bytes, view: str | None = None, content_type: str | None = None) -> dict[str, Any]:
    shown = show_response(_answer(body, content_type), view)
    assert b"\n" not in shown
    read: dict[str, Any] = json.loads(b"{%b}" % shown)
    return read


@pytest.mark.parametrize(
    ("body", "content_type", "response"),
    [
        (b'{"a": [1.0,\r\n 2]}\n', "application/json", {"a": [1.0, 2]}),
        (b'\xef\xbb\xbf{"a": 1}', "application/json; charset=utf-8", {"a": 1}),
        (b"[1]", "application/vnd.x+json", [1]),
        (b'{"a": 1}', "text/csv", '{"a": 1}'),
        (b"1,2\n3,4\n", "text/csv", "1,2\n3,4\n"),
        (b"not JSON", "application/json", "not JSON"),
        (b"NaN", "application/json", "NaN"),
        (b"", "application/json", ""),
        ("ü".encode("latin-1"), "text/plain; charset=latin-1", "ü"),
    ],
)
def test_the_content_type_decides(body: bytes, content_type: str, response: object) -> None:
    assert _show(body, None, content_type) == {"response": response}


def test_json_stands_there_as_the_model_wrote_it() -> None:
    body = b'{"b": 1.00, "a": 12345678901234567890.1, "a": "\\ud83d"}'
    assert show_response(_answer(body), "json") == b'"response": ' + body


@given(st.binary(), st.sampled_from([None, "application/json", "text/plain", "image/png", ";=;"]))
def test_without_a_view_nothing_fails(body: bytes, content_type: str | None) -> None:
    shown = _show(body, None, content_type)
    if "encoding" in shown:
        assert base64.b64decode(shown["response"]) == body


@given(st.binary())
def test_raw_is_all_of_it(body: bytes) -> None:
    assert base64.b64decode(_show(body, "raw")["response"]) == body


@given(st.text())
def test_text_is_all_of_it(text: str) -> None:
    body = text.encode("utf-8", "replace")
    assert _show(body, "text")["response"] == body.decode().removeprefix("\ufeff")


def test_a_view_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(InvalidJSON, match="this is no JSON"):
        _show(b"nope", "json", "text/plain")
    with pytest.raises(InvalidText, match="the answer is no text"):
        _show(b"\xff", "text")
    with pytest.raises(PayloadError):
        _show(b'{"other": 1}', "chat")


def _chunk(**delta: object) -> bytes:
    return encode(json.dumps({"choices": [{"index": 0, "delta": delta}]}))


def test_a_chat_is_its_message_streamed_or_whole() -> None:
    end = encode(json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    stream = _chunk(reasoning_content="hm") + _chunk(content="Hel") + _chunk(content="lo") + end
    message = {"role": "assistant", "content": "Hello", "finish_reason": "stop"}
    assert _show(stream, "chat")["response"] == {**message, "reasoning": "hm"}
    whole = {
        "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 2},
    }
    shown = _show(json.dumps(whole).encode(), "chat:openai-chat", "application/json")
    assert shown["response"] == {**message, "usage": {"completion_tokens": 2}}
    with pytest.raises(TruncatedStream):
        _show(_chunk(content="Hel"), "chat")


def test_several_choices_are_a_list() -> None:
    choices = [
        {"index": index, "message": {"content": text}, "finish_reason": "stop"}
        for index, text in enumerate(("a", "b"))
    ]
    shown = _show(json.dumps({"choices": choices}).encode(), "chat", "application/json")
    assert [message["content"] for message in shown["response"]] == ["a", "b"]


def _show_error(error: Exception, answer: InvokeEndpointResponse | None = None) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(b"{%b}" % show_error(error, answer))
    return read


def test_an_error_says_what_is_to_be_known_of_it() -> None:
    error = ThrottlingException("slow \n down", status=400)
    assert _show_error(error)["error"] == {
        "may_have_run": False,
        "type": "ThrottlingException",
        "code": "ThrottlingException",
        "status": 400,
        "message": str(error),
    }
    failure = ModelError("x", status=424)
    failure.may_have_run = True
    assert _show_error(failure)["error"]["may_have_run"] is True


def test_what_is_no_error_of_ours_proves_nothing() -> None:
    assert _show_error(ValueError("x"))["error"]["may_have_run"] is True
    assert _show_error(AiosmrtError("x"))["error"]["may_have_run"] is False


def test_an_answer_that_was_paid_stands_beside_its_error() -> None:
    shown = _show_error(InvalidJSON("x"), _answer(b"what came"))
    assert (shown["error"]["may_have_run"], shown["body"]) == (True, "what came")
    assert _show_error(InvalidJSON("x"), _answer(b"\xff"))["body_base64"] == "/w=="
