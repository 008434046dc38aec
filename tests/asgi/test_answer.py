from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from aiosmrt import ResponseStream, RetryPolicy
from aiosmrt.asgi import relay
from aiosmrt.sse import EventDecoder, ServerSentEvent

if TYPE_CHECKING:
    from tests.asgi.conftest import Exchange
    from tests.conftest import Connect, EventStreams, Serve

    Events: TypeAlias = type[EventStreams]

Until: TypeAlias = Callable[..., Awaitable[None]]
Respond: TypeAlias = Callable[..., bytes]

SOON = 1.0  # seconds, on a machine that others use, too


def _read(body: bytes) -> list[tuple[str, str]]:
    decoder = EventDecoder(drop_incomplete=True)
    return [(event.event, event.data) for event in [*decoder.receive(body), *decoder.finish()]]


# --- what is written


@pytest.mark.asyncio
async def test_text_becomes_events(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events
) -> None:
    whole = events.whole(b"zw\xc3", b"\xb6lf\n")
    async with serve(events.play(whole)) as server, connect(server) as client:
        await exchange.ask(relay(events.open(client)))
    assert exchange.status == 200
    assert exchange.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }
    assert "".join(data for _, data in _read(exchange.body)) == "zwölf\n"
    assert _read(exchange.body)[-1] == ("done", "")
    assert exchange.is_whole


@pytest.mark.asyncio
async def test_the_models_own_events_are_passed_on_as_they_are(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events
) -> None:
    head = events.head(x_amzn_sagemaker_content_type="Text/Event-Stream; charset=utf-8")
    parts = (b": a comment\nid:7\ndata:a\r", b"\n\r", b"\ndata: b\n\nda", b"ta: [DONE]")
    data = head + events.chunk(*map(events.part, parts)) + events.END
    async with serve(events.play(data)) as server, connect(server) as client:
        await exchange.ask(relay(events.open(client)))
    assert exchange.body == b"".join(parts)
    assert exchange.is_whole


@pytest.mark.asyncio
async def test_a_view_says_what_is_written(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events
) -> None:
    async def view(stream: ResponseStream) -> AsyncIterator[object]:
        async for value in stream.iter_json():
            yield ServerSentEvent("delta", json.dumps(value), id="1")
        yield "text"

    async with (
        serve(events.play(events.whole(b'{"t": 1}\n[2', b"]"))) as server,
        connect(server) as client,
    ):
        await exchange.ask(relay(events.open(client), view))
    assert exchange.body == (
        b'event: delta\nid: 1\ndata: {"t": 1}\n\nevent: delta\ndata: [2]\n\n'
        b"data: text\n\nevent: done\ndata: \n\n"
    )


@pytest.mark.parametrize(
    ("view", "written"),
    [
        (None, b'{"t":  "a"}\n{"t": "b"}\n'),
        (ResponseStream.iter_json, b'{"t": "a"}\n{"t": "b"}\n'),
        (lambda stream: stream.iter_tokens("t"), b'"a"\n"b"\n'),
    ],
)
@pytest.mark.parametrize("media_type", ["application/jsonl", "application/x-ndjson"])
@pytest.mark.asyncio
async def test_json_lines(
    *,
    view: Any,
    written: bytes,
    media_type: str,
    exchange: Exchange,
    serve: Serve,
    connect: Connect,
    events: Events,
) -> None:
    whole = events.whole(b'{"t":  "a"}\n{"t"', b': "b"}')
    async with serve(events.play(whole)) as server, connect(server) as client:
        await exchange.ask(relay(events.open(client), view, media_type=media_type))
    assert exchange.headers["content-type"] == media_type
    assert exchange.body == written
    assert exchange.is_whole


@pytest.mark.asyncio
async def test_headers_of_the_program_are_sent_and_win(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events
) -> None:
    headers = {"X-Ours": "1", "Cache-Control": "private"}
    async with serve(events.play(events.whole(b"a"))) as server, connect(server) as client:
        await exchange.ask(relay(events.open(client), headers=headers))
    assert (exchange.headers["x-ours"], exchange.headers["cache-control"]) == ("1", "private")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"media_type": "audio/wav"}, "media_type='audio/wav': one of text/event-stream, app"),
        ({"heartbeat": 0}, "heartbeat=0: seconds, above 0"),
        ({"heartbeat": float("nan")}, "heartbeat=nan: seconds, above 0"),
    ],
)
@pytest.mark.asyncio
async def test_what_cannot_be_is_said_before_anything_is_sent(
    arguments: dict[str, Any], words: str, serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(events.play(events.whole(b"a"))) as server, connect(server) as client:
        async with events.open(client) as stream:
            await stream.read()
        opening = events.open(client)
        with pytest.raises(ValueError, match=words):
            relay(opening, **arguments)
        await (await opening).aclose()


# --- failures


@pytest.mark.asyncio
async def test_a_failure_before_the_first_part_has_a_status(
    *,
    exchange: Exchange,
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusal = respond(
        429,
        b'{"message": "account 111122223333"}',
        x_amzn_errortype="ThrottlingException",
        x_amzn_requestid="7-7-7",
        retry_after="7",
    )
    async with (
        serve(events.play(refusal)) as server,
        connect(server, retry=RetryPolicy(mode="off")) as client,
    ):
        await exchange.ask(relay(events.open(client), headers={"x-ours": "1"}))
    assert exchange.status == 429
    assert exchange.headers == {
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "x-ours": "1",
        "content-type": "application/json",
        "content-length": str(len(exchange.body)),
        "retry-after": "7",
    }
    assert json.loads(exchange.body) == {"error": "ThrottlingException (request id 7-7-7)"}
    assert exchange.is_whole
    assert "account 111122223333" in caplog.text


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/event-stream", b"data: a\n\nevent: error\ndata: %b\n\n"),
        ("application/jsonl", b'a\n{"error": "%b"}\n'),
    ],
)
@pytest.mark.asyncio
async def test_a_failure_on_the_way_is_told_behind_what_was_whole(
    *,
    media_type: str,
    body: bytes,
    exchange: Exchange,
    serve: Serve,
    connect: Connect,
    events: Events,
) -> None:
    failure = events.exception("ModelStreamError", b'{"Message": "CUDA at 10.0.0.1"}')
    head = events.head(
        x_amzn_sagemaker_content_type="text/event-stream"
        if media_type == "text/event-stream"
        else "application/jsonl"
    )
    payload = b"data: a\n\ndata: ha" if media_type == "text/event-stream" else b"a\nha"
    data = head + events.chunk(events.part(payload), failure) + events.END
    async with serve(events.play(data)) as server, connect(server) as client:
        await exchange.ask(relay(events.open(client), media_type=media_type))
    assert exchange.status == 200
    assert exchange.body == body % b"ModelStreamError (request id 7-7-7)"
    assert exchange.is_whole


@pytest.mark.asyncio
async def test_a_fault_of_the_program_is_raised_and_told_without_its_words(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    async def view(stream: ResponseStream) -> AsyncIterator[object]:
        async for _ in stream:
            yield "a"
            yield 7

    data = events.head() + events.chunk(events.part(b"a"))
    async with serve(events.play(data, events.hang)) as server, connect(server) as client:
        with pytest.raises(TypeError, match=r"gave a int, not a str .* json\.dumps"):
            await exchange.ask(relay(events.open(client), view))
        await until(lambda: server.open_connections == 0)
    assert _read(exchange.body) == [("message", "a"), ("error", "InternalServerError")]


# --- silence


@pytest.mark.asyncio
async def test_a_silent_model_is_covered_by_comments(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    begin, go_on = asyncio.Event(), asyncio.Event()
    first = events.head() + events.chunk(events.part(b"a"))
    last = events.chunk(events.part(b"b")) + events.END
    async with serve(events.play(begin, first, go_on, last)) as server, connect(server) as client:
        asking = exchange.ask(relay(events.open(client), heartbeat=0.02))
        await until(lambda: exchange.body.count(b": \n\n") >= 2)
        assert (exchange.status, _read(exchange.body)) == (200, [])
        begin.set()
        await until(lambda: b"data: a\n\n: \n\n" in exchange.body)
        go_on.set()
        await asking
    assert _read(exchange.body) == [("message", "a"), ("message", "b"), ("done", "")]
    assert exchange.is_whole


@pytest.mark.asyncio
async def test_nothing_is_said_where_the_model_is_not_silent_for_so_long(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(events.play(events.whole(b"a"))) as server, connect(server) as client:
        await exchange.ask(relay(events.open(client)))
        assert b"\n: \n" not in exchange.body


@pytest.mark.asyncio
async def test_a_failure_behind_a_comment_is_an_event(
    *,
    exchange: Exchange,
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    until: Until,
) -> None:
    begin = asyncio.Event()
    refusal = respond(424, b"{}", x_amzn_errortype="ModelError")
    async with serve(events.play(begin, refusal)) as server, connect(server) as client:
        asking = exchange.ask(relay(events.open(client), heartbeat=0.02))
        await until(lambda: exchange.messages)
        begin.set()
        await asking
    assert exchange.status == 200
    assert _read(exchange.body) == [("error", "ModelError")]
    assert exchange.is_whole


@pytest.mark.parametrize("arguments", [{"heartbeat": None}, {"media_type": "application/jsonl"}])
@pytest.mark.asyncio
async def test_without_comments_the_status_waits_for_the_first_part(
    *,
    arguments: dict[str, Any],
    exchange: Exchange,
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
) -> None:
    begin = asyncio.Event()
    refusal = respond(424, b"{}", x_amzn_errortype="ModelError")
    async with serve(events.play(begin, refusal)) as server, connect(server) as client:
        options = {"heartbeat": 0.01, **arguments}
        asking = exchange.ask(relay(events.open(client), **options))
        await asyncio.sleep(0.05)
        assert exchange.messages == []
        begin.set()
        await asking
    assert exchange.status == 502


@pytest.mark.asyncio
async def test_no_comment_comes_into_a_half_sent_event(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    go_on = asyncio.Event()
    head = events.head(x_amzn_sagemaker_content_type="text/event-stream")
    first = head + events.chunk(events.part(b"data: a\n\ndata: {"))
    last = events.chunk(events.part(b"}\n\n")) + events.END
    async with serve(events.play(first, go_on, last)) as server, connect(server) as client:
        asking = exchange.ask(relay(events.open(client), heartbeat=0.02))
        await until(lambda: exchange.body.count(b": \n\n") >= 2)
        go_on.set()
        await asking
    assert exchange.body.replace(b": \n\n", b"") == b"data: a\n\ndata: {}\n\n"


@pytest.mark.asyncio
async def test_a_browser_that_reads_nothing_is_sent_no_comments(
    make_exchange: Callable[[], Exchange],
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
) -> None:
    exchange = make_exchange()
    async with serve(events.play(events.whole(b"a", b"b"))) as server, connect(server) as client:
        asking = exchange.ask(relay(events.open(client), heartbeat=0.1))
        await until(lambda: exchange.messages)
        await asyncio.sleep(0.25)
        assert len(exchange.messages) == 1
        exchange.reads.set()
        await asking
    assert exchange.messages[1]["body"].startswith(b"data: ")  # at once, and no comment
    assert _read(exchange.body)[-1] == ("done", "")


# --- leaving


def _silent(events: Events) -> list[Any]:
    return [events.hang]


def _stuck(events: Events) -> list[Any]:
    return [events.head() + events.chunk(events.part(b"a")), events.hang]


@pytest.mark.parametrize("steps", [_silent, _stuck])
@pytest.mark.parametrize("reads", [True, False], ids=["reads", "reads nothing"])
@pytest.mark.parametrize("heartbeat", [0.02, None])
@pytest.mark.asyncio
async def test_a_browser_that_leaves_stops_the_model(
    *,
    steps: Callable[[Events], list[Any]],
    reads: bool,
    heartbeat: float | None,
    make_exchange: Callable[[], Exchange],
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    exchange = make_exchange()
    if reads:
        exchange.reads.set()
    caplog.set_level(logging.DEBUG, "aiosmrt")
    async with serve(events.play(*steps(events))) as server, connect(server) as client:
        asking = exchange.ask(relay(events.open(client), heartbeat=heartbeat))
        await until(lambda: server.open_connections == 1)
        await asyncio.sleep(0.05)
        exchange.left.set()
        exchange.reads.set()
        async with asyncio.timeout(SOON):
            await asking
        await until(lambda: server.open_connections == 0, seconds=SOON)
    if steps is _silent and heartbeat is None:
        assert exchange.status == 499  # for a middleware that waits for a beginning
        assert exchange.is_whole
    else:
        assert exchange.status == 200
        assert b"error" not in exchange.body
    assert "a browser left its relayed stream" in caplog.text


@pytest.mark.asyncio
async def test_a_server_that_raises_for_who_has_left_is_understood(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    """As ASGI has it from 2.4 on."""
    exchange.gone = True
    data = events.head() + events.chunk(events.part(b"a"))
    async with serve(events.play(data, events.hang)) as server, connect(server) as client:
        await exchange.ask(relay(events.open(client)))
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_a_view_that_is_left_has_ended_with_its_answer(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events
) -> None:
    ended = False

    async def view(stream: ResponseStream) -> AsyncIterator[object]:
        nonlocal ended
        try:
            async for text in stream.iter_text():
                yield text
        finally:
            await asyncio.sleep(0)
            ended = True

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            exchange.left.set()
            await asyncio.Event().wait()

    data = events.head() + events.chunk(events.part(b"a"))
    async with serve(events.play(data, events.hang)) as server, connect(server) as client:
        await relay(events.open(client), view)({}, exchange.receive, send)
        assert ended


@pytest.mark.asyncio
async def test_what_receiving_raises_is_raised(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    async def receive() -> Any:
        raise ZeroDivisionError

    async with serve(events.play(events.hang)) as server, connect(server) as client:
        with pytest.raises(ZeroDivisionError):
            await relay(events.open(client))({}, receive, exchange.send)
        await until(lambda: server.open_connections == 0)


# --- a server that stops


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "reads nothing"])
@pytest.mark.asyncio
async def test_a_server_that_stops_says_so_and_stops_the_model(
    *,
    reads: bool,
    exchange: Exchange,
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
) -> None:
    data = events.head() + events.chunk(events.part(b"a"))
    async with serve(events.play(data, events.hang)) as server, connect(server) as client:
        asking = exchange.ask(relay(events.open(client)))
        await until(lambda: exchange.body)
        if not reads:
            exchange.reads.clear()
        asking.cancel()
        await asyncio.wait([asking], timeout=SOON)
        assert asking.cancelled()
        await until(lambda: server.open_connections == 0)
    assert _read(exchange.body) == [("message", "a"), ("error", "ServerStopped")]


@pytest.mark.asyncio
async def test_a_server_that_stops_before_the_first_part_says_it_itself(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    async with serve(events.play(events.hang)) as server, connect(server) as client:
        asking = exchange.ask(relay(events.open(client)))
        await until(lambda: server.open_connections == 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: server.open_connections == 0)
    assert exchange.messages == []


@pytest.mark.asyncio
async def test_a_client_that_is_closed_ends_its_relays(
    exchange: Exchange, serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    data = events.head() + events.chunk(events.part(b"a"))
    async with serve(events.play(data, events.hang)) as server:
        client = connect(server)
        asking = exchange.ask(relay(events.open(client)))
        await until(lambda: exchange.body)
        await client.aclose()
        await asking
    (event, said) = _read(exchange.body)[-1]
    assert (event, said) == ("error", "ClientClosed (request id 7-7-7)")
