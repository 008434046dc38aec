"""A view over parts that come from nowhere: order, faults, ends and markers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from aiosmrt.errors import (
    AiosmrtError,
    InvalidJSON,
    InvalidText,
    ModelStreamError,
    PayloadTooLarge,
    StreamClosed,
    TruncatedStream,
)
from aiosmrt.models import PayloadPart
from aiosmrt.payload.documents import JSONDocumentDecoder
from aiosmrt.payload.large_document import LargeDocument
from aiosmrt.payload.lines import LineDecoder
from aiosmrt.payload.text import TextDecoder
from aiosmrt.payload.tokens import TokenDecoder
from aiosmrt.payload.view import Decoder, MarkedEventDecoder, TextPieceDecoder, View
from aiosmrt.sse import EventDecoder, ServerSentEvent, encode

if TYPE_CHECKING:
    from tests.conftest import Decoding

T = TypeVar("T")


class _Source:
    """Parts, then the proven end; counts how often it is asked, and keeps what is refused."""

    def __init__(self, *payloads: bytes) -> None:
        self.left = [PayloadPart(payload) for payload in payloads]
        self.asked = 0
        self.closed = 0
        self.fault: AiosmrtError | None = None

    async def receive(self) -> PayloadPart | None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.left.pop(0) if self.left else None

    async def fail(self, error: AiosmrtError) -> AiosmrtError:
        self.fault = error
        return error

    async def close(self) -> None:
        self.closed += 1
        if self.left:
            self.fault = StreamClosed("closed before its end")

    def take(self) -> PayloadPart | None:
        return self.left.pop(0) if self.left else None

    def view(self, decoder: Decoder[T]) -> View[T]:
        return View(self.receive, decoder, self.fail, _let_others_run, self.close)


async def _collect(view: View[T]) -> tuple[list[T], AiosmrtError | None]:
    values = []
    try:
        async for value in view:
            values.append(value)  # noqa: PERF401 - those before a fault count
    except AiosmrtError as error:
        return values, error
    return values, None


@pytest.mark.asyncio
async def test_values_come_in_order_and_the_end_stays_the_end() -> None:
    source = _Source(b"a\nb", b"", b"c\n", b"d")
    view = source.view(LineDecoder())
    assert await _collect(view) == (["a", "bc", "d"], None)
    asked = source.asked
    assert await _collect(view) == ([], None)
    assert source.asked == asked


@pytest.mark.asyncio
async def test_a_part_is_asked_for_only_when_it_is_needed() -> None:
    source = _Source(b"a\nb\nc\n", b"d\n")
    view = source.view(LineDecoder())
    for expected in "abc":
        assert await anext(view) == expected
        assert source.asked == 1


@pytest.mark.asyncio
async def test_a_fault_behind_sound_values_does_not_wait_for_the_next_part() -> None:
    source = _Source(b'{"a": 1}[2]}', b"never asked for")
    view = source.view(JSONDocumentDecoder())
    values, error = await _collect(view)
    assert values == [{"a": 1}, [2]]
    assert isinstance(error, InvalidJSON)
    assert source.asked == 1
    for _ in range(2):  # what it is then, says who gives the parts
        with pytest.raises(InvalidJSON) as caught:
            await anext(view)
        assert caught.value is error


@pytest.mark.asyncio
async def test_what_is_there_is_given_without_waiting() -> None:
    source = _Source(b"a\n", b"", b"b\nc", b"d\ne")
    view = source.view(LineDecoder())
    assert [view.take_ready(source.take) for _ in range(5)] == ["a", "b", "cd", None, None]
    assert source.asked == 0  # not even for the end
    source.left.append(PayloadPart(b"\n" + b"x" * LineDecoder.slice_length + b"\n"))
    assert view.take_ready(source.take) is None  # which would take long
    assert [len(line) for line in (await _collect(view))[0]] == [1, LineDecoder.slice_length]
    assert view.take_ready(source.take) is None


@pytest.mark.parametrize("payloads", [[b"a\n\xff\n"], [b"a\n", b"\xff\n"]])
@pytest.mark.asyncio
async def test_a_fault_of_what_is_there_is_raised_to_who_waits(payloads: list[bytes]) -> None:
    source = _Source(*payloads, b"never asked for")
    view = source.view(LineDecoder())
    assert [view.take_ready(source.take) for _ in range(3)] == ["a", None, None]
    for _ in range(2):
        values, error = await _collect(view)
        assert (values, type(error)) == ([], InvalidText)
        assert error is source.fault
    assert len(source.left) == 1


@pytest.mark.asyncio
async def test_a_fault_at_the_end_comes_behind_what_was_sound() -> None:
    source = _Source(b"abc\xe2\x82")
    values, error = await _collect(source.view(TextPieceDecoder("strict")))
    assert values == ["abc"]
    assert isinstance(error, InvalidText)
    assert error.__cause__ is not None
    values, error = await _collect(_Source(b"abc\xe2").view(TextPieceDecoder("replace")))
    assert (values, error) == (["abc", "\ufffd"], None)


@pytest.mark.asyncio
async def test_the_first_fault_is_the_one() -> None:
    source = _Source(b'1 {"a" 2} } \xff', b"\xff\xff")
    values, error = await _collect(source.view(JSONDocumentDecoder()))
    assert values == [1]
    assert isinstance(error, InvalidJSON)
    assert error.offset == 7


@pytest.mark.asyncio
async def test_what_is_dropped_is_not_given() -> None:
    view = _Source(b"a\nb\nc\n", b"d\n").view(LineDecoder())
    assert await anext(view) == "a"
    view.drop()
    assert await _collect(view) == (["d"], None)


@pytest.mark.asyncio
async def test_text_is_given_in_pieces_that_are_not_empty() -> None:
    data = "zwölf €, 十二!".encode()
    for size in (1, 2, 3, len(data)):
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        values, _ = await _collect(_Source(*parts).view(TextPieceDecoder("strict")))
        assert "".join(values) == data.decode()
        assert all(values)


# --- closing


@pytest.mark.asyncio
async def test_a_view_is_closed_with_its_stream() -> None:
    source = _Source(b"a\nb\nc", b"d\n")
    async with contextlib.aclosing(source.view(LineDecoder())) as view:
        assert await anext(view) == "a"
    assert source.closed == 1
    for _ in range(2):
        with pytest.raises(StreamClosed):  # it is no end
            await anext(view)
    await view.aclose()


@pytest.mark.asyncio
async def test_a_view_that_was_closed_behind_the_last_part_has_an_end() -> None:
    view = _Source(b"a\nb\nc").view(LineDecoder())
    assert await anext(view) == "a"
    await view.aclose()
    assert await _collect(view) == ([], None)
    view = _Source(b"a\n").view(LineDecoder())
    assert await _collect(view) == (["a"], None)
    await view.aclose()
    assert await _collect(view) == ([], None)


# --- long parts, and others on the loop


class _Counting:
    """A decoder that gives the length of what it takes."""

    slice_length = 10

    def receive(self, data: bytes) -> list[int]:
        return [len(data)] if data else []

    def finish(self) -> list[int]:
        return []


@pytest.mark.parametrize("size", [1, 9, 10, 11, 19, 20, 21, 105])
@pytest.mark.asyncio
async def test_a_decoder_takes_slices_of_its_own_length_at_most(size: int) -> None:
    taken, error = await _collect(_Source(bytes(size), b"", bytes(size)).view(_Counting()))
    assert error is None
    part = [10] * (size // 10) + [size % 10] * (size % 10 > 0)
    assert taken == part * 2


@pytest.mark.parametrize("payloads", [[bytes(1000)], [bytes(10)] * 100, [bytes(1)] * 1000])
@pytest.mark.asyncio
async def test_others_run_whenever_a_slice_was_decoded_and_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, payloads: list[bytes]
) -> None:
    monkeypatch.setattr("aiosmrt.payload.view._TURN", -1)  # at once
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    values, _ = await _collect(_Source(*payloads).view(_Counting()))
    other.cancel()
    assert sum(values) == 1000
    assert 90 <= passes <= 110


@pytest.mark.asyncio
async def test_others_do_not_run_for_each_slice() -> None:
    view = _Source(bytes(1000)).view(_Counting())
    step = view.__anext__()
    with pytest.raises(StopIteration):  # without a pause
        step.send(None)


def _pause(view: View[T]) -> Coroutine[object, None, T]:
    """Ask for the next value, up to the pause for others."""
    step = view.__anext__()
    assert step.send(None) is None
    return step


def _go_on(step: Coroutine[object, None, T]) -> T:
    while True:
        try:
            step.send(None)
        except StopIteration as end:
            value: T = end.value
            return value


@pytest.mark.asyncio
async def test_a_read_that_is_cancelled_while_others_run_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiosmrt.payload.view._TURN", -1)
    view = _Source(b"a\n" * 10, b"b\n" * 30_000, b"c\n").view(LineDecoder())
    got = [await anext(view) for _ in range(10)]
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError):
            _pause(view).throw(asyncio.CancelledError())
    values, error = await _collect(view)
    assert (got + values, error) == (["a"] * 10 + ["b"] * 30_000 + ["c"], None)


@pytest.mark.asyncio
async def test_a_read_under_way_gives_nothing_of_what_is_dropped_while_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiosmrt.payload.view._TURN", -1)
    view = _Source(b"a\n" * 30_000, b"b\n").view(LineDecoder())
    step = _pause(view)
    view.drop()
    assert _go_on(step) == "b"
    assert await _collect(view) == ([], None)


@pytest.mark.asyncio
async def test_a_fault_in_a_long_part_comes_in_its_turn() -> None:
    sound = b"[] " * 10_000
    source = _Source(sound + b"} " + sound, b"never asked for")
    view = source.view(JSONDocumentDecoder())
    values, error = await _collect(view)
    assert len(values) == 10_000
    assert isinstance(error, InvalidJSON)
    assert error.offset == len(sound)
    assert source.asked == 1
    with pytest.raises(InvalidJSON) as caught:
        await anext(view)
    assert caught.value is error
    assert source.asked == 2  # nothing more of the part is taken


@pytest.mark.asyncio
async def test_the_decoders_of_views_say_how_much_they_take() -> None:
    for decoder, same in (
        (TextPieceDecoder("strict"), TextDecoder()),
        (_mark(), EventDecoder()),
    ):
        assert decoder.slice_length == same.slice_length


# --- documents that are too long for one step

LONG = json.dumps({"a": "long", "rest": [{"t": "x" * 50}] * 5000}).encode()
SMALL = b'{"a": "small"}'


def _read_documents(kind: str, *documents: bytes) -> tuple[_Source, View[Any]]:
    """Give a view that parses documents, and what it gives parts of."""
    events = b"".join(b"data: " + document + b"\n\n" for document in documents)
    source = _Source(b"\n".join(documents) if kind.endswith("documents") else events)
    decoder: Decoder[Any] = JSONDocumentDecoder()
    if kind == "events":
        decoder = MarkedEventDecoder(raise_on_error=True)
    elif kind != "documents":
        decoder = TokenDecoder("a")
    return source, source.view(decoder)


@pytest.fixture(params=["documents", "tokens of documents", "tokens of events", "events"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("payload", [[LONG], [LONG, SMALL, LONG], [*[SMALL] * 60, LONG, SMALL]])
@pytest.mark.asyncio
async def test_others_run_between_the_steps_of_a_long_document(
    monkeypatch: pytest.MonkeyPatch, kind: str, payload: list[bytes]
) -> None:
    monkeypatch.setattr("aiosmrt.payload.view._TURN", -1)  # at once
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    _, view = _read_documents(kind, *payload)
    got, error = await _collect(view)
    other.cancel()
    assert error is None
    texts = [json.loads(document)["a"] for document in payload]
    if kind.startswith("tokens"):
        assert got == texts
    elif kind == "events":
        assert [json.loads(event.data)["a"] for event in got] == texts
    else:
        assert got == [json.loads(document) for document in payload]
    slices = sum(map(len, payload)) // view._decoder.slice_length
    steps = payload.count(LONG) * (len(LONG) // (16 * 1024))
    assert passes > slices + steps * 0.9


@pytest.mark.asyncio
async def test_a_fault_in_a_long_document_is_the_one_that_it_has_in_one_step(kind: str) -> None:
    wrong = LONG[:-2] + b",]}"
    source, view = _read_documents(kind, SMALL, wrong, SMALL)
    values, error = await _collect(view)
    if kind == "events":  # which need not be documents
        assert (len(values), error) == (3, None)
        return
    decoder = view._decoder
    assert isinstance(decoder, JSONDocumentDecoder | TokenDecoder)
    alike = type(decoder)("a") if isinstance(decoder, TokenDecoder) else JSONDocumentDecoder()
    payload = _read_documents(kind, SMALL, wrong, SMALL)[0].left[0].bytes
    alike.receive(payload)
    with pytest.raises(InvalidJSON) as caught:
        alike.receive(b"")
    assert isinstance(error, InvalidJSON)
    assert (len(values), error.args, error.offset) == (1, caught.value.args, caught.value.offset)
    assert repr(error.__cause__) == repr(caught.value.__cause__)
    assert source.asked == 1


@pytest.mark.asyncio
async def test_a_read_that_is_cancelled_inside_a_long_document_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole = await _collect(_read_documents(kind, SMALL, LONG, SMALL)[1])
    monkeypatch.setattr("aiosmrt.payload.view._TURN", -1)
    view = _read_documents(kind, SMALL, LONG, SMALL)[1]
    values = [await anext(view)]
    for _ in range(len(LONG) // view._decoder.slice_length + 10):
        with pytest.raises(asyncio.CancelledError):
            _pause(view).throw(asyncio.CancelledError())
    got, error = await _collect(view)
    assert (values + got, error) == whole
    assert len(got) == 2


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.asyncio
async def test_a_long_document_that_is_dropped_between_its_steps_is_not_given(
    *, monkeypatch: pytest.MonkeyPatch, kind: str, cancelled: bool
) -> None:
    monkeypatch.setattr("aiosmrt.payload.view._TURN", -1)
    source, view = _read_documents(kind, LONG)
    step = _pause(view)
    while not isinstance(view._rest[-1], LargeDocument):
        step.send(None)
    source.fault = StreamClosed("closed")
    if cancelled:
        with pytest.raises(asyncio.CancelledError):
            step.throw(asyncio.CancelledError())
    view.drop()
    with pytest.raises(StreamClosed):
        await (anext(view) if cancelled else _resume(step))


async def _resume(step: Coroutine[object, None, T]) -> T:
    return _go_on(step)


@pytest.mark.asyncio
async def test_a_decoder_that_no_view_drives_gives_a_long_document_at_once() -> None:
    assert JSONDocumentDecoder().receive(LONG) == [json.loads(LONG)]
    assert TokenDecoder("a").receive(b"data: " + LONG + b"\n\n") == ["long"]


# --- markers and errors in server-sent events


def _mark(
    done: str | None = None, *, require_done: bool = False, raise_on_error: bool = False
) -> MarkedEventDecoder:
    return MarkedEventDecoder(
        done, require_done=require_done, raise_on_error=raise_on_error, max_event_length=100
    )


def _run(
    decoder: MarkedEventDecoder, chunks: Iterable[bytes]
) -> tuple[list[str], AiosmrtError | None]:
    events: list[ServerSentEvent] = []
    try:
        for chunk in chunks:
            events += decoder.receive(chunk)
        while more := decoder.finish():
            events += more
    except AiosmrtError as error:
        return [event.data for event in events], error
    return [event.data for event in events], None


BODY = encode("a") + encode("[DONE]") + encode("b") + b"data: c"


def test_without_a_marker_every_event_is_given(decoding: type[Decoding]) -> None:
    events = decoding.give(_mark, BODY)
    assert [event.data for event in events] == ["a", "[DONE]", "b", "c"]


@pytest.mark.parametrize("require_done", [False, True])
def test_the_marker_is_not_given_and_what_follows_is(
    decoding: type[Decoding], require_done: bool
) -> None:
    make = functools.partial(_mark, "[DONE]", require_done=require_done)
    assert [event.data for event in decoding.give(make, BODY)] == ["a", "b", "c"]
    # A marker without its blank line is one too.
    events = decoding.give(make, b"data: a\n\ndata: [DONE]")
    assert [event.data for event in events] == ["a"]


@pytest.mark.parametrize("mark", ["[DONE] ", " [DONE]", "[DONE]\t", "\ufeff[DONE]", "[DONE]\n"])
def test_blanks_around_a_marker_are_none_of_it(decoding: type[Decoding], mark: str) -> None:
    for done in ("[DONE]", " [DONE] "):
        make = functools.partial(_mark, done, require_done=True)
        assert [e.data for e in decoding.give(make, encode("a") + encode(mark))] == ["a"]


@pytest.mark.parametrize("body", [b"", encode("a"), b"data: a", encode("[DONE]."), b": [DONE]"])
def test_an_end_without_the_marker_is_an_error_where_it_is_required(
    decoding: type[Decoding], body: bytes
) -> None:
    whole = decoding.give(lambda: _mark("[DONE]"), body)
    decoded = decoding.decode(lambda: _mark("[DONE]", require_done=True), body)
    assert decoded.values == whole
    assert decoded.at_end
    assert isinstance(decoded.error, TruncatedStream)
    assert "'[DONE]'" in str(decoded.error)


@pytest.mark.asyncio
async def test_a_view_gives_the_last_event_before_it_misses_the_marker() -> None:
    view = _Source(b"data: a\n\ndata: b").view(_mark("[DONE]", require_done=True))
    events, error = await _collect(view)
    assert [event.data for event in events] == ["a", "b"]
    assert isinstance(error, TruncatedStream)


def test_the_marker_must_be_named_to_be_required() -> None:
    with pytest.raises(ValueError, match="require_done needs done"):
        _mark(require_done=True)


@pytest.mark.parametrize(
    "sent", ['{"error": "Test error"}', '{"error": {"message": "Test error"}}']
)
def test_an_error_object_is_given_or_raised(decoding: type[Decoding], sent: str) -> None:
    body = encode("a") + encode(sent) + encode("b")
    assert [event.data for event in decoding.give(_mark, body)] == ["a", sent, "b"]
    make = functools.partial(_mark, "[DONE]", require_done=True, raise_on_error=True)
    decoded = decoding.decode(make, body)
    assert [event.data for event in decoded.values] == ["a"]
    assert isinstance(decoded.error, ModelStreamError)
    assert decoded.error.message == "Test error"
    assert decoded.error.fields == json.loads(sent)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b'data: {"error_type":"X","error_message":"boom"}\n\n', "boom"),
        (b"event: error\ndata: overloaded\n\n", "overloaded"),
        (b"event: error\ndata: [DONE]\n\n", "[DONE]"),
        (b"event: error\n\n", ""),
        (b'data: {"object":"error","message":"boom","code":500}\n\n', "boom"),
        (b'data: {"error":"","code":424}\n\n', ""),
        (b'error: {"message":"boom"}\n\n', "boom"),
        (b'{"error":"boom"}', "boom"),
        (b'event: response.failed\ndata: {"response":{"error":{"message":"boom"}}}\n\n', "boom"),
        (
            b'data: {"choices":[{"delta":{}},{"finish_reason":"abort"}]}\n\n',
            "the model ended for the reason 'abort'",
        ),
    ],
)
def test_a_failure_is_raised_in_whatever_form(
    decoding: type[Decoding], sent: bytes, message: str
) -> None:
    body = encode("a") + sent
    make = functools.partial(_mark, "[DONE]", raise_on_error=True)
    decoded = decoding.decode(make, body + (encode("b") if sent.endswith(b"\n") else b""))
    assert [event.data for event in decoded.values] == ["a"]
    assert isinstance(decoded.error, ModelStreamError)
    assert decoded.error.message == message
    events = decoding.give(lambda: EventDecoder(max_event_length=100), body)
    given = decoding.give(_mark, body)  # else events are what the standard says
    assert [event.data for event in given] == [event.data for event in events]


@pytest.mark.parametrize("before", ["\ufeff", " ", "\ufeff \ufeff", "\n"])
def test_an_error_object_may_have_something_before_it(before: str) -> None:
    events, error = _run(_mark(raise_on_error=True), [encode(f'{before}{{"error": "x"}}')])
    assert events == []
    assert isinstance(error, ModelStreamError)
    assert error.message == "x"


@pytest.mark.parametrize("data", ["{}", "{", '{"error": null}', "[" * 5, '{"a":' * 15, "x"])
def test_other_data_is_no_error(data: str) -> None:
    assert _run(_mark(raise_on_error=True), [encode(data)]) == ([data], None)


def test_faults_of_the_bytes_come_in_their_turn() -> None:
    body = encode("a") + b"data: \xff\n\n" + encode('{"error": "x"}')
    events, error = _run(_mark(raise_on_error=True), [body])
    assert (events, type(error)) == (["a"], InvalidText)
    body = encode("a") + encode('{"error": "x"}') + b"data: " + b"x" * 200
    events, error = _run(_mark(raise_on_error=True), [body])
    assert (events, type(error)) == (["a"], ModelStreamError)
    events, error = _run(_mark("[DONE]", require_done=True), [encode("a"), b"x" * 101])
    assert (events, type(error)) == (["a"], PayloadTooLarge)


# --- cost


@pytest.mark.parametrize("sent", ["a", '{"error": null}', "[DONE]"])
@pytest.mark.asyncio
async def test_many_events_in_one_part_cost_no_more_than_one_by_one(sent: str) -> None:
    events = [encode(sent)] * 3_000

    async def once(payloads: Sequence[bytes]) -> float:
        decoder = MarkedEventDecoder("[DONE]", raise_on_error=True)
        view = _Source(*payloads).view(decoder)
        began = time.thread_time()  # of the processor: what else the machine does is not counted
        values, error = await _collect(view)
        assert (len(values), error) == (0 if sent == "[DONE]" else len(events), None)
        return time.thread_time() - began

    async def costs_no_more() -> bool:
        return await once([b"".join(events)]) < 3 * await once(events)  # measured: 0.3 to 0.9

    # One undisturbed pair is enough.
    assert await costs_no_more() or await costs_no_more() or await costs_no_more()


async def _let_others_run() -> None:
    await asyncio.sleep(0)
