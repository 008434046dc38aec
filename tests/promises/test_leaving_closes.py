"""Views of response streams, through real frames and sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import itertools
import json
import os
import random
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiosmrt import (
    AiosmrtError,
    ConfigurationError,
    Hooks,
    InvalidJSON,
    InvalidText,
    JSONValue,
    ModelStreamError,
    OnEnd,
    PayloadError,
    PayloadTooLarge,
    ResponseStream,
    ResponseStreamOpening,
    SageMakerRuntimeClient,
    StreamClosed,
    StreamConnectionLost,
    Timeout,
    TruncatedStream,
)
from aiosmrt.local import InvocationRequest, LocalEndpoint, ModelResponse
from aiosmrt.sse import ServerSentEvent, encode

if TYPE_CHECKING:
    from tests.conftest import Answer, Connect, EventStreams, SeenRequest, Serve

    Events: TypeAlias = type[EventStreams]

T = TypeVar("T")
Respond: TypeAlias = Callable[..., bytes]
Until: TypeAlias = Callable[..., Awaitable[None]]

# `make soak` has more of both.
LEFT_STREAMS = int(os.environ.get("AIOSMRT_LEFT_STREAMS", "300"))
PUSHED_MEGABYTES = int(os.environ.get("AIOSMRT_PUSHED_MEGABYTES", "64"))


def _open(client: SageMakerRuntimeClient) -> ResponseStreamOpening:
    return client.invoke_endpoint_with_response_stream(endpoint_name="llm", body=b"{}")


def _write(data: bytes) -> Answer:
    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


def _write_and_hang(data: bytes) -> Answer:
    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await request.reader.read()

    return answer


async def _collect(view: AsyncIterator[T]) -> tuple[list[T], AiosmrtError | None]:
    values = []
    try:
        async for value in view:
            values.append(value)  # noqa: PERF401 - those before a fault count
    except AiosmrtError as error:
        return values, error
    return values, None


# --- what each view gives


@pytest.mark.asyncio
async def test_every_vector_through_real_frames(
    vectors: Path, serve: Serve, connect: Connect, events: Events
) -> None:
    cases = json.loads((vectors / "llm-framing/cases.json").read_text())
    assert cases
    for case in cases:
        frames = (vectors / "llm-framing" / case["file"]).read_bytes()
        parts = [base64.b64decode(part) for part in case["parts_b64"]]
        for body in (events.head() + events.chunk(frames), events.head()):
            # Once as it is and once a byte at a time; an empty chunk would be HTTP's end.
            singly = b"".join(events.chunk(frames[i : i + 1]) for i in range(len(frames)))
            answer = body if frames and body != events.head() else events.head() + singly
            async with serve(_write(answer + events.END)) as server, connect(server) as client:
                async with _open(client) as stream:
                    assert await stream.read() == b"".join(parts), case["name"]
                async with _open(client) as stream:
                    lines = [line async for line in stream.iter_lines()]
                assert lines == case["expected_lines"], case["name"]
                async with _open(client) as stream:
                    text = "".join([piece async for piece in stream.iter_text()])
                assert text == b"".join(parts).decode()
                if case["expected_sse_data"] is not None:
                    async with _open(client) as stream:
                        data = [event.data async for event in stream.iter_events()]
                    assert data == case["expected_sse_data"], case["name"]


@pytest.mark.asyncio
async def test_the_views_of_a_local_endpoint() -> None:
    def model(request: InvocationRequest) -> ModelResponse:
        parts = json.loads(request.body)
        return ModelResponse(iter(parts), content_type=request.content_type)

    chat = [
        encode(json.dumps({"choices": [{"delta": {"content": text}}]})).decode()
        for text in ("Hel", "lo")
    ]
    async with (
        LocalEndpoint(model) as endpoint,
        endpoint.client(params={"endpoint_name": "e"}) as client,
    ):

        def ask(*parts: str, content_type: str = "text/plain") -> ResponseStreamOpening:
            return client.invoke_endpoint_with_response_stream(
                body=json.dumps(parts), content_type=content_type
            )

        async with ask('{"a"', ": 1}\n[", "2]\n3") as stream:
            assert [value async for value in stream.iter_json()] == [{"a": 1}, [2], 3]
        async with ask("a\r", "\nb\r", "c") as stream:
            assert [line async for line in stream.iter_lines()] == ["a", "b", "c"]
        async with ask("event: x\nid: 7\ndata: on", "ce\n\ndata:[DONE]\n\n") as stream:
            assert [event async for event in stream.iter_events(done="[DONE]")] == [
                ServerSentEvent("x", "once", "7")
            ]
            assert stream.parts_received == 2
        async with ask("data: a\n\ndata: b") as stream:
            got = [event.data async for event in stream.iter_events(drop_incomplete=True)]
            assert got == ["a"]
        async with ask(*chat, "data: [DONE]\n\n", content_type="text/event-stream") as stream:
            assert [token async for token in stream.iter_tokens("openai-chat")] == ["Hel", "lo"]
        async with ask('{"token": {"text": "Hel"}}\n{"tok', 'en": {"text": "lo"}}') as stream:
            assert [token async for token in stream.iter_tokens("token.text")] == ["Hel", "lo"]


_text = st.text(st.characters(exclude_categories=["Cs"]))
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_cuts = st.lists(st.integers(0, 200), max_size=6)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def test_any_text_and_any_documents_in_any_parts(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async def read(data: bytes, parts: list[bytes], values: list[JSONValue]) -> None:
        assert b"".join(parts) == data
        async with _open(client) as stream:
            assert b"".join([p async for p in _encode(stream.iter_text())]) == data
        async with _open(client) as stream:
            assert [value async for value in stream.iter_json()] == values

    async def _encode(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            assert piece
            yield piece.encode()

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.whole(*sending))

    sending: list[bytes] = []
    with asyncio.Runner() as runner, contextlib.ExitStack() as after:
        stack = contextlib.AsyncExitStack()
        after.callback(lambda: runner.run(stack.aclose()))

        async def begin() -> SageMakerRuntimeClient:
            server = await stack.enter_async_context(serve(answer))
            return await stack.enter_async_context(connect(server))

        client = runner.run(begin())

        @settings(max_examples=60, deadline=None)
        @given(st.lists(_json, max_size=5), st.sampled_from(["\n", " ", "\r\n"]), _cuts)
        def judge(values: list[JSONValue], between: str, cuts: list[int]) -> None:
            documents = [json.dumps(value, ensure_ascii=False) for value in values]
            data = between.join(documents).encode()
            sending[:] = _cut(data, cuts)
            runner.run(read(data, list(sending), values))

        judge()


# --- one view


CHOICES: list[tuple[str, Callable[[ResponseStream], Any]]] = [
    ("text", lambda stream: anext(stream.iter_text())),
    ("lines", lambda stream: anext(stream.iter_lines())),
    ("JSON", lambda stream: anext(stream.iter_json())),
    ("events", lambda stream: anext(stream.iter_events())),
    ("tokens", lambda stream: anext(stream.iter_tokens("t"))),
    ("parts", anext),
    ("bytes", lambda stream: stream.read()),
]


@pytest.mark.asyncio
async def test_a_view_is_chosen_once(serve: Serve, connect: Connect, events: Events) -> None:
    async with serve(_write(events.whole(b'"t"', b"\n\n"))) as server, connect(server) as client:
        for first, choose in CHOICES:
            for second, choose_another in CHOICES:
                async with _open(client) as stream:
                    with contextlib.suppress(StopAsyncIteration, InvalidJSON):
                        await choose(stream)
                    if first == second == "parts":
                        await choose_another(stream)
                        continue
                    with pytest.raises(RuntimeError, match=f"read as {first} already"):
                        await choose_another(stream)


@pytest.mark.asyncio
async def test_a_refused_view_is_not_chosen_and_costs_nothing(
    serve: Serve, connect: Connect, events: Events
) -> None:
    async with serve(_write(events.whole(b"a"))) as server, connect(server) as client:
        async with _open(client) as stream:
            with pytest.raises(ConfigurationError, match="openai-chat"):
                stream.iter_tokens("a b")
            with pytest.raises(LookupError, match="unknown"):
                stream.iter_text(errors="unknown")
            with pytest.raises(ValueError, match="require_done"):
                stream.iter_events(require_done=True)
            aiter(stream)  # nor does this choose, before it is read
            assert await stream.read() == b"a"
        assert server.connections == 1


# --- faults


@pytest.mark.asyncio
async def test_errors_of_the_payload_say_where_and_close_the_connection(
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
    all_it_says: Callable[[BaseException], object],
) -> None:
    ends: list[OnEnd] = []
    data = events.head() + events.chunk(events.part(b'{"a": 1}\n'), events.part(b"2\n}"))
    async with (
        serve(_write_and_hang(data)) as server,
        connect(
            server, max_connections=1, timeout=Timeout(slot=5), hooks=Hooks(on_end=ends.append)
        ) as client,
    ):
        async with _open(client) as stream:
            view = stream.iter_json()
            values, error = await asyncio.wait_for(_collect(view), 5)
            assert values == [{"a": 1}, 2]
            assert isinstance(error, InvalidJSON)
            assert (error.operation, error.endpoint_name) == (
                "InvokeEndpointWithResponseStream",
                "llm",
            )
            assert error.request_id == "7-7-7"
            assert (error.parts_received, error.bytes_received, error.offset) == (2, 12, 11)
            assert error.may_have_run
            assert "after 2 parts, 12 bytes" in str(error)
            assert len(error.attempts) == 1
            # While the block is still open:
            await until(lambda: server.open_connections == 0)
            async with _open(client):
                pass
            for _ in range(2):
                with pytest.raises(InvalidJSON) as caught:
                    await anext(view)
                assert all_it_says(caught.value) == all_it_says(error)
        assert ends[0].error is error
        assert len(ends) == 2


@pytest.mark.parametrize(
    ("parts", "choose", "values", "kind"),
    [
        ([b"ab", b"c\xff"], lambda s: s.iter_text(), ["ab", "c"], InvalidText),
        ([b"a\nb", b"c\n\xff\nd"], lambda s: s.iter_lines(), ["a", "bc"], InvalidText),
        ([b"a\nb", b"bbb"], lambda s: s.iter_lines(max_line_length=3), ["a"], PayloadTooLarge),
        ([b"1 22", b"22 "], lambda s: s.iter_json(max_document_length=3), [1], PayloadTooLarge),
        (
            [encode("a"), b"data: bbbbbbbbbbbbbbb"],
            lambda s: _data(s.iter_events(max_event_length=12)),
            ["a"],
            PayloadTooLarge,
        ),
        (
            [encode("a") + encode('{"error": "Test error"}')],
            lambda s: _data(s.iter_events(raise_on_error=True)),
            ["a"],
            ModelStreamError,
        ),
        (
            [encode('{"t": "a"}') + encode('{"error": "Test error"}')],
            lambda s: s.iter_tokens("t"),
            ["a"],
            ModelStreamError,
        ),
        ([b'{"t": "a"}{"t": 1}'], lambda s: s.iter_tokens("t"), ["a"], InvalidJSON),
    ],
)
@pytest.mark.parametrize("end", ["proven", "cut", "none"])
@pytest.mark.asyncio
async def test_the_first_fault_wins_whatever_becomes_of_the_stream(
    *,
    parts: list[bytes],
    choose: Callable[[ResponseStream], AsyncIterator[object]],
    values: list[object],
    kind: type[AiosmrtError],
    end: str,
    serve: Serve,
    connect: Connect,
    events: Events,
    until: Until,
) -> None:
    data = events.head() + b"".join(events.chunk(events.part(part)) for part in parts)
    data += {"proven": events.END, "cut": events.chunk(events.part(b"x")[:9]), "none": b""}[end]

    async def answer(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if end == "cut":
            writer.close()
        elif end == "none":
            await request.reader.read()

    async with serve(answer) as server, connect(server) as client:
        async with _open(client) as stream:
            got, error = await asyncio.wait_for(_collect(choose(stream)), 5)
            assert got == values
            assert type(error) is kind
            assert error is not None
            assert error.request_id == "7-7-7"
            assert error.parts_received == len(parts)
        await until(lambda: end == "proven" or server.open_connections == 0)


async def _data(events: AsyncIterator[ServerSentEvent]) -> AsyncIterator[str]:
    async for event in events:
        yield event.data


@pytest.mark.asyncio
async def test_an_error_object_is_delivered_unless_it_is_to_be_raised(
    serve: Serve, connect: Connect, events: Events
) -> None:
    answer = _write(events.whole(encode('{"error": "Test error"}')))
    async with serve(answer) as server, connect(server) as client, _open(client) as stream:
        assert [event.data async for event in stream.iter_events()] == ['{"error": "Test error"}']


@pytest.mark.asyncio
async def test_a_missing_marker_is_a_truncated_stream(
    serve: Serve, connect: Connect, events: Events
) -> None:
    frames = events.part(encode("a"))
    data = events.head() + events.chunk(frames) + events.END
    async with serve(_write(data)) as server, connect(server) as client:
        async with _open(client) as stream:
            view = stream.iter_events(done="[DONE]", require_done=True)
            got, error = await _collect(view)
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

    async with serve(answer) as server, connect(server) as client, _open(client) as stream:
        got, error = await _collect(stream.iter_events(done="[DONE]", require_done=True))
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
        async with _open(client) as stream:
            view = stream.iter_lines()
            assert await anext(view) == "a"
            await asyncio.sleep(0.05)
            got, error = await _collect(view)
            assert got == ["b"]
            assert isinstance(error, StreamConnectionLost)
        async with _open(client) as stream:
            with pytest.raises(StreamConnectionLost):
                await stream.read()


# --- leaving


@pytest.mark.asyncio
async def test_a_closed_stream_gives_no_more_values(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    data = events.head() + events.chunk(events.part(b"a\nb\nc\n"))
    async with serve(_write_and_hang(data)) as server, connect(server) as client:
        async with _open(client) as stream:
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


@pytest.fixture
def _frozen_heap() -> Iterator[None]:
    """Keep the collector from what other tests have left: it may take a fifth of a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    ("unit", "choose"),
    [
        (b"{}", lambda s: s.iter_json()),
        (b"\n", lambda s: s.iter_lines()),
        (b"data\n\n", lambda s: s.iter_events()),
        (b'{"t":"a"}', lambda s: s.iter_tokens("t")),
    ],
)
@pytest.mark.parametrize("length", [16 << 20, 1000])
@pytest.mark.usefixtures("_frozen_heap")
@pytest.mark.asyncio
async def test_no_part_keeps_others_waiting(
    *,
    unit: bytes,
    choose: Callable[[ResponseStream], AsyncIterator[object]],
    length: int,
    serve: Serve,
    connect: Connect,
    events: Events,
) -> None:
    # One part that would take seconds, or as many short ones as one look into the socket gives.
    payloads = [unit * (length // len(unit))] * (1 if length > 1000 else 1000)
    answer = _write(events.head() + events.chunk(*map(events.part, payloads)) + events.END)
    waits: list[float] = []

    async def tick() -> None:
        # Of the processor: how long this thread was at work, whatever else the machine does.
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            waits.append(time.thread_time() - before)

    async with serve(answer) as server, connect(server) as client, _open(client) as stream:
        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0.002)  # what follows may be there already, and wait for nothing
        until = time.monotonic() + 0.3
        async for _ in choose(stream):
            if time.monotonic() > until:
                break
        await asyncio.sleep(0.01)
        ticker.cancel()
    assert max(waits) < 0.1  # measured: 0.01 to 0.03; without slices up to 10 s


@pytest.mark.asyncio
async def test_a_cancelled_read_of_a_view_loses_nothing(
    serve: Serve, connect: Connect, events: Events
) -> None:
    more = asyncio.Event()

    async def answer(_: SeenRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(events.head() + events.chunk(events.part(b"fir")))
        await more.wait()
        writer.write(events.chunk(events.part(b"st\nlast")) + events.END)

    async with serve(answer) as server, connect(server) as client, _open(client) as stream:
        view = stream.iter_lines()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(view), 0.02)
        more.set()
        assert [line async for line in view] == ["first", "last"]


@pytest.mark.asyncio
async def test_a_cancelled_read_of_the_whole_gives_it_up(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    data = events.head() + events.chunk(events.part(b"first"))
    async with serve(_write_and_hang(data)) as server, connect(server) as client:
        async with _open(client) as stream:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.read(), 0.02)
            assert (stream.parts_received, stream.bytes_received) == (1, 5)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="read as bytes already"):
                    await stream.read()
        await until(lambda: server.open_connections == 0)


@pytest.mark.asyncio
async def test_a_dropped_stream_with_a_view_warns_at_once(
    serve: Serve, connect: Connect, events: Events, until: Until
) -> None:
    data = events.head() + events.chunk(events.part(b"a\nb\n"))
    gc.collect()
    gc.disable()  # no circle may keep it
    try:
        async with serve(_write_and_hang(data)) as server, connect(server) as client:
            with pytest.warns(ResourceWarning, match="never closed"):
                assert await anext((await _open(client)).iter_lines()) == "a"
            await until(lambda: server.open_connections == 0)
    finally:
        gc.enable()


# --- all of it together


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
        lambda: stream,
    ]
    return chance.choice(views)()


_SENT = [
    *(b'{"t": "a"}\n', b'data: {"t": "b"}\n\n', b'{"t": "', b'c"}', b"data: [DONE]\n\n"),
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


async def _use(client: SageMakerRuntimeClient, chance: random.Random) -> None:
    way = chance.randrange(6)
    if way == 0:  # dropped
        await _read_some(_choose_view(await _open(client), chance), 0)
        return
    async with _open(client) as stream:
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
        task = asyncio.create_task(_use(client, chance))
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


def _measure_memory() -> int:
    """Bytes of this process in memory now; the peak of `getrusage` never comes down."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
@pytest.mark.asyncio
async def test_a_slow_consumer_keeps_memory_flat(
    serve: Serve, connect: Connect, events: Events
) -> None:
    size = 1 << 18
    count = (PUSHED_MEGABYTES << 20) // size
    payload = (b"x" * 1023 + b"\n") * (size // 1024)

    async def push(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        frame = events.chunk(events.part(payload))
        writer.write(events.head())
        for _ in range(count):
            writer.write(frame)
            await writer.drain()
        writer.write(events.END)

    async with serve(push) as server, connect(server) as client, _open(client) as stream:
        lines = 0
        highest = before = _measure_memory()
        async for _ in stream.iter_lines():
            lines += 1
            if lines % 4096 == 0:
                await asyncio.sleep(0.02)  # meanwhile the server pushes as it can
                highest = max(highest, _measure_memory())
        assert lines == count * size // 1024
        assert highest - before < 16 << 20
