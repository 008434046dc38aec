"""The end is proven.

A stream ends only between two frames, and only where HTTP's own end was seen: the last chunk, or
the length that was stated. Every complete part that came before a fault is delivered first, however
slow the consumer is, and the error says how many parts and bytes came before it.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

from aiosmrt import (
    AiosmrtError,
    ConnectionLost,
    EventStreamError,
    InternalStreamFailure,
    MessageChecksumMismatch,
    ModelStreamError,
    PreludeChecksumMismatch,
    ResponseStreamOpening,
    ServiceError,
    StreamConnectionLost,
    Timeout,
    TruncatedStream,
    UnexpectedMessage,
)
from aiosmrt.eventstream import encode_message
from aiosmrt.sse import encode

if TYPE_CHECKING:
    from tests.conftest import (
        Connect,
        EventStreams,
        Leftovers,
        Observer,
        SeenRequest,
        Serve,
        Step,
    )

    Events: TypeAlias = type[EventStreams]

Until: TypeAlias = Callable[..., Awaitable[None]]


async def _collect_into(parts: list[bytes], opening: ResponseStreamOpening) -> None:
    async with opening as stream:
        async for part in stream:
            parts.append(part.bytes)  # noqa: PERF401 - those before a fault count


@pytest.mark.asyncio
async def test_a_response_of_no_parts_is_a_proper_end(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(events.play(events.whole())) as server, connect(server) as client:
        async with events.open(client) as stream:
            total = stream.metadata.total
            assert await events.collect(stream) == []
            assert stream.metadata.total == total
            assert len(stream.metadata.attempts) == 1
            assert (stream.parts_received, stream.bytes_received) == (0, 0)
        async with events.open(client) as stream:
            assert await events.collect(stream) == []
        assert server.connections == 1


def _late_faults(events: Events) -> dict[str, tuple[type[AiosmrtError], int, tuple[Step, ...]]]:
    """Give ways to end after the parts b"one" and b"two" with the error and its offset."""
    parts = events.part(b"one") + events.part(b"two")
    given = len(parts)
    whole = events.part(b"three")
    cut = whole[:-2]
    broken = bytearray(whole)
    broken[-6] ^= 1
    begun = events.head() + events.chunk(parts)
    length = f"content-length: {given + len(whole)}"
    model = events.exception(
        "ModelStreamError", b'{"Message": "it broke", "ErrorCode": "StreamBroken"}'
    )
    service = events.exception("InternalStreamFailure", b'{"Message": "sorry"}')
    novelty = events.exception("NoveltyException", b"{}")
    unnamed = encode_message({"a": 1}, b"")
    lost, end = StreamConnectionLost, events.END
    return {
        "closed-between": (lost, given, (begun, events.close)),
        "reset-between": (lost, given, (begun, events.reset)),
        "closed-inside": (lost, given, (begun + events.chunk(cut), events.close)),
        "reset-inside": (lost, given, (begun + events.chunk(cut), events.reset)),
        "half-a-chunk": (lost, given, (begun + events.chunk(whole)[:9], events.close)),
        "short-between": (lost, given, (events.head(length) + parts, events.close)),
        "short-inside": (lost, given, (events.head(length) + parts + cut, events.close)),
        "close-delimited": (lost, given, (events.head("connection: close") + parts, events.close)),
        "ended-inside": (TruncatedStream, given, (begun + events.chunk(cut) + end,)),
        "one-byte-more": (TruncatedStream, given, (begun + events.chunk(b"\0") + end,)),
        "garbage": (PreludeChecksumMismatch, given, (begun + events.chunk(b"<html>" * 3) + end,)),
        "corrupt": (MessageChecksumMismatch, given, (begun + events.chunk(bytes(broken)) + end,)),
        "model": (ModelStreamError, 0, (begun + events.chunk(model) + end,)),
        "service": (InternalStreamFailure, 0, (begun + events.chunk(service) + end,)),
        "novelty": (ServiceError, 0, (begun + events.chunk(novelty) + end,)),
        "unnamed": (UnexpectedMessage, 0, (begun + events.chunk(unnamed) + end,)),
        "more-after": (ModelStreamError, 0, (begun + events.chunk(model + whole) + end,)),
    }


LATE = [
    "closed-between",
    "reset-between",
    "closed-inside",
    "reset-inside",
    "half-a-chunk",
    "short-between",
    "short-inside",
    "close-delimited",
    "ended-inside",
    "one-byte-more",
    "garbage",
    "corrupt",
    "model",
    "service",
    "novelty",
    "unnamed",
    "more-after",
]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("name", LATE)
@pytest.mark.asyncio
async def test_what_came_whole_is_given_and_then_the_fault_again_and_again(
    *,
    name: str,
    slow: bool,
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
    all_it_says: Callable[[BaseException], object],
) -> None:
    faults = _late_faults(events)
    assert list(faults) == LATE
    kind, offset, steps = faults[name]
    async with (
        serve(events.play(*steps)) as server,
        connect(server, max_connections=1, timeout=Timeout(slot=5)) as client,
    ):
        for _ in range(2):  # the slot is free again
            async with events.open(client) as stream:
                if slow:
                    if events.close in steps or events.reset in steps:
                        await until(lambda: server.open_connections == 0)
                    await asyncio.sleep(0.02)
                assert (await anext(stream)).bytes == b"one"
                assert (await anext(stream)).bytes == b"two"
                with pytest.raises(AiosmrtError) as caught:
                    await anext(stream)
                error = caught.value
                depth = len(traceback.extract_tb(error.__traceback__))
                for _ in range(3):
                    with pytest.raises(AiosmrtError) as again:
                        await anext(stream)
                    assert all_it_says(again.value) == all_it_says(error)
                assert len(traceback.extract_tb(error.__traceback__)) <= depth
                assert stream.metadata == stream.metadata  # its clock has stopped
            assert type(error) is kind
            assert (error.parts_received, error.bytes_received) == (2, 6)
            assert error.operation == "InvokeEndpointWithResponseStream"
            assert error.endpoint_name == "llm"
            assert error.request_id == "7-7-7"
            assert len(error.attempts) == 1
            assert error.may_have_run
            assert "after 2 parts, 6 bytes" in str(error)
            if isinstance(error, EventStreamError):
                assert error.offset == offset
            if isinstance(error, StreamConnectionLost) and name != "close-delimited":
                assert error.__cause__ is not None
            with pytest.raises(AiosmrtError) as afterwards:
                await anext(stream)
            assert all_it_says(afterwards.value) == all_it_says(error)


@pytest.mark.parametrize("framing", ["chunked", "content-length"])
@pytest.mark.asyncio
async def test_both_of_https_proofs_are_taken(
    framing: str, serve: Serve, connect: Connect, events: Events
) -> None:
    frames = events.part(b"a") + events.part(b"b")
    answer = events.whole(b"a", b"b")
    if framing == "content-length":
        answer = events.head(f"content-length: {len(frames)}") + frames
    async with serve(events.play(answer)) as server, connect(server) as client:
        for _ in range(2):
            async with events.open(client) as stream:
                assert await events.collect(stream) == [b"a", b"b"]
        assert server.connections == 1


@pytest.mark.asyncio
async def test_every_cut_is_noticed(serve: Serve, connect: Connect, events: Events) -> None:
    """Wherever the connection ends before HTTP's own end, it is no end of the stream."""
    answer = events.whole(b"one", b"two")
    begun = answer.index(b"\r\n\r\n") + 4
    places = iter(range(begun, len(answer)))

    async def cut(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(answer[: next(places)])
        writer.close()

    async with serve(cut) as server, connect(server) as client:
        for _ in range(begun, len(answer)):
            parts: list[bytes] = []
            with pytest.raises(StreamConnectionLost) as caught:
                await _collect_into(parts, events.open(client))
            assert parts == [b"one", b"two"][: len(parts)]
            assert caught.value.parts_received == len(parts)
        assert len(server.requests) == len(answer) - begun


@pytest.mark.parametrize("name", LATE)
@pytest.mark.asyncio
async def test_an_observer_is_told_of_a_fault_once(
    name: str, serve: Serve, connect: Connect, events: Events, observer: Observer
) -> None:
    _, _, steps = _late_faults(events)[name]
    async with (
        serve(events.play(*steps)) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        async with events.open(client) as stream:
            with pytest.raises(AiosmrtError) as caught:
                await events.collect(stream)
            with pytest.raises(AiosmrtError):
                await events.collect(stream)
        (end,) = observer.ends
        assert end.error is caught.value
        assert (end.parts_received, end.bytes_received) == (2, 6)


@pytest.mark.asyncio
async def test_an_answer_without_a_length_is_an_error_that_keeps_it(
    serve: Serve, leftovers: Leftovers
) -> None:
    """Nothing shows that it is whole, but whoever has paid for it may look."""

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n[1, 2")
        writer.close()

    async with serve(answer) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client)
        assert isinstance(error, ConnectionLost)
        assert (error.body, error.may_have_run) == (b"[1, 2", True)
        assert "after 5 bytes" in str(error)
        await leftovers.check(client, server)


# --- the views


@pytest.mark.asyncio
async def test_a_missing_marker_is_a_truncated_stream(
    serve: Serve, connect: Connect, events: Events
) -> None:
    frames = events.part(encode("a"))
    data = events.head() + events.chunk(frames) + events.END
    async with serve(events.play(data)) as server, connect(server) as client:
        async with events.open(client) as stream:
            view = stream.iter_events(done="[DONE]", require_done=True)
            got, error = await events.read_to_fault(view)
        assert [event.data for event in got] == ["a"]
        assert isinstance(error, TruncatedStream)
        assert not isinstance(error, StreamConnectionLost)
        assert error.offset == len(frames)
        assert "'[DONE]'" in str(error)
        assert error.parts_received == 1


@pytest.mark.asyncio
async def test_the_marker_does_not_hide_a_cut(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.head() + events.chunk(events.part(encode("a") + encode("[DONE]"))))
        writer.close()

    async with serve(answer) as server, connect(server) as client, events.open(client) as stream:
        got, error = await events.read_to_fault(
            stream.iter_events(done="[DONE]", require_done=True)
        )
        assert [event.data for event in got] == ["a"]
        assert isinstance(error, StreamConnectionLost)


@pytest.mark.asyncio
async def test_a_cut_comes_behind_what_was_sound(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.head() + events.chunk(events.part(b"a\nb\nhalf a line")))
        writer.close()

    async with serve(answer) as server, connect(server) as client:
        async with events.open(client) as stream:
            view = stream.iter_lines()
            assert await anext(view) == "a"
            await asyncio.sleep(0.05)
            got, error = await events.read_to_fault(view)
            assert got == ["b"]
            assert isinstance(error, StreamConnectionLost)
        async with events.open(client) as stream:
            with pytest.raises(StreamConnectionLost):
                await stream.read()
