"""Response streams: the first frame decides, the end is proven, leaving closes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
import threading
import traceback
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from aiosmrt import (
    AiosmrtError,
    ClientClosed,
    EventStreamError,
    FirstByteTimeout,
    IdleTimeout,
    InternalStreamFailure,
    InvalidText,
    MessageChecksumMismatch,
    ModelError,
    ModelStreamError,
    PreludeChecksumMismatch,
    ResponseStream,
    ResponseStreamOpening,
    RetryPolicy,
    SageMakerRuntimeClient,
    ServiceError,
    StreamClosed,
    StreamConnectionLost,
    Timeout,
    TotalTimeout,
    TruncatedStream,
    UnexpectedMessage,
    ValidationError,
)
from aiosmrt.eventstream import encode_message
from aiosmrt.hooks import Hooks, OnEnd, OnFirstPart

if TYPE_CHECKING:
    from tests.conftest import Answer, Connect, EventStreams, SeenRequest, Serve

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]

AT_ONCE = RetryPolicy(base_delay=0.0, throttle_base_delay=0.0)


async def _close(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _reset(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _hang(request: SeenRequest, _: asyncio.StreamWriter) -> None:
    """Send nothing more until the client closes the connection."""
    assert await request.reader.read() == b""


Step: TypeAlias = "bytes | asyncio.Event | Answer"


def _play(*steps: Step) -> Answer:
    """Answer every request with these bytes, pauses until an event, and what else is to be done."""

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await step(request, writer)

    return answer


def _play_in_turn(*answers: bytes) -> Answer:
    """Answer the first request with the first bytes, and so on."""
    left = iter(answers)

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(next(left))

    return answer


def _open(client: SageMakerRuntimeClient) -> ResponseStreamOpening:
    return client.invoke_endpoint_with_response_stream(endpoint_name="llm", body=b"{}")


async def _await_it(opening: ResponseStreamOpening) -> None:
    await opening


async def _enter_it(opening: ResponseStreamOpening) -> None:
    async with opening:
        pytest.fail("it was entered")


async def _collect(stream: ResponseStream) -> list[bytes]:
    return [part.bytes async for part in stream]


async def _collect_into(parts: list[bytes], opening: ResponseStreamOpening) -> None:
    async with opening as stream:
        async for part in stream:
            parts.append(part.bytes)  # noqa: PERF401 - those before a fault count


# --- parts


@pytest.mark.asyncio
async def test_parts_come_in_order_and_once(serve: Serve, connect: Connect, events: Events) -> None:
    head = events.head(
        x_amzn_sagemaker_content_type="application/jsonlines",
        x_amzn_invoked_production_variant="AllTraffic",
        x_amzn_sagemaker_custom_attributes="trace=1",
    )
    answer = head + events.whole(b"one", b"", b"three").partition(b"\r\n\r\n")[2]
    async with serve(_play(answer)) as server, connect(server) as client:
        async with _open(client) as stream:
            assert stream.content_type == "application/jsonlines"
            assert stream.invoked_production_variant == "AllTraffic"
            assert stream.custom_attributes == "trace=1"
            assert (stream.parts_received, stream.bytes_received) == (0, 0)
            assert [part.bytes async for part in stream] == [b"one", b"", b"three"]
            assert (stream.parts_received, stream.bytes_received) == (3, 8)
            assert [part async for part in stream] == []
        stream = await _open(client)
        assert await _collect(stream) == [b"one", b"", b"three"]


@pytest.mark.asyncio
async def test_what_the_answer_does_not_say_is_none(
    serve: Serve, connect: Connect, respond: Respond
) -> None:
    answer = respond(body=b"", content_type="application/vnd.amazon.eventstream")
    async with (
        serve(_play(answer)) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        assert stream.content_type is None
        assert stream.invoked_production_variant is None
        assert stream.custom_attributes is None
        assert stream.metadata.request_id is None


@pytest.mark.asyncio
async def test_the_metadata_tell_of_the_call(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(_play(events.whole(b"a", b"b"))) as server, connect(server) as client:
        stream = await _open(client)
        begun = stream.metadata
        assert begun.request_id == "7-7-7"
        assert begun.status == 200
        assert begun.headers["x-amzn-requestid"] == "7-7-7"
        (attempt,) = begun.attempts
        assert (attempt.number, attempt.status, attempt.error) == (1, 200, None)
        assert attempt.may_have_run
        assert 0 <= begun.time_to_first_byte <= begun.total
        await asyncio.sleep(0.01)
        later = stream.metadata
        assert later.total >= begun.total + 0.01
        await _collect(stream)
        ended = stream.metadata
        assert ended.total >= later.total
        await asyncio.sleep(0.01)
        assert stream.metadata == ended


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 64, 1000])
@pytest.mark.asyncio
async def test_parts_are_the_same_however_http_splits_them(
    size: int, serve: Serve, connect: Connect, events: Events
) -> None:
    parts = [b"one", b"", b"x" * 100, "ä".encode()[:1], "ä".encode()[1:]]
    frames = b"".join(map(events.part, parts))
    pieces = (frames[start : start + size] for start in range(0, len(frames), size))
    answer = events.head() + b"".join(map(events.chunk, pieces)) + events.END
    async with (
        serve(_play(answer)) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        assert await _collect(stream) == parts


@pytest.mark.asyncio
async def test_a_response_of_no_parts_is_a_proper_end(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(_play(events.whole())) as server, connect(server) as client:
        async with _open(client) as stream:
            total = stream.metadata.total
            assert await _collect(stream) == []
            assert stream.metadata.total == total
            assert len(stream.metadata.attempts) == 1
            assert (stream.parts_received, stream.bytes_received) == (0, 0)
        async with _open(client) as stream:
            assert await _collect(stream) == []
        assert server.connections == 1


@pytest.mark.asyncio
async def test_unknown_events_are_skipped_and_logged(
    serve: Serve, connect: Connect, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    answer = b"".join(
        [
            events.head(),
            events.chunk(events.part(b"{}", "initial-response"), events.part(b"a")),
            events.chunk(events.part(b"secret", "Novelty"), events.part(b"b")),
            events.chunk(events.part(b"", "Novelty")),
            events.END,
        ]
    )
    caplog.set_level(logging.DEBUG, "aiosmrt")
    async with (
        serve(_play(answer)) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        assert await _collect(stream) == [b"a", b"b"]
        assert (stream.parts_received, stream.bytes_received) == (2, 2)
    skipped = [record for record in caplog.records if "skipped" in record.message]
    assert [record.levelno for record in skipped] == [logging.DEBUG] * 3
    assert "'initial-response'" in skipped[0].message
    assert "'Novelty'" in skipped[1].message
    assert "secret" not in caplog.text


@pytest.mark.asyncio
async def test_neither_the_order_of_headers_nor_more_of_them_matter(
    serve: Serve, connect: Connect, events: Events
) -> None:
    frame = encode_message(
        {
            ":content-type": "application/octet-stream",
            "novelty": 5,
            ":event-type": "PayloadPart",
            ":message-type": "event",
        },
        b"a",
    )
    answer = events.head() + events.chunk(frame) + events.END
    async with (
        serve(_play(answer)) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        assert await _collect(stream) == [b"a"]


# --- the first frame decides


def _early_failures(
    events: Events, respond: Respond
) -> dict[str, tuple[type[AiosmrtError], tuple[Step, ...]]]:
    whole = events.part(b"first")
    begun = events.head()
    broken = bytearray(whole)
    broken[-1] ^= 1
    unnamed = encode_message({}, b"")
    mistyped = encode_message({":message-type": 5}, b"")
    no_event_type = encode_message({":message-type": "event"}, b"")
    unknown = events.exception("NoveltyException", b'{"Message": "never seen"}')
    error = encode_message(
        {":message-type": "error", ":error-code": "Oops", ":error-message": "it broke"}, b""
    )
    failed = events.exception("InternalStreamFailure", b'{"Message": "no"}')
    lost = events.exception("ModelStreamError", b'{"Message": "no", "ErrorCode": "StreamBroken"}')
    lengthy = events.head(f"content-length: {len(whole)}")
    return {
        "400": (ValidationError, (respond(400, b"{}", x_amzn_errortype="ValidationError"),)),
        "424": (ModelError, (respond(424, b"{}", x_amzn_errortype="ModelError"),)),
        "model": (ModelStreamError, (begun + events.chunk(lost), _hang)),
        "service": (InternalStreamFailure, (begun + events.chunk(failed), _hang)),
        "novelty": (ServiceError, (begun + events.chunk(unknown), _hang)),
        "error": (ServiceError, (begun + events.chunk(error), _hang)),
        "unnamed": (UnexpectedMessage, (begun + events.chunk(unnamed), _hang)),
        "mistyped": (UnexpectedMessage, (begun + events.chunk(mistyped), _hang)),
        "no-event-type": (UnexpectedMessage, (begun + events.chunk(no_event_type), _hang)),
        "prelude": (PreludeChecksumMismatch, (begun + events.chunk(b"<html>" * 3), _hang)),
        "checksum": (MessageChecksumMismatch, (begun + events.chunk(bytes(broken)), _hang)),
        "ended-inside": (TruncatedStream, (begun + events.chunk(whole[:20]) + events.END,)),
        "cut-before": (StreamConnectionLost, (begun, _close)),
        "cut-inside": (StreamConnectionLost, (begun + events.chunk(whole[:20]), _close)),
        "short": (StreamConnectionLost, (lengthy + whole[:20], _close)),
        "close-delimited": (StreamConnectionLost, (events.head("connection: close"), _close)),
    }


EARLY = [
    "400",
    "424",
    "model",
    "service",
    "novelty",
    "error",
    "unnamed",
    "mistyped",
    "no-event-type",
    "prelude",
    "checksum",
    "ended-inside",
    "cut-before",
    "cut-inside",
    "short",
    "close-delimited",
]


@pytest.mark.parametrize("enter", [_await_it, _enter_it])
@pytest.mark.parametrize("name", EARLY)
@pytest.mark.asyncio
async def test_what_fails_before_the_first_part_is_a_plain_exception(
    *,
    name: str,
    enter: Callable[[ResponseStreamOpening], Awaitable[None]],
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    until: Until,
) -> None:
    failures = _early_failures(events, respond)
    assert list(failures) == EARLY
    kind, steps = failures[name]
    async with (
        serve(_play(*steps)) as server,
        connect(server, max_connections=1, timeout=Timeout(slot=5)) as client,
    ):
        for _ in range(2):  # the slot is free again
            with pytest.raises(AiosmrtError) as caught:
                await enter(_open(client))
            error = caught.value
            assert type(error) is kind
            assert error.operation == "InvokeEndpointWithResponseStream"
            assert error.endpoint_name == "llm"
            assert [attempt.number for attempt in error.attempts] == [1]
            in_stream = not name.isdigit()
            assert error.may_have_run is (name != "400")
            assert error.request_id == ("7-7-7" if in_stream else None)
            assert error.parts_received == (0 if in_stream else None)
            assert error.bytes_received == (0 if in_stream else None)
        # Where HTTP's own end came, the connection is as good as ever.
        pooled = name in ("400", "424", "ended-inside")
        await until(lambda: server.open_connections == pooled)


@pytest.mark.asyncio
async def test_exceptions_of_the_service_are_typed(
    serve: Serve, connect: Connect, events: Events
) -> None:
    model = b'{"Message": "too long", "ErrorCode": "ModelInvocationTimeExceeded"}'
    frames = [
        events.exception("ModelStreamError", model),
        events.exception("InternalStreamFailure", b'{"message": "sorry"}'),
        events.exception("NoveltyException", b'{"Message": "never seen", "Extra": 1}'),
        encode_message(
            {":message-type": "error", ":error-code": "Oops", ":error-message": "it broke"}, b""
        ),
    ]
    answers = [events.head() + events.chunk(frame) + events.END for frame in frames]
    async with serve(_play_in_turn(*answers)) as server, connect(server) as client:
        with pytest.raises(ModelStreamError, match="too long") as model_error:
            await _open(client)
        assert model_error.value.error_code == "ModelInvocationTimeExceeded"
        assert model_error.value.status == 200
        with pytest.raises(InternalStreamFailure, match="sorry"):
            await _open(client)
        with pytest.raises(ServiceError, match="never seen") as unknown:
            await _open(client)
        assert type(unknown.value) is ServiceError
        assert unknown.value.code == "NoveltyException"
        assert unknown.value.fields["Extra"] == 1
        with pytest.raises(ServiceError, match="it broke") as error:
            await _open(client)
        assert error.value.code == "Oops"


@pytest.mark.asyncio
async def test_the_limit_of_the_first_byte_holds_again_for_the_first_frame(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    timeout = Timeout(first_byte=0.1, idle=60)
    steps = (events.head(), events.chunk(events.part(b"a")[:10]), _hang)
    async with serve(_play(*steps)) as server, connect(server, timeout=timeout) as client:
        with pytest.raises(FirstByteTimeout) as caught:
            await _open(client)
        assert (caught.value.limit, caught.value.seconds) == ("first_byte", 0.1)
        assert caught.value.may_have_run
        assert caught.value.request_id == "7-7-7"
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_an_early_refusal_is_retried(
    serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    refusal = respond(503, b"{}", x_amzn_errortype="ServiceUnavailable")
    answer = _play_in_turn(refusal, refusal, events.whole(b"a"))
    async with serve(answer) as server, connect(server, retry=AT_ONCE) as client:
        async with _open(client) as stream:
            assert await _collect(stream) == [b"a"]
            attempts = stream.metadata.attempts
        assert [attempt.error for attempt in attempts] == ["ServiceUnavailable"] * 2 + [None]
        assert len(server.requests) == 3


@pytest.mark.parametrize("asked_for", [False, True])
@pytest.mark.asyncio
async def test_a_failed_first_frame_is_retried_only_where_that_was_asked_for(
    asked_for: bool, serve: Serve, connect: Connect, events: Events
) -> None:
    failure = events.chunk(events.exception("InternalStreamFailure", b'{"Message": "sorry"}'))
    answer = _play_in_turn(events.head() + failure + events.END, events.whole(b"a"))
    policy = RetryPolicy(base_delay=0.0, retry_may_have_run=asked_for)
    async with serve(answer) as server, connect(server, retry=policy) as client:
        if asked_for:
            async with _open(client) as stream:
                assert await _collect(stream) == [b"a"]
                assert stream.metadata.attempts[0].error == "InternalStreamFailure"
        else:
            with pytest.raises(InternalStreamFailure):
                await _open(client)
        assert len(server.requests) == 1 + asked_for


@pytest.mark.asyncio
async def test_nothing_is_retried_once_a_part_was_given(
    serve: Serve, connect: Connect, events: Events
) -> None:
    policy = RetryPolicy(base_delay=0.0, retry_may_have_run=True)
    failure = events.exception("InternalStreamFailure", b'{"Message": "sorry"}')
    answer = events.head() + events.chunk(events.part(b"a"), failure) + events.END
    async with serve(_play(answer)) as server, connect(server, retry=policy) as client:
        async with _open(client) as stream:
            with pytest.raises(InternalStreamFailure):
                await _collect(stream)
        assert len(server.requests) == 1


@pytest.mark.parametrize("enter", [_await_it, _enter_it])
@pytest.mark.asyncio
async def test_a_cancelled_opening_closes_and_is_not_retried(
    enter: Callable[[ResponseStreamOpening], Coroutine[None, None, None]],
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
) -> None:
    policy = RetryPolicy(base_delay=0.0, retry_may_have_run=True)
    steps = (events.head(), _hang)
    async with (
        serve(_play(*steps)) as server,
        connect(server, max_connections=1, retry=policy) as client,
    ):
        for _ in range(2):
            seen = len(server.requests)
            task = asyncio.create_task(enter(_open(client)))
            await until(lambda seen=seen: len(server.requests) > seen)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gc.collect()  # no warning of an unclosed stream either
            await until(lambda: server.open_connections == 0)
        assert len(server.requests) == 2


# --- the end is proven


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
        "closed-between": (lost, given, (begun, _close)),
        "reset-between": (lost, given, (begun, _reset)),
        "closed-inside": (lost, given, (begun + events.chunk(cut), _close)),
        "reset-inside": (lost, given, (begun + events.chunk(cut), _reset)),
        "half-a-chunk": (lost, given, (begun + events.chunk(whole)[:9], _close)),
        "short-between": (lost, given, (events.head(length) + parts, _close)),
        "short-inside": (lost, given, (events.head(length) + parts + cut, _close)),
        "close-delimited": (lost, given, (events.head("connection: close") + parts, _close)),
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
        serve(_play(*steps)) as server,
        connect(server, max_connections=1, timeout=Timeout(slot=5)) as client,
    ):
        for _ in range(2):  # the slot is free again
            async with _open(client) as stream:
                if slow:
                    if _close in steps or _reset in steps:
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
    async with serve(_play(answer)) as server, connect(server) as client:
        for _ in range(2):
            async with _open(client) as stream:
                assert await _collect(stream) == [b"a", b"b"]
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
                await _collect_into(parts, _open(client))
            assert parts == [b"one", b"two"][: len(parts)]
            assert caught.value.parts_received == len(parts)
        assert len(server.requests) == len(answer) - begun


@pytest.mark.asyncio
async def test_the_idle_limit_holds_between_parts(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    steps = (events.head() + events.chunk(events.part(b"a")), _hang)
    timeout = Timeout(first_byte=60, idle=0.1)
    async with (
        serve(_play(*steps)) as server,
        connect(server, timeout=timeout) as client,
        _open(client) as stream,
    ):
        assert (await anext(stream)).bytes == b"a"
        for _ in range(2):
            with pytest.raises(IdleTimeout) as caught:
                await anext(stream)
            assert (caught.value.limit, caught.value.parts_received) == ("idle", 1)
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_a_slow_consumer_is_not_idle(serve: Serve, connect: Connect, events: Events) -> None:
    timeout = Timeout(first_byte=0.1, idle=0.1)
    answer = events.whole(b"a", b"b", b"c")
    async with (
        serve(_play(answer)) as server,
        connect(server, timeout=timeout) as client,
        _open(client) as stream,
    ):
        async for _ in stream:
            await asyncio.sleep(0.15)
        assert stream.parts_received == 3


@pytest.mark.asyncio
async def test_the_total_holds_for_the_reading_too(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async def trickle(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.head())
        while True:
            writer.write(events.chunk(events.part(b"a")))
            await asyncio.sleep(0.01)

    async with serve(trickle) as server, connect(server, timeout=0.3) as client:
        async with _open(client) as stream:
            with pytest.raises(TotalTimeout) as caught:
                await _collect(stream)
        assert caught.value.parts_received == stream.parts_received > 1


# --- leaving closes


def _endless(events: Events, respond: Respond) -> Answer:
    """Stream for ever, and answer plain calls."""

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.target.endswith("/invocations"):
            writer.write(respond())
            return
        writer.write(events.head())
        while True:
            writer.write(events.chunk(events.part(b"x" * 100)))
            await writer.drain()
            await asyncio.sleep(0.001)

    return answer


async def _break(stream_of: ResponseStreamOpening) -> None:
    async with stream_of as stream:
        async for _ in stream:
            break


async def _leave_unread(stream_of: ResponseStreamOpening) -> None:
    async with stream_of:
        pass


async def _raise(stream_of: ResponseStreamOpening) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with stream_of as stream:
            async for _ in stream:
                raise ZeroDivisionError


async def _cancel_reading(stream_of: ResponseStreamOpening) -> None:
    async def read() -> None:
        async with stream_of as stream:
            async for _ in stream:
                pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.05)


async def _cancel_elsewhere(stream_of: ResponseStreamOpening) -> None:
    async def dawdle() -> None:
        async with stream_of as stream:
            await anext(stream)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(dawdle(), 0.05)


async def _aclose(stream_of: ResponseStreamOpening) -> None:
    stream = await stream_of
    await anext(stream)
    await stream.aclose()


async def _aclose_twice(stream_of: ResponseStreamOpening) -> None:
    stream = await stream_of
    await asyncio.gather(stream.aclose(), stream.aclose())
    async with stream:
        await stream.aclose()


async def _aclose_inside(stream_of: ResponseStreamOpening) -> None:
    async with stream_of as stream:
        await anext(stream)
        await stream.aclose()


LEAVING = [
    _break,
    _leave_unread,
    _raise,
    _cancel_reading,
    _cancel_elsewhere,
    _aclose,
    _aclose_twice,
    _aclose_inside,
]


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.asyncio
async def test_leaving_in_any_way_closes_the_connection_and_frees_the_slot(
    *,
    leave: Callable[[ResponseStreamOpening], Awaitable[None]],
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    until: Until,
) -> None:
    async with (
        serve(_endless(events, respond)) as server,
        connect(server, max_connections=1, timeout=Timeout(slot=5)) as client,
    ):
        await leave(_open(client))
        await until(lambda: server.open_connections == 0)
        await client.invoke_endpoint(endpoint_name="llm", body=b"")
        assert server.connections == 2


@pytest.mark.asyncio
async def test_reading_what_was_closed_raises_each_time(
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    all_it_says: Callable[[BaseException], object],
) -> None:
    async with serve(_endless(events, respond)) as server, connect(server) as client:
        async with _open(client) as stream:
            await anext(stream)
        with pytest.raises(StreamClosed, match="before its end") as caught:
            await anext(stream)
        error = caught.value
        with pytest.raises(StreamClosed) as again:
            await anext(stream)
        assert all_it_says(again.value) == all_it_says(error)
        assert (error.parts_received, error.bytes_received) == (1, 100)
        assert error.operation == "InvokeEndpointWithResponseStream"
        assert error.endpoint_name == "llm"
        assert error.request_id == "7-7-7"
        assert error.may_have_run
        total = stream.metadata.total
        assert stream.metadata.total == total
        # What was closed unread gives nothing either.
        async with _open(client) as unread:
            pass
        with pytest.raises(StreamClosed):
            await anext(unread)


@pytest.mark.asyncio
async def test_closing_ends_the_read_of_another_task(
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
    all_it_says: Callable[[BaseException], object],
) -> None:
    steps = (events.head() + events.chunk(events.part(b"a")), _hang)
    async with serve(_play(*steps)) as server, connect(server) as client:
        stream = await _open(client)
        await anext(stream)
        reading = asyncio.create_task(_collect(stream))
        await asyncio.sleep(0.02)
        await stream.aclose()
        with pytest.raises(StreamClosed) as caught:
            await reading
        assert caught.value.parts_received == 1
        with pytest.raises(StreamClosed) as again:
            await anext(stream)
        assert all_it_says(again.value) == all_it_says(caught.value)
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_closing_the_client_ends_a_stream_after_what_had_come(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    begun = events.head() + events.chunk(events.part(b"a"), events.part(b"b"))
    async with serve(_play(begun, _hang)) as server:
        client = connect(server)
        stream = await _open(client)
        await client.aclose()
        assert [(await anext(stream)).bytes, (await anext(stream)).bytes] == [b"a", b"b"]
        with pytest.raises(ClientClosed) as caught:
            await anext(stream)
        assert caught.value.parts_received == 2
        assert caught.value.may_have_run
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_a_finished_stream_gives_its_connection_back(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(_play(events.whole(b"a"))) as server, connect(server) as client:
        for _ in range(3):
            async with _open(client) as stream:
                await _collect(stream)
                await stream.aclose()
            assert await _collect(stream) == []
        assert server.connections == 1


@pytest.mark.asyncio
async def test_a_stream_that_ended_in_an_error_of_the_model_gives_its_connection_back(
    serve: Serve, connect: Connect, events: Events
) -> None:
    """Only where the answer ended too: an error alone does not end HTTP's body."""
    failure = events.exception("InternalStreamFailure", b"{}")
    answer = events.head() + events.chunk(events.part(b"a"), failure)
    async with serve(_play(answer, _hang)) as server, connect(server) as client:
        async with _open(client) as stream:
            with pytest.raises(InternalStreamFailure):
                await _collect(stream)
        async with _open(client) as stream:
            pass
        assert server.connections == 2


def _drop(streams: list[ResponseStream]) -> None:
    streams.clear()
    gc.collect()


def _drop_elsewhere(streams: list[ResponseStream]) -> None:
    thread = threading.Thread(target=_drop, args=[streams])
    thread.start()
    thread.join()


@pytest.mark.parametrize("drop", [_drop, _drop_elsewhere])
@pytest.mark.asyncio
async def test_a_dropped_stream_warns_and_frees_its_socket_and_slot(
    *,
    drop: Callable[[list[ResponseStream]], None],
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    until: Until,
) -> None:
    async with (
        serve(_endless(events, respond)) as server,
        connect(server, max_connections=1, timeout=Timeout(slot=5)) as client,
    ):
        streams = [await _open(client)]
        await anext(streams[0])
        with pytest.warns(ResourceWarning, match="ResponseStream was never closed"):
            drop(streams)
        await until(lambda: server.open_connections == 0)
        await client.invoke_endpoint(endpoint_name="llm", body=b"")


@pytest.mark.asyncio
async def test_a_dropped_stream_with_a_fault_ahead_needs_no_collector(
    serve: Serve, connect: Connect, events: Events
) -> None:
    failure = events.exception("InternalStreamFailure", b"{}")
    answer = events.head() + events.chunk(events.part(b"a") + events.part(b"b") + failure)
    async with serve(_play(answer, _hang)) as server, connect(server) as client:
        streams = [await _open(client)]
        assert (await anext(streams[0])).bytes == b"a"
        gc.disable()
        try:
            with pytest.warns(ResourceWarning, match="ResponseStream was never closed"):
                streams.clear()
        finally:
            gc.enable()


def test_a_stream_that_outlives_its_loop_warns_and_does_no_harm(
    serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    async def leave() -> list[ResponseStream]:
        async with serve(_endless(events, respond)) as server, connect(server) as client:
            return [await _open(client)]

    streams = asyncio.run(leave())
    with pytest.warns(ResourceWarning, match="ResponseStream was never closed"):
        _drop(streams)


@pytest.mark.asyncio
async def test_a_stream_that_was_never_opened_warns(serve: Serve, connect: Connect) -> None:
    async with serve(_play()) as server, connect(server) as client:
        with pytest.warns(RuntimeWarning, match="never opened"):
            _open(client)
        assert server.connections == 0


@pytest.mark.asyncio
async def test_a_stream_is_opened_once(serve: Serve, connect: Connect, events: Events) -> None:
    async with serve(_play(events.whole())) as server, connect(server) as client:
        opening = _open(client)
        await _collect(await opening)
        with pytest.raises(RuntimeError, match="opened already"):
            await opening
        with pytest.raises(RuntimeError, match="opened already"):
            async with opening:
                pytest.fail("it was entered")
        assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_an_opening_is_like_any_other_awaitable(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(_play(events.whole(b"a"))) as server, connect(server) as client:
        streams = await asyncio.gather(_open(client), asyncio.wait_for(_open(client), 5))
        for stream in streams:
            async with stream:
                assert await _collect(stream) == [b"a"]


# --- reading


@pytest.mark.asyncio
async def test_memory_is_bounded(serve: Serve, connect: Connect, events: Events) -> None:
    written = 0

    async def push(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        frame = events.chunk(events.part(b"x" * 65536))
        writer.write(events.head())
        while True:
            writer.write(frame)
            await writer.drain()
            written += len(frame)

    async with (
        serve(push) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        before = -1
        while before < written:
            before = written
            await asyncio.sleep(0.1)
        assert written < 8 << 20
        while stream.bytes_received < 16 << 20:  # it goes on when the consumer does
            await anext(stream)
        assert written < 24 << 20


@pytest.mark.asyncio
async def test_an_open_stream_does_not_hold_the_body_that_was_sent(
    serve: Serve, connect: Connect, events: Events
) -> None:
    body = bytes(100_000)
    before = sys.getrefcount(body)
    answer = events.head() + events.chunk(events.part(b"a"))
    async with (
        serve(_play(answer, _hang)) as server,
        connect(server) as client,
        client.invoke_endpoint_with_response_stream(endpoint_name="llm", body=body) as stream,
    ):
        assert (await anext(stream)).bytes == b"a"
        assert sys.getrefcount(body) == before


@pytest.mark.asyncio
async def test_nothing_comes_behind_what_a_view_has_refused(
    serve: Serve, connect: Connect, events: Events
) -> None:
    parts = events.part(b"sound\n") + events.part(b"\xff\n") + events.part(b"more\n")
    async with (
        serve(_play(events.head() + events.chunk(parts) + events.END)) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        lines = stream.iter_lines()
        assert await anext(lines) == "sound"
        for _ in range(3):
            with pytest.raises(InvalidText) as caught:
                await anext(lines)
            assert caught.value.parts_received == stream.parts_received == 2


@pytest.mark.asyncio
async def test_a_cancelled_read_loses_nothing(
    serve: Serve, connect: Connect, events: Events
) -> None:
    more = asyncio.Event()
    frame = events.part(b"second")
    steps = (
        events.head() + events.chunk(events.part(b"first")) + events.chunk(frame[:9]),
        more,
        events.chunk(frame[9:]) + events.END,
    )
    async with (
        serve(_play(*steps)) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        assert (await anext(stream)).bytes == b"first"
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.02)
        more.set()
        assert await _collect(stream) == [b"second"]


@pytest.mark.asyncio
async def test_reads_cancelled_at_random_lose_nothing(
    serve: Serve, connect: Connect, events: Events
) -> None:
    chance = random.Random(17)
    parts = [b"%d" % number for number in range(200)]
    frames = b"".join(map(events.part, parts))

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.head())
        start = 0
        while start < len(frames):
            size = chance.randrange(1, 200)
            writer.write(events.chunk(frames[start : start + size]))
            start += size
            await asyncio.sleep(0)
        writer.write(events.END)

    async with (
        serve(answer) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        received = []
        while True:
            reading = asyncio.ensure_future(anext(stream, None))
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                part = await reading
                if part is None:
                    break
                received.append(part.bytes)
        assert received == parts


@pytest.mark.asyncio
async def test_a_second_reader_is_told_and_the_first_is_not_disturbed(
    serve: Serve, connect: Connect, events: Events
) -> None:
    more = asyncio.Event()
    steps = (
        events.head() + events.chunk(events.part(b"a")),
        more,
        events.chunk(events.part(b"b")) + events.END,
    )
    async with (
        serve(_play(*steps)) as server,
        connect(server) as client,
        _open(client) as stream,
    ):
        await anext(stream)
        reading = asyncio.create_task(_collect(stream))
        await asyncio.sleep(0.02)
        with pytest.raises(RuntimeError, match="another task"):
            await anext(stream)
        more.set()
        assert await reading == [b"b"]


# --- observers


class _Observer:
    """Notes what it is told of, by the names of the hooks."""

    def __init__(self) -> None:
        self.events: list[object] = []

    async def __call__(self, event: object) -> None:
        await asyncio.sleep(0)
        self.events.append(event)

    @property
    def ends(self) -> list[OnEnd]:
        return [event for event in self.events if isinstance(event, OnEnd)]

    @property
    def hooks(self) -> Hooks:
        return Hooks(on_first_part=self, on_end=self.events.append)


@pytest.mark.asyncio
async def test_an_observer_is_told_of_the_first_part_and_of_the_end(
    serve: Serve, connect: Connect, events: Events
) -> None:
    observer = _Observer()
    async with (
        serve(_play(events.whole(b"first", b"second"))) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        async with _open(client) as stream:
            (first,) = observer.events
            assert isinstance(first, OnFirstPart)
            assert (first.operation, first.endpoint_name) == (
                "InvokeEndpointWithResponseStream",
                "llm",
            )
            assert first.size == 5
            assert 0 < first.elapsed <= stream.metadata.total
            await _collect(stream)
            assert len(observer.ends) == 1
        await stream.aclose()
        (end,) = observer.ends
        assert end.error is None
        assert end.metadata == stream.metadata
        assert (end.parts_received, end.bytes_received) == (2, 11)


@pytest.mark.asyncio
async def test_a_stream_of_no_parts_has_an_end_and_no_first_part(
    serve: Serve, connect: Connect, events: Events
) -> None:
    observer = _Observer()
    async with (
        serve(_play(events.whole())) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        async with _open(client) as stream:
            await _collect(stream)
        (end,) = observer.events
        assert isinstance(end, OnEnd)
        assert (end.error, end.parts_received, end.bytes_received) == (None, 0, 0)


@pytest.mark.parametrize("name", LATE)
@pytest.mark.asyncio
async def test_an_observer_is_told_of_a_fault_once(
    name: str, serve: Serve, connect: Connect, events: Events
) -> None:
    observer = _Observer()
    _, _, steps = _late_faults(events)[name]
    async with serve(_play(*steps)) as server, connect(server, hooks=observer.hooks) as client:
        async with _open(client) as stream:
            with pytest.raises(AiosmrtError) as caught:
                await _collect(stream)
            with pytest.raises(AiosmrtError):
                await _collect(stream)
        (end,) = observer.ends
        assert end.error is caught.value
        assert (end.parts_received, end.bytes_received) == (2, 6)


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.asyncio
async def test_an_observer_is_told_of_a_stream_that_was_left(
    *,
    leave: Callable[[ResponseStreamOpening], Awaitable[None]],
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
) -> None:
    observer = _Observer()
    async with (
        serve(_endless(events, respond)) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        await leave(_open(client))
        (end,) = observer.ends
        assert end.error is None
        assert end.metadata is not None
        assert end.parts_received is not None


@pytest.mark.asyncio
async def test_an_early_failure_is_told_once(
    serve: Serve, connect: Connect, events: Events
) -> None:
    observer = _Observer()
    async with (
        serve(_play(events.head(), _close)) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        with pytest.raises(StreamConnectionLost) as caught:
            await _open(client)
        (end,) = observer.events
        assert isinstance(end, OnEnd)
        assert end.error is caught.value
        assert end.metadata is None


def _fail(_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.asyncio
async def test_an_observer_that_raises_at_the_first_part_leaves_nothing_open(
    serve: Serve, connect: Connect, events: Events, respond: Respond, until: Until
) -> None:
    options: dict[str, Any] = {"max_connections": 1, "timeout": Timeout(slot=5)}
    async with serve(_endless(events, respond)) as server, connect(server, **options) as client:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await _open(client.with_options(hooks=Hooks(on_first_part=_fail)))
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_an_observer_that_raises_at_the_end_leaves_nothing_open(
    serve: Serve, connect: Connect, events: Events, respond: Respond, until: Until
) -> None:
    options: dict[str, Any] = {
        "max_connections": 1,
        "timeout": Timeout(slot=5),
        "hooks": Hooks(on_end=_fail),
    }
    async with serve(_endless(events, respond)) as server, connect(server, **options) as client:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await _break(_open(client))
        await until(lambda: server.open_connections == 0)
    async with serve(_play(events.whole(b"a"))) as server, connect(server, **options) as client:
        for _ in range(2):
            stream = await _open(client)
            assert (await anext(stream)).bytes == b"a"
            with pytest.raises(ZeroDivisionError):
                await anext(stream)
            assert await _collect(stream) == []


# --- all of it together


async def _finish(stream_of: ResponseStreamOpening) -> None:
    async with stream_of as stream:
        async for _ in stream:
            pass


async def _drop_it(stream_of: ResponseStreamOpening) -> None:
    await anext(await stream_of)


@pytest.mark.asyncio
async def test_five_hundred_streams_left_in_every_way_leave_nothing_behind(
    serve: Serve, connect: Connect, events: Events, respond: Respond, until: Until
) -> None:
    chance = random.Random(42)
    slots = 20
    gathered = asyncio.Barrier(slots)

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.target.endswith("/invocations"):
            await gathered.wait()
            writer.write(respond())
            return
        writer.write(events.head())
        for _ in range(chance.randrange(8)):
            writer.write(events.chunk(events.part(b"x" * chance.randrange(2000))))
            await writer.drain()
            await asyncio.sleep(chance.choice([0, 0, 0.001]))
        if chance.random() < 0.8:
            writer.write(events.END)
        else:
            writer.close()

    async def leave(client: SageMakerRuntimeClient) -> None:
        way = chance.choice([_finish, _break, _raise, _aclose_twice, _drop_it, _leave_unread])
        task = asyncio.create_task(way(_open(client)))
        if chance.random() < 0.4:
            await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
        # Streams may be cut, and a stream without parts raises nothing where one part would.
        await asyncio.gather(task, return_exceptions=True)

    tasks = asyncio.all_tasks()
    async with serve(answer) as server:
        client = connect(server, max_connections=slots, timeout=Timeout(slot=20))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of those that are dropped
            warnings.simplefilter("ignore", RuntimeWarning)  # of those cancelled before they began
            await asyncio.gather(*(leave(client) for _ in range(500)))
            gc.collect()
        assert len(server.requests) > 250
        # Every slot is free: as many calls as there are slots are answered together.
        async with asyncio.timeout(5):
            await asyncio.gather(
                *(client.invoke_endpoint(endpoint_name="llm", body=b"") for _ in range(slots))
            )
        await client.aclose()
        await until(lambda: server.open_connections == 0)
        await until(lambda: asyncio.all_tasks() == tasks)
