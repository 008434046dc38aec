from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from aiosmrt.errors import AiosmrtError, InvalidText, PayloadTooLarge
from aiosmrt.sse import EventDecoder, ServerSentEvent, encode, encode_comment

if TYPE_CHECKING:
    from tests.conftest import Decoding
    from tests.payload.conftest import FramingCase

cuts = st.lists(st.integers(0, 10_000), max_size=12)
E = ServerSentEvent


# What comes out, by the standard's sections 9.2.5 and 9.2.6


@pytest.mark.parametrize(
    ("data", "events"),
    [
        ("", []),
        ("data: a\n\n", [E(data="a")]),
        ("data:a\n\n", [E(data="a")]),
        ("data:  a \n\n", [E(data=" a ")]),
        ("data: a: b\n\n", [E(data="a: b")]),
        ("data: a\r\n\r\ndata: b\r\rdata: c\n\r\n", [E(data="a"), E(data="b"), E(data="c")]),
        ("data: a\ndata: b\ndata\ndata: c\n\n", [E(data="a\nb\n\nc")]),
        ("data\n\ndata:\n\ndata: \n\n", [E(), E(), E()]),
        ("data\ndata\n\ndata:", [E(data="\n"), E()]),
        ("event: x\ndata: a\n\ndata: b\n\n", [E("x", "a"), E(data="b")]),
        ("event: x\nevent: y\ndata: a\n\n", [E("y", "a")]),
        ("event: x\nevent\ndata: a\n\n", [E(data="a")]),
        (": comment\n\n:\n\ndata: a\n:another\ndata: b\n\n", [E(data="a\nb")]),
        ("\n\n\r\n\rdata: a\n\n\n\n", [E(data="a")]),
        ("Data: a\n data: b\ndata : c\nother: d\nother\n\n", []),
        ("data: a\x0b\x0c\x1c\x85\u2028\u2029b\n\n", [E(data="a\x0b\x0c\x1c\x85\u2028\u2029b")]),
        ("data: a\0b\n\n", [E(data="a\0b")]),
        ("data: 十二\uff01\nevent: é\nid: ñ\n\n", [E("é", "十二\uff01", "ñ")]),
        ("data: [DONE]\n\n", [E(data="[DONE]")]),
    ],
)
def test_events(decoding: type[Decoding], data: str, events: list[ServerSentEvent]) -> None:
    assert decoding.give(EventDecoder, data.encode()) == events


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        ("id: 1\ndata: a\n\ndata: b\n\n", ["1", "1"]),
        ("id: 1\n\ndata: a\n\n", ["1"]),  # a block without data is no event, its id stays
        ("id: 1\ndata: a\n\nid\ndata: b\n\n", ["1", ""]),
        ("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", ["1", "1"]),
        ("id: 1\nid: 2\ndata: a\n\n", ["2"]),
        ("data: a\n\nid: 1\ndata: b\n\n", ["", "1"]),
    ],
)
def test_an_id_stays_until_the_next(decoding: type[Decoding], data: str, ids: list[str]) -> None:
    assert [event.id for event in decoding.give(EventDecoder, data.encode())] == ids


@pytest.mark.parametrize(
    ("value", "retry"),
    [
        ("3000", 3000),
        ("0", 0),
        ("007", 7),
        ("", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1 ", None),
        ("1.5", None),
        ("1_000", None),
        ("\u0663", None),
        ("9" * 5000, None),
    ],
)
def test_a_retry_is_digits_only(decoding: type[Decoding], value: str, retry: int | None) -> None:
    (event,) = decoding.run(EventDecoder, [f"retry: {value}\ndata: a\n\n".encode()]).early
    assert event.retry == retry


def test_a_retry_comes_with_the_next_event_and_once(decoding: type[Decoding]) -> None:
    events = decoding.give(
        EventDecoder,
        b"retry: 10\n\nretry: 20\n\ndata: a\n\ndata: b\n\nretry: 30\ndata: c\n\n",
    )
    assert [event.retry for event in events] == [20, None, 30]


def test_a_block_without_data_forgets_its_type(decoding: type[Decoding]) -> None:
    assert decoding.give(EventDecoder, b"event: x\nid: 1\n\ndata: a\n\n") == [
        E("message", "a", "1")
    ]


@pytest.mark.parametrize(
    ("data", "events"),
    [
        ("\ufeffdata: a", [E(data="a")]),
        ("\ufeffdata: a\n\n\ufeffdata: b\n\n", [E(data="a"), E(data="b")]),
        ("\ufeff\ufeffdata: a\n\n", [E(data="a")]),
        ("\ufeff\n\ufeffdata: a\n\n", [E(data="a")]),
        ("data: a\n\n\ufeffevent: x\n\ufeffid: 1\ndata: b\n\n", [E(data="a"), E("x", "b", "1")]),
        ("\ufeffretry: 5\ndata\n\n", [E(retry=5)]),
        ("\ufeff: x\n\ufeffdata\n\n", [E()]),
        ("\ufeff", []),
        # It may be meant, or not a mark.
        ("data: \ufeffa\n\n", [E(data="\ufeffa")]),
        ("data: a\n\ufeff\ndata: b\n\n", [E(data="a\nb")]),
        ("d\ufeffata: a\n\n", []),
    ],
)
def test_a_byte_order_mark_before_a_field_is_passed_over(
    decoding: type[Decoding], data: str, events: list[ServerSentEvent]
) -> None:
    assert decoding.give(EventDecoder, data.encode()) == events


def test_many_byte_order_marks_are_one_step() -> None:
    data = b"\xef\xbb\xbf" * 100_000 + b"data: a\n\n"
    assert EventDecoder().receive(data) == [E(data="a")]


def test_where_events_begin(decoding: type[Decoding]) -> None:
    data = b"\xef\xbb\xbfdata: a\r\n\r\n\r\n: x\n\nid: 1\rdata\r\r\n\ndata: b\n\ndata: c"
    outcome = decoding.decode(EventDecoder, data)
    begins = [data.index(line) for line in (b"\xef", b"id", b"data: b", b"data: c")]
    assert outcome.places == begins


# The end


@pytest.mark.parametrize("end", ["", "\n", "\r", "\r\n"])
def test_a_last_event_without_its_blank_line(decoding: type[Decoding], end: str) -> None:
    data = f"data: a\n\nid: 7\nevent: x\ndata: b\ndata: c{end}".encode()
    outcome = decoding.decode(EventDecoder, data)
    assert outcome.early == [E(data="a")]
    assert outcome.late == [E("x", "b\nc", "7")]
    outcome = decoding.decode(lambda: EventDecoder(drop_incomplete=True), data)
    assert outcome.early == [E(data="a")]
    assert outcome.late == []


def test_an_event_is_given_at_its_last_break() -> None:
    decoder = EventDecoder()
    assert decoder.receive(b"data: a\r") == []
    assert decoder.receive(b"\r") == [E(data="a")]
    assert decoder.receive(b"\ndata: b\r\n") == []
    assert decoder.receive(b"\r") == [E(data="b")]
    assert decoder.receive(b"\n") == []
    assert decoder.finish() == []


def test_a_last_block_without_data_is_no_event(decoding: type[Decoding]) -> None:
    assert decoding.give(EventDecoder, b"data: a\n\nevent: x\nid: 1\nretry: 5") == [E(data="a")]
    assert decoding.give(EventDecoder, b"data: a\n\n: bye") == [E(data="a")]


# Faults


def test_events_before_bytes_that_are_not_text_come_first(decoding: type[Decoding]) -> None:
    data = "data: €\r\n\r\n: x\nid: é\ndata: b".encode() + b"\xff\n\ndata: c\n\n"
    outcome = decoding.decode(EventDecoder, data)
    assert outcome.early == [E(data="€")]
    assert isinstance(outcome.error, InvalidText)
    assert outcome.error.offset == data.index(b"\xff")
    assert f"byte {data.index(255)} of the payload is not UTF-8" in str(outcome.error)
    assert isinstance(outcome.error.__cause__, UnicodeDecodeError)


@pytest.mark.parametrize("field", ["data: ", "event:", "id: ", "\ufeffdata:"])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82", b"\xed\xa0\x80"])
def test_a_field_that_is_not_text(decoding: type[Decoding], field: str, bad: bytes) -> None:
    start = field.encode() + b"ab"
    for end in (b"", b"\n\n", b"cd\n\ndata: x\n\n"):
        outcome = decoding.decode(EventDecoder, start + bad + end)
        assert outcome.early == outcome.late == []
        assert isinstance(outcome.error, InvalidText)
        assert outcome.error.offset == len(start)
        assert outcome.at_end == (not end)


def test_bytes_that_are_not_text_can_be_replaced(decoding: type[Decoding]) -> None:
    data = b"data: a\xffb\xe2\x82\nevent: \xf0\x9f\x98\nid: \xff\n\n"
    outcome = decoding.decode(lambda: EventDecoder(errors="replace"), data)
    assert outcome.early == [E("\ufffd", "a\ufffdb\ufffd", "\ufffd")]
    with pytest.raises(LookupError, match="relaxed"):
        EventDecoder(errors="relaxed")
    with pytest.raises(LookupError, match="namereplace"):
        EventDecoder(errors="namereplace")


def test_what_counts_for_nothing_need_not_be_text(decoding: type[Decoding]) -> None:
    assert decoding.decode(EventDecoder, b": \xff\n\xff: \xff\ndata: a\n\n").early == [E(data="a")]


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        ("data: 123456", 9),
        ("data: 123456\n\n", 9),
        ("data: 1\nretry\n\n", 17),
        ("data: 1\n: 3456789", 17),
        ("data: 1\ndata\n", 17),
        (": 0123456789\n", 9),
        ("id: 12345678\ndata: 1\n\n", 9),
    ],
)
def test_an_event_longer_than_its_bound(decoding: type[Decoding], data: str, offset: int) -> None:
    outcome = decoding.decode(
        lambda: EventDecoder(max_event_length=10), f"data: 0\n\n{data}".encode()
    )
    assert outcome.early == [E(data="0")]
    assert isinstance(outcome.error, PayloadTooLarge)
    assert (outcome.error.limit, outcome.error.offset) == (10, offset)
    assert not outcome.at_end
    assert "is longer than 10 bytes: give a larger max_event_length" in str(outcome.error)


def test_only_what_is_kept_counts_for_the_bound(decoding: type[Decoding]) -> None:
    data = "data: 1234\n\n: 23456789\n: 23456789\n\nid: 567890\nevent: 890\n\ndata: 1234\n\n"
    events = decoding.give(lambda: EventDecoder(max_event_length=10), data.encode())
    assert events == [E(data="1234"), E(data="1234", id="567890")]


def test_a_byte_order_mark_counts_for_the_bound_in_every_split(decoding: type[Decoding]) -> None:
    def make() -> EventDecoder:
        return EventDecoder(max_event_length=10)

    assert decoding.give(make, "\ufeffdata: 1\n\ndata: 1234\n\n".encode()) == [
        E(data="1"),
        E(data="1234"),
    ]
    assert isinstance(decoding.decode(make, "\ufeffdata: 12\n\n".encode()).error, PayloadTooLarge)


def test_the_errors_pickle(decoding: type[Decoding]) -> None:
    for error in (
        decoding.run(EventDecoder, [b"data: \xff\n"]).error,
        decoding.run(lambda: EventDecoder(max_event_length=3), [b"data"]).error,
    ):
        assert isinstance(error, AiosmrtError)
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_the_default_bound_admits_what_a_part_can_hold() -> None:
    decoder = EventDecoder()
    text = "x" * (25 * 1024 * 1024)
    assert decoder.receive(f"data: {text}\n\n".encode()) == [E(data=text)]
    with pytest.raises(PayloadTooLarge, match=str(32 * 1024 * 1024)):
        decoder.receive(f"data: {text}\ndata: {text}\n\n".encode())


# Judges


def test_events_of_containers(decoding: type[Decoding], framing_cases: list[FramingCase]) -> None:
    judged = 0
    for case in framing_cases:
        expected = case.events
        if case.name == "sse_error_object":  # nothing is said of events; its blank line is missing
            expected = ['{"error": "Test error"}']
        if expected is not None:
            judged += 1
            outcome = decoding.run(EventDecoder, case.chunks)
            assert [event.data for event in outcome.early + outcome.late] == expected, case.name
            assert decoding.decode(EventDecoder, case.whole).view() == outcome.view(), case.name
    assert judged >= 4


def judge(chunks: Iterable[bytes]) -> list[ServerSentEvent]:
    """Give the events of httpx-sse, put right where it leaves the standard.

    It makes an event of a block without data, of which only `id` and `retry` count. Beyond that it
    takes for a `retry` all that `int` takes, and leaves a byte order mark in the first field's
    name; neither occurs here.
    """
    response = httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content=iter(chunks)
    )
    events, retry = [], None
    for event in EventSource(response).iter_sse():
        retry = retry if event.retry is None else event.retry
        if event.data:
            events.append(ServerSentEvent(event.event, event.data, event.id, retry))
            retry = None
    return events


values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=6)
lines = st.one_of(
    # A data line that is not empty: the judge does not tell empty data from none.
    values.map(lambda value: f"data: x{value}"),
    values.filter(lambda value: value.lstrip(" ")).map(lambda value: f"data:{value}"),
    values.map(lambda value: f"event:{value}"),
    values.map(lambda value: f"id:{value}"),
    st.integers(0, 99999).map(lambda value: f"retry: {value}"),
    values.map(lambda value: f":{value}"),
    values.map(lambda value: f"x{value}"),
    st.sampled_from(["event", "id", "retry", "retry: x", "data: [DONE]", " data: x", "Data: x"]),
    st.just(""),
    st.just(""),
)


@given(st.lists(st.tuples(lines, st.sampled_from(["\n", "\r\n", "\r"])), max_size=25), cuts)
def test_httpx_sse_agrees(
    decoding: type[Decoding], stream: list[tuple[str, str]], places: list[int]
) -> None:
    data = "".join(line + end for line, end in stream).encode()
    chunks = decoding.cut(data, places)
    outcome = decoding.run(lambda: EventDecoder(drop_incomplete=True), chunks)
    assert outcome.early == judge(chunks)
    assert outcome.error is None


pieces = st.sampled_from(
    [b"\xef\xbb\xbf", b"\n", b"\r", b":", b"data", b"id", b"event", b"retry: 1"]
)


@given(st.lists(pieces | st.binary(max_size=4), max_size=20).map(b"".join), cuts)
def test_nothing_but_a_payload_error_comes_out(
    decoding: type[Decoding], data: bytes, places: list[int]
) -> None:
    assert (
        decoding.run(EventDecoder, decoding.cut(data, places)).view()
        == decoding.run(EventDecoder, [data]).view()
    )


# Encoding


def test_the_bytes_of_an_event() -> None:
    assert encode("a") == b"data: a\n\n"
    assert encode("") == b"data: \n\n"
    assert encode("a\nb\r\nc\rd\n") == b"data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
    assert encode("é", event="x", id="1", retry=0) == (
        "event: x\nid: 1\nretry: 0\ndata: é\n\n".encode()
    )


fields = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)


@given(
    data=st.text(),
    event=fields,
    identifier=fields,
    retry=st.none() | st.integers(0, 10**18 - 1),
    places=cuts,
)
def test_what_is_encoded_comes_back(
    *,
    decoding: type[Decoding],
    data: str,
    event: str,
    identifier: str,
    retry: int | None,
    places: list[int],
) -> None:
    encoded = encode(data, event=event, id=identifier, retry=retry) + encode_comment(data)
    (decoded,) = decoding.run(EventDecoder, decoding.cut(encoded, places)).early
    data = data.replace("\r\n", "\n").replace("\r", "\n")
    assert decoded == E(event or "message", data, identifier, retry)


@pytest.mark.parametrize("value", ["a\n", "\rb", "a\r\nb", "\0"])
def test_a_field_that_cannot_be_encoded(value: str) -> None:
    with pytest.raises(ValueError, match=r"event=.*no CR, LF or NUL"):
        encode("a", event=value)
    with pytest.raises(ValueError, match=r"id=.*no CR, LF or NUL"):
        encode("a", id=value)


def test_what_utf_8_cannot_hold_cannot_be_encoded() -> None:
    for write in (encode, encode_comment):
        with pytest.raises(ValueError, match="surrogates not allowed"):
            write("\ud800")


def test_a_retry_below_zero_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="retry=-1"):
        encode("a", retry=-1)


def test_a_comment_keeps_a_connection_alive_and_is_no_event(decoding: type[Decoding]) -> None:
    assert encode_comment() == b": \n\n"
    assert encode_comment("still\nhere") == b": still\n: here\n\n"
    assert decoding.give(EventDecoder, (encode("a") + encode_comment("x\ry") + encode("b"))) == [
        E(data="a"),
        E(data="b"),
    ]


# Cost


def seconds(take: Callable[[bytes], object], chunks: Sequence[bytes]) -> float:
    # Of the processor: what else the machine does is not counted.
    began = time.thread_time()
    for chunk in chunks:
        take(chunk)
    return time.thread_time() - began


@pytest.mark.skipif(sys.gettrace() is not None, reason="what traces lines costs more than they do")
def test_what_only_goes_on_costs_little_more_than_nothing() -> None:
    data = b"data: " + b"a" * 100_000 + b"\n\n"
    chunks = [data[start : start + 1] for start in range(len(data))]

    class Idle:
        def receive(self, data: bytes) -> list[object]:
            return []

    # In turn, so that what else the machine does falls on both: one undisturbed pair is enough.
    assert any(
        seconds(EventDecoder().receive, chunks) < 6 * seconds(Idle().receive, chunks)
        for _ in range(5)
    )  # measured: 4 times


def test_one_byte_at_a_time_costs_a_multiple_of_nothing() -> None:
    data = b"data: " + b"a" * 60_000 + b"\n" + b"data: b\n" * 3_000
    chunks = [data[start : start + 1] for start in range(len(data))]
    assert any(
        seconds(EventDecoder().receive, chunks) < 50 * seconds(lambda _data: None, chunks)
        for _ in range(5)
    )  # measured: 4 times


@pytest.mark.parametrize("unit", [b"data\n\n", b"\n", b":\n", b"\xef\xbb\xbfdata\n\n", b"id:a\n"])
def test_a_slice_takes_some_milliseconds(unit: bytes) -> None:
    slices = [unit * (EventDecoder.slice_length // len(unit))]
    # Measured: 0.3 to 1.5 ms.
    assert any(seconds(EventDecoder().receive, slices) < 0.03 for _ in range(3))


@pytest.mark.parametrize("event", [b'data: {"token": "x"}\n\n', b":\r\n", b"data\n\n", b"data\n"])
def test_many_in_one_chunk_cost_no_more_than_one_by_one(event: bytes) -> None:
    events = [event] * 3_000
    assert any(
        seconds(EventDecoder().receive, [b"".join(events)])
        < 4 * seconds(EventDecoder().receive, events)
        for _ in range(5)
    )  # measured: 0.3 to 0.8 times
