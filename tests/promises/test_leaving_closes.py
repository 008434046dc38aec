"""Leaving closes.

Whoever leaves a stream by any way (break, exception, cancellation, `aclose`) closes its connection,
which is not drained, and its slot is free again. A finished stream gives its connection back. One
that is dropped without either warns.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
import pytest

from aiosmrt import (
    AiosmrtError,
    ClientClosed,
    InternalStreamFailure,
    PayloadError,
    ResponseStream,
    ResponseStreamOpening,
    SageMakerRuntimeClient,
    StreamClosed,
    Timeout,
)
from aiosmrt.hooks import Hooks

if TYPE_CHECKING:
    from tests.conftest import (
        Answer,
        Connect,
        EventStreams,
        Observer,
        SeenRequest,
        Serve,
    )
    from tests.promises.conftest import ReadEvents, Relay, Upstream

    Events: TypeAlias = type[EventStreams]

Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]


# --- leaving


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
    begun = asyncio.Event()

    async def read() -> None:
        async with stream_of as stream:
            async for _ in stream:
                begun.set()

    await _cancel_after(begun, read())


async def _cancel_elsewhere(stream_of: ResponseStreamOpening) -> None:
    begun = asyncio.Event()

    async def dawdle() -> None:
        async with stream_of as stream:
            await anext(stream)
            begun.set()
            await asyncio.Event().wait()

    await _cancel_after(begun, dawdle())


async def _cancel_after(begun: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    task = asyncio.create_task(work)
    async with asyncio.timeout(5):
        await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


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
        await leave(events.open(client))
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
        async with events.open(client) as stream:
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
        async with events.open(client) as unread:
            pass
        with pytest.raises(StreamClosed):
            await anext(unread)


@pytest.mark.asyncio
async def test_a_closed_stream_gives_no_more_values(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    data = events.head() + events.chunk(events.part(b"a\nb\nc\n"))
    async with serve(events.play(data, events.hang)) as server, connect(server) as client:
        async with events.open(client) as stream:
            view = stream.iter_lines()
            async for line in view:
                assert line == "a"
                break
            assert await anext(view) == "b"  # breaking out of the loop alone closes nothing
            assert server.open_connections == 1
        await until(lambda: server.open_connections == 0)
        for _ in range(2):
            with pytest.raises(StreamClosed):
                await anext(view)


@pytest.mark.asyncio
async def test_a_cancelled_read_of_the_whole_gives_it_up(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    data = events.head() + events.chunk(events.part(b"first"))
    async with serve(events.play(data, events.hang)) as server, connect(server) as client:
        async with events.open(client) as stream:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.read(), 0.02)
            assert (stream.parts_received, stream.bytes_received) == (1, 5)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="read as bytes already"):
                    await stream.read()
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_closing_ends_the_read_of_another_task(
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
    all_it_says: Callable[[BaseException], object],
) -> None:
    steps = (events.head() + events.chunk(events.part(b"a")), events.hang)
    async with serve(events.play(*steps)) as server, connect(server) as client:
        stream = await events.open(client)
        await anext(stream)
        reading = asyncio.create_task(events.collect(stream))
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
    async with serve(events.play(begun, events.hang)) as server:
        client = connect(server)
        stream = await events.open(client)
        await client.aclose()
        assert [(await anext(stream)).bytes, (await anext(stream)).bytes] == [b"a", b"b"]
        with pytest.raises(ClientClosed) as caught:
            await anext(stream)
        assert caught.value.parts_received == 2
        assert caught.value.may_have_run
        await until(lambda: server.open_connections == 0)


# --- finishing


@pytest.mark.asyncio
async def test_a_finished_stream_gives_its_connection_back(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(events.play(events.whole(b"a"))) as server, connect(server) as client:
        for _ in range(3):
            async with events.open(client) as stream:
                await events.collect(stream)
                await stream.aclose()
            assert await events.collect(stream) == []
        assert server.connections == 1


@pytest.mark.asyncio
async def test_a_stream_that_ended_in_an_error_of_the_model_gives_its_connection_back(
    serve: Serve, connect: Connect, events: Events
) -> None:
    """Only where the answer ended too: an error alone does not end HTTP's body."""
    failure = events.exception("InternalStreamFailure", b"{}")
    answer = events.head() + events.chunk(events.part(b"a"), failure)
    async with serve(events.play(answer, events.hang)) as server, connect(server) as client:
        async with events.open(client) as stream:
            with pytest.raises(InternalStreamFailure):
                await events.collect(stream)
        async with events.open(client) as stream:
            pass
        assert server.connections == 2


# --- dropping


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
        streams = [await events.open(client)]
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
    async with serve(events.play(answer, events.hang)) as server, connect(server) as client:
        streams = [await events.open(client)]
        assert (await anext(streams[0])).bytes == b"a"
        gc.disable()
        try:
            with pytest.warns(ResourceWarning, match="ResponseStream was never closed"):
                streams.clear()
        finally:
            gc.enable()


@pytest.mark.asyncio
async def test_a_dropped_stream_with_a_view_warns_at_once(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    data = events.head() + events.chunk(events.part(b"a\nb\n"))
    gc.collect()
    gc.disable()  # no circle may keep it
    try:
        async with serve(events.play(data, events.hang)) as server, connect(server) as client:
            with pytest.warns(ResourceWarning, match="never closed"):
                assert await anext((await events.open(client)).iter_lines()) == "a"
            await until(lambda: server.open_connections == 0)
    finally:
        gc.enable()


def test_a_stream_that_outlives_its_loop_warns_and_does_no_harm(
    serve: Serve, connect: Connect, events: Events, respond: Respond
) -> None:
    async def leave() -> list[ResponseStream]:
        async with serve(_endless(events, respond)) as server, connect(server) as client:
            return [await events.open(client)]

    streams = asyncio.run(leave())
    with pytest.warns(ResourceWarning, match="ResponseStream was never closed"):
        _drop(streams)


@pytest.mark.asyncio
async def test_a_stream_that_was_never_opened_warns(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(events.play()) as server, connect(server) as client:
        with pytest.warns(RuntimeWarning, match="never opened"):
            events.open(client)
        assert server.connections == 0


# --- observers


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.asyncio
async def test_an_observer_is_told_of_a_stream_that_was_left(
    *,
    leave: Callable[[ResponseStreamOpening], Awaitable[None]],
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    observer: Observer,
) -> None:
    async with (
        serve(_endless(events, respond)) as server,
        connect(server, hooks=observer.hooks) as client,
    ):
        await leave(events.open(client))
        (end,) = observer.ends
        assert (end.outcome, end.error) == ("left", None)
        assert end.metadata is not None
        assert end.parts_received is not None
        assert end.elapsed > 0


async def _drop_and_collect(stream_of: ResponseStreamOpening) -> None:
    await _drop_it(stream_of)
    gc.collect()


@pytest.mark.parametrize("later", [False, True], ids=["function", "coroutine function"])
@pytest.mark.asyncio
async def test_an_observer_is_told_of_a_stream_that_was_dropped(
    *,
    later: bool,
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    until: Until,
    observer: Observer,
) -> None:
    hooks = Hooks(on_end=observer if later else observer.events.append)
    async with serve(_endless(events, respond)) as server, connect(server, hooks=hooks) as client:
        with pytest.warns(ResourceWarning, match="never closed"):
            await _drop_and_collect(events.open(client))
        await until(lambda: observer.ends)
        (end,) = observer.ends
        assert (end.outcome, end.error, end.parts_received) == ("left", None, 1)
        assert end.metadata is not None
        assert end.elapsed > 0
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_what_an_observer_raises_for_a_dropped_stream_is_logged(
    *,
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hooks = Hooks(on_end=_fail)
    async with serve(_endless(events, respond)) as server, connect(server, hooks=hooks) as client:
        with pytest.warns(ResourceWarning, match="never closed"):
            await _drop_and_collect(events.open(client))
        await until(lambda: "on_end failed for InvokeEndpointWithResponseStream" in caplog.text)
        assert "ZeroDivisionError" in caplog.text


def _fail(_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.asyncio
async def test_an_observer_that_raises_at_the_first_part_leaves_nothing_open(
    *,
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    until: Until,
    observer: Observer,
) -> None:
    options: dict[str, Any] = {"max_connections": 1, "timeout": Timeout(slot=5)}
    async with serve(_endless(events, respond)) as server, connect(server, **options) as client:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await events.open(client.with_options(hooks=Hooks(on_first_part=_fail)))
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_an_observer_that_raises_at_the_end_leaves_nothing_open_and_is_logged(
    *,
    serve: Serve,
    connect: Connect,
    events: Events,
    respond: Respond,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options: dict[str, Any] = {
        "max_connections": 1,
        "timeout": Timeout(slot=5),
        "hooks": Hooks(on_end=_fail),
    }
    async with serve(_endless(events, respond)) as server, connect(server, **options) as client:
        for _ in range(2):
            await _break(events.open(client))
        assert caplog.text.count("on_end failed for ") == 2
        await until(lambda: server.open_connections == 0)
    async with (
        serve(events.play(events.whole(b"a"))) as server,
        connect(server, **options) as client,
    ):
        for _ in range(2):
            stream = await events.open(client)
            assert (await anext(stream)).bytes == b"a"
            assert await events.collect(stream) == []
        assert caplog.text.count("on_end failed for ") == 4


# --- a relay leaves when its browser does

RELAYS = ["aiohttp", "asgi", "fastapi", "starlette with a middleware"]


@pytest.mark.parametrize("relay", [*RELAYS, "fastapi by parts"], indirect=True)
@pytest.mark.parametrize("body", [b"hang", b"push", b"flood"])
@pytest.mark.asyncio
async def test_a_browser_that_hangs_up_ends_the_generation_within_a_second(
    *,
    relay: Relay,
    body: bytes,
    upstream: Upstream,
    browser: aiohttp.ClientSession,
    until: Until,
    read_events: ReadEvents,
) -> None:
    async with relay(upstream.client) as url:
        for _ in range(3):
            # The only slot is free again, or this would wait.
            response = await browser.post(url, data=body)
            assert response.status == 200
            await response.content.readuntil(b"\n\n")
            assert upstream.running == 1
            response.close()
            await until(lambda: upstream.running == 0, seconds=1)
        async with asyncio.timeout(1), browser.post(url, data=b"x") as response:
            assert len(await read_events(response)) == 3


@pytest.mark.parametrize("relay", RELAYS, indirect=True)
@pytest.mark.asyncio
async def test_a_browser_that_hangs_up_before_the_first_part_ends_the_call(
    relay: Relay,
    upstream: Upstream,
    browser: aiohttp.ClientSession,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As long as the model reads its prompt nothing was sent, and nothing fails to be."""
    async with relay(upstream.client) as url:
        for _ in range(3):
            asking = asyncio.create_task(browser.post(url, data=b"prefill"))
            await until(lambda: upstream.running == 1)
            asking.cancel()
            await until(lambda: upstream.running == 0, seconds=1)
        # The only slot is free, and the model is asked no more.
        async with asyncio.timeout(1), browser.post(url, data=b"x") as response:
            assert response.status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("relay", RELAYS, indirect=True)
@pytest.mark.asyncio
async def test_a_browser_that_waits_is_answered_after_the_longest_prompt(
    relay: Relay,
    upstream: Upstream,
    browser: aiohttp.ClientSession,
    until: Until,
    read_events: ReadEvents,
) -> None:
    async with relay(upstream.client) as url:
        asking = asyncio.create_task(browser.post(url, data=b"prefill"))
        await until(lambda: upstream.running == 1)
        await asyncio.sleep(0.1)
        upstream.go_on.set()
        async with await asking as response:
            assert len(await read_events(response)) == 3


def test_the_relays_are_those_of_the_guide(relay_sources: list[str]) -> None:
    guide = (Path(__file__).parents[2] / "docs/how-to/relay.md").read_text()
    for source in relay_sources:
        assert source in guide


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
        task = asyncio.create_task(way(events.open(client)))
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


async def _read_some(view: AsyncIterator[object], count: int) -> None:
    async for _ in view:
        count -= 1
        if count < 0:
            break


def _choose_view(stream: ResponseStream, chance: random.Random) -> AsyncIterator[object]:
    views: list[Callable[[], AsyncIterator[object]]] = [
        stream.iter_text,
        stream.iter_lines,
        stream.iter_json,
        stream.iter_events,
        lambda: stream.iter_events(done="[DONE]", require_done=True, raise_on_error=True),
        lambda: stream.iter_tokens("t"),
        lambda: stream.iter_chat("lmi"),
        lambda: stream,
    ]
    return chance.choice(views)()


_SENT = [
    *(
        b'{"t": "a", "token": {"text": "a"}}\n',
        b'data: {"t": "b"}\n\n',
        b'{"t": "',
        b'c"}',
        b"data: [DONE]\n\n",
    ),
    *(b'data: {"error": "x"}\n\n', b"\xff", b"1\n"),
]


def _stream_something(
    events: Events, respond: Respond, chance: random.Random, gathered: asyncio.Barrier
) -> Answer:
    """Stream sound and unsound payloads, to their end or not; plain calls wait for each other."""

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        if request.target.endswith("/invocations"):
            await gathered.wait()
            writer.write(respond())
            return
        writer.write(events.head())
        for _ in range(chance.randrange(6)):
            writer.write(events.chunk(events.part(chance.choice(_SENT))))
            await writer.drain()
            await asyncio.sleep(chance.choice([0, 0, 0.001]))
        if chance.random() < 0.7:
            writer.write(events.END)
        else:
            writer.close()

    return answer


# `make promises` has more of both.
LEFT_STREAMS = int(os.environ.get("AIOSMRT_LEFT_STREAMS", "300"))


async def _use(client: SageMakerRuntimeClient, events: Events, chance: random.Random) -> None:
    way = chance.randrange(6)
    if way == 0:  # dropped
        await _read_some(_choose_view(await events.open(client), chance), 0)
        return
    async with events.open(client) as stream:
        if way == 1:
            await stream.read()
        elif way == 2:
            await _read_some(_choose_view(stream, chance), chance.randrange(4))
        elif way == 3:
            await _read_some(_choose_view(stream, chance), 1)
            await stream.aclose()
        elif way == 4:
            await _read_some(_choose_view(stream, chance), 0)
            raise ZeroDivisionError
        else:
            await _read_some(_choose_view(stream, chance), 100)


@pytest.mark.asyncio
async def test_streams_left_in_every_way_with_every_view_leave_nothing_behind(
    serve: Serve, connect: Connect, events: Events, respond: Respond, until: Until
) -> None:
    chance = random.Random(2026)
    slots = 20
    answer = _stream_something(events, respond, chance, asyncio.Barrier(slots))

    async def leave(client: SageMakerRuntimeClient) -> None:
        task = asyncio.create_task(_use(client, events, chance))
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.02)
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        expected = AiosmrtError | ZeroDivisionError | asyncio.CancelledError | None
        assert isinstance(outcome, expected), repr(outcome)
        if isinstance(outcome, PayloadError):
            assert outcome.endpoint_name == "llm"

    tasks = asyncio.all_tasks()
    async with serve(answer) as server:
        client = connect(server, max_connections=slots, timeout=Timeout(slot=60))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of those that are dropped
            warnings.simplefilter("ignore", RuntimeWarning)  # of those cancelled before they began
            for _ in range(LEFT_STREAMS // 100):
                await asyncio.gather(*(leave(client) for _ in range(100)))
            gc.collect()
        # Every slot is free: as many calls as there are slots are answered together.
        async with asyncio.timeout(10):
            await asyncio.gather(
                *(client.invoke_endpoint(endpoint_name="llm", body=b"") for _ in range(slots))
            )
        await client.aclose()
        await until(lambda: server.open_connections == 0)
        await until(lambda: asyncio.all_tasks() == tasks)
