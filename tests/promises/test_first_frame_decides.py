"""The first frame decides.

Opening a stream waits for its first frame. So what fails early is a plain exception, may be retried
under the policy, and a web server can still choose its status code.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, TypeAlias

import aiohttp
import pytest

from aiosmrt import (
    AiosmrtError,
    FirstByteTimeout,
    InternalStreamFailure,
    MessageChecksumMismatch,
    ModelError,
    ModelStreamError,
    PreludeChecksumMismatch,
    ResponseStreamOpening,
    RetryPolicy,
    ServiceError,
    StreamConnectionLost,
    Timeout,
    TruncatedStream,
    UnexpectedMessage,
    UnexpectedResponse,
    ValidationError,
)
from aiosmrt.eventstream import encode_message
from aiosmrt.hooks import OnEnd
from aiosmrt.sse import EventDecoder

if TYPE_CHECKING:
    from tests.conftest import (
        Connect,
        EventStreams,
        Leftovers,
        Observer,
        Serve,
        Step,
    )
    from tests.promises.conftest import ReadEvents, Relay, Upstream

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]


PAGE = b"<!DOCTYPE html><title>Blocked</title>\n<p>Your administrator says no."
AT_ONCE = RetryPolicy(base_delay=0.0, throttle_base_delay=0.0)


async def _await_it(opening: ResponseStreamOpening) -> None:
    await opening


async def _enter_it(opening: ResponseStreamOpening) -> None:
    async with opening:
        pytest.fail("it was entered")


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
        "model": (ModelStreamError, (begun + events.chunk(lost), events.hang)),
        "service": (InternalStreamFailure, (begun + events.chunk(failed), events.hang)),
        "novelty": (ServiceError, (begun + events.chunk(unknown), events.hang)),
        "error": (ServiceError, (begun + events.chunk(error), events.hang)),
        "unnamed": (UnexpectedMessage, (begun + events.chunk(unnamed), events.hang)),
        "mistyped": (UnexpectedMessage, (begun + events.chunk(mistyped), events.hang)),
        "no-event-type": (UnexpectedMessage, (begun + events.chunk(no_event_type), events.hang)),
        "prelude": (PreludeChecksumMismatch, (begun + events.chunk(b"<html>" * 3), events.hang)),
        "checksum": (MessageChecksumMismatch, (begun + events.chunk(bytes(broken)), events.hang)),
        "ended-inside": (TruncatedStream, (begun + events.chunk(whole[:20]) + events.END,)),
        "cut-before": (StreamConnectionLost, (begun, events.close)),
        "cut-inside": (StreamConnectionLost, (begun + events.chunk(whole[:20]), events.close)),
        "short": (StreamConnectionLost, (lengthy + whole[:20], events.close)),
        "close-delimited": (StreamConnectionLost, (events.head("connection: close"), events.close)),
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
        serve(events.play(*steps)) as server,
        connect(server, max_connections=1, timeout=Timeout(slot=5)) as client,
    ):
        for _ in range(2):  # the slot is free again
            with pytest.raises(AiosmrtError) as caught:
                await enter(events.open(client))
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
    async with serve(events.play_in_turn(*answers)) as server, connect(server) as client:
        with pytest.raises(ModelStreamError, match="too long") as model_error:
            await events.open(client)
        assert model_error.value.error_code == "ModelInvocationTimeExceeded"
        assert model_error.value.status == 200
        with pytest.raises(InternalStreamFailure, match="sorry"):
            await events.open(client)
        with pytest.raises(ServiceError, match="never seen") as unknown:
            await events.open(client)
        assert type(unknown.value) is ServiceError
        assert unknown.value.code == "NoveltyException"
        assert unknown.value.fields["Extra"] == 1
        with pytest.raises(ServiceError, match="it broke") as error:
            await events.open(client)
        assert error.value.code == "Oops"


@pytest.mark.asyncio
async def test_the_limit_of_the_first_byte_holds_again_for_the_first_frame(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    timeout = Timeout(first_byte=0.1, idle=60)
    steps = (events.head(), events.chunk(events.part(b"a")[:10]), events.hang)
    async with serve(events.play(*steps)) as server, connect(server, timeout=timeout) as client:
        with pytest.raises(FirstByteTimeout) as caught:
            await events.open(client)
        assert (caught.value.limit, caught.value.seconds) == ("first_byte", 0.1)
        assert caught.value.may_have_run
        assert caught.value.request_id == "7-7-7"
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_an_early_refusal_is_retried(
    serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    refusal = respond(503, b"{}", x_amzn_errortype="ServiceUnavailable")
    answer = events.play_in_turn(refusal, refusal, events.whole(b"a"))
    async with serve(answer) as server, connect(server, retry=AT_ONCE) as client:
        async with events.open(client) as stream:
            assert await events.collect(stream) == [b"a"]
            attempts = stream.metadata.attempts
        assert [attempt.error for attempt in attempts] == ["ServiceUnavailable"] * 2 + [None]
        assert len(server.requests) == 3


@pytest.mark.parametrize("asked_for", [False, True])
@pytest.mark.asyncio
async def test_a_failed_first_frame_is_retried_only_where_that_was_asked_for(
    asked_for: bool, serve: Serve, connect: Connect, events: Events
) -> None:
    failure = events.chunk(events.exception("InternalStreamFailure", b'{"Message": "sorry"}'))
    answer = events.play_in_turn(events.head() + failure + events.END, events.whole(b"a"))
    policy = RetryPolicy(base_delay=0.0, retry_may_have_run=asked_for)
    async with serve(answer) as server, connect(server, retry=policy) as client:
        if asked_for:
            async with events.open(client) as stream:
                assert await events.collect(stream) == [b"a"]
                assert stream.metadata.attempts[0].error == "InternalStreamFailure"
        else:
            with pytest.raises(InternalStreamFailure):
                await events.open(client)
        assert len(server.requests) == 1 + asked_for


@pytest.mark.asyncio
async def test_nothing_is_retried_once_a_part_was_given(
    serve: Serve, connect: Connect, events: Events
) -> None:
    policy = RetryPolicy(base_delay=0.0, retry_may_have_run=True)
    failure = events.exception("InternalStreamFailure", b'{"Message": "sorry"}')
    answer = events.head() + events.chunk(events.part(b"a"), failure) + events.END
    async with serve(events.play(answer)) as server, connect(server, retry=policy) as client:
        async with events.open(client) as stream:
            with pytest.raises(InternalStreamFailure):
                await events.collect(stream)
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
    steps = (events.head(), events.hang)
    async with (
        serve(events.play(*steps)) as server,
        connect(server, max_connections=1, retry=policy) as client,
    ):
        for _ in range(2):
            seen = len(server.requests)
            task = asyncio.create_task(enter(events.open(client)))
            await until(lambda seen=seen: len(server.requests) > seen)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gc.collect()  # no warning of an unclosed stream either
            await until(lambda: server.open_connections == 0)
        assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_an_early_failure_is_told_once(
    serve: Serve, connect: Connect, events: Events, observer: Observer
) -> None:
    async with (
        serve(events.play(events.head(), events.close)) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        with pytest.raises(StreamConnectionLost) as caught:
            await events.open(client)
        (end,) = observer.events
        assert isinstance(end, OnEnd)
        assert end.error is caught.value
        assert end.metadata is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(PAGE, "text/html"), (b'{"generated_text": "all at once"}', "application/json"), (b"", None)],
)
@pytest.mark.asyncio
async def test_a_page_in_place_of_a_stream(
    *,
    body: bytes,
    content_type: str | None,
    serve: Serve,
    events: Events,
    respond: Respond,
    leftovers: Leftovers,
) -> None:
    answer = respond(200, body, content_type=content_type or "", x_amzn_requestid="7-7-7")
    if content_type is None:
        answer = answer.replace(b"content-type: \r\n", b"")
    async with serve(events.play(answer)) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client, "InvokeEndpointWithResponseStream")
        assert isinstance(error, UnexpectedResponse)
        assert "not an event stream" in str(error)
        assert repr(content_type or "missing") in str(error)
        assert repr(body) in str(error)
        assert "check that endpoint_url" in str(error)
        assert (error.status, error.body_start) == (200, body)
        assert error.request_id == "7-7-7"
        assert error.may_have_run
        await leftovers.check(client, server)


@pytest.mark.asyncio
async def test_a_page_that_claims_to_be_a_stream(
    serve: Serve, events: Events, leftovers: Leftovers
) -> None:
    async with serve(events.play(events.head() + events.chunk(PAGE) + events.END)) as server:
        client = leftovers.connect(server.url)
        error = await leftovers.fail(client, "InvokeEndpointWithResponseStream")
        assert "is this an event stream at all?" in str(error)
        assert "<!DOCTYPE ht" in str(error)
        await leftovers.check(client, server)


# --- a relay chooses its status code


each_relay = pytest.mark.parametrize(
    "relay", ["aiohttp", "asgi", "fastapi", "starlette with a middleware"], indirect=True
)


@each_relay
@pytest.mark.asyncio
async def test_events_arrive_as_they_come(
    relay: Relay, upstream: Upstream, browser: aiohttp.ClientSession, read_events: ReadEvents
) -> None:
    async with relay(upstream.client) as url, browser.post(url, data=b"hang") as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        first = await response.content.readuntil(b"\n\n")
        assert EventDecoder().receive(first)[0].data == "zwölf\n"
        assert upstream.running == 1
        upstream.go_on.set()
        assert [(event.event, event.data) for event in await read_events(response)] == [
            ("message", "and more"),
            ("done", ""),
        ]


@each_relay
@pytest.mark.asyncio
async def test_what_fails_before_the_first_part_has_a_status(
    relay: Relay, upstream: Upstream, browser: aiohttp.ClientSession
) -> None:
    async with relay(upstream.client) as url:
        async with browser.post(url, data=b"refuse") as response:
            assert response.status == 502
            assert (await response.json())["error"].startswith("ModelError (request id ")
        async with browser.post(url, data=b"x") as response:
            assert response.status == 200


@each_relay
@pytest.mark.asyncio
async def test_what_fails_later_is_an_event_of_its_own_type(
    relay: Relay, upstream: Upstream, browser: aiohttp.ClientSession, read_events: ReadEvents
) -> None:
    async with relay(upstream.client) as url:
        async with browser.post(url, data=b"fail") as response:
            assert response.status == 200
            sent, error = await read_events(response)
        assert (sent.event, sent.data) == ("message", "zwölf\n")
        assert error.event == "error"
        assert error.data.startswith("ModelStreamError (request id ")
        assert "out of memory" not in error.data
        async with browser.post(url, data=b"x") as response:
            assert len(await read_events(response)) == 3
