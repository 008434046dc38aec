"""Events in which a failure may stand, those that the standard passes over included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiosmrt.errors import InvalidJSON, InvalidText, PayloadTooLarge
from aiosmrt.payload.reports import (
    ReportDecoder,
    find_named_failure,
    find_told_failure,
    parse_data,
)
from aiosmrt.payload.sse import EventDecoder, ServerSentEvent

if TYPE_CHECKING:
    from tests.conftest import Decoding

GOOD = b"data: a\n\n"


@pytest.mark.parametrize(
    ("body", "name", "data"),
    [
        (b'error: {"code":400,"message":"boom"}\n\n', "error", '{"code":400,"message":"boom"}'),
        (b"Error: boom", "Error", "boom"),
        (b"RuntimeError: CUDA out of memory\n\n", "RuntimeError", "CUDA out of memory"),
        (b'{"error": "boom"}\n\n', "error", '{"error": "boom"}'),
        (b' {"code": 500, "message": "boom"}', "error", '{"code": 500, "message": "boom"}'),
        (b"event: error\n\n", "error", ""),
        (b"event: error", "error", ""),
        (b"event: InternalServerException\nid: 1\n\n", "InternalServerException", ""),
    ],
)
def test_what_is_no_event_may_be_a_report(
    decoding: type[Decoding], body: bytes, name: str, data: str
) -> None:
    events = decoding.give(ReportDecoder, GOOD + body)
    assert [(event.event, event.data) for event in events] == [("message", "a"), (name, data)]
    assert find_named_failure(events[1]) is not None
    assert [event.data for event in decoding.give(EventDecoder, GOOD + body)] == ["a"]


def test_the_first_report_of_a_block_comes_behind_its_event(decoding: type[Decoding]) -> None:
    body = b'data: a\n{"error": "boom"}\nerror: again\n\n' + GOOD
    events = decoding.give(ReportDecoder, body)
    assert [event.data for event in events] == ["a", '{"error": "boom"}', "a"]
    # Of a block without end, no more is kept.
    assert len(ReportDecoder().receive(b"error: boom\n" * 1000 + b"\n")) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"foo: 1\n\n",
        b": error: boom\n\n",
        b"event: ping\n\n",
        b"error\n\n",
        b"error:\n\n",
        b"error: null\n\n",
        b"errors: 0\n\n",
        b"an error: x\n\n",
        b"tool_error: x\n\n",
        b'{"error": null}\n\n',
        b'{"error": \n\n',
        b'{"a": 1}\n\n',
        b"retry: error\n\n",
        b"id: error\0\n\n",
    ],
)
def test_all_else_says_nothing(decoding: type[Decoding], body: bytes) -> None:
    events = decoding.give(ReportDecoder, body + GOOD)
    assert [event.data for event in events] == ["a"]


def test_the_first_foreign_line_is_kept(decoding: type[Decoding]) -> None:
    for body in (GOOD, b": x\nid: 1\nevent: e\nretry: x\n\n"):
        decoder = ReportDecoder()
        decoder.receive(body)
        assert decoder.foreign == ""
    decoder = ReportDecoder()
    decoder.receive(b"\xffInternal Server Error" + b"!" * 1000 + b"\nnext\n")
    assert decoder.foreign.startswith("\ufffdInternal Server Error!!")
    assert len(decoder.foreign) == 100


def test_faults_and_bounds_are_those_of_events(decoding: type[Decoding]) -> None:
    for body, error in ((GOOD + b"data: \xff\n\n", InvalidText), (b"x" * 101, PayloadTooLarge)):
        outcome = decoding.decode(lambda: ReportDecoder(max_event_length=100), body)
        assert isinstance(outcome.error, error)
    # An event that is dropped is not looked at.
    assert decoding.give(lambda: ReportDecoder(drop_incomplete=True), b"event: error") == []


def test_data_are_parsed() -> None:
    assert parse_data(ServerSentEvent(data='\ufeff {"a": 1}')) == {"a": 1}
    for data in ("oops", "[" * 9000, ""):
        with pytest.raises(InvalidJSON, match="not JSON"):
            parse_data(ServerSentEvent(data=data))


def test_failures_by_name_and_by_data() -> None:
    named = find_named_failure(ServerSentEvent("error", " overloaded\n"))
    assert named is not None
    assert named.message == "overloaded"
    assert find_named_failure(ServerSentEvent("ping", '{"error": "x"}')) is None
    told = find_told_failure(ServerSentEvent(data='\ufeff{"error": "x"}'))
    assert told is not None
    assert told.message == "x"
    for data in ('{"error"', "error", '["error"]', ""):
        assert find_told_failure(ServerSentEvent(data=data)) is None
